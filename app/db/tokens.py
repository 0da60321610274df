"""Rows for tokens: only the SHA-256 of the secret is kept."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base


class TokenRow(Base):
    """One token; `id` is its public part, shown in listings and audit rows.

    `scopes` are words separated by spaces. A token without tenant is the platform's.
    """

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    scopes: Mapped[str]
    tenant_id: Mapped[int | None] = mapped_column(ForeignKey("tenants.id"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_on: Mapped[date | None]


@dataclass(frozen=True, slots=True)
class RecordedToken:
    """A token as recorded, without anything that could be used to log in.

    Attributes:
        scopes: of "read", "publish" and "admin".
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
    """The repository of tokens."""

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

    def by_secret(self, sha256_hex: str) -> RecordedToken | None:
        """Return the token whose secret has this SHA-256."""
        row = self._session.execute(
            select(TokenRow).where(TokenRow.sha256 == sha256_hex)
        ).scalar_one_or_none()
        return _recorded(row, self._names()) if row else None

    def all(self) -> list[RecordedToken]:
        """Return every token, oldest first."""
        return list(self.by_sha256().values())

    def by_sha256(self) -> dict[str, RecordedToken]:
        """Return every token by the SHA-256 of its secret, oldest first."""
        names = self._names()
        rows = self._session.execute(
            select(TokenRow).order_by(TokenRow.created_at, TokenRow.id)
        ).scalars()
        return {row.sha256: _recorded(row, names) for row in rows}

    def _names(self) -> dict[int, str]:
        # Not imported at the top: tenants' rows and tokens' rows know each other.
        from app.db.tenants import TenantTable

        return TenantTable(self._session).names()

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

    def remove_of(self, tenant_id: int) -> int:
        """Remove every token of a tenant that is being removed; return how many."""
        rows = self._session.execute(
            select(TokenRow).where(TokenRow.tenant_id == tenant_id)
        ).scalars()
        count = 0
        for row in rows:
            self._session.delete(row)
            count += 1
        self._session.flush()
        return count


def _recorded(row: TokenRow, names: dict[int, str]) -> RecordedToken:
    return RecordedToken(
        row.id,
        row.name,
        frozenset(row.scopes.split()),
        row.created_at,
        row.expires_at,
        row.revoked_at,
        None if row.tenant_id is None else names[row.tenant_id],
        row.last_used_on,
    )
