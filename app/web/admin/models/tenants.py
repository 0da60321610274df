"""Tenants."""

from app.core.noun import StrictBool
from app.core.tenant import RecordedTenant as TenantOut
from app.core.tenant import Tenant
from app.core.tenant import TenantSettings as TenantChangeIn

__all__ = ["TenantChangeIn", "TenantIn", "TenantOut"]


class TenantIn(Tenant):
    """A new tenant.

    default: what happens to modules that no rule is about.
    catch_all: begin with a route of everything to the public upstream of the settings.
    """

    catch_all: StrictBool = True
