"""Checksum databases: public ones relayed and audited, and the tenants' own.

`relay` is a client of one public log that passes on only what it verified; `checks` asks it about
modules that come in; `tenantlog` is a tenant's own log, `headfile` its head outside the database.
"""
