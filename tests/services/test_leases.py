"""Leases across processes: exclusive, expiring, fenced; and what a late holder may still do."""

import asyncio
import subprocess
import sys
from datetime import timedelta

import anyio.to_thread
import pytest
from sqlalchemy import func, select, text

from app.core.errors import VerificationError
from app.core.releasefile import FileState
from app.db.engine import Database
from app.db.leases import LeaseHolder, LeaseRow, LeaseTable
from app.db.room import Room
from app.db.sqlite import is_sqlite
from app.services.leases import TTL, Leases, is_dead, this_owner
from tests.conftest import MakeServices, MakeSettings, PutRelease
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev
from tests.installation import running
from tests.services.bench import (
    NAME,
    PATH,
    WallClock,
    assert_sound,
    audited,
    body_of,
    record_of,
    run_sql,
    staged,
)

HOLD_A_LEASE = """
import asyncio, sys
from app.db.engine import Database
from app.services.clock import utc_now
from app.services.leases import Leases

async def main():
    lease = await Leases(Database(sys.argv[1]), utc_now).try_acquire("name")
    print(lease.fence, flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


def leases(database: Database, clock: WallClock, pid: int = 1) -> Leases:
    """Return the leases of another process, on a host that is not this one."""
    return Leases(database, clock, f"elsewhere/{pid}/0")


@pytest.mark.both_shapes
async def test_a_lease_is_held_by_one(database: Database, clock: WallClock) -> None:
    first, second = leases(database, clock, 1), leases(database, clock, 2)
    held = await first.try_acquire("name")
    assert held is not None
    assert await second.try_acquire("name") is None
    assert await first.try_acquire("name") is None  # not by a second task of its holder either
    assert (await second.try_acquire("other")) is not None


@pytest.mark.both_shapes
async def test_of_many_that_try_at_once_one_succeeds(database: Database, clock: WallClock) -> None:
    tries = [leases(database, clock, pid).try_acquire("name") for pid in range(20)]
    assert sum(one is not None for one in await asyncio.gather(*tries)) == 1


async def pass_time(database: Database, clock: WallClock, by: timedelta) -> None:
    """Let time pass: on the clock of SQLite's host; PostgreSQL's own stays, and leases age."""
    clock.at += by
    if not is_sqlite(database.url):
        aged = text("UPDATE leases SET expires_at = expires_at - :by")
        await database.write(lambda s: s.execute(aged, {"by": by}))


@pytest.mark.both_shapes
async def test_a_lease_expires_by_the_clock_and_its_fence_grows(
    database: Database, clock: WallClock
) -> None:
    first, second = leases(database, clock, 1), leases(database, clock, 2)
    held = await first.try_acquire("name")
    assert held is not None
    await pass_time(database, clock, TTL - timedelta(seconds=5))
    assert await second.try_acquire("name") is None
    await pass_time(database, clock, timedelta(seconds=5))
    taken = await second.try_acquire("name")
    assert taken is not None
    assert taken.fence == held.fence + 1
    assert not await first.still_mine(held)
    assert await second.still_mine(taken)


@pytest.mark.both_shapes
async def test_the_clocks_of_replicas_do_not_count(database: Database, clock: WallClock) -> None:
    """On PostgreSQL: 20 s of difference between two hosts let slow files be fetched twice."""
    ahead = WallClock(clock.at + timedelta(seconds=20))
    held = await leases(database, clock, 1).try_acquire("name")
    assert held is not None
    taken = await leases(database, ahead, 2).try_acquire("name")
    assert (taken is not None) is is_sqlite(database.url)


@pytest.mark.both_shapes
async def test_a_fence_grows_for_the_same_owner_too(database: Database, clock: WallClock) -> None:
    own = leases(database, clock)
    fences = []
    for _ in range(3):
        async with own.hold("name") as held:
            fences.append(held.fence)
        clock.at += timedelta(microseconds=1)
    assert fences == sorted(set(fences))
    rows = select(func.count()).select_from(LeaseRow)
    assert await database.read(lambda s: s.execute(rows).scalar_one()) == 0


@pytest.mark.only_sqlite  # PostgreSQL's leases go by its own clock
async def test_a_renewed_lease_lasts_longer_and_a_lost_one_is_not_renewed(
    database: Database, clock: WallClock
) -> None:
    first, second = leases(database, clock, 1), leases(database, clock, 2)
    held = await first.try_acquire("name")
    assert held is not None
    clock.at += TTL / 2
    assert await database.write(lambda s: LeaseTable(s).renew(held, clock(), TTL))
    clock.at += TTL / 2
    assert await second.try_acquire("name") is None
    clock.at += TTL
    assert await second.try_acquire("name") is not None
    assert not await database.write(lambda s: LeaseTable(s).renew(held, clock(), TTL))
    # Nor does the late holder's letting go free what is another's now.
    await database.write(lambda s: LeaseTable(s).release(held))
    assert await first.try_acquire("name") is None


@pytest.mark.both_shapes
async def test_a_lease_is_let_go_at_the_end_even_of_a_failure(
    database: Database, clock: WallClock
) -> None:
    first, second = leases(database, clock, 1), leases(database, clock, 2)
    with pytest.raises(VerificationError):
        async with first.hold("name"):
            raise VerificationError("bad")
    assert await second.try_acquire("name") is not None


async def test_a_lease_is_let_go_when_its_task_is_cancelled(
    database: Database, clock: WallClock
) -> None:
    first, second = leases(database, clock, 1), leases(database, clock, 2)
    inside = asyncio.Event()

    async def work() -> None:
        async with first.hold("name"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await inside.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await second.try_acquire("name") is not None


@pytest.mark.both_shapes
async def test_a_lease_is_let_go_when_its_task_is_cancelled_while_it_is_acquired(
    database: Database, clock: WallClock
) -> None:
    """The transaction is not undone by that: it takes the lease for a task that is gone."""
    first, second = leases(database, clock, 1), leases(database, clock, 2)
    task = asyncio.ensure_future(first.try_acquire("name"))
    await asyncio.sleep(0)  # the transaction is on its way
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await second.try_acquire("name") is not None


@pytest.mark.both_shapes
async def test_a_waiter_gets_the_lease_when_it_is_let_go(
    database: Database, clock: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = leases(database, clock, 1), leases(database, clock, 2)
    order = []
    has_tried, try_acquire = asyncio.Event(), second.try_acquire

    async def watched(name: str, *, room: Room) -> LeaseHolder | None:
        holder = await try_acquire(name, room=room)
        has_tried.set()
        return holder

    monkeypatch.setattr(second, "try_acquire", watched)

    async def follow() -> None:
        async with second.hold("name"):
            order.append("second")

    async with first.hold("name"):
        waiting = asyncio.ensure_future(follow())
        await has_tried.wait()
        order.append("first")
    await waiting
    assert order == ["first", "second"]


@pytest.mark.only_sqlite  # PostgreSQL's leases go by its own clock
async def test_only_live_leases_of_a_prefix_are_told(database: Database, clock: WallClock) -> None:
    own = leases(database, clock)
    for name in ("ingest:a", "ingest:b", "leader"):
        await own.try_acquire(name)
    clock.at += TTL
    await own.try_acquire("ingest:b")
    live = await database.read(lambda s: LeaseTable(s).live("ingest:", clock(), TTL))
    assert live == {"ingest:b": "elsewhere/1/0"}


@pytest.mark.only_sqlite  # PostgreSQL's leases go by its own clock
async def test_old_leases_are_forgotten_and_fresh_ones_are_not(
    database: Database, clock: WallClock
) -> None:
    own = leases(database, clock)
    await own.try_acquire("old")
    clock.advance(days=2)
    await own.try_acquire("new")
    await database.write(lambda s: LeaseTable(s).forget_expired(clock() - timedelta(days=1)))
    holders = [await database.read(lambda s, n=n: LeaseTable(s).holder(n)) for n in ("old", "new")]
    assert [holder is None for holder in holders] == [True, False]


async def test_F91_the_lease_of_a_killed_process_of_this_host_is_taken_at_once(
    database: Database, database_url: str
) -> None:
    command = [sys.executable, "-c", HOLD_A_LEASE, database_url]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        fence = int(await anyio.to_thread.run_sync(holder.stdout.readline))
        ends = await database.read(lambda s: s.get_one(LeaseRow, "name").expires_at)
        clock = WallClock(ends - timedelta(seconds=1))  # stands still, however slow the machine is
        before = await database.read(lambda s: LeaseTable(s).holder("name"))
        assert before is not None
        assert before.owner.split("/")[-2] == str(holder.pid)
        assert not is_dead(before.owner)
        assert await Leases(database, clock).try_acquire("name") is None
    finally:
        holder.kill()
        holder.wait()
        for pipe in (holder.stdin, holder.stdout):
            assert pipe is not None
            pipe.close()
    assert is_dead(before.owner)
    taken = await Leases(database, clock).try_acquire("name")
    assert taken is not None
    assert (taken.owner, taken.fence) == (this_owner(), fence + 1)


def test_only_a_process_of_this_very_host_is_known_to_be_dead() -> None:
    host, pid, ticks = this_owner().rsplit("/", 2)
    assert not is_dead(this_owner())
    assert is_dead(f"{host}/{pid}/{int(ticks) + 1}")  # its pid is another's now
    assert is_dead(f"{host}/4194305/1")  # above the largest pid
    assert not is_dead("elsewhere/4194305/1")


def stalling_and_wrong() -> Fault:
    stall, flip = Fault.stall(after="half"), Fault.flip_byte(at="last")
    return Fault(stall.kind, lambda reply, target: stall.spoil(flip.spoil(reply, target), target))


STALLING = {"right": Fault.stall(after="half"), "wrong": stalling_and_wrong()}


@pytest.mark.both_shapes
@pytest.mark.parametrize("late", STALLING)
async def test_F93_a_late_holders_result_is_discarded(
    late: str,
    make_settings: MakeSettings,
    start_services: MakeServices,
    fake: FakeGodev,
    put_release: PutRelease,
) -> None:
    """The first is paused in its download, with the lease, until the second is done."""
    data = put_release()
    settings = make_settings()
    await (await start_services(settings)).releases.reader.refresh()
    clock = WallClock()
    async with running(settings, clock) as first, running(settings, clock) as second:
        fake.fault(PATH, STALLING[late])
        paused = asyncio.ensure_future(first.releases.ingestion.ensure(NAME))
        await anyio.to_thread.run_sync(fake.wait_until, lambda: fake.stalled == 1)
        await run_sql(second, "UPDATE leases SET expires_at = '2026-01-01 00:00:00.000000'")
        record = await second.releases.ingestion.ensure(NAME)
        assert record.state == FileState.VERIFIED
        if late == "wrong":
            fake.fault(PATH, Fault.flip_byte(at="last"))  # it asks once more
        fake.release()
        assert await paused == record  # what the other found counts for its callers too
        assert await record_of(first) == record
        assert await body_of(first, record) == data
        assert len(await audited(first, "release.verified")) == 1
        assert await audited(first, "release.quarantined") == []
        assert staged(first) == []
        await assert_sound(second)
