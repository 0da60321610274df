"""Rows for blobs: which digests the database vouches for.

Order of effects: a blob is durable in the store before its row is committed, never the other way.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.digest import Digest
from app.db.base import Base


class BlobRow(Base):
    """A blob that some other row names."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    damaged: Mapped[bool]
    stored_at: Mapped[datetime]
    checked_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class RecordedBlob:
    """A blob as recorded.

    Attributes:
        damaged: its bytes were found wrong or missing, and it awaits a new fetch.
        checked_at: when its bytes were last hashed and found right, UTC.
    """

    digest: Digest
    size_bytes: int
    damaged: bool
    checked_at: datetime


class Blobs:
    """The repository of blob rows."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def record(self, digest: Digest, size_bytes: int, at: datetime) -> None:
        """Record a durable blob; one that was recorded as damaged is whole again."""
        row = self._session.get(BlobRow, digest.hex)
        if row is None:
            row = BlobRow(sha256=digest.hex, size_bytes=size_bytes, stored_at=at)
            self._session.add(row)
        row.damaged = False
        row.checked_at = at
        self._session.flush()

    def mark_damaged(self, digest: Digest) -> bool:
        """Record that the bytes are wrong or gone; return False if that was known or no row."""
        row = self._session.get(BlobRow, digest.hex)
        if row is None or row.damaged:
            return False
        row.damaged = True
        return True

    def mark_checked(self, digest: Digest, at: datetime) -> None:
        """Record that the bytes were hashed and found right."""
        row = self._session.get(BlobRow, digest.hex)
        if row is not None:
            row.checked_at = at

    def all(self) -> list[RecordedBlob]:
        """Return every recorded blob, in digest order."""
        rows = self._session.execute(select(BlobRow).order_by(BlobRow.sha256)).scalars()
        return [_recorded(row) for row in rows]

    def checked_before(self, at: datetime, limit: int) -> list[RecordedBlob]:
        """Return undamaged blobs whose last check is older than at, the oldest first."""
        rows = self._session.execute(
            select(BlobRow)
            .where(BlobRow.checked_at < at, BlobRow.damaged.is_(False))
            .order_by(BlobRow.checked_at)
            .limit(limit)
        ).scalars()
        return [_recorded(row) for row in rows]


def _recorded(row: BlobRow) -> RecordedBlob:
    return RecordedBlob(Digest(row.sha256), row.size_bytes, row.damaged, row.checked_at)
