"""Tenants' logs to be checked, kept as the tests of `tenantlog` keep them."""

from tests.services.tenantlog.conftest import make_owner, owner

__all__ = ["make_owner", "owner"]
