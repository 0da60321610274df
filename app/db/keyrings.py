"""Rows of key exports: all that were ever taken over; the newest is active.

Old exports stay, because a verdict names the export with which it was made.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.digest import Digest
from app.db.base import Base


class KeyringRow(Base):
    """One take-over of an armored export."""

    __tablename__ = "keyrings"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    source: Mapped[str]
    armored: Mapped[bytes]
    taken_at: Mapped[datetime]


class OwnKeyringRow(Base):
    """An export by which own releases were judged."""

    __tablename__ = "own_keyrings"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    armored: Mapped[bytes]
    taken_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class RecordedKeyring:
    """A row of a key export.

    Attributes:
        source: "built-in", "setting", "refresh".
        armored: the export's bytes.
    """

    id: int
    digest: Digest
    source: str
    armored: bytes
    taken_at: datetime


class Keyrings:
    """The repository of key exports."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def active(self) -> RecordedKeyring | None:
        """Return the newest export."""
        return self._newest()

    def newest_from(self, sources: frozenset[str]) -> RecordedKeyring | None:
        """Return the newest export that came from one of sources."""
        return self._newest(sources)

    def _newest(self, sources: frozenset[str] | None = None) -> RecordedKeyring | None:
        query = select(KeyringRow).order_by(KeyringRow.id.desc()).limit(1)
        if sources is not None:
            query = query.where(KeyringRow.source.in_(sources))
        row = self._session.execute(query).scalar_one_or_none()
        if row is None:
            return None
        return RecordedKeyring(row.id, Digest(row.sha256), row.source, row.armored, row.taken_at)

    def add(self, digest: Digest, source: str, armored: bytes, at: datetime) -> None:
        """Make an export the active one."""
        self._session.add(
            KeyringRow(sha256=digest.hex, source=source, armored=armored, taken_at=at)
        )
        self._session.flush()

    def keep_own(self, digest: Digest, armored: bytes, at: datetime) -> None:
        """Keep an export that a verdict on an own release names."""
        if self._session.get(OwnKeyringRow, digest.hex) is None:
            self._session.add(OwnKeyringRow(sha256=digest.hex, armored=armored, taken_at=at))
            self._session.flush()
