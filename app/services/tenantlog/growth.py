"""How a tenant's log grows, within one transaction, and when it must not grow.

Not here: stored keys, head files before an answer, authorisation (`log`).
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
    """A record that is to be appended; text is that of `record_text`."""

    module: str
    version: str
    text: bytes


def append(
    session: Session,
    log_id: int,
    signer: Signer,
    new: NewRecord,
    filed: Tree | None,
    at: datetime,
) -> tuple[LogRecord, bytes]:
    """Append a version's record unless the log has one; return the record and a covering head.

    The log's row stays locked to the end of the transaction: no two heads have the same size.

    Args:
        session: of a write transaction.
        log_id: of the log.
        signer: has the log's key.
        new: the record.
        filed: the newest head outside the database, read before the transaction: nobody waits for
            a slow store while all writers wait. A head that others file meanwhile is one that this
            transaction sees, too.
        at: now.

    Raises:
        ConflictError: the log is retired, or must not grow; see `why_not_to_sign`.
    """
    table = TenantLogTable(session)
    log = table.locked(log_id)
    existing = table.record(log_id, new.module, new.version)
    if existing is not None:
        return existing, log.head
    if log.retired:
        raise ConflictError(f"the log {log.name} is retired; the tenant has another")
    why_not = why_not_to_sign(session, log, filed)
    if why_not is not None:
        raise ConflictError(why_not)
    appended = LogRecord(log.size, new.module, new.version, new.text)
    hashes = tlog.stored_hashes(
        log.size, tlog.leaf_hash(new.text), lambda places: read_hashes(table, log_id, places)
    )
    start = tlog.stored_hash_count(log.size)
    added = {start + i: value for i, value in enumerate(hashes)}
    root = tlog.tree_hash(log.size + 1, lambda places: read_hashes(table, log_id, places, added))
    head = sign(tlog.format_tree(Tree(log.size + 1, root)), signer)
    table.append(log_id, appended, dict(added), head, at)
    return appended, head


def empty_head(signer: Signer) -> bytes:
    """Return the head of a log without records."""
    return sign(tlog.format_tree(Tree(0, tlog.EMPTY_ROOT)), signer)


def check_may_sign(session: Session, log: TenantLog, heads: HeadFiles) -> None:
    """Refuse to sign if clients may have seen a head that the database does not have.

    Raises:
        ConflictError: the message says what to do.
        StorageError: the head file can't be read.
    """
    why_not = why_not_to_sign(session, log, heads.read(log.name))
    if why_not is not None:
        raise ConflictError(why_not)


def why_not_to_sign(session: Session, log: TenantLog, filed: Tree | None) -> str | None:
    """Return why a log must not grow, and what to do; None if it may.

    Args:
        session: of a transaction.
        log: as the transaction sees it.
        filed: the tree of the log's head file, read before; None without a file.
    """
    if filed is None and log.size == 0:
        return None
    if filed is None:
        return (
            f"the log {log.name} is not written to: it has {log.size} records and no head "
            "beside the database (keys/logs in the data directory, heads/ in the bucket); put the "
            "newest one back, or an admin decides with `moorage sumdb recover`"
        )
    common_size = min(filed.size, log.size)
    table = TenantLogTable(session)
    root = tlog.tree_hash(common_size, lambda places: read_hashes(table, log.id, places))
    if filed.size <= log.size and root == filed.root:
        return None
    return (
        f"the log {log.name} is not written to: its database has {log.size} records, and a "
        f"tree of {filed.size} was signed before; an older backup was restored. An admin "
        "decides with `moorage sumdb recover`"
    )


def open_head(log: TenantLog) -> Tree:
    """Return the tree of a log's head, after checking its signature.

    Raises:
        VerificationError: the log's key did not sign the head.
    """
    return tlog.parse_tree(open_note(log.head, [parse_vkey(log.vkey)]).text)


def read_hashes(
    table: TenantLogTable, log_id: int, places: Sequence[int], added: dict[int, Hash] | None = None
) -> list[Hash]:
    """Return stored hashes by their numbers: from added if it has them, else from the table.

    Raises:
        VerificationError: a hash is missing.
    """
    new_hashes = added or {}
    stored = table.hashes(log_id, [p for p in places if p not in new_hashes])
    missing = [p for p in places if p not in new_hashes and p not in stored]
    if missing:
        raise VerificationError(f"the log's stored hash {missing[0]} is missing")
    return [new_hashes[p] if p in new_hashes else Hash(stored[p]) for p in places]
