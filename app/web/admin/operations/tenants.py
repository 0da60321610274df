"""What admins can do with tenants."""

from app.core.clientconfig import Target, render
from app.core.principal import Principal
from app.services.assembly import Services
from app.services.tenants.clients import client_config as config_of
from app.web.admin.models.base import Page
from app.web.admin.models.tenants import TenantChangeIn, TenantIn, TenantOut
from app.web.admin.paging import key_of, page_from


async def list_tenants(
    services: Services, who: Principal, *, cursor: str | None, limit: int
) -> Page[TenantOut]:
    """Return the tenants that an admin may see, by name.

    Raises:
        BadInputError: the cursor is not one that a page gave.
        DeniedError: who is no admin.
    """
    after = None if cursor is None else str(key_of(cursor, str)[0])
    tenants = await services.tenants.tenants.page(who, after=after, limit=limit + 1)
    return page_from(tenants, lambda tenant: (tenant.name,), limit)


async def show_tenant(services: Services, who: Principal, tenant: str) -> TenantOut:
    """Return one tenant.

    Raises:
        DeniedError: it is not who's.
        UnknownError: there is none of that name.
    """
    return await services.tenants.tenants.get(tenant, who)


async def create_tenant(services: Services, who: Principal, wanted: TenantIn) -> TenantOut:
    """Return a new tenant.

    Raises:
        BadInputError: a name, host or title can't be.
        ConflictError: the name or a host is taken.
    """
    return await services.tenants.tenants.create(wanted, who, catch_all=wanted.catch_all)


async def change_tenant(
    services: Services,
    who: Principal,
    tenant: str,
    wanted: TenantChangeIn,
    revision: int | None = None,
) -> TenantOut:
    """Return a tenant after those of its fields that were given are changed.

    Raises:
        BadInputError: a host or title can't be.
        ConflictError: a host is taken.
        StaleRevisionError: it is no longer at that revision.
    """
    return await services.tenants.tenants.change(tenant, wanted, who, revision=revision)


async def remove_tenant(
    services: Services, who: Principal, tenant: str, revision: int | None = None
) -> None:
    """Remove a tenant with its tokens, rules, routes and credentials; blobs stay.

    Raises:
        UnknownError: there is none of that name.
        StaleRevisionError: it is no longer at that revision.
    """
    await services.tenants.tenants.remove(tenant, who, revision=revision)


async def client_config(
    services: Services, who: Principal, tenant: str, target: Target, base_url: str
) -> str:
    """Return what a client pastes to use this tenant.

    Args:
        services: of this process.
        who: an admin of the tenant.
        tenant: its name.
        target: who reads the text.
        base_url: this service's address where no setting says it.

    Raises:
        BadInputError: the tenant asks for a token and the address is http.
    """
    address = services.shared.settings.public_url or base_url
    config = await config_of(
        services.shared.policies, services.publiclog.relays, tenant, address, who
    )
    return render(target, config)
