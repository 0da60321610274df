"""Checksum databases as a tenant's `go` command sees them: public logs and the tenant's own.

`front` answers requests; `prefetch` asks the logs beforehand; `status` tells admins; `fsck` checks
the tenants' logs. The logs themselves are in `services/publiclog` and `services/tenantlog`.
"""
