"""Rows of relayed checksum databases: verified heads, tiles and records, and evidence."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.digest import Digest
from app.db.base import Base

MAX_EVIDENCE = 1000
"""Refused answers kept for one log. More prove nothing new, and must not fill the disk."""


class LogHeadRow(Base):
    """The newest verified tree head of a log; `note` is the signed note, byte for byte."""

    __tablename__ = "log_heads"

    log: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    note: Mapped[bytes]
    seen_at: Mapped[datetime]


class LogTileRow(Base):
    """The widest verified tile at its place; `data` has 32 bytes for each hash."""

    __tablename__ = "log_tiles"

    log: Mapped[str] = mapped_column(primary_key=True)
    level: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    data: Mapped[bytes]


class LogLookupRow(Base):
    """The verified answer to a lookup, byte for byte."""

    __tablename__ = "log_lookups"

    log: Mapped[str] = mapped_column(primary_key=True)
    module: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    record: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[bytes]
    seen_at: Mapped[datetime]


class LogEvidenceRow(Base):
    """A refused answer: `older` is the newest verified head, `newer` the refused bytes.

    In the case of a fork both are signed heads, and an honest log would never sign both.
    """

    __tablename__ = "log_evidence"
    __table_args__ = (UniqueConstraint("log", "sha256"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    log: Mapped[str]
    sha256: Mapped[str]
    older: Mapped[bytes]
    newer: Mapped[bytes]
    detail: Mapped[str]
    seen_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class LogHead:
    """A row of a verified tree head."""

    size: int
    note: bytes
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class LogLookup:
    """A row of a verified lookup; `record` is the record's number in the log."""

    module: str
    version: str
    record: int
    body: bytes


@dataclass(frozen=True, slots=True)
class LogEvidence:
    """Evidence against a log.

    Attributes:
        older: the newest verified head at that time; b"" without one.
        newer: the refused answer: a signed head, a whole lookup, or the path of a tile.
    """

    log: str
    older: bytes
    newer: bytes
    detail: str
    seen_at: datetime


class LogTable:
    """The repository of one relayed log."""

    def __init__(self, session: Session, log: str) -> None:
        self._session = session
        self._log = log

    def head(self) -> LogHead | None:
        """Return the newest verified head."""
        row = self._session.get(LogHeadRow, self._log)
        return None if row is None else LogHead(row.size, row.note, row.seen_at)

    def save_head(self, head: LogHead, over: bytes | None) -> bool:
        """Replace the head with the note `over`, None for no head; return False if it differs.

        So a head only replaces the head with which it was compared.
        """
        row = self._session.get(LogHeadRow, self._log, with_for_update=True)
        if (None if row is None else row.note) != over:
            return False
        if row is None:
            row = LogHeadRow(log=self._log)
            self._session.add(row)
        row.size, row.note, row.seen_at = head.size, head.note, head.seen_at
        self._session.flush()
        return True

    def tile(self, level: int, number: int) -> bytes | None:
        """Return the widest verified tile at a place."""
        row = self._session.get(LogTileRow, (self._log, level, number))
        return None if row is None else row.data

    def save_tile(self, level: int, number: int, data: bytes) -> None:
        """Record a verified tile, unless the row has a wider one.

        A tile of the same width is replaced, because the recorded one may be damaged.
        """
        row = self._session.get(LogTileRow, (self._log, level, number))
        if row is None:
            self._session.add(LogTileRow(log=self._log, level=level, number=number, data=data))
        elif len(row.data) <= len(data):
            row.data = data
        self._session.flush()

    def lookup(self, module: str, version: str) -> LogLookup | None:
        """Return a verified lookup."""
        row = self._session.get(LogLookupRow, (self._log, module, version))
        return None if row is None else LogLookup(row.module, row.version, row.record, row.body)

    def save_lookup(self, lookup: LogLookup, at: datetime) -> None:
        """Record a verified lookup; the first one stays."""
        if self._session.get(LogLookupRow, (self._log, lookup.module, lookup.version)) is None:
            self._session.add(
                LogLookupRow(
                    log=self._log,
                    module=lookup.module,
                    version=lookup.version,
                    record=lookup.record,
                    body=lookup.body,
                    seen_at=at,
                )
            )
            self._session.flush()

    def add_evidence(self, older: bytes, newer: bytes, detail: str, at: datetime) -> bool:
        """Keep evidence; return False if the same evidence exists, or MAX_EVIDENCE is reached."""
        sha256 = Digest.of(older + b"\0" + newer).hex
        recorded_already = self._session.execute(
            select(LogEvidenceRow.id).where(
                LogEvidenceRow.log == self._log, LogEvidenceRow.sha256 == sha256
            )
        ).first()
        if recorded_already is not None or self.evidence_count() >= MAX_EVIDENCE:
            return False
        self._session.add(
            LogEvidenceRow(
                log=self._log,
                sha256=sha256,
                older=older,
                newer=newer,
                detail=detail,
                seen_at=at,
            )
        )
        self._session.flush()
        return True

    def evidence_count(self) -> int:
        """Return the number of rows of evidence against the log."""
        query = select(func.count(LogEvidenceRow.id)).where(LogEvidenceRow.log == self._log)
        return self._session.execute(query).scalar_one()

    def evidence(self) -> list[LogEvidence]:
        """Return all evidence against the log, oldest first."""
        rows = self._session.execute(
            select(LogEvidenceRow)
            .where(LogEvidenceRow.log == self._log)
            .order_by(LogEvidenceRow.id)
        ).scalars()
        return [LogEvidence(r.log, r.older, r.newer, r.detail, r.seen_at) for r in rows]
