"""What admins can do with the routes of a tenant."""

from app.core.principal import Principal
from app.services.assembly import Services
from app.web.admin.models.base import Page
from app.web.admin.models.routes import RouteIn, RouteOut
from app.web.admin.paging import key_of, page_from


async def list_routes(
    services: Services, who: Principal, tenant: str, *, cursor: str | None, limit: int
) -> Page[RouteOut]:
    """Return the routes, oldest first.

    Raises:
        BadInputError: the cursor is not one that a page gave.
        UnknownError: there is no such tenant.
    """
    after = 0 if cursor is None else int(key_of(cursor, int)[0])
    routes = await services.tenants.routes.page(tenant, who, after=after, limit=limit + 1)
    return page_from(routes, lambda route: (route.id,), limit)


async def show_route(services: Services, who: Principal, tenant: str, route_id: int) -> RouteOut:
    """Return one route.

    Raises:
        UnknownError: there is none of that id.
    """
    return await services.tenants.routes.get(tenant, route_id, who)


async def create_route(
    services: Services, who: Principal, tenant: str, wanted: RouteIn
) -> RouteOut:
    """Return a new route.

    Raises:
        BadInputError: it can't be; the message says why.
        DeniedError: it would make names private that are not the tenant's.
        UnknownError: the tenant has no such credential.
        ConflictError: there is a route of that pattern.
    """
    return await services.tenants.routes.create(tenant, wanted, who)


async def update_route(
    services: Services,
    who: Principal,
    tenant: str,
    route_id: int,
    wanted: RouteIn,
    revision: int | None = None,
) -> RouteOut:
    """Return the route as it is now.

    Raises:
        BadInputError: it can't be; the message says why.
        DeniedError: it would make names private that are not the tenant's.
        UnknownError: there is none of that id, or no such credential.
        ConflictError: another route has that pattern.
        StaleRevisionError: it is no longer at that revision.
    """
    return await services.tenants.routes.update(tenant, route_id, wanted, who, revision=revision)


async def remove_route(
    services: Services,
    who: Principal,
    tenant: str,
    route_id: int,
    revision: int | None = None,
) -> None:
    """Remove a route; what it brought in stays stored.

    Raises:
        UnknownError: there is none of that id.
        StaleRevisionError: it is no longer at that revision.
    """
    await services.tenants.routes.remove(tenant, route_id, who, revision=revision)
