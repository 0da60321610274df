"""Rows of the tokens by which machines enrol. Only SHA-256 sums of their secrets are kept."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base


class EnrolTokenRow(Base):
    """A token by which machines enrol into a channel and a group."""

    __tablename__ = "enrol_tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    channel: Mapped[str]
    group: Mapped[str]
    uses_left: Mapped[int]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolToken:
    """A token by which machines enrol, without its secret."""

    id: str
    channel: str
    group: str
    uses_left: int
    created_at: datetime
    expires_at: datetime


class EnrolTokenTable:
    """The repository of tokens by which machines enrol."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, token: EnrolToken, sha256_hex: str) -> None:
        """Record a new token under the SHA-256 of its secret."""
        self._session.add(
            EnrolTokenRow(
                id=token.id,
                sha256=sha256_hex,
                channel=token.channel,
                group=token.group,
                uses_left=token.uses_left,
                created_at=token.created_at,
                expires_at=token.expires_at,
            )
        )
        self._session.flush()

    def by_secret(self, sha256_hex: str) -> EnrolToken | None:
        """Return the token whose secret has this SHA-256."""
        query = select(EnrolTokenRow).where(EnrolTokenRow.sha256 == sha256_hex)
        row = self._session.execute(query).scalar_one_or_none()
        return None if row is None else _enrol_token(row)

    def use(self, token_id: str) -> None:
        """Take one use of a token."""
        self._session.execute(
            update(EnrolTokenRow)
            .where(EnrolTokenRow.id == token_id)
            .values(uses_left=EnrolTokenRow.uses_left - 1)
        )

    def all(self) -> list[EnrolToken]:
        """Return every token, oldest first."""
        query = select(EnrolTokenRow).order_by(EnrolTokenRow.created_at, EnrolTokenRow.id)
        return [_enrol_token(row) for row in self._session.execute(query).scalars()]

    def remove(self, token_id: str) -> bool:
        """Remove a token; return False if there is none."""
        gone = delete(EnrolTokenRow).where(EnrolTokenRow.id == token_id)
        return bool(self._session.execute(gone.returning(EnrolTokenRow.id)).scalars().all())

    def forget_before(self, at: datetime) -> None:
        """Remove tokens that expired before a moment."""
        self._session.execute(delete(EnrolTokenRow).where(EnrolTokenRow.expires_at < at))


def _enrol_token(row: EnrolTokenRow) -> EnrolToken:
    return EnrolToken(
        id=row.id,
        channel=row.channel,
        group=row.group,
        uses_left=row.uses_left,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
