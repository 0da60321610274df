"""Rows of the tenants' own logs: records, the hashes of the tree, and its signed head.

One commit writes a record, its hashes and the head that covers them, so a head never covers records
that are not durable.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base, chunks, is_one_of


class TenantLogRow(Base):
    """One log; `seed` is sealed. A retired log still answers, but gets no more records.

    The row stays after its tenant is deleted, with tenant_id NULL: no other log may get its name.
    """

    __tablename__ = "tenant_logs"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int | None] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str] = mapped_column(unique=True)
    vkey: Mapped[str]
    seed: Mapped[bytes]
    size: Mapped[int] = mapped_column(BigInteger)
    head: Mapped[bytes]
    retired: Mapped[bool]
    created_at: Mapped[datetime]


class LogRecordRow(Base):
    """One record of a tenant's log; `record` is its number, from 0 on."""

    __tablename__ = "log_records"
    __table_args__ = (UniqueConstraint("log_id", "module", "version"),)

    log_id: Mapped[int] = mapped_column(ForeignKey("tenant_logs.id"), primary_key=True)
    record: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    module: Mapped[str]
    version: Mapped[str]
    text: Mapped[bytes]
    added_at: Mapped[datetime]


class LogHashRow(Base):
    """One stored hash of a log; `place` is its number (x/mod/sumdb/tlog)."""

    __tablename__ = "log_hashes"

    log_id: Mapped[int] = mapped_column(ForeignKey("tenant_logs.id"), primary_key=True)
    place: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hash: Mapped[bytes]


@dataclass(frozen=True, slots=True)
class TenantLog:
    """A row of a tenant's log.

    Attributes:
        vkey: the verifier key, for GOSUMDB.
        seed: the private key, sealed.
        size: number of records.
        head: the signed tree head of that size; b"" for a log without records.
    """

    id: int
    tenant_id: int | None
    name: str
    vkey: str
    seed: bytes = field(repr=False)
    size: int
    head: bytes
    retired: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of a tenant's log."""

    record: int
    module: str
    version: str
    text: bytes


class TenantLogTable:
    """The repository of the tenants' own logs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, tenant_ids: Collection[int] | None = None) -> list[TenantLog]:
        """Return every log, or those of some tenants, oldest first."""
        query = select(TenantLogRow).where(is_one_of(TenantLogRow.tenant_id, tenant_ids))
        rows = self._session.execute(query.order_by(TenantLogRow.id)).scalars()
        return [_log(row) for row in rows]

    def of(self, tenant_id: int) -> TenantLog | None:
        """Return a tenant's log that is not retired."""
        row = self._session.execute(
            select(TenantLogRow).where(
                TenantLogRow.tenant_id == tenant_id, TenantLogRow.retired.is_(False)
            )
        ).scalar_one_or_none()
        return None if row is None else _log(row)

    def of_tenant(self, tenant_id: int) -> list[TenantLog]:
        """Return a tenant's logs, oldest first; retired ones too."""
        rows = self._session.execute(
            select(TenantLogRow)
            .where(TenantLogRow.tenant_id == tenant_id)
            .order_by(TenantLogRow.id)
        ).scalars()
        return [_log(row) for row in rows]

    def get(self, log_id: int) -> TenantLog:
        """Return a log."""
        return _log(self._session.get_one(TenantLogRow, log_id))

    def locked(self, log_id: int) -> TenantLog:
        """Return a log and lock its row, for an append."""
        return _log(self._session.get_one(TenantLogRow, log_id, with_for_update=True))

    def add(
        self, tenant_id: int, name: str, vkey: str, seed: bytes, head: bytes, at: datetime
    ) -> TenantLog:
        """Record a new, empty log."""
        row = TenantLogRow(
            tenant_id=tenant_id,
            name=name,
            vkey=vkey,
            seed=seed,
            size=0,
            head=head,
            retired=False,
            created_at=at,
        )
        self._session.add(row)
        self._session.flush()
        return _log(row)

    def retire(self, log_id: int) -> None:
        """Retire a log: it gets no more records."""
        self._session.execute(
            update(TenantLogRow).where(TenantLogRow.id == log_id).values(retired=True)
        )

    def release_of(self, tenant_ids: Collection[int]) -> None:
        """Retire the logs of tenants that are being removed."""
        for chunk in chunks(tenant_ids):
            self._session.execute(
                update(TenantLogRow)
                .where(TenantLogRow.tenant_id.in_(chunk))
                .values(retired=True, tenant_id=None)
            )

    def append(
        self,
        log_id: int,
        record: LogRecord,
        hashes: Mapping[int, bytes],
        head: bytes,
        at: datetime,
    ) -> None:
        """Append a record with its new hashes and the head that covers it."""
        self._session.add(
            LogRecordRow(
                log_id=log_id,
                record=record.record,
                module=record.module,
                version=record.version,
                text=record.text,
                added_at=at,
            )
        )
        self._session.add_all(
            LogHashRow(log_id=log_id, place=place, hash=value) for place, value in hashes.items()
        )
        row = self._session.get_one(TenantLogRow, log_id)
        row.size, row.head = record.record + 1, head
        self._session.flush()

    def record(self, log_id: int, module: str, version: str) -> LogRecord | None:
        """Return the record of a module version."""
        row = self._session.execute(
            select(LogRecordRow).where(
                LogRecordRow.log_id == log_id,
                LogRecordRow.module == module,
                LogRecordRow.version == version,
            )
        ).scalar_one_or_none()
        return None if row is None else _record(row)

    def records(self, log_id: int, start: int, count: int) -> list[LogRecord]:
        """Return count records from number start on, in order; fewer at the log's end."""
        rows = self._session.execute(
            select(LogRecordRow)
            .where(LogRecordRow.log_id == log_id, LogRecordRow.record >= start)
            .order_by(LogRecordRow.record)
            .limit(count)
        ).scalars()
        return [_record(row) for row in rows]

    def last(self, log_id: int) -> int:
        """Return the number of the last record, even if no head covers it; -1 without records."""
        number = self._session.execute(
            select(func.max(LogRecordRow.record)).where(LogRecordRow.log_id == log_id)
        ).scalar_one()
        return -1 if number is None else number

    def hashes(self, log_id: int, places: Sequence[int]) -> dict[int, bytes]:
        """Return the stored hashes of those numbers; missing ones are left out."""
        rows = self._session.execute(
            select(LogHashRow).where(LogHashRow.log_id == log_id, LogHashRow.place.in_(places))
        ).scalars()
        return {row.place: row.hash for row in rows}


def _log(row: TenantLogRow) -> TenantLog:
    return TenantLog(
        row.id,
        row.tenant_id,
        row.name,
        row.vkey,
        row.seed,
        row.size,
        row.head,
        row.retired,
        row.created_at,
    )


def _record(row: LogRecordRow) -> LogRecord:
    return LogRecord(row.record, row.module, row.version, row.text)
