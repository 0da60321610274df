"""Garbage: condemned, deleted a day later, and never what somebody stores again meanwhile."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from app.core.digest import Digest
from app.core.errors import StorageError
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.garbage import GarbageTable
from app.db.releaseindex import IndexDocumentRow
from app.services.garbage import GRACE, BlobMarks, Garbage
from app.storage.blobstore import BlobCondition
from app.storage.local import LocalBlobStore
from tests.services.bench import Stopwatch, WallClock

pytestmark = pytest.mark.both_shapes


class KilledError(BaseException):
    """The process ends here."""


@dataclass(frozen=True)
class Process:
    """One process over the database and the store that others use too."""

    db: Database
    store: LocalBlobStore
    clock: WallClock
    seconds: Stopwatch

    @property
    def garbage(self) -> Garbage:
        return Garbage(self.db, self.store, self.clock, self.seconds)

    async def put(self, data: bytes) -> Digest:
        """Store bytes and name them, as a fetched file is: the blob first, then the rows."""
        digest = await self.store.put(data)
        await self.name(digest, len(data))
        return digest

    async def name(self, digest: Digest, size: int) -> None:
        def work(session: Session) -> None:
            Blobs(session).record(digest, size, self.clock())
            row = IndexDocumentRow(sha256=digest.hex, url="x", first_read_at=self.clock())
            session.merge(row)
            session.flush()

        await self.db.write(work)

    async def drop(self, digest: Digest) -> None:
        query = text("DELETE FROM index_documents WHERE sha256 = :sha")
        await self.db.write(lambda s: s.execute(query, {"sha": digest.hex}))

    async def collect(self) -> tuple[int, int]:
        """Collect; return how many were condemned and deleted."""
        done = await self.garbage.run(await self.garbage.plan(), "cli")
        return len(done.condemn), len(done.delete)

    async def has(self, digest: Digest, size: int) -> bool:
        return await self.store.check(digest, size, deep=True) is BlobCondition.OK


@contextmanager
def process(url: str, folder: Path, clock: WallClock) -> Iterator[Process]:
    db, seconds = Database(url), Stopwatch()

    async def pause(_seconds: float) -> None:
        await asyncio.sleep(0)

    marks = BlobMarks(db, clock, pause)
    store = LocalBlobStore(folder, min_free_fraction=0, reclaim=marks.reclaim)
    try:
        yield Process(db, store, clock, seconds)
    finally:
        store.close()
        db.close()


@pytest.fixture
def two(database_url: str, tmp_path: Path) -> Iterator[tuple[Process, Process]]:
    # Files have the file system's time, so the clock begins behind it.
    clock = WallClock()
    clock.advance(days=365 * 20)
    with ExitStack() as stack:
        make = [stack.enter_context(process(database_url, tmp_path, clock)) for _ in range(2)]
        yield make[0], make[1]


@pytest.fixture
def one(two: tuple[Process, Process]) -> Process:
    return two[0]


async def test_a_named_blob_is_no_garbage(one: Process) -> None:
    digest = await one.put(b"named")
    for _ in range(3):
        assert await one.collect() == (0, 0)
        one.clock.advance(days=2)
    assert await one.has(digest, 5)


@pytest.mark.parametrize("with_row", [True, False])
async def test_unnamed_blobs_go_a_day_after_they_were_condemned(
    one: Process, with_row: bool
) -> None:
    digest = await one.store.put(b"unnamed")
    if with_row:
        await one.db.write(lambda s: Blobs(s).record(digest, 7, one.clock()))
    assert await one.collect() == (1, 0)
    one.clock.advance(hours=23)
    assert await one.collect() == (0, 0)
    assert await one.has(digest, 7)
    one.clock.advance(hours=2)
    assert await one.collect() == (0, 1)
    assert not await one.has(digest, 7)
    assert await one.db.read(lambda s: GarbageTable(s).known()) == set()


async def test_a_young_orphan_may_get_its_row_soon(one: Process) -> None:
    digest = await one.store.put(b"young")
    one.clock.at = next(b.stored_at for b in one.store.walk()) + timedelta(minutes=59)
    assert await one.collect() == (0, 0)
    assert await one.has(digest, 5)


async def test_a_dry_run_is_the_run(one: Process) -> None:
    for number in range(120):
        digest = await one.put(b"%d" % number)
        if number % 2:
            await one.drop(digest)
    for _ in range(3):
        plan = await one.garbage.plan()
        assert await one.garbage.plan() == plan
        assert await one.garbage.run(plan, "cli") == plan
        one.clock.advance(days=2)


async def test_a_put_takes_the_mark_back(two: tuple[Process, Process]) -> None:
    collector, other = two
    digest = await other.put(b"again")
    await other.drop(digest)
    await collector.collect()
    collector.clock.advance(days=2)
    await other.store.put(b"again")  # no row yet
    assert await collector.collect() == (1, 0), "the grace begins anew"
    await other.name(digest, 5)
    collector.clock.advance(days=2)
    assert await collector.collect() == (0, 0)
    assert await other.has(digest, 5)


async def test_a_row_that_names_the_blob_takes_the_mark_back(one: Process) -> None:
    digest = await one.put(b"again")
    await one.drop(digest)
    await one.collect()
    await one.name(digest, 5)
    one.clock.advance(days=2)
    assert await one.collect() == (0, 0)


async def test_a_put_waits_for_a_deletion_and_makes_a_new_file(
    two: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector, other = two
    digest = await other.put(b"again")
    await other.drop(digest)
    await collector.collect()
    collector.clock.advance(days=2)
    is_deleting, may_delete = asyncio.Event(), asyncio.Event()
    delete = collector.store.delete

    async def slow_delete(doomed: Digest) -> None:
        is_deleting.set()
        await may_delete.wait()
        await delete(doomed)

    monkeypatch.setattr(collector.store, "delete", slow_delete)
    collecting = asyncio.create_task(collector.collect())
    await is_deleting.wait()
    with pytest.raises(StorageError, match="is being deleted"):
        await other.put(b"again")  # asks a hundred times
    with pytest.raises(StorageError, match="is being deleted"):
        await other.name(digest, 5)  # a put that stood still before its row
    putting = asyncio.create_task(other.put(b"again"))
    may_delete.set()
    assert await collecting == (0, 1)
    await putting
    assert await other.has(digest, 5)


async def test_a_killed_deletion_is_ended_by_the_next_collection(
    one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await one.put(b"gone")
    await one.drop(digest)
    await one.collect()
    one.clock.advance(days=2)
    delete = one.store.delete
    for is_deleted in (False, True):

        async def killed(doomed: Digest, is_deleted: bool = is_deleted) -> None:
            if is_deleted:
                await delete(doomed)
            raise KilledError

        with monkeypatch.context() as patch:
            patch.setattr(one.store, "delete", killed)
            with pytest.raises(KilledError):
                await one.collect()
    assert await one.collect() == (0, 1)
    assert not await one.has(digest, 4)


async def test_a_put_takes_over_from_a_dead_collector(one: Process) -> None:
    digest = await one.put(b"again")
    await one.drop(digest)
    await one.collect()
    one.clock.advance(days=2)
    at = one.clock()
    before = at - GRACE
    await one.db.write(lambda s: GarbageTable(s).claim([digest], condemned_before=before, at=at))
    await one.store.delete(digest)  # and then the collector was killed
    one.clock.advance(seconds=61)
    await one.put(b"again")
    assert await one.has(digest, 5)
    assert await one.collect() == (0, 0)


async def test_a_collector_that_stood_still_deletes_nothing_more(
    one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data in (b"first", b"second"):
        await one.drop(await one.put(data))
    await one.collect()
    one.clock.advance(days=2)
    delete = one.store.delete

    async def slow(doomed: Digest) -> None:
        await delete(doomed)
        one.seconds.seconds += 30

    monkeypatch.setattr(one.store, "delete", slow)
    assert await one.collect() == (0, 1)
    monkeypatch.setattr(one.store, "delete", delete)
    assert await one.collect() == (0, 1)


async def test_nothing_that_is_put_while_garbage_is_collected_is_lost(
    two: tuple[Process, Process], tmp_path: Path
) -> None:
    """Puts, removals and collections of the same digests at random, each a day apart."""
    collector, other = two
    dice, bodies = random.Random(7), [b"%d" % number for number in range(6)]
    named: set[bytes] = set()

    async def put(who: Process, body: bytes) -> None:
        for _ in range(20):
            try:
                await who.put(body)
            except StorageError:
                continue
            named.add(body)
            return
        raise AssertionError("a put must come through")

    for _ in range(12):
        for body in sorted(named):
            if dice.random() < 0.7:
                named.discard(body)
                await other.drop(Digest.of(body))
        work = [put(dice.choice(two), body) for body in bodies if dice.random() < 0.5]
        work += [collector.collect(), other.collect()]  # type: ignore[list-item]
        dice.shuffle(work)
        await asyncio.gather(*work)
        for body in named:
            assert await other.has(Digest.of(body), len(body)), body
        collector.clock.advance(days=2)
    files = {path.name for path in tmp_path.glob("blobs/*/*")}
    assert {Digest.of(body).hex for body in named} <= files
