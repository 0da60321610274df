"""What making a tenant takes besides the tenant, and what is stored for one."""

from app.core.noun import StrictBool
from app.core.tenant import Tenant
from app.web.admin.models.base import Out


class NewTenant(Tenant):
    """A new tenant.

    catch_all: begin with a route of everything to the public upstream of the settings.
    """

    catch_all: StrictBool = True


class StorageOut(Out):
    """What is stored for one tenant: module files that were fetched or published for it.

    tenant: null for what was brought in for nobody.
    quota_bytes: null for no quota.
    """

    tenant: str | None
    files: int
    zips: int
    size_bytes: int
    quota_bytes: int | None
