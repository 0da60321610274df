"""Checking a tenant's whole log: every record, every hash, the head, and the stored content."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from app.core import record as records
from app.core import tlog
from app.core.errors import MoorageError, StorageError
from app.core.goproxy import RequestKind
from app.core.record import Sums
from app.core.tlog import Hash, Tree
from app.db.engine import Database, Session
from app.db.modules import ModuleTable
from app.db.tenantlogs import LogRecord, TenantLog, TenantLogTable
from app.services.tenantlog.growth import open_head
from app.services.tenantlog.head import HeadFiles

_BATCH = 500


@dataclass(frozen=True, slots=True)
class LogReport:
    """The result of checking a log.

    Attributes:
        log: the log's name.
        records: number of records that were checked.
        findings: one line for each problem; empty if the log is correct.
    """

    log: str
    records: int
    findings: tuple[str, ...]


class LogFsck:
    """Checks the records and hashes of logs, their head files and the stored modules."""

    def __init__(self, db: Database, heads: HeadFiles) -> None:
        self._db = db
        self._heads = heads

    async def run_all(self) -> list[LogReport]:
        """Check all logs but the retired ones, which may lack records that they once had."""
        logs = await self._db.read(lambda s: TenantLogTable(s).all())
        return [await self.run(log) for log in logs if not log.retired]

    async def run(
        self, log: TenantLog, progress: Callable[[int, int], None] | None = None
    ) -> LogReport:
        """Check one log from its first record to its head; appends may continue meanwhile.

        Args:
            log: the log to check.
            progress: called with (records checked, records in all).
        """
        findings: list[str] = []
        is_readable, filed = True, None
        # Read the file before the database: an append writes the database first, then the file.
        try:
            filed = await asyncio.to_thread(self._heads.read, log.name)
        except StorageError as error:
            is_readable, findings = False, [f"{error}; see `moorage sumdb recover`"]
        log, last = await self._db.read(partial(_read_log, log.id))
        findings += [f"record {last} is beyond the head"] if last >= log.size else []
        walk = _Walk(log)
        while walk.is_whole and walk.count < log.size:
            findings += await self._db.read(walk.batch)
            if progress is not None:
                progress(walk.count, log.size)
        if walk.is_whole:
            findings += _check_head(log, walk.hashes)
        if walk.is_whole and is_readable:
            findings += await self._db.read(partial(_check_head_file, log, filed))
        return LogReport(log.name, walk.count, tuple(findings))


class _Walk:
    """A walk over the records of a log, which computes the hashes again.

    Attributes:
        count: number of records that were checked.
        hashes: the computed hashes on the tree's edge, for the next records and the root.
        is_whole: whether no record was missing so far.
    """

    def __init__(self, log: TenantLog) -> None:
        self._log = log
        self.count = 0
        self.hashes: dict[int, Hash] = {}
        self.is_whole = True

    def batch(self, session: Session) -> list[str]:
        """Check the next records and return the problems."""
        end = min(self.count + _BATCH, self._log.size)
        rows = TenantLogTable(session).records(self._log.id, self.count, end - self.count)
        findings = []
        for row in rows:
            if row.record != self.count:
                break
            findings += _check_record(session, self._log, row, self.hashes)
            self.count += 1
        if self.count < end:
            self.is_whole = False
            findings.append(f"record {self.count} is missing; what follows was not looked at")
        edge = tlog.tree_indexes(self.count)
        self.hashes = {place: self.hashes[place] for place in edge}
        return findings


def _read_log(log_id: int, session: Session) -> tuple[TenantLog, int]:
    table = TenantLogTable(session)
    return table.get(log_id), table.last(log_id)


def _check_head(log: TenantLog, hashes: Mapping[int, Hash]) -> list[str]:
    try:
        tree = open_head(log)
    except MoorageError as error:
        return [f"the head does not verify: {error}"]
    if tree.size != log.size:
        return [f"the head is of {tree.size} records, and there are {log.size}"]
    if tree.root != tlog.tree_hash(log.size, lambda places: [hashes[p] for p in places]):
        return ["the head's root is not that of the records"]
    return []


def _check_head_file(log: TenantLog, filed: Tree | None, session: Session) -> list[str]:
    """Compare the head file with the records of the database; return the problems."""
    if filed is None:
        return [] if log.size == 0 else ["it has no head file; see `moorage sumdb recover`"]
    if filed.size > log.size:
        return [f"a tree of {filed.size} records was signed before; see `moorage sumdb recover`"]
    stored = TenantLogTable(session).hashes(log.id, tlog.tree_indexes(filed.size))
    try:
        root = tlog.tree_hash(filed.size, lambda places: [Hash(stored[p]) for p in places])
    except KeyError:
        return []  # a missing hash was reported with its record
    if root == filed.root:
        return []
    return [f"another tree of {filed.size} records was signed before; see `moorage sumdb recover`"]


def _check_record(
    session: Session, log: TenantLog, row: LogRecord, hashes: dict[int, Hash]
) -> list[str]:
    """Check one record and return the problems; add its hashes to hashes."""
    number = row.record
    name = f"record {number} ({row.module}@{row.version})"
    findings = []
    try:
        sums = records.lines_for(row.text.decode(), row.module, row.version)
        findings += _check_content(session, row, sums, name)
    except (MoorageError, UnicodeDecodeError) as error:
        findings.append(f"{name}: {error}")
    computed = tlog.stored_hashes(
        number, tlog.leaf_hash(row.text), lambda places: [hashes[p] for p in places]
    )
    start = tlog.stored_hash_count(number)
    added = {start + i: value for i, value in enumerate(computed)}
    hashes.update(added)
    stored = TenantLogTable(session).hashes(log.id, list(added))
    if stored != added:
        findings.append(f"{name}: its stored hashes are not those of its text")
    return findings


def _check_content(session: Session, row: LogRecord, sums: Sums, name: str) -> list[str]:
    """Return where stored content contradicts a record; one origin with the h1 is enough."""
    stored = ModuleTable(session).of_version(row.module, row.version)
    zips = {f.h1 for f in stored if f.kind is RequestKind.ZIP}
    mods = {f.h1 for f in stored if f.kind is RequestKind.MOD}
    findings = []
    if zips and sums.zip_h1 not in zips:
        findings.append(f"{name}: no stored zip has the recorded {sums.zip_h1}")
    if mods and sums.go_mod_h1 not in mods:
        findings.append(f"{name}: no stored go.mod has the recorded {sums.go_mod_h1}")
    return findings
