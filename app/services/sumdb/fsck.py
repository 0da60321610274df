"""Checking a tenant's whole log: every record, every hash, the head, and the stored content."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.core import record as records
from app.core import tlog
from app.core.errors import MoorageError
from app.core.goproxy import Kind
from app.core.record import Sums
from app.core.tlog import Hash
from app.db.engine import Database, Session
from app.db.modules import ModuleTable
from app.db.tenantlogs import LogRecord, TenantLog, TenantLogTable
from app.services.sumdb.headfile import HeadFiles
from app.services.sumdb.tenantlog import open_head

_BATCH = 500


@dataclass(frozen=True, slots=True)
class LogReport:
    """What checking a log found.

    Attributes:
        records: how many were looked at.
        findings: one line for each thing that is wrong; none if the log is whole.
    """

    log: str
    records: int
    findings: tuple[str, ...]


class LogFsck:
    """Checks logs against themselves, their head files and the stored modules."""

    def __init__(self, db: Database, heads: HeadFiles) -> None:
        self._db = db
        self._heads = heads

    async def run(self, log: TenantLog) -> LogReport:
        """Check one log from its first record to its head."""
        findings: list[str] = []
        hashes: dict[int, Hash] = {}
        count = 0
        while batch := await self._db.read(_batch(log.id, count)):
            for found in batch:
                look = partial(_check, log=log, found=found, hashes=hashes, number=count)
                findings += await self._db.read(look)
                count += 1
            _forget_inner(hashes, count)
        findings += self._check_head(log, count, hashes)
        return LogReport(log.name, count, tuple(findings))

    def _check_head(self, log: TenantLog, count: int, hashes: dict[int, Hash]) -> list[str]:
        findings = []
        try:
            tree = open_head(log)
        except MoorageError as error:
            return [f"the head does not verify: {error}"]
        if (tree.size, log.size) != (count, count):
            findings.append(f"the head is of {tree.size} records, and there are {count}")
        elif tree.root != tlog.tree_hash(count, lambda places: [hashes[p] for p in places]):
            findings.append("the head's root is not that of the records")
        kept = self._heads.read(log.name)
        if kept is not None and kept.size > count:
            findings.append(f"a tree of {kept.size} records was signed before; see `recover`")
        return findings


def _batch(log_id: int, start: int) -> Callable[[Session], list[LogRecord]]:
    return lambda session: TenantLogTable(session).records(log_id, start, _BATCH)


def _check(
    session: Session, log: TenantLog, found: LogRecord, hashes: dict[int, Hash], number: int
) -> list[str]:
    """Return what is wrong with one record; add its hashes to those of the tree's edge."""
    name = f"record {number} ({found.module}@{found.version})"
    if found.record != number:
        return [f"record {number} is missing"]
    findings = []
    try:
        sums = records.lines_for(found.text.decode(), found.module, found.version)
        findings += _check_content(session, found, sums, name)
    except (MoorageError, UnicodeDecodeError) as error:
        findings.append(f"{name}: {error}")
    computed = tlog.stored_hashes(
        number, tlog.leaf_hash(found.text), lambda places: [hashes[p] for p in places]
    )
    start = tlog.stored_hash_count(number)
    added = {start + i: value for i, value in enumerate(computed)}
    hashes.update(added)
    stored = TenantLogTable(session).hashes(log.id, list(added))
    if stored != added:
        findings.append(f"{name}: its stored hashes are not those of its text")
    return findings


def _check_content(session: Session, found: LogRecord, sums: Sums, name: str) -> list[str]:
    """Return where stored content contradicts a record; of some origins it may come."""
    stored = ModuleTable(session).of_version(found.module, found.version)
    zips = {f.h1 for f in stored if f.kind is Kind.ZIP}
    mods = {f.h1 for f in stored if f.kind is Kind.MOD}
    findings = []
    if zips and sums.zip_h1 not in zips:
        findings.append(f"{name}: no stored zip has the recorded {sums.zip_h1}")
    if mods and sums.go_mod_h1 not in mods:
        findings.append(f"{name}: no stored go.mod has the recorded {sums.go_mod_h1}")
    return findings


def _forget_inner(hashes: dict[int, Hash], count: int) -> None:
    """Keep only the hashes that the next records and the root need: the tree's edge."""
    edge = {place: hashes[place] for place in tlog.tree_indexes(count)} if count else {}
    hashes.clear()
    hashes.update(edge)
