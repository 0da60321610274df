"""What admins can do with the routes of a tenant."""

from app.core.principal import Principal
from app.services.assembly import Services
from app.web.admin.models.base import Page
from app.web.admin.models.routes import RouteIn, RouteOut, route_draft, route_out
from app.web.admin.paging import page_of


async def list_routes(
    services: Services, who: Principal, tenant: str, *, cursor: str | None, limit: int
) -> Page[RouteOut]:
    """Return the routes, oldest first.

    Raises:
        BadInputError: the cursor is not one that a page gave.
        UnknownError: there is no such tenant.
    """
    found = await services.tenants.routes.all(tenant, who)
    return page_of(
        found, lambda r: (r.route.id,), route_out, kinds=(int,), cursor=cursor, limit=limit
    )


async def show_route(services: Services, who: Principal, tenant: str, route_id: int) -> RouteOut:
    """Return one route.

    Raises:
        UnknownError: there is none of that id.
    """
    return route_out(await services.tenants.routes.get(tenant, route_id, who))


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
    return route_out(await services.tenants.routes.create(tenant, route_draft(wanted), who))


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
    draft = route_draft(wanted)
    return route_out(
        await services.tenants.routes.update(tenant, route_id, draft, who, revision=revision)
    )


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
