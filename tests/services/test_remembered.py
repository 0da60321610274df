"""An outage of the database: what is remembered, for how long, and what a change ends."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from app.core.errors import DatabaseBusyError
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.services.generation import GenerationWatch
from app.services.remembered import Remembered

OUTAGE_S = 60.0


class Seconds:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Silent:
    """A database that can fall silent."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.is_silent = False

    async def read(self, work: Callable[[Session], Any]) -> Any:
        if self.is_silent:
            raise DatabaseBusyError("the database does not answer; try again")
        return await self._db.read(work)


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def silent(database: Database) -> Silent:
    return Silent(database)


@pytest.fixture
async def watch(silent: Silent, seconds: Seconds) -> GenerationWatch:
    made = GenerationWatch(silent, OUTAGE_S, seconds)  # type: ignore[arg-type]
    await made.poll()
    return made


@pytest.fixture
def remembered(silent: Silent, watch: GenerationWatch) -> Remembered:
    return Remembered(silent, watch)  # type: ignore[arg-type]


async def rows(remembered: Remembered, key: str = "k", value: Any = (1, 2)) -> Any:
    return await remembered.read(key, lambda _: value, lambda _: 10)


async def silence(silent: Silent, watch: GenerationWatch) -> None:
    silent.is_silent = True
    with pytest.raises(DatabaseBusyError):
        await watch.poll()


async def test_what_was_read_is_remembered_for_the_time_of_an_outage(
    remembered: Remembered, silent: Silent, watch: GenerationWatch, seconds: Seconds
) -> None:
    assert await rows(remembered) == (1, 2)
    assert await rows(remembered, "empty", ()) == ()
    await silence(silent, watch)
    assert await rows(remembered) == (1, 2)
    for key in ("other", "empty"):
        with pytest.raises(DatabaseBusyError):
            await rows(remembered, key)
    assert watch.bridges_outage
    assert "for 60 s more" in str(watch.note())
    seconds.now = OUTAGE_S + 1
    with pytest.raises(DatabaseBusyError):
        await watch.poll()
    assert (watch.is_lost, watch.bridges_outage) == (True, False)
    with pytest.raises(DatabaseBusyError):
        await rows(remembered)
    silent.is_silent = False
    await watch.poll()
    assert (watch.is_lost, watch.note()) == (False, None)
    assert await rows(remembered) == (1, 2)


async def test_what_is_kept_of_a_lost_database_ends_and_holds_again_when_it_answers(
    silent: Silent, watch: GenerationWatch, seconds: Seconds
) -> None:
    before = (watch.since("acme"), watch.policy, watch.stored, watch.releases, watch.channels)
    await silence(silent, watch)
    assert watch.since("acme") == before[0]
    seconds.now = OUTAGE_S + 1
    with pytest.raises(DatabaseBusyError):
        await watch.poll()
    assert min(watch.since("acme"), watch.policy, watch.stored, watch.releases) > 1 << 40
    silent.is_silent = False
    await watch.poll()
    after = (watch.since("acme"), watch.policy, watch.stored, watch.releases, watch.channels)
    assert after == before


async def test_a_change_of_stored_content_ends_what_is_remembered(
    remembered: Remembered, silent: Silent, watch: GenerationWatch, database: Database
) -> None:
    await rows(remembered)
    await database.write(bump_generation)
    await watch.poll()
    await silence(silent, watch)
    with pytest.raises(DatabaseBusyError):
        await rows(remembered)


async def test_what_is_known_ends_with_a_change_that_concerns_the_tenant(
    remembered: Remembered, watch: GenerationWatch, database: Database
) -> None:
    await database.write(bump_generation)  # the first change of a database concerns everything
    await watch.poll()
    await rows(remembered)
    assert (remembered.known("k", "acme"), remembered.known("other", "acme")) == ((1, 2), None)
    await database.write(lambda s: bump_generation(s, ["acme"]))
    await watch.poll()
    assert (remembered.known("k", "acme"), remembered.known("k", "globex")) == (None, (1, 2))
    await database.write(bump_generation)
    await watch.poll()
    assert remembered.known("k", "globex") is None


async def test_a_change_of_one_tenant_s_policy_does_not(
    remembered: Remembered, silent: Silent, watch: GenerationWatch, database: Database
) -> None:
    await database.write(bump_generation)  # the first change of a database concerns everything
    await watch.poll()
    await rows(remembered)
    await database.write(lambda s: bump_generation(s, ["acme"]))
    await watch.poll()
    await silence(silent, watch)
    assert await rows(remembered) == (1, 2)


async def test_an_sqlite_file_is_bridged_without_a_limit(silent: Silent, seconds: Seconds) -> None:
    watch = GenerationWatch(silent, None, seconds)  # type: ignore[arg-type]
    await watch.poll()
    await silence(silent, watch)
    seconds.now = 1e6
    with pytest.raises(DatabaseBusyError):
        await watch.poll()
    assert not watch.is_lost
    assert watch.note() is None


async def test_a_database_that_stands_still_counts_as_silent(
    database: Database, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses no connection and answers nothing: no error tells."""
    monkeypatch.setattr("app.services.generation.SILENCE_S", 0.05)
    watch = GenerationWatch(database, OUTAGE_S, seconds)
    await watch.poll()
    go_on = threading.Event()
    reads = [asyncio.ensure_future(database.read(lambda _: go_on.wait(20))) for _ in range(4)]
    await asyncio.sleep(0)  # all threads of readers are taken
    with pytest.raises(DatabaseBusyError, match="does not answer"):
        await watch.poll()
    assert watch.bridges_outage
    go_on.set()
    await asyncio.gather(*reads)
    monkeypatch.undo()
    await watch.poll()
    assert not watch.bridges_outage
