"""`/api/v1/tenants/{tenant}/routes…`: where modules come from."""

from fastapi import APIRouter, Response

from app.core.cursor import key_of
from app.core.routing import RecordedRoute, Route
from app.web.admin.answers import MALFORMED, REFUSED, STALE, TAKEN, UNKNOWN, RecordId, TenantName
from app.web.admin.context import Site, TokenHolder
from app.web.admin.models.base import Page
from app.web.admin.paging import Cursor, Limit, page_from
from app.web.admin.revisions import IfMatch, put_etag

router = APIRouter(tags=["routes"])


@router.get("/tenants/{tenant}/routes", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def list_routes(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[RecordedRoute]:
    """List a tenant's routes, oldest first; the longest pattern that matches is taken."""
    after = 0 if cursor is None else int(key_of(cursor, int)[0])
    routes = await services.tenants.routes.page(tenant, caller, after=after, limit=limit + 1)
    return page_from(routes, lambda route: (route.id,), limit)


@router.post(
    "/tenants/{tenant}/routes",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN},
)
async def create_route(
    services: Site, caller: TokenHolder, tenant: TenantName, body: Route, response: Response
) -> RecordedRoute:
    """Say where the modules of a pattern come from."""
    made = await services.tenants.routes.create(tenant, body, caller)
    put_etag(response, made.revision)
    return made


@router.get("/tenants/{tenant}/routes/{route_id}", responses={**REFUSED, **UNKNOWN})
async def show_route(
    services: Site, caller: TokenHolder, tenant: TenantName, route_id: RecordId, response: Response
) -> RecordedRoute:
    """Show one route of a tenant."""
    recorded = await services.tenants.routes.get(tenant, route_id, caller)
    put_etag(response, recorded.revision)
    return recorded


@router.put(
    "/tenants/{tenant}/routes/{route_id}",
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE},
)
async def update_route(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    route_id: RecordId,
    body: Route,
    revision: IfMatch,
    response: Response,
) -> RecordedRoute:
    """Change a route as a whole: what is left out gets its default."""
    changed = await services.tenants.routes.update(
        tenant, route_id, body, caller, revision=revision
    )
    put_etag(response, changed.revision)
    return changed


@router.delete(
    "/tenants/{tenant}/routes/{route_id}",
    status_code=204,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE},
)
async def remove_route(
    services: Site, caller: TokenHolder, tenant: TenantName, route_id: RecordId, revision: IfMatch
) -> None:
    """Remove a route; what it brought in stays stored."""
    await services.tenants.routes.remove(tenant, route_id, caller, revision=revision)
