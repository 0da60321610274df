"""Turns between processes, by locks of one host and by leases of a database that hosts share."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.errors import VerificationError
from app.db.engine import Database
from app.services.clock import utc_now
from app.services.leases import Leases, Turns
from app.storage.hostlocks import HostLocks
from tests.shapes import Shape

pytestmark = pytest.mark.both_shapes
MakeTurns = Callable[[], Turns]


@pytest.fixture
def make_turns(shape: Shape, tmp_path: Path, request: pytest.FixtureRequest) -> MakeTurns:
    """Return a function that returns the turns of one more process."""
    if shape is Shape.SQLITE:

        def host() -> Turns:
            locks = HostLocks(tmp_path / "turns.lock")
            request.addfinalizer(locks.close)
            return locks

        return host
    url = request.getfixturevalue("database_url")
    owners = iter(range(1, 10))

    def shared() -> Turns:
        database = Database(url)
        request.addfinalizer(database.close)
        return Leases(database, utc_now, f"elsewhere/{next(owners)}/0")

    return shared


async def test_one_process_has_the_turn_and_the_other_waits_for_its_end(
    make_turns: MakeTurns,
) -> None:
    first, second = make_turns(), make_turns()
    order: list[str] = []

    async def follow() -> None:
        async with second.hold("name"):
            order.append("second")

    async with first.hold("name"):
        waiting = asyncio.ensure_future(follow())
        async with second.hold("other"):
            order.append("first")
    await waiting
    assert order == ["first", "second"]


async def test_two_processes_never_hold_a_name_together(make_turns: MakeTurns) -> None:
    """Within a process a flight lets one task ask for a name."""
    inside = 0

    async def work(turns: Turns) -> None:
        nonlocal inside
        for _ in range(4):
            async with turns.hold("name"):
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1

    await asyncio.gather(work(make_turns()), work(make_turns()))


async def test_a_failure_and_a_cancelled_task_end_the_turn(make_turns: MakeTurns) -> None:
    first, second = make_turns(), make_turns()
    with pytest.raises(VerificationError):
        async with first.hold("name"):
            raise VerificationError("bad")
    held = asyncio.Event()

    async def work() -> None:
        async with first.hold("name"):
            held.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await held.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with second.hold("name"):
        pass


async def test_a_waiter_that_goes_away_leaves_nothing(make_turns: MakeTurns) -> None:
    first, second = make_turns(), make_turns()

    async def work() -> None:
        async with second.hold("name"):
            raise AssertionError("the first has it")

    async with first.hold("name"):
        waiting = asyncio.ensure_future(work())
        async with second.hold("other"):
            waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with first.hold("name"):
        pass
