"""The audit log's hash chain: a changed, removed or moved row breaks the chain at that row.

Each row's hash covers the row before it: SHA-256 over the previous hash, a newline, and the row as
canonical JSON (sorted keys, no spaces, ASCII). Rows are stored by `db/audit.py`.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

FIRST_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One change of state.

    Attributes:
        seq: 1, 2, 3, … without gaps.
        at: when, UTC.
        actor: "system", "cli" or a token's id.
        action: "noun.verb", for example "release.verify".
        object: what the action was done to.
        detail: one line for a reader.
    """

    seq: int
    at: datetime
    actor: str
    action: str
    object: str
    detail: str


ALARMS = frozenset(
    {
        "audit.recover",
        "blob.damage",
        "index.fail",
        "module.quarantine",
        "module.refuse",
        "node.hold",
        "release.quarantined",
        "rollout.halt",
        "rollout.roll-back",
        "sumdb.recover",
        "sumdb.refuse",
    }
)
"""Actions that somebody has to look at: what was refused, damaged, halted or restored."""

_OF_TENANT = frozenset({"credential", "module", "repository", "route", "rule", "tenant"})


def tenant_of(obj: str) -> str:
    """Return the tenant that the object of a row belongs to, as far as its name says so, or "".

    "rule:acme/7" and "tenant:acme" are acme's; "rule:platform/7" is nobody's.
    """
    noun, _, name = obj.partition(":")
    tenant = name.partition("/")[0] if noun in _OF_TENANT else ""
    return "" if tenant == "platform" else tenant


def chain_hash(prev_hash: str, record: AuditRecord) -> str:
    """Return the hash of record in a chain whose previous hash is prev_hash (both hex)."""
    body = {
        "seq": record.seq,
        "at": record.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": record.actor,
        "action": record.action,
        "object": record.object,
        "detail": record.detail,
    }
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{prev_hash}\n{text}".encode()).hexdigest()


def first_break(rows: list[tuple[AuditRecord, str, str]], prev_hash: str, after: int) -> int | None:
    """Return the seq of the first row that breaks the chain, or None if it holds.

    Args:
        rows: (record, prev_hash, hash), oldest first.
        prev_hash: the hash before the first of rows; FIRST_HASH at the beginning.
        after: the seq before the first of rows; 0 at the beginning.
    """
    for record, row_prev, row_hash in rows:
        after += 1
        if record.seq != after or row_prev != prev_hash:
            return after
        if chain_hash(prev_hash, record) != row_hash:
            return after
        prev_hash = row_hash
    return None
