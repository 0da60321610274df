"""Checksum databases: public ones relayed and audited, and the tenants' own.

`relay` is a client of one public log that passes on only what it verified, `logtiles` its proven
tiles; `checks` asks it about modules that come in. `tenantlog` is a tenant's own log, `growth` how
a record is appended, `headfile` its head outside the database, `fsck` the check of all of it.
`front` answers requests from both kinds, `prefetch` asks both beforehand, `status` tells admins.
"""
