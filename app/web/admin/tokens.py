"""`/api/v1/tokens…` and `/api/v1/tenants/{tenant}/tokens…`: who may do what, and until when."""

from fastapi import APIRouter

from app.web.admin.answers import MALFORMED, REFUSED, TAKEN, UNKNOWN, TenantName
from app.web.admin.context import Admin, Caller, Site
from app.web.admin.models.base import Page
from app.web.admin.models.tokens import RotationIn, TokenIn, TokenMadeOut, TokenOut
from app.web.admin.operations import tokens as operations
from app.web.admin.paging import Cursor, Limit

router = APIRouter(tags=["tokens"])


@router.get("/tokens", responses={**REFUSED, **MALFORMED})
async def list_all_tokens(
    services: Site, admin: Admin, cursor: Cursor = None, limit: Limit = 50
) -> Page[TokenOut]:
    """List every token, those of tenants too, oldest first."""
    return await operations.list_tokens(services, admin, None, cursor=cursor, limit=limit)


@router.post("/tokens", status_code=201, responses={**REFUSED, **MALFORMED, **TAKEN})
async def create_platform_token(services: Site, admin: Admin, wanted: TokenIn) -> TokenMadeOut:
    """Make a token that is valid everywhere; its secret is in this answer and nowhere else."""
    return await operations.create_token(services, admin, None, wanted)


@router.post(
    "/tokens/{token_id}/rotate",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN},
)
async def rotate_any_token(
    services: Site, admin: Admin, token_id: str, wanted: RotationIn
) -> TokenMadeOut:
    """Make the successor of a token; both are valid until the grace has passed."""
    return await operations.rotate_token(services, admin, None, token_id, wanted)


@router.delete("/tokens/{token_id}", status_code=204, responses={**REFUSED, **UNKNOWN, **TAKEN})
async def revoke_any_token(services: Site, admin: Admin, token_id: str) -> None:
    """Revoke a token at once, everywhere."""
    await operations.revoke_token(services, admin, None, token_id)


@router.get("/tenants/{tenant}/tokens", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def list_tokens(
    services: Site,
    caller: Caller,
    tenant: TenantName,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[TokenOut]:
    """List a tenant's tokens, oldest first."""
    return await operations.list_tokens(services, caller, tenant, cursor=cursor, limit=limit)


@router.post(
    "/tenants/{tenant}/tokens",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN},
)
async def create_token(
    services: Site, caller: Caller, tenant: TenantName, wanted: TokenIn
) -> TokenMadeOut:
    """Make a token for one tenant; its secret is in this answer and nowhere else."""
    return await operations.create_token(services, caller, tenant, wanted)


@router.post(
    "/tenants/{tenant}/tokens/{token_id}/rotate",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN},
)
async def rotate_token(
    services: Site, caller: Caller, tenant: TenantName, token_id: str, wanted: RotationIn
) -> TokenMadeOut:
    """Make the successor of a tenant's token; both are valid until the grace has passed."""
    return await operations.rotate_token(services, caller, tenant, token_id, wanted)


@router.delete(
    "/tenants/{tenant}/tokens/{token_id}",
    status_code=204,
    responses={**REFUSED, **UNKNOWN, **TAKEN},
)
async def revoke_token(services: Site, caller: Caller, tenant: TenantName, token_id: str) -> None:
    """Revoke a tenant's token at once, everywhere."""
    await operations.revoke_token(services, caller, tenant, token_id)
