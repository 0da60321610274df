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

    async def every(self) -> list[LogReport]:
        """Check all logs that are written to; one that is retired may lack what it once had."""
        logs = await self._db.read(lambda s: TenantLogTable(s).all())
        return [await self.run(log) for log in logs if not log.retired]

    async def run(
        self, log: TenantLog, progress: Callable[[int, int], None] | None = None
    ) -> LogReport:
        """Check one log from its first record to its head; appends may go on meanwhile.

        Args:
            log: which.
            progress: is told (records checked, records in all).
        """
        findings: list[str] = []
        # Read before the database: appends write it after theirs.
        try:
            kept = await asyncio.to_thread(self._heads.read, log.name)
        except StorageError as error:
            kept, findings = None, [f"{error}; see `moorage sumdb recover`"]
        log, beyond = await self._db.read(partial(_look, log.id))
        findings += [f"record {beyond} is beyond the head"] if beyond >= log.size else []
        walk = _Walk(log)
        while walk.is_whole and walk.count < log.size:
            findings += await self._db.read(walk.batch)
            if progress is not None:
                progress(walk.count, log.size)
        if walk.is_whole:
            findings += _check_head(log, walk.hashes)
            findings += await self._db.read(partial(_check_kept, log, kept))
        return LogReport(log.name, walk.count, tuple(findings))


class _Walk:
    """The records of a log from the first to the last, and the hashes that they give.

    Attributes:
        count: how many were looked at.
        hashes: what the next records and the root need: the tree's edge.
        is_whole: none is missing so far.
    """

    def __init__(self, log: TenantLog) -> None:
        self._log = log
        self.count = 0
        self.hashes: dict[int, Hash] = {}
        self.is_whole = True

    def batch(self, session: Session) -> list[str]:
        """Return what is wrong with the next records."""
        end = min(self.count + _BATCH, self._log.size)
        found = TenantLogTable(session).records(self._log.id, self.count, end - self.count)
        findings = []
        for one in found:
            if one.record != self.count:
                break
            findings += _check(session, self._log, one, self.hashes)
            self.count += 1
        if self.count < end:
            self.is_whole = False
            findings.append(f"record {self.count} is missing; what follows was not looked at")
        edge = tlog.tree_indexes(self.count)
        self.hashes = {place: self.hashes[place] for place in edge}
        return findings


def _look(log_id: int, session: Session) -> tuple[TenantLog, int]:
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


def _check_kept(log: TenantLog, kept: Tree | None, session: Session) -> list[str]:
    """Return whether the head outside the database is of what the database has."""
    if kept is None:
        return []
    if kept.size > log.size:
        return [f"a tree of {kept.size} records was signed before; see `moorage sumdb recover`"]
    stored = TenantLogTable(session).hashes(log.id, tlog.tree_indexes(kept.size))
    try:
        root = tlog.tree_hash(kept.size, lambda places: [Hash(stored[p]) for p in places])
    except KeyError:
        return []  # told already, of the record that it came with
    if root == kept.root:
        return []
    return [f"another tree of {kept.size} records was signed before; see `moorage sumdb recover`"]


def _check(
    session: Session, log: TenantLog, found: LogRecord, hashes: dict[int, Hash]
) -> list[str]:
    """Return what is wrong with one record; add its hashes to those of the tree's edge."""
    number = found.record
    name = f"record {number} ({found.module}@{found.version})"
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
    zips = {f.h1 for f in stored if f.kind is RequestKind.ZIP}
    mods = {f.h1 for f in stored if f.kind is RequestKind.MOD}
    findings = []
    if zips and sums.zip_h1 not in zips:
        findings.append(f"{name}: no stored zip has the recorded {sums.zip_h1}")
    if mods and sums.go_mod_h1 not in mods:
        findings.append(f"{name}: no stored go.mod has the recorded {sums.go_mod_h1}")
    return findings
