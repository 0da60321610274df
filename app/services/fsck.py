"""Comparing the store with the database: orphans, missing, short and damaged blobs, leftovers.

A run reports the problems; with `repair=True` it then does what the report says. The tenants' own
logs are checked too (`sumdb.fsck`); only an operator repairs them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from app.core.digest import Digest
from app.core.errors import MoorageError
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.garbage import GarbageTable
from app.db.releaseindex import IndexLog
from app.db.room import Room
from app.services.clock import Now
from app.services.garbage import Garbage
from app.services.releases.derived import DerivedFiles
from app.services.repair import Repair
from app.services.sumdb.fsck import LogFsck
from app.storage.blobstore import BlobCondition, BlobStore, StoredBlob

# A blob becomes durable before its row is committed, so a young blob may get its row soon.
ORPHAN_GRACE = timedelta(hours=1)
CONDEMN = "condemn it: `moorage gc --run` deletes it a day later"


INDEX_DOCUMENT = "release index"


class FsckProblem(StrEnum):
    """The kinds of problems."""

    MISSING = "missing"
    SHORT = "short"
    DAMAGED = "damaged"
    MARKED = "marked"  # as damaged, although the bytes are right
    ORPHAN = "orphan"
    LEFTOVER = "leftover"
    UNDERIVED = "underived"  # an archive without tree and sums
    LOG = "log"
    DATABASE = "database"


_HARMLESS = frozenset({FsckProblem.ORPHAN, FsckProblem.LEFTOVER, FsckProblem.UNDERIVED})


@dataclass(frozen=True, slots=True)
class FsckFinding:
    """One problem.

    Attributes:
        object: "sha256:<hex>", the path of a leftover, the name of an archive, "log:<name>", or
            "database".
        names: the names of the files that have this blob.
        action: what a repair does, for people; for a log, the problem itself.
        result: what the repair did, or why it did nothing; "" without a repair.
        healed: whether the repair ended the problem.
    """

    problem: FsckProblem
    object: str
    names: tuple[str, ...]
    size_bytes: int
    action: str
    result: str = ""
    healed: bool = False

    @property
    def harmful(self) -> bool:
        """Whether a file can't be served; orphans and leftovers only take space.

        Tree and sums of an archive are made in the background, if nobody repairs.
        """
        is_broken = self.problem not in _HARMLESS
        return is_broken and not self.healed and self.names != (INDEX_DOCUMENT,)


@dataclass(frozen=True, slots=True)
class FsckReport:
    """The result of a run.

    Attributes:
        checked: number of recorded blobs that were checked.
        deep: whether their bytes were hashed.
        logs: number of tenants' logs that were checked, record by record.
    """

    checked: int
    deep: bool
    findings: tuple[FsckFinding, ...]
    logs: int = 0

    @property
    def clean(self) -> bool:
        """Whether all recorded files can be served."""
        return not any(finding.harmful for finding in self.findings)


class Fsck:
    """Checks the store against the database."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        repair: Repair,
        derived: DerivedFiles,
        logs: LogFsck,
        garbage: Garbage,
        now: Now,
    ) -> None:
        self._db = db
        self._store = store
        self._repair = repair
        self._derived = derived
        self._logs = logs
        self._garbage = garbage
        self._now = now

    async def run(
        self, *, deep: bool, repair: bool, progress: Callable[[int, int], None] | None = None
    ) -> FsckReport:
        """Check everything; with repair, also do the action of every finding.

        The database's own check comes first. If it fails, nothing else is looked at.

        Args:
            deep: hash all bytes.
            repair: quarantine damaged blobs and fetch them again, take back the marks of whole
                ones, condemn old orphans, which `moorage gc` deletes, remove leftovers, derive what
                is missing.
            progress: called with (blobs checked, blobs in all).
        """
        problem = await self._db.problem(deep=deep)
        if problem is not None:  # what a malformed database says of blobs may be wrong
            return FsckReport(0, deep, (_malformed(problem, repair=repair),))
        recorded = await self._db.read(lambda s: Blobs(s).all())
        findings = []
        for index, blob in enumerate(recorded):
            # A mark says that the bytes are wrong: only the bytes themselves can say otherwise.
            is_hashed = deep or blob.damaged
            condition = await self._store.check(blob.digest, blob.size_bytes, deep=is_hashed)
            if condition is not BlobCondition.OK:
                findings.append(await self._bad_blob(blob.digest, blob.size_bytes, condition))
            elif blob.damaged:
                findings.append(await self._marked(blob.digest, blob.size_bytes))
            elif deep and repair:
                await self._mark_checked(blob.digest)
            if progress is not None:
                progress(index + 1, len(recorded))
        # A condemned blob is known: `moorage gc` deletes it.
        findings += await self._orphans(await self._db.read(lambda s: GarbageTable(s).known()))
        findings += await self._leftovers()
        findings += await self._underived()
        if repair:
            await self._store.recover()
            left = {item.object for item in await self._leftovers()}
            findings = [await self._repair_finding(finding, left) for finding in findings]
        logs = await self._logs.run_all()
        result = "nothing: only an operator can decide" if repair else ""
        findings += [
            FsckFinding(FsckProblem.LOG, f"log:{log.log}", (), 0, problem, result)
            for log in logs
            for problem in log.findings
        ]
        return FsckReport(len(recorded), deep, tuple(findings), len(logs))

    async def _mark_checked(self, digest: Digest) -> None:
        at = self._now()
        await self._db.write(lambda s: Blobs(s).mark_checked(digest, at), room=Room.BELOW_FLOOR)

    async def _bad_blob(self, digest: Digest, size: int, condition: BlobCondition) -> FsckFinding:
        names = tuple(await self._db.read(lambda s: self._names(s, digest)))
        verb = "record it as damaged" if condition is BlobCondition.MISSING else "quarantine it"
        then = "fetch it again"
        if names == (INDEX_DOCUMENT,):
            then = "it is evidence of an earlier index and comes back only if that is read again"
        return FsckFinding(
            FsckProblem(condition.value), f"sha256:{digest}", names, size, f"{verb}; {then}"
        )

    async def _marked(self, digest: Digest, size: int) -> FsckFinding:
        names = tuple(await self._db.read(lambda s: self._names(s, digest)))
        action = "take back the mark of damage: the bytes are right"
        return FsckFinding(FsckProblem.MARKED, f"sha256:{digest}", names, size, action)

    def _names(self, session: Session, digest: Digest) -> list[str]:
        if IndexLog(session).is_document(digest):
            return [INDEX_DOCUMENT]
        return self._repair.names_of(session, digest)

    async def _orphans(self, known: set[str]) -> list[FsckFinding]:
        stored = await asyncio.to_thread(lambda: list(self._store.walk()))
        return [self._orphan(blob) for blob in stored if blob.digest.hex not in known]

    def _orphan(self, blob: StoredBlob) -> FsckFinding:
        old = self._is_old_enough(blob.stored_at)
        action = CONDEMN if old else "keep it for now: stored within the last hour"
        return FsckFinding(FsckProblem.ORPHAN, f"sha256:{blob.digest}", (), blob.size_bytes, action)

    def _is_old_enough(self, stored_at: datetime) -> bool:
        return stored_at < self._now() - ORPHAN_GRACE

    async def _leftovers(self) -> list[FsckFinding]:
        leftovers = await asyncio.to_thread(lambda: list(self._store.leftovers()))
        return [
            FsckFinding(FsckProblem.LEFTOVER, str(item.path), (), item.size_bytes, "remove it")
            for item in leftovers
        ]

    async def _underived(self) -> list[FsckFinding]:
        return [
            FsckFinding(FsckProblem.UNDERIVED, name, (name,), size, "make its tree and sums")
            for record in await self._derived.missing()
            for name, size in [(record.file.filename, record.file.size_bytes)]
        ]

    async def _derive(self, finding: FsckFinding) -> FsckFinding:
        for record in await self._derived.missing():
            if record.file.filename == finding.object:
                try:
                    await self._derived.make(record)
                except MoorageError as error:
                    return replace(finding, result=f"not made: {error}")
        return replace(finding, result="made", healed=True)

    async def _repair_finding(self, finding: FsckFinding, left: set[str]) -> FsckFinding:
        """Do the finding's action; return the finding with the result.

        Args:
            finding: what was found before the repair.
            left: the leftovers that could not be removed.
        """
        if finding.problem is FsckProblem.LEFTOVER:
            is_gone = finding.object not in left
            return replace(finding, result="removed" if is_gone else "not removed", healed=is_gone)
        if finding.problem is FsckProblem.UNDERIVED:
            return await self._derive(finding)
        digest = Digest(finding.object.removeprefix("sha256:"))
        if finding.problem is FsckProblem.ORPHAN:
            return await self._repair_orphan(finding, digest)
        if not await self._repair.suspect(digest, finding.size_bytes, "fsck", fetch=False):
            return replace(finding, result="its bytes are right", healed=True)
        why_not = await self._repair.heal(digest)
        if why_not is not None:
            return replace(finding, result=f"not fetched again: {why_not}")
        return replace(finding, result="fetched again", healed=True)

    async def _repair_orphan(self, finding: FsckFinding, digest: Digest) -> FsckFinding:
        if await self._is_recorded(digest):
            return replace(finding, result="kept: a row names it by now", healed=True)
        if finding.action != CONDEMN:
            return replace(finding, result="kept")
        await self._garbage.condemn(digest, finding.size_bytes, "cli")
        return replace(finding, result="condemned", healed=True)

    async def _is_recorded(self, digest: Digest) -> bool:
        return await self._db.read(lambda s: Blobs(s).has(digest))


def _malformed(problem: str, *, repair: bool) -> FsckFinding:
    action = f"malformed ({problem}): restore a backup; nothing else was looked at"
    result = "nothing: restore a backup" if repair else ""
    return FsckFinding(FsckProblem.DATABASE, "database", (), 0, action, result)
