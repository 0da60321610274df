"""Collecting garbage: blobs that no row names are condemned, and deleted a day later.

A put of the same bytes may come at any moment, in any process. It asks for the marks first
(`BlobMarks.reclaim`, which the store calls) and stores its bytes afterwards; so it either takes the
mark back, or waits until the deletion is over, and makes a new file.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from app import logs, metrics
from app.core.digest import Digest
from app.core.errors import StorageError
from app.core.job import JobProgress, Watch
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.garbage import CondemnedBlob, GarbageTable, is_marked
from app.db.room import Room
from app.services.clock import Monotonic, Now
from app.storage.blobstore import BlobStore

GRACE = timedelta(hours=24)
_YOUNG = timedelta(hours=1)
"""A blob becomes durable before its row is committed, so a young blob may get its row soon."""
_DEAD_AFTER = timedelta(seconds=60)
_CLAIM_S = 20.0
"""A collector that stood still for longer begins anew: others may take it for dead after 60 s."""
_BATCH = 100
_WAITS = 100
_WAIT_S = 0.05
_log = logs.get("gc")


class BlobMarks:
    """The marks of garbage collection, as whoever stores a blob sees them."""

    def __init__(
        self, db: Database, now: Now, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._db = db
        self._now = now
        self._pause = pause

    async def reclaim(self, digest: Digest) -> None:
        """Return once no mark stands against storing a blob; called before the bytes are stored.

        Raises:
            StorageError: another process keeps deleting the blob.
            DatabaseBusyError: the database can't be asked.
        """
        for _ in range(_WAITS):
            if not await self._db.read(is_marked(digest)):
                return
            dead_before = self._now() - _DEAD_AFTER
            if await self._db.write(
                lambda s: GarbageTable(s).take_back(digest, dead_before),  # noqa: B023 (awaited)
                room=Room.BELOW_FLOOR,
            ):
                return
            await self._pause(_WAIT_S)
        raise StorageError(f"blob {digest} is being deleted; ask again")


@dataclass(frozen=True, slots=True)
class GarbagePlan:
    """What a collection does.

    Attributes:
        condemn: blobs that get their mark.
        delete: blobs whose mark is older than the grace.
        waiting: blobs whose mark is younger.
    """

    condemn: tuple[tuple[Digest, int], ...] = ()
    delete: tuple[tuple[Digest, int], ...] = ()
    waiting: tuple[tuple[Digest, int], ...] = ()


class Garbage:
    """Collects blobs that no row names."""

    def __init__(
        self, db: Database, store: BlobStore, now: Now, monotonic: Monotonic = time.monotonic
    ) -> None:
        self._db = db
        self._store = store
        self._now = now
        self._monotonic = monotonic

    async def plan(self) -> GarbagePlan:
        """Return what a collection would do now."""
        at = self._now()
        unneeded, known = await self._db.read(
            lambda s: (GarbageTable(s).unneeded(), GarbageTable(s).known())
        )
        stored = await asyncio.to_thread(lambda: list(self._store.walk()))
        orphans = [
            (blob.digest, blob.size_bytes)
            for blob in stored
            if blob.digest.hex not in known and blob.stored_at < at - _YOUNG
        ]
        unmarked = [_named(blob) for blob in unneeded if blob.condemned_at is None]
        marked = [blob for blob in unneeded if blob.condemned_at is not None]
        due = [b for b in marked if b.condemned_at is not None and b.condemned_at < at - GRACE]
        return GarbagePlan(
            condemn=tuple(sorted(orphans + unmarked)),
            delete=tuple(map(_named, due)),
            waiting=tuple(_named(blob) for blob in marked if blob not in due),
        )

    async def run(self, plan: GarbagePlan, actor: str, watch: Watch | None = None) -> GarbagePlan:
        """Do what a plan says, where it is still right; return what was done.

        Args:
            plan: of `plan`.
            actor: who asked.
            watch: is called once with a function that tells how far the work is.
        """
        total = len(plan.condemn) + len(plan.delete)
        condemned: list[tuple[Digest, int]] = []
        deleted: list[tuple[Digest, int]] = []
        if watch is not None:
            watch(lambda: JobProgress(files=total, files_done=len(condemned) + len(deleted)))
        for batch in _batches(plan.condemn):
            condemned += await self._condemn(batch, actor)
        for batch in _batches(plan.delete):
            deleted += await self._delete([digest for digest, _ in batch], actor)
        done = GarbagePlan(tuple(condemned), tuple(deleted), plan.waiting)
        metrics.count_garbage(
            condemned=len(condemned), deleted=len(deleted), freed_bytes=sum(s for _, s in deleted)
        )
        _log.info("garbage collected", condemned=len(condemned), deleted=len(deleted))
        return done

    async def condemn(self, digest: Digest, size_bytes: int, actor: str) -> bool:
        """Condemn one blob; return False if a row names it."""
        return bool(await self._condemn([(digest, size_bytes)], actor))

    async def _condemn(
        self, batch: list[tuple[Digest, int]], actor: str
    ) -> list[tuple[Digest, int]]:
        at, sizes = self._now(), dict(batch)

        def work(session: Session) -> list[Digest]:
            marked = GarbageTable(session).condemn(batch, at)
            _record(session, self._now, actor, "blob.condemn", [(d, sizes[d]) for d in marked])
            return marked

        marked = await self._db.write(work, room=Room.BELOW_FLOOR)
        return [(digest, sizes[digest]) for digest in marked]

    async def _delete(self, digests: list[Digest], actor: str) -> list[tuple[Digest, int]]:
        """Claim, delete, forget. Killed in between: the next collection claims them again."""
        at = self._now()

        def claim(session: Session) -> list[CondemnedBlob]:
            claimed = GarbageTable(session).claim(digests, condemned_before=at - GRACE, at=at)
            _record(session, self._now, actor, "blob.delete", list(map(_named, claimed)))
            return claimed

        claimed = await self._db.write(claim, room=Room.BELOW_FLOOR)
        began = self._monotonic()
        deleted = []
        for blob in claimed:
            if self._monotonic() - began > _CLAIM_S:
                break  # others may take this process for dead; the next collection goes on
            await self._store.delete(blob.digest)
            deleted.append(blob)
        await self._db.write(
            lambda s: GarbageTable(s).forget([blob.digest for blob in deleted], at),
            room=Room.BELOW_FLOOR,
        )
        return list(map(_named, deleted))


def _named(blob: CondemnedBlob) -> tuple[Digest, int]:
    return blob.digest, blob.size_bytes


def _record(
    session: Session, now: Now, actor: str, action: str, blobs: list[tuple[Digest, int]]
) -> None:
    """Leave one audit row for a batch."""
    if blobs:
        shown = f"{len(blobs)} blobs, {sum(size for _, size in blobs)} bytes"
        first = f"sha256:{blobs[0][0]}"
        AuditLog(session).append(now(), actor, action, first if len(blobs) == 1 else "store", shown)


def _batches(blobs: tuple[tuple[Digest, int], ...]) -> list[list[tuple[Digest, int]]]:
    return [list(blobs[start : start + _BATCH]) for start in range(0, len(blobs), _BATCH)]
