"""`/api/v1/tokens…` and `/api/v1/tenants/{tenant}/tokens…`: who may do what, and until when."""

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter

from app.core.cursor import key_of
from app.core.errors import BadInputError
from app.core.principal import Principal
from app.services.assembly import Services
from app.services.clock import utc_now
from app.web.admin.answers import MALFORMED, REFUSED, TAKEN, UNKNOWN, TenantName
from app.web.admin.context import PlatformAdmin, Site, TokenHolder
from app.web.admin.models.base import Page
from app.web.admin.models.tokens import (
    RotationIn,
    TokenIn,
    TokenMadeOut,
    TokenOut,
    made_out,
    token_out,
)
from app.web.admin.paging import Cursor, Limit, page_from

router = APIRouter(tags=["tokens"])


@router.get("/tokens", responses={**REFUSED, **MALFORMED})
async def list_all_tokens(
    services: Site, admin: PlatformAdmin, cursor: Cursor = None, limit: Limit = 50
) -> Page[TokenOut]:
    """List every token, those of tenants too, oldest first."""
    return await _page(services, admin, None, cursor, limit)


@router.post("/tokens", status_code=201, responses={**REFUSED, **MALFORMED, **TAKEN})
async def create_platform_token(
    services: Site, admin: PlatformAdmin, body: TokenIn
) -> TokenMadeOut:
    """Make a token that is valid everywhere; its secret is in this answer and nowhere else."""
    return await _create(services, admin, None, body)


@router.post(
    "/tokens/{token_id}/rotate",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN},
)
async def rotate_any_token(
    services: Site, admin: PlatformAdmin, token_id: str, body: RotationIn
) -> TokenMadeOut:
    """Make the successor of a token; both are valid until the grace has passed."""
    return await _rotate(services, admin, None, token_id, body)


@router.delete("/tokens/{token_id}", status_code=204, responses={**REFUSED, **UNKNOWN, **TAKEN})
async def revoke_any_token(services: Site, admin: PlatformAdmin, token_id: str) -> None:
    """Revoke a token at once, everywhere."""
    await services.tenants.tokens.revoke(token_id, who=admin)


@router.get("/tenants/{tenant}/tokens", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def list_tokens(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[TokenOut]:
    """List a tenant's tokens, oldest first."""
    return await _page(services, caller, tenant, cursor, limit)


@router.post(
    "/tenants/{tenant}/tokens",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN},
)
async def create_token(
    services: Site, caller: TokenHolder, tenant: TenantName, body: TokenIn
) -> TokenMadeOut:
    """Make a token for one tenant; its secret is in this answer and nowhere else."""
    return await _create(services, caller, tenant, body)


@router.post(
    "/tenants/{tenant}/tokens/{token_id}/rotate",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN},
)
async def rotate_token(
    services: Site, caller: TokenHolder, tenant: TenantName, token_id: str, body: RotationIn
) -> TokenMadeOut:
    """Make the successor of a tenant's token; both are valid until the grace has passed."""
    return await _rotate(services, caller, tenant, token_id, body)


@router.delete(
    "/tenants/{tenant}/tokens/{token_id}",
    status_code=204,
    responses={**REFUSED, **UNKNOWN, **TAKEN},
)
async def revoke_token(
    services: Site, caller: TokenHolder, tenant: TenantName, token_id: str
) -> None:
    """Revoke a tenant's token at once, everywhere."""
    await services.tenants.tokens.revoke(token_id, who=caller, tenant=tenant)


# A tenant of None stands for the platform.


async def _page(
    services: Services, who: Principal, tenant: str | None, cursor: str | None, limit: int
) -> Page[TokenOut]:
    after = None if cursor is None else _last_token(cursor)
    tokens = await services.tenants.tokens.page(who, tenant=tenant, after=after, limit=limit + 1)
    page = page_from(
        tokens, lambda t: (t.created_at.isoformat(timespec="microseconds"), t.id), limit
    )
    return Page[TokenOut](
        items=[token_out(token) for token in page.items], next_cursor=page.next_cursor
    )


def _last_token(cursor: str) -> tuple[datetime, str]:
    """Return what the cursor of a list of tokens stands for: the key of the last one."""
    created_at, token_id = map(str, key_of(cursor, str, str))
    try:
        return datetime.fromisoformat(created_at).astimezone(UTC), token_id
    except (ValueError, OverflowError) as error:
        raise BadInputError("that is not a cursor of this list") from error


async def _create(
    services: Services, who: Principal, tenant: str | None, body: TokenIn
) -> TokenMadeOut:
    expires_at = None if body.days is None else utc_now() + timedelta(days=body.days)
    made, secret = await services.tenants.tokens.create(
        body.name, who=who, tenant=tenant, scopes=frozenset(body.scopes), expires_at=expires_at
    )
    return made_out(made, secret)


async def _rotate(
    services: Services, who: Principal, tenant: str | None, token_id: str, body: RotationIn
) -> TokenMadeOut:
    grace = timedelta(hours=body.grace_hours)
    made, secret = await services.tenants.tokens.rotate(token_id, who, tenant=tenant, grace=grace)
    return made_out(made, secret)
