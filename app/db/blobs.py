"""Rows of blobs: the digests that other rows may name.

A blob is durable in the store before its row is committed, never the other way. A row names a blob
by a foreign key, and by nothing else: a blob that no foreign key names is garbage (`garbage.py`).
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.digest import Digest
from app.core.errors import StorageError
from app.db.base import Base, table_of


class BlobRow(Base):
    """A blob that other rows may name.

    `condemned_at` and `deleting_at` are the marks of garbage collection, see `garbage.py`.
    """

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    damaged: Mapped[bool]
    stored_at: Mapped[datetime]
    checked_at: Mapped[datetime]
    condemned_at: Mapped[datetime | None]
    deleting_at: Mapped[datetime | None]


@dataclass(frozen=True, slots=True)
class RecordedBlob:
    """A row of a blob.

    Attributes:
        damaged: the bytes are wrong or missing, and must be fetched again.
        checked_at: when the bytes were last hashed and right, UTC.
    """

    digest: Digest
    size_bytes: int
    damaged: bool
    checked_at: datetime


_TABLE = table_of(BlobRow)
_KNOWN = select(_TABLE.c.deleting_at).where(_TABLE.c.sha256 == bindparam("digest"))
_ADD = insert(_TABLE)


class Blobs:
    """The repository of blob rows."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def record(self, digest: Digest, size_bytes: int, at: datetime) -> None:
        """Record a durable blob; one that was damaged or condemned is so no more.

        Raises:
            StorageError: the blob is being deleted. `BlobMarks.reclaim` came before the bytes were
                stored, so that this happens only to a process that stood still for a day.
        """
        known = self._session.execute(_KNOWN, {"digest": digest.hex}).first()
        if known is None:
            self._session.execute(
                _ADD,
                {
                    "sha256": digest.hex,
                    "size_bytes": size_bytes,
                    "damaged": False,
                    "stored_at": at,
                    "checked_at": at,
                },
            )
        elif known.deleting_at is not None:
            raise StorageError(f"blob {digest} is being deleted; ask again")
        else:
            values = {"damaged": False, "checked_at": at, "condemned_at": None}
            self._session.execute(
                update(BlobRow).where(BlobRow.sha256 == digest.hex).values(values)
            )

    def mark_damaged(self, digest: Digest) -> bool:
        """Record that a blob's bytes are wrong or missing; return False if nothing changes."""
        row = self._session.get(BlobRow, digest.hex)
        if row is None or row.damaged:
            return False
        row.damaged = True
        return True

    def mark_whole(self, digest: Digest, at: datetime) -> bool:
        """Take the mark of damage back, the bytes being right; return False without a mark."""
        row = self._session.get(BlobRow, digest.hex)
        if row is None or not row.damaged:
            return False
        row.damaged, row.checked_at = False, at
        return True

    def is_damaged(self, digest: Digest) -> bool:
        """Whether a blob is marked as damaged."""
        row = self._session.get(BlobRow, digest.hex)
        return row is not None and row.damaged

    def checked_at(self, digest: Digest) -> datetime | None:
        """Return when the bytes were last known to be right, UTC; it changes when they are stored.

        None for a blob that is not recorded.
        """
        row = self._session.get(BlobRow, digest.hex)
        return None if row is None else row.checked_at

    def mark_checked(self, digest: Digest, at: datetime) -> None:
        """Record that the bytes were hashed and are right."""
        row = self._session.get(BlobRow, digest.hex)
        if row is not None:
            row.checked_at = at

    def has(self, digest: Digest) -> bool:
        """Whether a blob is recorded."""
        return self._session.get(BlobRow, digest.hex) is not None

    def forget(self, digest: Digest) -> None:
        """Remove the row of a blob that no other row names; one that is named stays."""
        try:
            with self._session.begin_nested():
                self._session.execute(delete(BlobRow).where(BlobRow.sha256 == digest.hex))
        except IntegrityError:  # a foreign key: the blob is also another file's
            return

    def all(self) -> list[RecordedBlob]:
        """Return every recorded blob that is not condemned, in digest order."""
        query = select(BlobRow).where(BlobRow.condemned_at.is_(None)).order_by(BlobRow.sha256)
        rows = self._session.execute(query).scalars()
        return [_blob_of(row) for row in rows]

    def some(self, limit: int) -> list[RecordedBlob]:
        """Return so many blobs, or fewer, that the store should have: in digest order."""
        query = (
            select(BlobRow)
            .where(BlobRow.damaged.is_(False), BlobRow.condemned_at.is_(None))
            .order_by(BlobRow.sha256)
            .limit(limit)
        )
        return [_blob_of(row) for row in self._session.execute(query).scalars()]

    def due(self, at: datetime, now: datetime, limit: int) -> list[RecordedBlob]:
        """Return undamaged blobs whose last check is older than at, the oldest first.

        A check "from the future" was made while a clock was ahead, and counts as old.
        """
        rows = self._session.execute(
            select(BlobRow)
            .where(or_(BlobRow.checked_at < at, BlobRow.checked_at > now))
            .where(BlobRow.damaged.is_(False), BlobRow.condemned_at.is_(None))
            .order_by(BlobRow.checked_at)
            .limit(limit)
        ).scalars()
        return [_blob_of(row) for row in rows]


def _blob_of(row: BlobRow) -> RecordedBlob:
    return RecordedBlob(Digest(row.sha256), row.size_bytes, row.damaged, row.checked_at)
