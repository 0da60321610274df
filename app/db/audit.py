"""Rows of the audit log: append-only, and chained: each row's hash covers the row before it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.audit import FIRST_HASH, AuditRecord, chain_hash
from app.db.base import Base
from app.db.generation import GenerationRow

_LOCKED = "locked"  # in a session's info: the transaction that has the lock


class AuditRow(Base):
    """One change of state, written in the transaction of that change."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    object: Mapped[str]
    detail: Mapped[str]
    prev_hash: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Number and hash of a row; the hash covers all rows before it."""

    seq: int
    hash: str


class AuditLog:
    """The repository of audit rows."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def append(self, at: datetime, actor: str, action: str, obj: str, detail: str = "") -> None:
        """Append one row to the chain.

        Args:
            at: time of the change, UTC.
            actor: "system", "cli" or a token's id.
            action: the change, "noun.verb": "release.quarantine".
            obj: the changed object: a filename, a version, a key's fingerprint.
            detail: one line for a reader.
        """
        self.append_all(at, actor, [(action, obj, detail)])

    def append_all(self, at: datetime, actor: str, changes: Iterable[tuple[str, str, str]]) -> None:
        """Append one row for each change to the chain, in their order.

        Args:
            at: time of the changes, UTC.
            actor: "system", "cli" or a token's id.
            changes: action, object and detail of each; see `append`.
        """
        self.lock()
        last = self.last()
        seq, prev_hash = (last.seq, last.hash) if last else (0, FIRST_HASH)
        rows = []
        for action, obj, detail in changes:
            seq += 1
            record = AuditRecord(seq, at, actor, action, obj, detail)
            this_hash = chain_hash(prev_hash, record)
            rows.append(
                {
                    "seq": seq,
                    "at": at,
                    "actor": actor,
                    "action": action,
                    "object": obj,
                    "detail": detail,
                    "prev_hash": prev_hash,
                    "hash": this_hash,
                }
            )
            prev_hash = this_hash
        if rows:
            self._session.execute(insert(AuditRow), rows)

    def last(self) -> ChainHead | None:
        """Return number and hash of the newest row; None without rows."""
        row = self._session.execute(
            select(AuditRow.seq, AuditRow.hash).order_by(AuditRow.seq.desc()).limit(1)
        ).one_or_none()
        return None if row is None else ChainHead(row.seq, row.hash)

    def hash_of(self, seq: int) -> str | None:
        """Return the hash of a row; None if there is no such row."""
        return self._session.execute(
            select(AuditRow.hash).where(AuditRow.seq == seq)
        ).scalar_one_or_none()

    def lock(self) -> None:
        """Let nobody else append until this transaction ends; only the first call asks.

        Where the database lets several write at once, each row has to follow the one before.
        Changes to tenants take the same lock before they read: `services.changes.locked`.
        """
        transaction = self._session.get_transaction()
        if transaction is not None and self._session.info.get(_LOCKED) is transaction:
            return
        self._session.execute(select(GenerationRow.id).with_for_update())
        self._session.info[_LOCKED] = self._session.get_transaction()

    def rows(
        self,
        after: int | None = None,
        limit: int = 1000,
        *,
        action: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        newest: bool = False,
    ) -> list[tuple[AuditRecord, str, str]]:
        """Return (record, prev_hash, hash) of the rows behind another one, oldest first.

        Args:
            after: seq of the other row; None begins with the first row.
            limit: the largest number of rows.
            action: only rows with this action.
            actor: only rows whose actor begins with this text.
            since: only rows of this time or later, UTC.
            newest: the newest first; the rows behind `after` are older ones.
        """
        query = select(AuditRow).order_by(AuditRow.seq.desc() if newest else AuditRow.seq)
        query = query.limit(limit)
        if after is not None:
            query = query.where(AuditRow.seq < after if newest else AuditRow.seq > after)
        if since is not None:
            query = query.where(AuditRow.at >= since)
        if action is not None:
            query = query.where(AuditRow.action == action)
        if actor is not None:
            query = query.where(AuditRow.actor.startswith(actor, autoescape=True))
        rows = self._session.execute(query).scalars()
        return [
            (
                AuditRecord(r.seq, r.at, r.actor, r.action, r.object, r.detail),
                r.prev_hash,
                r.hash,
            )
            for r in rows
        ]
