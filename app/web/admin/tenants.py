"""`/api/v1/tenants…`: tenants themselves, and what their clients are told."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from app.core.clientconfig import Target
from app.web.admin.answers import MALFORMED, REFUSED, STALE, TAKEN, UNKNOWN, TenantName
from app.web.admin.context import Admin, Caller, Site
from app.web.admin.models.base import Page
from app.web.admin.models.tenants import TenantChangeIn, TenantIn, TenantOut
from app.web.admin.operations import tenants as operations
from app.web.admin.paging import Cursor, Limit
from app.web.admin.revisions import IfMatch, put_etag

router = APIRouter(tags=["tenants"])


@router.get("/tenants", responses={**REFUSED, **MALFORMED})
async def list_tenants(
    services: Site, caller: Caller, cursor: Cursor = None, limit: Limit = 50
) -> Page[TenantOut]:
    """List the tenants that you are an admin of, by name."""
    return await operations.list_tenants(services, caller, cursor=cursor, limit=limit)


@router.post("/tenants", status_code=201, responses={**REFUSED, **MALFORMED, **TAKEN})
async def create_tenant(
    services: Site, admin: Admin, wanted: TenantIn, response: Response
) -> TenantOut:
    """Make a tenant."""
    made = await operations.create_tenant(services, admin, wanted)
    put_etag(response, made.revision)
    return made


@router.get("/tenants/{tenant}", responses={**REFUSED, **UNKNOWN})
async def show_tenant(
    services: Site, caller: Caller, tenant: TenantName, response: Response
) -> TenantOut:
    """Show one tenant."""
    found = await operations.show_tenant(services, caller, tenant)
    put_etag(response, found.revision)
    return found


@router.patch("/tenants/{tenant}", responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE})
async def change_tenant(
    services: Site,
    caller: Caller,
    tenant: TenantName,
    wanted: TenantChangeIn,
    revision: IfMatch,
    response: Response,
) -> TenantOut:
    """Change the fields that are given; hosts, limits and enabled are a platform admin's."""
    changed = await operations.change_tenant(services, caller, tenant, wanted, revision)
    put_etag(response, changed.revision)
    return changed


@router.delete(
    "/tenants/{tenant}", status_code=204, responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE}
)
async def remove_tenant(
    services: Site, admin: Admin, tenant: TenantName, revision: IfMatch
) -> None:
    """Remove a tenant with its tokens, rules, routes, credentials and owned prefixes."""
    await operations.remove_tenant(services, admin, tenant, revision)


@router.get(
    "/tenants/{tenant}/client-config",
    response_class=PlainTextResponse,
    responses={**REFUSED, **MALFORMED, **UNKNOWN},
)
async def client_config(
    services: Site,
    caller: Caller,
    tenant: TenantName,
    request: Request,
    target: Annotated[Target, Query(alias="for", description="Who reads it")] = Target.SH,
) -> str:
    """Show what clients paste to use this tenant; the address is MOORAGE_PUBLIC_URL."""
    base_url = f"http://{request.headers.get('host', '')}"
    return await operations.client_config(services, caller, tenant, target, base_url)
