"""`/api/v1/tenants…`: tenants themselves, and what their clients are told."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse

from app.core.clientconfig import Target, render
from app.core.cursor import key_of
from app.core.tenant import RecordedTenant, TenantSettings
from app.services.tenants.clients import client_config as client_config_of
from app.web.admin.answers import MALFORMED, REFUSED, STALE, TAKEN, UNKNOWN, TenantName
from app.web.admin.context import BaseUrl, PlatformAdmin, Site, TokenHolder
from app.web.admin.models.base import Page
from app.web.admin.models.tenants import NewTenant, StorageOut
from app.web.admin.paging import Cursor, Limit, page_from
from app.web.admin.revisions import IfMatch, put_etag

router = APIRouter(tags=["tenants"])


@router.get("/tenants", responses={**REFUSED, **MALFORMED})
async def list_tenants(
    services: Site, caller: TokenHolder, cursor: Cursor = None, limit: Limit = 50
) -> Page[RecordedTenant]:
    """List the tenants that you are an admin of, by name."""
    after = None if cursor is None else str(key_of(cursor, str)[0])
    tenants = await services.tenants.tenants.page(caller, after=after, limit=limit + 1)
    return page_from(tenants, lambda tenant: (tenant.name,), limit)


@router.post("/tenants", status_code=201, responses={**REFUSED, **MALFORMED, **TAKEN})
async def create_tenant(
    services: Site, admin: PlatformAdmin, body: NewTenant, response: Response
) -> RecordedTenant:
    """Make a tenant."""
    made = await services.tenants.tenants.create(body, admin, catch_all=body.catch_all)
    put_etag(response, made.revision)
    return made


@router.get("/tenants/{tenant}", responses={**REFUSED, **UNKNOWN})
async def show_tenant(
    services: Site, caller: TokenHolder, tenant: TenantName, response: Response
) -> RecordedTenant:
    """Show one tenant."""
    recorded = await services.tenants.tenants.get(tenant, caller)
    put_etag(response, recorded.revision)
    return recorded


@router.get("/tenants/{tenant}/storage", responses={**REFUSED, **UNKNOWN})
async def tenant_storage(services: Site, caller: TokenHolder, tenant: TenantName) -> StorageOut:
    """Tell how much is stored for a tenant, and its quota."""
    return StorageOut.of(await services.tenants.tenants.storage(tenant, caller))


@router.get("/storage", responses={**REFUSED})
async def storage(services: Site, admin: PlatformAdmin) -> list[StorageOut]:
    """Tell how much is stored for each tenant, by name; last what is stored for nobody."""
    return [StorageOut.of(one) for one in await services.tenants.tenants.storage_of_all(admin)]


@router.patch("/tenants/{tenant}", responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE})
async def change_tenant(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    body: TenantSettings,
    revision: IfMatch,
    response: Response,
) -> RecordedTenant:
    """Change the fields that are given.

    Hosts, private hosts, limits and enabled are a platform admin's to change.
    """
    changed = await services.tenants.tenants.change(tenant, body, caller, revision=revision)
    put_etag(response, changed.revision)
    return changed


@router.delete(
    "/tenants/{tenant}", status_code=204, responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE}
)
async def remove_tenant(
    services: Site, admin: PlatformAdmin, tenant: TenantName, revision: IfMatch
) -> None:
    """Remove a tenant with its tokens, rules, routes, credentials and owned prefixes."""
    await services.tenants.tenants.remove(tenant, admin, revision=revision)


@router.get(
    "/tenants/{tenant}/client-config",
    response_class=PlainTextResponse,
    responses={**REFUSED, **MALFORMED, **UNKNOWN},
)
async def client_config(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    base_url: BaseUrl,
    target: Annotated[Target, Query(alias="for", description="Who reads it")] = Target.SH,
) -> str:
    """Show what clients paste to use this tenant; the address is MOORAGE_PUBLIC_URL."""
    config = await client_config_of(
        services.shared.policies, services.publiclog.relays, tenant, base_url, caller
    )
    return render(target, config)
