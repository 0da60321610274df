"""`/api/v1/tenants/{tenant}/credentials…`: what upstreams are shown. Secrets are write-only."""

from fastapi import APIRouter, Response

from app.web.admin.answers import MALFORMED, REFUSED, STALE, TAKEN, UNKNOWN, TenantName
from app.web.admin.context import Caller, Site
from app.web.admin.models.base import Page
from app.web.admin.models.credentials import CredentialIn, CredentialOut
from app.web.admin.operations import credentials as operations
from app.web.admin.paging import Cursor, Limit
from app.web.admin.revisions import IfMatch, put_etag

router = APIRouter(tags=["credentials"])


@router.get("/tenants/{tenant}/credentials", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def list_credentials(
    services: Site,
    caller: Caller,
    tenant: TenantName,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[CredentialOut]:
    """List a tenant's credentials by name; no answer has a secret."""
    return await operations.list_credentials(services, caller, tenant, cursor=cursor, limit=limit)


@router.put(
    "/tenants/{tenant}/credentials/{name}",
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE},
)
async def put_credential(
    services: Site,
    caller: Caller,
    tenant: TenantName,
    name: str,
    wanted: CredentialIn,
    revision: IfMatch,
    response: Response,
) -> CredentialOut:
    """Record a credential, or give it another secret; routes refer to it by its name."""
    recorded = await operations.put_credential(services, caller, tenant, name, wanted, revision)
    put_etag(response, recorded.revision)
    return recorded


@router.delete(
    "/tenants/{tenant}/credentials/{name}",
    status_code=204,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE},
)
async def remove_credential(
    services: Site, caller: Caller, tenant: TenantName, name: str, revision: IfMatch
) -> None:
    """Remove a credential that no route uses."""
    await operations.remove_credential(services, caller, tenant, name, revision)
