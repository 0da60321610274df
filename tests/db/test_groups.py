"""Group commit: units of work that wait for SQLite's writer share a transaction, not a fate."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import ExceptionContext, event, text

from app.core.errors import ConflictError, DatabaseBusyError, StorageFullError
from app.db.engine import Database, Session
from app.db.generation import bump_generation, current_generation

GROUP = 5


class Commits:
    """Counts the commits of a database's writer, and fails those that it is told to fail."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        self.failures: list[Exception | None] = []
        event.listen(database.engine, "commit", self._commit)

    def _commit(self, _connection: object) -> None:
        self.count += 1
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure


@pytest.fixture
def commits(database: Database) -> Commits:
    return Commits(database)


@asynccontextmanager
async def writer_is_busy(database: Database) -> AsyncIterator[None]:
    """Keep the writer at work until the end of the context: what is written inside waits."""
    inside, go_on = threading.Event(), threading.Event()

    def work(_: Session) -> None:
        inside.set()
        assert go_on.wait(10)

    busy = asyncio.ensure_future(database.write(work))
    await asyncio.to_thread(inside.wait, 10)
    try:
        yield
        await asyncio.sleep(0)  # the units of work reach the queue
    finally:
        go_on.set()
        await busy


async def written_together(
    database: Database, works: list[Callable[[Session], object]]
) -> list[object]:
    """Return the results and errors of units of work that wait for the writer at once."""
    async with writer_is_busy(database):
        waiting = [asyncio.ensure_future(database.write(work)) for work in works]
    return await asyncio.gather(*waiting, return_exceptions=True)


def fail(session: Session) -> None:
    bump_generation(session)
    session.flush()
    raise LookupError("of its own")


def conflict(session: Session) -> None:
    for _ in range(2):
        session.execute(text("INSERT INTO origins (id, key) VALUES (77, 'x')"))


async def test_all_that_wait_share_one_commit(database: Database, commits: Commits) -> None:
    bumps: list[Callable[[Session], object]] = [bump_generation] * GROUP
    assert await written_together(database, bumps) == [None] * GROUP
    assert commits.count == 2  # that of the busy one, and that of the group
    assert await database.read(current_generation) == 1 + GROUP


async def test_a_lone_writer_commits_at_once(database: Database, commits: Commits) -> None:
    for number in range(3):
        await database.write(bump_generation)
        assert commits.count == number + 1


async def test_later_units_of_a_group_see_what_earlier_ones_wrote(database: Database) -> None:
    def bump_and_read(session: Session) -> int:
        bump_generation(session)
        return current_generation(session)

    outcomes = await written_together(database, [bump_and_read] * GROUP)
    assert outcomes == [number + 2 for number in range(GROUP)]


@pytest.mark.parametrize(
    ("bad", "error"), [(fail, LookupError), (conflict, ConflictError)], ids=["error", "conflict"]
)
async def test_a_unit_that_fails_takes_nobody_with_it(
    database: Database, bad: Callable[[Session], None], error: type[Exception]
) -> None:
    outcomes = await written_together(database, [bump_generation, bad, bump_generation])
    assert [type(outcome) for outcome in outcomes] == [type(None), error, type(None)]
    assert await database.read(current_generation) == 3


@pytest.mark.only_sqlite
async def test_on_a_full_disk_a_small_change_succeeds_beside_a_large_one(
    database: Database,
) -> None:
    """SQLite itself may roll back the whole transaction at "disk is full"."""

    def fill(session: Session) -> None:
        session.execute(text("CREATE TABLE filling AS SELECT zeroblob(10000000) AS content"))

    def leave_little_room(session: Session) -> None:
        pages = session.execute(text("PRAGMA page_count")).scalar_one()
        session.execute(text(f"PRAGMA max_page_count={pages + 10}"))

    await database.write(leave_little_room)
    outcomes = await written_together(database, [bump_generation, fill, bump_generation])
    assert [type(outcome) for outcome in outcomes] == [type(None), StorageFullError, type(None)]
    assert "full" in str(outcomes[1])
    assert await database.read(current_generation) == 3


async def test_a_group_whose_commit_fails_is_tried_one_by_one(
    database: Database, commits: Commits
) -> None:
    async with writer_is_busy(database):
        waiting = [asyncio.ensure_future(database.write(bump_generation)) for _ in range(3)]
        failure = OSError("of the commit")
        # The busy one commits; the group does not, nor does the second of the three alone.
        commits.failures = [None, failure, None, failure, None]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert outcomes == [None, failure, None]
    assert await database.read(current_generation) == 3


async def test_no_unit_of_a_group_runs_before_the_transaction_has_begun(tmp_path: Path) -> None:
    """Else a locked database would cost the busy time-out once for each unit."""
    tries: list[int] = []
    database = Database(f"sqlite:///{tmp_path}/no/such/folder.db")

    def tried(_context: ExceptionContext) -> None:
        tries.append(1)

    event.listen(database.engine, "handle_error", tried)
    held = threading.Event()
    database._writes.threads.submit(held.wait, 10)
    waiting = [asyncio.ensure_future(database.write(bump_generation)) for _ in range(GROUP)]
    await asyncio.sleep(0)
    held.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseBusyError] * GROUP
    assert len(tries) == 1
    event.remove(database.engine, "handle_error", tried)  # it is the dialect's, which all share
    database.close()


async def test_a_caller_that_goes_away_does_not_stop_its_group(database: Database) -> None:
    async with writer_is_busy(database):
        gone, stays = (asyncio.ensure_future(database.write(bump_generation)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
    await stays
    assert gone.cancelled()
    assert await database.read(current_generation) == 3


async def test_what_waits_when_the_database_closes_is_written(database: Database) -> None:
    async with writer_is_busy(database):
        waiting = asyncio.ensure_future(database.write(bump_generation))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(database.close))
    await asyncio.gather(waiting, closing)
    with pytest.raises(RuntimeError, match="after shutdown"):
        await database.write(bump_generation)
