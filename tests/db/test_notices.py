"""LISTEN and NOTIFY: a wait ends at the commit, not before; a lost connection is made again."""

import asyncio
import threading
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.notices import GENERATION, _listening, notify

LONG_S = 60.0


async def listening(database: Database) -> None:
    """Return when the database's notices are heard."""
    while not database.notices.are_heard:
        await database.notices.wait("nothing", 0.01)


@pytest.mark.only_postgresql
async def test_a_change_of_the_generation_ends_the_wait_of_another_process(
    database: Database, database_url: str
) -> None:
    with closing(Database(database_url)) as other:
        await listening(other)
        waiting = asyncio.ensure_future(other.notices.wait(GENERATION, LONG_S))
        elsewhere = asyncio.ensure_future(other.notices.wait("elsewhere", LONG_S))
        with pytest.raises(LookupError):
            await database.write(failing)
        await other.notices.wait("nothing", 0.05)
        assert not waiting.done()  # nothing was committed
        await database.write(bump_generation)
        await asyncio.wait_for(waiting, 20)
        assert not elsewhere.done()
        elsewhere.cancel()
        await other.notices.aclose()


def failing(session: Session) -> None:
    bump_generation(session)
    raise LookupError


@pytest.mark.only_postgresql
async def test_a_lost_connection_is_replaced(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.notices._LISTEN_AGAIN_S", 0.0)
    await listening(database)
    end = (
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
        " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
    )
    assert await database.write(lambda s: s.execute(text(end)).scalar_one()) == 1
    while database.notices.are_heard:
        await asyncio.sleep(0.01)
    await listening(database)
    waiting = asyncio.ensure_future(database.notices.wait("topic", LONG_S))
    await asyncio.sleep(0)
    await database.write(lambda s: notify(s, "topic"))
    await asyncio.wait_for(waiting, 20)
    await database.notices.aclose()


@pytest.mark.only_sqlite
async def test_on_sqlite_a_wait_is_a_pause(database: Database) -> None:
    await database.write(bump_generation)
    await database.notices.wait(GENERATION, 0.01)
    assert not database.notices.are_heard


@pytest.mark.only_postgresql
async def test_a_connection_that_is_made_after_the_end_is_closed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    is_made, may_go_on = threading.Event(), threading.Event()

    def slowly(engine: Engine) -> Any:
        made.append(_listening(engine))
        is_made.set()
        may_go_on.wait(60)
        return made[0]

    monkeypatch.setattr("app.db.notices._listening", slowly)
    await database.notices.wait("nothing", 0.0)
    connecting = database.notices._connecting
    assert connecting is not None
    await asyncio.to_thread(is_made.wait, 60)
    connecting.cancel()  # as at the end of an event loop
    database.notices.close()
    may_go_on.set()
    while not made[0].closed:
        await asyncio.sleep(0)
