"""PostgreSQL's part of the engine: the lock of all writes, limits, lost connections, errors."""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, make_url, text
from sqlalchemy.exc import DBAPIError

from app.core.errors import DatabaseBusyError
from app.db.engine import Database, Session
from app.db.generation import bump_generation, current_generation
from app.db.postgresql import LOCK, WaitLimits, connect_args
from app.db.room import Room

pytestmark = pytest.mark.only_postgresql

QUICK = WaitLimits(lock_s=0.1, statement_s=15)


@contextmanager
def foreign(url: str, statement: str) -> Iterator[psycopg.Connection]:
    """A session of somebody else, in a transaction in which a statement was done."""
    address = make_url(url)
    with closing(
        psycopg.connect(host=str(address.query["host"]), user="moorage", dbname=address.database)
    ) as connection:
        connection.execute(statement.encode())
        yield connection


def terminate(url: str, connection: Connection) -> None:
    """End a connection from outside, as a restart of the server does."""
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with foreign(url, f"SELECT pg_terminate_backend({pid}, 10000)"):
        pass


async def test_every_write_waits_for_the_lock_of_all_writes_within_its_limit(
    database_url: str,
) -> None:
    with (
        closing(Database(database_url, limits=QUICK)) as database,
        foreign(database_url, f"SELECT pg_advisory_xact_lock({LOCK})"),
    ):
        with pytest.raises(DatabaseBusyError, match="lock timeout"):
            await database.write(lambda _: None)
        assert await database.read(current_generation) == 1


async def test_a_row_that_a_foreign_session_holds_stops_only_what_needs_the_row(
    database: Database, database_url: str
) -> None:
    statement = text("UPDATE index_status SET read_at = NULL")
    with foreign(database_url, "SELECT * FROM generation FOR UPDATE"):
        works = [bump_generation, lambda s: s.execute(statement), current_generation]
        ends = await asyncio.gather(*map(database.write, works), return_exceptions=True)
    assert isinstance(ends[0], DatabaseBusyError)
    assert "lock timeout" in str(ends[0])
    assert ends[2] == 1
    assert await database.read(current_generation) == 1


async def test_a_denial_does_not_wait_behind_the_writes_of_its_process(
    database: Database, database_url: str
) -> None:
    order: list[str] = []
    with foreign(database_url, f"SELECT pg_advisory_xact_lock({LOCK})") as holder:
        first = asyncio.ensure_future(database.write(lambda _: order.append("first")))
        while not await database.read(waits_for_lock):
            pass
        second = asyncio.ensure_future(database.write(lambda _: order.append("second")))
        denial = asyncio.ensure_future(
            database.write(lambda _: order.append("denial"), room=Room.RESERVE)
        )
        while await database.read(waits_for_lock) < 2:
            pass
        holder.rollback()
        await asyncio.gather(first, second, denial)
    assert order == ["first", "denial", "second"]


def waits_for_lock(session: Session) -> int:
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return session.execute(text(query)).scalar_one()


async def test_a_caller_hears_in_time_of_a_database_that_stands_still(database_url: str) -> None:
    limits = WaitLimits(lock_s=0.05, statement_s=0.05)
    go_on = threading.Event()
    with closing(Database(database_url, limits=limits)) as database:
        for call in (database.read, database.write):
            with pytest.raises(DatabaseBusyError, match="does not answer"):
                await call(lambda _: go_on.wait(20))
        go_on.set()


async def test_F94_units_of_work_survive_a_restart_of_the_server(database: Database) -> None:
    """Connections that were lost while idle, and one that is lost inside of a unit of work."""
    runs: list[int] = []

    def interrupted(session: Session) -> int:
        runs.append(1)
        if len(runs) == 1:
            terminate(database.url, session.connection())
        bump_generation(session)
        return current_generation(session)

    assert await database.write(interrupted) == 2
    assert len(runs) == 2
    pids = await database.read(connections)
    for pid in pids:
        with foreign(database.url, f"SELECT pg_terminate_backend({pid}, 10000)"):
            pass
    assert await database.read(current_generation) == 2
    assert await database.write(current_generation) == 2


def connections(session: Session) -> list[int]:
    """Return the process ids of all connections of Moorage to this database."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'moorage'"
    mine = f"{query} AND datname = current_database()"
    return list(session.execute(text(mine)).scalars())


def end_at_first_commit(url: str, engine: Engine) -> None:
    """Have the server end the connection of the first transaction that commits."""
    ended = threading.Event()

    def end(connection: Connection) -> None:
        if ended.is_set():
            return
        ended.set()
        terminate(url, connection)

    event.listen(engine, "commit", end)


async def test_F94_a_connection_lost_at_the_commit_is_not_tried_again(database: Database) -> None:
    end_at_first_commit(database.url, database.engine)
    runs: list[int] = []

    def work(session: Session) -> None:
        runs.append(1)
        bump_generation(session)

    with pytest.raises(DatabaseBusyError, match="the outcome is unknown"):
        await database.write(work)
    assert len(runs) == 1


async def test_F94_what_only_reads_has_no_unknown_outcome(database: Database) -> None:
    await database.write(bump_generation)
    end_at_first_commit(database.url, database.reader)
    runs: list[int] = []

    def work(session: Session) -> int:
        runs.append(1)
        return current_generation(session)

    assert await database.read(work) == 2
    assert len(runs) == 2


@pytest.mark.parametrize(
    "cause",
    [psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure],
)
async def test_what_the_server_has_undone_is_tried_again(
    database: Database, cause: type[psycopg.Error]
) -> None:
    causes = [cause("undone")]

    def work(session: Session) -> None:
        bump_generation(session)
        if causes:
            raise DBAPIError.instance("UPDATE", {}, causes.pop(), psycopg.Error)

    await database.write(work)
    assert await database.read(current_generation) == 2


async def test_a_database_out_of_reach_names_neither_host_nor_socket(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://somebody@/name?host={tmp_path}"
    with closing(Database(url)) as database:
        for call in (database.read, database.write):
            with pytest.raises(DatabaseBusyError) as raised:
                await call(current_generation)
            assert not re.search(rf"{tmp_path}|somebody|/", str(raised.value))


def test_the_url_may_give_limits_of_its_own() -> None:
    args = connect_args(
        "postgresql+psycopg://a@b/c?connect_timeout=9&options=-c%20work_mem%3D8MB", WaitLimits()
    )
    assert "connect_timeout" not in args
    assert args["options"].endswith(" -c work_mem=8MB")
    assert "lock_timeout=5000" in args["options"]
    assert args["keepalives"] == 1
