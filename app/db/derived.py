"""Rows of the files that are derived from archives: one row for each archive.

A row is keyed by the archive's digest, since what is derived follows from the bytes alone.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.chunks import sums_bytes
from app.core.derived import Derived, DerivedFile, DerivedKind, Zst
from app.core.digest import Digest
from app.db.base import Base
from app.db.blobs import Blobs


class DerivedRow(Base):
    """What is derived from one archive; the two columns of the zstd form come later, together."""

    __tablename__ = "derived_files"

    archive_sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), primary_key=True)
    archive_bytes: Mapped[int] = mapped_column(BigInteger)
    tree_sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"))
    tree_bytes: Mapped[int] = mapped_column(BigInteger)
    chunks_sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"))
    zst_sha256: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"))
    zst_bytes: Mapped[int | None] = mapped_column(BigInteger)
    zst_chunks_sha256: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"))
    tar_sha256: Mapped[str | None]


_COLUMNS = {
    DerivedKind.TREE: DerivedRow.tree_sha256,
    DerivedKind.CHUNKS: DerivedRow.chunks_sha256,
    DerivedKind.ZST: DerivedRow.zst_sha256,
    DerivedKind.ZST_CHUNKS: DerivedRow.zst_chunks_sha256,
}


class DerivedTable:
    """The repository of derived files."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def record(self, archive: Digest, archive_bytes: int, derived: Derived, at: datetime) -> None:
        """Record the tree and the sums of an archive, whose own blob is recorded; both are durable.

        The zstd form stays as it is recorded. Blobs that are replaced lose their rows.
        """
        self._record_blobs((derived.tree, derived.chunks), at)
        row = self._session.get(DerivedRow, archive.hex)
        before = [] if row is None else [row.tree_sha256, row.chunks_sha256]
        if row is None:
            row = DerivedRow(archive_sha256=archive.hex, archive_bytes=archive_bytes)
            self._session.add(row)
        row.tree_sha256, row.tree_bytes = derived.tree.sha256.hex, derived.tree.size_bytes
        row.chunks_sha256 = derived.chunks.sha256.hex
        row.tar_sha256 = derived.tar_sha256.hex if derived.tar_sha256 else None
        self._session.flush()
        self._forget(before, row)

    def record_zst(self, archive: Digest, zst: Zst, at: datetime) -> bool:
        """Record the zstd form of an archive, both files durable; return False without a row."""
        row = self._session.get(DerivedRow, archive.hex)
        if row is None:
            return False
        self._record_blobs((DerivedFile(zst.sha256, zst.size_bytes), zst.chunks), at)
        before = [row.zst_sha256, row.zst_chunks_sha256]
        row.zst_sha256, row.zst_bytes = zst.sha256.hex, zst.size_bytes
        row.zst_chunks_sha256 = zst.chunks.sha256.hex
        self._session.flush()
        self._forget(before, row)
        return True

    def drop_zst(self, archive: Digest) -> None:
        """Forget the zstd form of an archive."""
        row = self._session.get(DerivedRow, archive.hex)
        if row is not None:
            before = [row.zst_sha256, row.zst_chunks_sha256]
            row.zst_sha256 = row.zst_bytes = row.zst_chunks_sha256 = None
            self._session.flush()
            self._forget(before, row)

    def _record_blobs(self, files: Iterable[DerivedFile], at: datetime) -> None:
        for file in files:
            Blobs(self._session).record(file.sha256, file.size_bytes, at)

    def _forget(self, before: Iterable[str | None], row: DerivedRow) -> None:
        """Forget the blobs that a row named before and names no more."""
        now = {getattr(row, column.key) for column in _COLUMNS.values()}
        for hex_digest in before:
            if hex_digest is not None and hex_digest not in now:
                Blobs(self._session).forget(Digest(hex_digest))

    def get(self, archive: Digest) -> Derived | None:
        """Return what is derived from an archive."""
        row = self._session.get(DerivedRow, archive.hex)
        return None if row is None else derived_of(row)

    def origins_of(self, digest: Digest) -> list[tuple[Digest, DerivedKind]]:
        """Return the archives of which a blob is a derived file, and which one it is."""
        is_named = or_(*(column == digest.hex for column in _COLUMNS.values()))
        rows = self._session.execute(select(DerivedRow).where(is_named)).scalars()
        return [
            (Digest(row.archive_sha256), kind)
            for row in rows
            for kind, column in _COLUMNS.items()
            if getattr(row, column.key) == digest.hex
        ]


def derived_of(row: DerivedRow) -> Derived:
    """Return what a row says."""
    zst = None
    if row.zst_sha256 is not None and row.zst_bytes is not None and row.zst_chunks_sha256:
        chunks = DerivedFile(Digest(row.zst_chunks_sha256), sums_bytes(row.zst_bytes))
        zst = Zst(Digest(row.zst_sha256), row.zst_bytes, chunks)
    return Derived(
        DerivedFile(Digest(row.tree_sha256), row.tree_bytes),
        DerivedFile(Digest(row.chunks_sha256), sums_bytes(row.archive_bytes)),
        zst,
        Digest(row.tar_sha256) if row.tar_sha256 else None,
    )
