"""What admins can do with tokens. A tenant of None stands for the platform."""

from datetime import UTC, datetime, timedelta

from app.core.errors import BadInputError
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
from app.web.admin.paging import key_of, page_from


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
    tokens = await services.tenants.tokens.page(
        who, tenant=tenant, after=None if cursor is None else _after(cursor), limit=limit + 1
    )
    page = page_from(
        tokens, lambda t: (t.created_at.isoformat(timespec="microseconds"), t.id), limit
    )
    return Page[TokenOut](
        items=[token_out(token) for token in page.items], next_cursor=page.next_cursor
    )


def _after(cursor: str) -> tuple[datetime, str]:
    created_at, token_id = map(str, key_of(cursor, str, str))
    try:
        return datetime.fromisoformat(created_at).astimezone(UTC), token_id
    except (ValueError, OverflowError) as error:
        raise BadInputError("that is not a cursor of this list") from error


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
