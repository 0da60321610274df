"""Rows for tokens: only the SHA-256 of the secret is kept."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base


class TokenRow(Base):
    """One token; `id` is its public part, shown in listings and audit rows."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    scope: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


@dataclass(frozen=True, slots=True)
class RecordedToken:
    """A token as recorded, without anything that could be used to log in."""

    id: str
    name: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class Tokens:
    """The repository of tokens."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, token: RecordedToken, sha256_hex: str) -> None:
        """Record a new token under the SHA-256 of its secret."""
        self._session.add(
            TokenRow(
                id=token.id,
                sha256=sha256_hex,
                name=token.name,
                scope=token.scope,
                created_at=token.created_at,
                expires_at=token.expires_at,
                revoked_at=token.revoked_at,
            )
        )
        self._session.flush()

    def by_secret(self, sha256_hex: str) -> RecordedToken | None:
        """Return the token whose secret has this SHA-256."""
        row = self._session.execute(
            select(TokenRow).where(TokenRow.sha256 == sha256_hex)
        ).scalar_one_or_none()
        return _recorded(row) if row else None

    def all(self) -> list[RecordedToken]:
        """Return every token, oldest first."""
        rows = self._session.execute(
            select(TokenRow).order_by(TokenRow.created_at, TokenRow.id)
        ).scalars()
        return [_recorded(row) for row in rows]

    def revoke(self, token_id: str, at: datetime) -> bool:
        """Revoke a token; False if there is none or it was revoked before."""
        row = self._session.get(TokenRow, token_id)
        if row is None or row.revoked_at is not None:
            return False
        row.revoked_at = at
        return True


def _recorded(row: TokenRow) -> RecordedToken:
    return RecordedToken(
        row.id, row.name, row.scope, row.created_at, row.expires_at, row.revoked_at
    )
