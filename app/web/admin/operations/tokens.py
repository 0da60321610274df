"""What admins can do with tokens. A tenant of None stands for the platform."""

from datetime import timedelta

from app.core.principal import Principal
from app.services.assembly import Services
from app.services.clock import utc_now
from app.web.admin.models.base import Page
from app.web.admin.models.tokens import (
    RotationIn,
    TokenIn,
    TokenMadeOut,
    TokenOut,
    made_out,
    token_out,
)
from app.web.admin.paging import page_of


async def list_tokens(
    services: Services,
    who: Principal,
    tenant: str | None,
    *,
    cursor: str | None,
    limit: int,
) -> Page[TokenOut]:
    """Return the tokens of a tenant, or without one all that there are, oldest first.

    Raises:
        BadInputError: the cursor is not one that a page gave.
        DeniedError: they are not who's to see.
    """
    found = await services.tenants.tokens.all(who, tenant=tenant)
    return page_of(
        found,
        lambda t: (t.created_at.isoformat(timespec="microseconds"), t.id),
        token_out,
        kinds=(str, str),
        cursor=cursor,
        limit=limit,
    )


async def create_token(
    services: Services, who: Principal, tenant: str | None, wanted: TokenIn
) -> TokenMadeOut:
    """Return a new token with its secret.

    Raises:
        BadInputError: the name can't be.
        ConflictError: there are two active tokens of that name.
    """
    expires_at = None if wanted.days is None else utc_now() + timedelta(days=wanted.days)
    made, secret = await services.tenants.tokens.create(
        wanted.name,
        who=who,
        tenant=tenant,
        scopes=frozenset(wanted.scopes),
        expires_at=expires_at,
    )
    return made_out(made, secret)


async def rotate_token(
    services: Services,
    who: Principal,
    tenant: str | None,
    token_id: str,
    wanted: RotationIn,
) -> TokenMadeOut:
    """Return the token that takes another's place, with its secret.

    Raises:
        UnknownError: there is none with this id.
        ConflictError: it is not active, or two of its name are.
    """
    grace = timedelta(hours=wanted.grace_hours)
    made, secret = await services.tenants.tokens.rotate(token_id, who, tenant=tenant, grace=grace)
    return made_out(made, secret)


async def revoke_token(
    services: Services, who: Principal, tenant: str | None, token_id: str
) -> None:
    """Revoke a token at once, everywhere.

    Raises:
        UnknownError: there is none with this id.
        ConflictError: it was revoked before.
    """
    await services.tenants.tokens.revoke(token_id, who=who, tenant=tenant)
