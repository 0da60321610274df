"""Tokens; a secret is in the one answer that makes it."""

from datetime import date, datetime
from typing import Annotated

from pydantic import Field, StrictInt

from app.core.principal import Scope
from app.db.tokens import RecordedToken
from app.services.tokens import MAX_GRACE, MAX_LIFE, MAX_NAME_CHARS
from app.web.admin.models.base import In, Out

_HOURS_MAX = int(MAX_GRACE.total_seconds()) // 3600


class TokenIn(In):
    """A new token.

    name: whose it is, for listings.
    scopes: what it is for; `admin` includes the others.
    days: for how many days it is valid; null means for ever.
    """

    name: str = Field(max_length=MAX_NAME_CHARS)
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]
    days: Annotated[StrictInt, Field(ge=1, le=MAX_LIFE.days)] | None = 365


class RotationIn(In):
    """How long the old token stays valid beside the new one."""

    grace_hours: Annotated[StrictInt, Field(ge=0, le=_HOURS_MAX)] = 24


class TokenOut(Out):
    """One token; tenant is null for one of the platform."""

    id: str
    name: str
    tenant: str | None
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_on: date | None


class TokenMadeOut(TokenOut):
    """A new token with its secret, which is shown this once and never stored."""

    token: str


def token_out(recorded: RecordedToken) -> TokenOut:
    """Return one token for people and programs."""
    return TokenOut(
        id=recorded.id,
        name=recorded.name,
        tenant=recorded.tenant,
        scopes=sorted(recorded.scopes),
        created_at=recorded.created_at,
        expires_at=recorded.expires_at,
        revoked_at=recorded.revoked_at,
        last_used_on=recorded.last_used_on,
    )


def made_out(recorded: RecordedToken, secret: str) -> TokenMadeOut:
    """Return a new token with its secret."""
    return TokenMadeOut(**token_out(recorded).model_dump(), token=secret)
