"""Checksum databases as a tenant's `go` command sees them: public logs and the tenant's own.

`front` answers requests, `prefetch` fills lookups and tiles before a client needs them, `status`
reports to admins, `fsck` checks the tenants' logs. Not here: the logs themselves
(`services/publiclog`, `services/tenantlog`).
"""
