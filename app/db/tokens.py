"""Rows for tokens: only the SHA-256 of the secret is kept."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Select, delete, func, or_, select, tuple_
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base, chunks, is_one_of
from app.db.tenants import TenantRow


class TokenRow(Base):
    """One token; `id` is its public part, shown in listings and audit rows.

    `scopes` are words separated by spaces. A token without tenant is the platform's.
    """

    __tablename__ = "tokens"
    __table_args__ = (Index("ix_tokens_created_at_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    scopes: Mapped[str]
    tenant_id: Mapped[int | None] = mapped_column(ForeignKey("tenants.id"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_on: Mapped[date | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedToken:
    """A token as recorded, without anything that could be used to log in.

    Attributes:
        scopes: words of `Scope`.
        tenant: the name of the tenant that it is for; None for the whole platform.
        last_used_on: the day (UTC) of its last use.
    """

    id: str
    name: str
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    tenant: str | None = None
    last_used_on: date | None = None

    def is_active(self, now: datetime) -> bool:
        """Whether it would be accepted."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Tokens:
    """The repository of tokens. A tenant's id of None stands for the platform."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, token: RecordedToken, sha256_hex: str, tenant_id: int | None = None) -> None:
        """Record a new token under the SHA-256 of its secret."""
        self._session.add(
            TokenRow(
                id=token.id,
                sha256=sha256_hex,
                name=token.name,
                scopes=" ".join(sorted(token.scopes)),
                tenant_id=tenant_id,
                created_at=token.created_at,
                expires_at=token.expires_at,
                revoked_at=token.revoked_at,
                last_used_on=token.last_used_on,
            )
        )
        self._session.flush()

    def by_secret(self, sha256_hex: str) -> tuple[RecordedToken, bool] | None:
        """Return the token whose secret has this SHA-256, and whether its tenant is switched on.

        A token of the platform has no tenant that could be switched off.
        """
        query = _query(TenantRow.enabled).where(TokenRow.sha256 == sha256_hex)
        row = self._session.execute(query).one_or_none()
        return None if row is None else (_recorded(row), row.enabled is not False)

    def get(self, token_id: str) -> RecordedToken | None:
        """Return a token by its public part."""
        row = self._session.execute(_query().where(TokenRow.id == token_id)).one_or_none()
        return None if row is None else _recorded(row)

    def by_sha256(
        self, tenant_ids: Collection[int] | None = None, *, platform: bool = True
    ) -> dict[str, RecordedToken]:
        """Return tokens by the SHA-256 of their secrets, oldest first.

        Args:
            tenant_ids: whose; None takes all tokens.
            platform: with those of the platform.
        """
        condition = is_one_of(TokenRow.tenant_id, tenant_ids)
        if platform:
            condition = or_(condition, TokenRow.tenant_id.is_(None))
        query = _query(TokenRow.sha256).where(condition)
        rows = self._session.execute(query.order_by(TokenRow.created_at, TokenRow.id))
        return {row.sha256: _recorded(row) for row in rows}

    def page(
        self, *, tenant_id: int | None, after: tuple[datetime, str] | None, limit: int | None
    ) -> list[RecordedToken]:
        """Return tokens, oldest first.

        Args:
            tenant_id: whose; None stands for all tokens, those of tenants too.
            after: time of creation and id of the last token of the page before.
            limit: how many at most; None takes all.
        """
        query = _query().order_by(TokenRow.created_at, TokenRow.id).limit(limit)
        if tenant_id is not None:
            query = query.where(TokenRow.tenant_id == tenant_id)
        if after is not None:
            query = query.where(tuple_(TokenRow.created_at, TokenRow.id) > after)
        return [_recorded(row) for row in self._session.execute(query)]

    def active(self, tenant_id: int | None, name: str, now: datetime) -> list[RecordedToken]:
        """Return the tokens of a tenant and a name that would be accepted, oldest first."""
        query = _query().where(
            TokenRow.tenant_id.is_(None) if tenant_id is None else TokenRow.tenant_id == tenant_id,
            TokenRow.name == name,
            TokenRow.revoked_at.is_(None),
            or_(TokenRow.expires_at.is_(None), TokenRow.expires_at > now),
        )
        rows = self._session.execute(query.order_by(TokenRow.created_at, TokenRow.id))
        return [_recorded(row) for row in rows]

    def is_empty(self) -> bool:
        """Whether no token is recorded."""
        return self._session.execute(select(TokenRow.id).limit(1)).first() is None

    def revoke(self, token_id: str, at: datetime) -> bool:
        """Revoke a token; False if there is none or it was revoked before."""
        row = self._session.get(TokenRow, token_id)
        if row is None or row.revoked_at is not None:
            return False
        row.revoked_at = at
        return True

    def expire(self, token_id: str, at: datetime) -> None:
        """Have a token end at a time."""
        self._session.get_one(TokenRow, token_id).expires_at = at
        self._session.flush()

    def remove_of(self, tenant_ids: Collection[int]) -> dict[int, int]:
        """Remove every token of tenants that are being removed; return how many each had."""
        counts: dict[int, int] = {}
        for chunk in chunks(tenant_ids):
            of_tenants = TokenRow.tenant_id.in_(chunk)
            query = select(TokenRow.tenant_id, func.count().label("tokens")).where(of_tenants)
            rows = self._session.execute(query.group_by(TokenRow.tenant_id))
            counts |= {row.tenant_id: row.tokens for row in rows}
            self._session.execute(delete(TokenRow).where(of_tenants))
        return counts


_COLUMNS = (
    TokenRow.id,
    TokenRow.name,
    TokenRow.scopes,
    TokenRow.created_at,
    TokenRow.expires_at,
    TokenRow.revoked_at,
    TokenRow.last_used_on,
)


def _query(*more: Any) -> Select[Any]:
    columns = *_COLUMNS, TenantRow.name.label("tenant"), *more
    return select(*columns).outerjoin_from(TokenRow, TenantRow)


def _recorded(row: Any) -> RecordedToken:
    return RecordedToken(
        id=row.id,
        name=row.name,
        scopes=frozenset(row.scopes.split()),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        tenant=row.tenant,
        last_used_on=row.last_used_on,
    )
