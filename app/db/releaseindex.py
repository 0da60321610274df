"""Rows of the release index: accepted documents, the result of reading, and conflicts.

The files that an index names are in `releases`.
"""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.digest import Digest
from app.core.releasefile import IndexConflict, IndexStatus
from app.db.base import Base


class IndexDocumentRow(Base):
    """An accepted index document; its bytes are the blob of that digest."""

    __tablename__ = "index_documents"

    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), primary_key=True)
    url: Mapped[str]
    first_read_at: Mapped[datetime]


class IndexStatusRow(Base):
    """The only row (id 1), with the result of reading the index."""

    __tablename__ = "index_status"

    id: Mapped[int] = mapped_column(primary_key=True)
    read_at: Mapped[datetime | None]
    tried_at: Mapped[datetime | None]
    error: Mapped[str]
    document: Mapped[str | None] = mapped_column(ForeignKey("index_documents.sha256"))


class ConflictRow(Base):
    """Evidence: an index claimed another hash or size than the recorded one."""

    __tablename__ = "index_conflicts"
    __table_args__ = (UniqueConstraint("filename", "seen_sha256", "seen_size_bytes"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    filename: Mapped[str]
    recorded_sha256: Mapped[str]
    recorded_size_bytes: Mapped[int] = mapped_column(BigInteger)
    seen_sha256: Mapped[str]
    seen_size_bytes: Mapped[int] = mapped_column(BigInteger)
    index_sha256: Mapped[str] = mapped_column(ForeignKey("index_documents.sha256"))
    seen_at: Mapped[datetime]


class IndexLog:
    """The repository of index documents, their status and the conflicts they caused."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def status(self) -> IndexStatus:
        """Return the result of reading the index."""
        row = self._status()
        document = Digest(row.document) if row.document else None
        return IndexStatus(row.read_at, row.tried_at, row.error, document)

    def accepted(self, document: Digest, url: str, at: datetime) -> None:
        """Record that a document was accepted; its blob row must exist."""
        self.add_document(document, url, at)
        row = self._status()
        row.read_at, row.tried_at, row.error, row.document = at, at, "", document.hex

    def add_document(self, document: Digest, url: str, at: datetime) -> None:
        """Record a document that is no read of the index; its blob row must exist."""
        if self._session.get(IndexDocumentRow, document.hex) is None:
            self._session.add(IndexDocumentRow(sha256=document.hex, url=url, first_read_at=at))
            self._session.flush()

    def is_document(self, digest: Digest) -> bool:
        """Report whether a blob is an accepted index document."""
        return self._session.get(IndexDocumentRow, digest.hex) is not None

    def failed(self, error: str, at: datetime) -> None:
        """Record that reading failed; the accepted document stays."""
        row = self._status()
        row.tried_at, row.error = at, error

    def _status(self) -> IndexStatusRow:
        return self._session.execute(select(IndexStatusRow)).scalar_one()

    def add_conflict(self, conflict: IndexConflict) -> bool:
        """Keep a contradiction as evidence; return False if the same one exists."""
        row = ConflictRow(
            filename=conflict.filename,
            recorded_sha256=conflict.recorded_sha256,
            recorded_size_bytes=conflict.recorded_size_bytes,
            seen_sha256=conflict.seen_sha256,
            seen_size_bytes=conflict.seen_size_bytes,
            index_sha256=conflict.index.hex,
            seen_at=conflict.seen_at,
        )
        recorded_already = self._session.execute(
            select(ConflictRow.id).where(
                ConflictRow.filename == row.filename,
                ConflictRow.seen_sha256 == row.seen_sha256,
                ConflictRow.seen_size_bytes == row.seen_size_bytes,
            )
        ).first()
        if recorded_already is None:
            self._session.add(row)
            self._session.flush()
        return recorded_already is None

    def conflicts(self, filename: str | None = None) -> list[IndexConflict]:
        """Return the recorded contradictions of one file or of all, oldest first."""
        query = select(ConflictRow).order_by(ConflictRow.id)
        if filename is not None:
            query = query.where(ConflictRow.filename == filename)
        return [
            IndexConflict(
                row.filename,
                row.recorded_sha256,
                row.recorded_size_bytes,
                row.seen_sha256,
                row.seen_size_bytes,
                Digest(row.index_sha256),
                row.seen_at,
            )
            for row in self._session.execute(query).scalars()
        ]
