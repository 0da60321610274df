"""Blobs that no row names, and their way out: condemned, a day later being deleted, then gone.

    unneeded     no foreign key names the row, or the store has the blob and there is no row
    condemned    `condemned_at` is set; whoever stores the same bytes again takes the mark back
    deleting     `deleting_at` is set too: one collector deletes the file now, nobody may use it

Each step is a transaction that looks under the lock of the blob's row whether a row names the blob.
A put of the same bytes looks for the marks before it stores anything (`services/garbage.py`), and
then has a day until its own row must name the blob: a mark that is made meanwhile is younger.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, bindparam, delete, exists, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core.digest import Digest
from app.db.base import Base, chunks, insert_all, table_of
from app.db.blobs import BlobRow
from app.db.lookup import Lookup, LookupQuery


@dataclass(frozen=True, slots=True)
class CondemnedBlob:
    """A blob that no row names.

    Attributes:
        condemned_at: None: not yet.
        deleting_at: when a collector began to delete it; a collector that was killed left it so.
    """

    digest: Digest
    size_bytes: int
    condemned_at: datetime | None
    deleting_at: datetime | None


_IS_MARKED = LookupQuery(
    select(BlobRow.sha256).where(
        BlobRow.sha256 == bindparam("digest"), BlobRow.condemned_at.is_not(None)
    )
)


def is_marked(digest: Digest) -> Lookup[bool]:
    """Return the look-up of whether a blob has a mark."""
    return Lookup(_IS_MARKED, {"digest": digest.hex}, bool)


class GarbageTable:
    """The repository of blobs that no row names."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def unneeded(self) -> list[CondemnedBlob]:
        """Return every blob that no row names, in digest order."""
        columns = (
            BlobRow.sha256,
            BlobRow.size_bytes,
            BlobRow.condemned_at,
            BlobRow.deleting_at,
        )
        query = select(*columns).where(_is_unneeded()).order_by(BlobRow.sha256)
        return [CondemnedBlob(Digest(row[0]), *row[1:]) for row in self._session.execute(query)]

    def known(self) -> set[str]:
        """Return the digests of all rows of blobs, condemned ones too, in hex."""
        return set(self._session.execute(select(BlobRow.sha256)).scalars())

    def condemn(self, blobs: Sequence[tuple[Digest, int]], at: datetime) -> list[Digest]:
        """Condemn blobs that no row names; return which. One without a row gets one.

        Args:
            blobs: digest and size of each.
            at: now, UTC.
        """
        sizes = {digest.hex: size for digest, size in blobs}
        rows = self._locked(sizes)
        values = {"damaged": False, "stored_at": at, "checked_at": at, "condemned_at": at}
        new = [
            {"sha256": name, "size_bytes": size, "deleting_at": None, **values}
            for name, size in sizes.items()
            if name not in {row.sha256 for row in rows}
        ]
        insert_all(self._session, BlobRow, new)
        unneeded = self._unneeded_of([row.sha256 for row in rows if row.condemned_at is None])
        self._set(unneeded, condemned_at=at)
        return [Digest(name) for name in sorted({*unneeded, *(str(v["sha256"]) for v in new)})]

    def take_back(self, digest: Digest, dead_before: datetime) -> bool:
        """Take the marks of a blob back; return False if a living collector is deleting it.

        Args:
            digest: of the blob.
            dead_before: a collector that began before this time was killed.
        """
        rows = self._locked([digest.hex])
        if not rows:
            return True  # deleted by now: whoever stores the bytes makes a new file
        if rows[0].deleting_at is not None and rows[0].deleting_at >= dead_before:
            return False
        self._set([digest.hex], condemned_at=None, deleting_at=None)
        return True

    def claim(
        self, digests: Sequence[Digest], *, condemned_before: datetime, at: datetime
    ) -> list[CondemnedBlob]:
        """Begin to delete blobs that are condemned for long enough; return which.

        Args:
            digests: of the blobs.
            condemned_before: the grace is over for marks that are older.
            at: now, UTC; the mark by which `forget` knows this collector.
        """
        rows = self._locked([digest.hex for digest in digests])
        due = [
            row
            for row in rows
            if row.condemned_at is not None and row.condemned_at < condemned_before
        ]
        unneeded = self._unneeded_of([row.sha256 for row in due])
        self._set(unneeded, deleting_at=at)
        return [
            CondemnedBlob(Digest(row.sha256), row.size_bytes, row.condemned_at, at)
            for row in due
            if row.sha256 in unneeded
        ]

    def forget(self, digests: Sequence[Digest], claimed_at: datetime) -> None:
        """Remove the rows of blobs that this collector has deleted."""
        for chunk in chunks([digest.hex for digest in digests]):
            is_mine = and_(BlobRow.sha256.in_(chunk), BlobRow.deleting_at == claimed_at)
            try:
                with self._session.begin_nested():
                    self._session.execute(delete(BlobRow).where(is_mine))
            except IntegrityError:  # never: a row that names a blob takes its mark back first
                continue

    def _locked(self, names: Collection[str]) -> list[BlobRow]:
        """Return rows, locked against others that name or delete them; in a fixed order."""
        rows: list[BlobRow] = []
        for chunk in chunks(sorted(names)):
            query = select(BlobRow).where(BlobRow.sha256.in_(chunk)).order_by(BlobRow.sha256)
            rows += self._session.execute(query.with_for_update()).scalars()
        return rows

    def _unneeded_of(self, names: Collection[str]) -> set[str]:
        """Return those that no row names; a statement of its own, after the lock."""
        unneeded: set[str] = set()
        for chunk in chunks(sorted(names)):
            query = select(BlobRow.sha256).where(BlobRow.sha256.in_(chunk), _is_unneeded())
            unneeded |= set(self._session.execute(query).scalars())
        return unneeded

    def _set(self, names: Collection[str], **values: datetime | None) -> None:
        for chunk in chunks(sorted(names)):
            query = update(BlobRow).where(BlobRow.sha256.in_(chunk)).values(values)
            self._session.execute(query, execution_options={"synchronize_session": False})
        self._session.expire_all()


def _is_unneeded() -> ColumnElement[bool]:
    """Return the condition that no foreign key names a blob's row, whichever table has it."""
    target = table_of(BlobRow).c.sha256
    names = [
        exists().where(key.parent == target)
        for table in Base.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column is target
    ]
    return ~or_(*names)
