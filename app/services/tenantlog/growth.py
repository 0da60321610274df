"""How a tenant's log grows, within one transaction, and when it must not.

Not here: keys at rest, telling heads, who may ask (`tenantlog`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.core import tlog
from app.core.errors import ConflictError, VerificationError
from app.core.note import open_note, sign
from app.core.notekey import Signer, parse_vkey
from app.core.tlog import Hash, Tree
from app.db.engine import Session
from app.db.tenantlogs import LogRecord, TenantLog, TenantLogTable
from app.services.tenantlog.head import HeadFiles


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to be: text is of `record_text`."""

    module: str
    version: str
    text: bytes


def append(
    session: Session, log_id: int, signer: Signer, new: NewRecord, heads: HeadFiles, at: datetime
) -> tuple[LogRecord, bytes]:
    """Return the record of a version, appended unless it is there, and the head that covers it.

    The log's row stays locked to the end of the transaction, so that no two heads have one size.

    Raises:
        ConflictError: the log is retired, or its database is behind a head that was told.
    """
    table = TenantLogTable(session)
    log = table.locked(log_id)
    there = table.record(log_id, new.module, new.version)
    if there is not None:
        return there, log.head
    if log.retired:
        raise ConflictError(f"the log {log.name} is retired; the tenant has another")
    check_not_behind(session, log, heads)
    made = LogRecord(log.size, new.module, new.version, new.text)
    hashes = tlog.stored_hashes(
        log.size, tlog.leaf_hash(new.text), lambda places: read_hashes(table, log_id, places)
    )
    start = tlog.stored_hash_count(log.size)
    added = {start + i: value for i, value in enumerate(hashes)}
    root = tlog.tree_hash(log.size + 1, lambda places: read_hashes(table, log_id, places, added))
    head = sign(tlog.format_tree(Tree(log.size + 1, root)), signer)
    table.append(log_id, made, dict(added), head, at)
    return made, head


def check_not_behind(session: Session, log: TenantLog, heads: HeadFiles) -> None:
    """Refuse to sign where clients may have seen a head that the database does not know.

    Raises:
        ConflictError: the message says what to do.
    """
    kept = heads.read(log.name)
    if kept is None:
        return
    known = min(kept.size, log.size)
    table = TenantLogTable(session)
    root = tlog.tree_hash(known, lambda places: read_hashes(table, log.id, places))
    if kept.size > log.size or root != kept.root:
        raise ConflictError(
            f"the log {log.name} is not written to: its database has {log.size} records, and a "
            f"tree of {kept.size} was signed before; an older backup was restored. An admin "
            "decides with `moorage sumdb recover`"
        )


def open_head(log: TenantLog) -> Tree:
    """Return the tree of a log's head, its signature checked.

    Raises:
        VerificationError: it is not signed by the log's key.
    """
    return tlog.parse_tree(open_note(log.head, [parse_vkey(log.vkey)]).text)


def read_hashes(
    table: TenantLogTable, log_id: int, places: Sequence[int], added: dict[int, Hash] | None = None
) -> list[Hash]:
    """Return the hashes of stored hash indexes, from added where they are in it.

    Raises:
        VerificationError: one is missing.
    """
    known = added or {}
    stored = table.hashes(log_id, [p for p in places if p not in known])
    missing = [p for p in places if p not in known and p not in stored]
    if missing:
        raise VerificationError(f"the log's stored hash {missing[0]} is missing")
    return [known[p] if p in known else Hash(stored[p]) for p in places]
