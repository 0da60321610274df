"""What making a tenant takes besides the tenant."""

from app.core.noun import StrictBool
from app.core.tenant import Tenant


class NewTenant(Tenant):
    """A new tenant.

    catch_all: begin with a route of everything to the public upstream of the settings.
    """

    catch_all: StrictBool = True
