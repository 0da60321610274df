"""Rows of the tenants' own logs: records, the hashes of the tree, and its signed head.

A record, its hashes and the head that covers them are committed together, so that a head never
covers what is not durable.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base, chunks


class TenantLogRow(Base):
    """One log; `seed` is sealed. A retired log still answers, and takes no more records.

    It outlives its tenant, without one: its name must never be used for other records.
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
    """One record of a tenant's log, under its id from 0."""

    __tablename__ = "log_records"
    __table_args__ = (UniqueConstraint("log_id", "module", "version"),)

    log_id: Mapped[int] = mapped_column(ForeignKey("tenant_logs.id"), primary_key=True)
    record: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    module: Mapped[str]
    version: Mapped[str]
    text: Mapped[bytes]
    added_at: Mapped[datetime]


class LogHashRow(Base):
    """One hash of a tree, under its stored hash index (x/mod/sumdb/tlog)."""

    __tablename__ = "log_hashes"

    log_id: Mapped[int] = mapped_column(ForeignKey("tenant_logs.id"), primary_key=True)
    place: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hash: Mapped[bytes]


@dataclass(frozen=True, slots=True)
class TenantLog:
    """A tenant's log as recorded.

    Attributes:
        vkey: the verifier key, for GOSUMDB.
        seed: the private key, sealed.
        size: how many records there are.
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

    def all(self) -> list[TenantLog]:
        """Return every log, oldest first."""
        rows = self._session.execute(select(TenantLogRow).order_by(TenantLogRow.id)).scalars()
        return [_log(row) for row in rows]

    def of(self, tenant_id: int) -> TenantLog | None:
        """Return the log that a tenant writes to."""
        row = self._session.execute(
            select(TenantLogRow).where(
                TenantLogRow.tenant_id == tenant_id, TenantLogRow.retired.is_(False)
            )
        ).scalar_one_or_none()
        return None if row is None else _log(row)

    def get(self, log_id: int) -> TenantLog:
        """Return a log."""
        return _log(self._session.get_one(TenantLogRow, log_id))

    def locked(self, log_id: int) -> TenantLog:
        """Return a log, locked for whoever appends to it."""
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
        """Have a log take no more records."""
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
        """Record one more record with the hashes it adds and the head that covers it."""
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
        """Return count records from an id on, in order; fewer at the end."""
        rows = self._session.execute(
            select(LogRecordRow)
            .where(LogRecordRow.log_id == log_id, LogRecordRow.record >= start)
            .order_by(LogRecordRow.record)
            .limit(count)
        ).scalars()
        return [_record(row) for row in rows]

    def last(self, log_id: int) -> int:
        """Return the id of the last record, whatever the head says; -1 if there is none."""
        found = self._session.execute(
            select(func.max(LogRecordRow.record)).where(LogRecordRow.log_id == log_id)
        ).scalar_one()
        return -1 if found is None else found

    def hashes(self, log_id: int, places: Sequence[int]) -> dict[int, bytes]:
        """Return the hashes of stored hash indexes that are there."""
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
