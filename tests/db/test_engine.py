"""Units of work against a real SQLite file: pragmas, locking, errors, datetimes."""

import asyncio
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, StatementError

from app.core.digest import Digest
from app.core.errors import ConflictError, DatabaseBusyError, DefectError, StorageFullError
from app.core.job import Job, JobState
from app.db.blobs import Blobs
from app.db.engine import Database, Session, make_engine
from app.db.generation import bump_generation, current_generation
from app.db.jobs import Jobs
from app.db.releaseindex import IndexLog
from app.db.room import Room
from app.db.sqlite import is_sqlite, sqlite_url

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def pragmas(session: Session) -> dict[str, object]:
    return {
        name: session.execute(text(f"PRAGMA {name}")).scalar_one()
        for name in (*PRAGMAS, "query_only")
    }


def small_timeout(database: Database) -> None:
    """Let the writer wait 50 ms instead of 5 s for a lock; it has one connection only."""
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold the write lock from a connection of our own."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.only_sqlite
async def test_the_pragmas_are_in_force_on_the_writer(database: Database) -> None:
    assert await database.write(pragmas) == {**PRAGMAS, "query_only": 0}


@pytest.mark.only_sqlite
async def test_the_pragmas_are_in_force_on_every_reader(database: Database) -> None:
    together = threading.Barrier(4)

    def work(session: Session) -> tuple[int, dict[str, object]]:
        values = pragmas(session)
        together.wait(10)  # so that each of the four is a connection of its own
        return id(session.connection().connection.dbapi_connection), values

    readers = await asyncio.gather(*(database.read(work) for _ in range(4)))
    assert len({connection for connection, _ in readers}) == 4
    assert [p for _, p in readers] == [{**PRAGMAS, "query_only": 1}] * 4


@pytest.mark.only_sqlite
async def test_the_pragmas_are_in_force_after_a_connection_was_replaced(database: Database) -> None:
    await database.write(pragmas)
    database.engine.dispose()
    assert await database.write(pragmas) == {**PRAGMAS, "query_only": 0}


@pytest.mark.both_shapes
async def test_a_read_transaction_refuses_to_write(database: Database) -> None:
    before = await database.read(current_generation)
    with pytest.raises(DatabaseBusyError, match=r"read.?only"):
        await database.read(bump_generation)
    assert await database.read(current_generation) == before


@pytest.mark.both_shapes
async def test_two_processes_that_read_and_then_write_wait_for_each_other(
    database: Database, database_url: str
) -> None:
    """SQLite's deferred transactions would fail at once; PostgreSQL's own ones lose updates."""
    with closing(Database(database_url)) as other:

        def work(session: Session) -> None:
            before = current_generation(session)
            session.execute(text("UPDATE generation SET value = :new"), {"new": before + 1})

        await asyncio.gather(*(d.write(work) for _ in range(25) for d in (database, other)))
    assert await database.read(current_generation) == 51


@pytest.mark.both_shapes
async def test_a_reader_sees_the_state_before_a_write_that_is_under_way(database: Database) -> None:
    writing, seen = threading.Event(), threading.Event()

    def write(session: Session) -> None:
        bump_generation(session)
        session.flush()
        writing.set()
        assert seen.wait(10)

    task = asyncio.ensure_future(database.write(write))
    await asyncio.to_thread(writing.wait, 10)
    assert await database.read(current_generation) == 1
    seen.set()
    await task
    assert await database.read(current_generation) == 2


@pytest.mark.both_shapes
async def test_a_unit_of_work_that_fails_leaves_nothing(database: Database) -> None:
    def work(session: Session) -> None:
        bump_generation(session)
        session.flush()
        raise LookupError("half way")

    with pytest.raises(LookupError, match="half way"):
        await database.write(work)
    assert await database.read(current_generation) == 1


@pytest.mark.both_shapes
async def test_a_caller_that_goes_away_leaves_a_whole_transaction(database: Database) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def work(session: Session) -> None:
        bump_generation(session)
        inside.set()
        assert go_on.wait(10)
        bump_generation(session)

    task = asyncio.ensure_future(database.write(work))
    await asyncio.to_thread(inside.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await database.write(lambda s: None)  # behind it in the writer's queue
    assert await database.read(current_generation) == 3


@pytest.mark.both_shapes
async def test_a_foreign_key_that_names_nothing_is_a_conflict(database: Database) -> None:
    """Invariant 1: a row never names a blob that has no row."""
    absent = Digest.of(b"absent")
    with pytest.raises(ConflictError, match=r"(?i)foreign key"):
        await database.write(lambda s: IndexLog(s).accepted(absent, "https://go.dev/dl/", NOW))
    status = await database.read(lambda s: IndexLog(s).status())
    assert (status.read_at, status.document) == (None, None)


@pytest.mark.only_sqlite
async def test_F94_a_database_locked_for_too_long_is_busy_and_nothing_changed(
    database: Database, url: str
) -> None:
    small_timeout(database)
    with locked(url):
        with pytest.raises(DatabaseBusyError, match="database is locked"):
            await database.write(bump_generation)
        assert await database.read(current_generation) == 1  # readers go on
    await database.write(bump_generation)
    assert await database.read(current_generation) == 2


@pytest.mark.only_sqlite
async def test_F94_a_lock_that_is_let_go_in_time_is_waited_for(
    database: Database, url: str
) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(url):
            held.set()
            go_on.wait(0.1)

    with ThreadPoolExecutor(1) as threads:
        holder = threads.submit(hold)
        await asyncio.to_thread(held.wait, 10)
        await database.write(bump_generation)
        holder.result()
    assert await database.read(current_generation) == 2


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b"not a database" * 500), "not a database"),
        (lambda path: path.mkdir(), "unable to open"),
    ],
    ids=["garbage", "folder"],
)
async def test_F94_a_file_that_is_no_database_is_an_error_of_ours(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "bad.db"
    spoil(path)
    with closing(Database(sqlite_url(path))) as database:
        for call in (database.read, database.write):
            with pytest.raises(DatabaseBusyError, match=said):
                await call(current_generation)


@pytest.mark.only_sqlite
async def test_an_error_message_shows_no_statement_and_no_parameter(database: Database) -> None:
    def work(session: Session) -> None:
        session.execute(text("INSERT INTO nowhere VALUES (:p)"), {"p": "secret-parameter"})

    with pytest.raises(DatabaseBusyError) as raised:
        await database.write(work)
    assert "secret-parameter" not in str(raised.value)
    assert "INSERT" not in str(raised.value)


@pytest.mark.only_sqlite
async def test_a_value_that_the_database_never_takes_is_a_defect_and_not_a_busy_database(
    database: Database,
) -> None:
    def work(session: Session) -> None:
        session.execute(text("SELECT zeroblob(2000000000)"))

    for call in (database.read, database.write):
        with pytest.raises(DefectError, match="its log has the details"):
            await call(work)


POSTGRESQL_ERRORS = [
    (psycopg.DataError("a text with a NUL"), DefectError, "a defect"),
    (psycopg.errors.UndefinedColumn('column "x" does not exist'), DefectError, "a defect"),
    (psycopg.errors.DiskFull("could not extend /var/lib/x"), StorageFullError, "disk is full"),
    (
        psycopg.OperationalError('connection to server on socket "/run/pg/.s.PGSQL.5432" failed'),
        DatabaseBusyError,
        "no connection",
    ),
    (psycopg.errors.UniqueViolation("DETAIL: Key (name)=(secret)"), ConflictError, "refused"),
]


@pytest.mark.parametrize(
    ("cause", "kind", "said"),
    POSTGRESQL_ERRORS,
    ids=[type(e).__name__ for e, *_ in POSTGRESQL_ERRORS],
)
async def test_an_error_of_postgresql_names_no_host_no_path_and_no_value(
    database: Database, cause: psycopg.Error, kind: type[Exception], said: str
) -> None:
    def work(session: Session) -> None:
        session.connection()
        raise DBAPIError.instance("INSERT", {}, cause, psycopg.Error)

    with pytest.raises(kind, match=said) as raised:
        await database.write(work)
    assert not re.search(r"/|secret", str(raised.value))


class SmallDisk:
    """A disk whose limit is the number of pages that SQLite may use; steps raise it by 64."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.is_full = False
        self.database: Database | None = None

    def fill(self, database: Database) -> None:
        self.is_full, self.database = True, database
        self._limit(0, since="page_count")

    def _limit(self, more: int, since: str = "max_page_count") -> None:
        assert self.database is not None
        with self.database.engine.connect() as connection:
            limit = connection.exec_driver_sql(f"PRAGMA {since}").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={limit + more}")

    def require(self, size_bytes: int) -> None:
        if self.is_full:
            raise StorageFullError("the floor is reached")

    def has_share(self) -> bool:
        return self.steps > 5

    def let_go(self) -> bool:
        self.steps -= 1
        if self.steps >= 0:
            self._limit(64)
        return self.steps >= 0


def grow(session: Session) -> None:
    session.execute(text("CREATE TABLE IF NOT EXISTS large (body BLOB)"))
    session.execute(text("INSERT INTO large VALUES (zeroblob(400000))"))


@pytest.mark.parametrize(
    ("room", "steps", "fits"),
    [
        (Room.ABOVE_FLOOR, 9, False),
        (Room.BELOW_FLOOR, 9, False),
        (Room.TENANT_RESERVE, 9, True),
        (Room.TENANT_RESERVE, 6, False),  # the second step would be of the other half
        (Room.TENANT_RESERVE, 5, False),
        (Room.RESERVE, 9, True),
        (Room.RESERVE, 5, True),
        (Room.RESERVE, 1, False),
    ],
)
@pytest.mark.only_sqlite
async def test_F88_on_a_full_disk_only_the_reserve_makes_room(
    database_url: str, room: Room, steps: int, fits: bool
) -> None:
    disk = SmallDisk(steps)
    with closing(Database(database_url, disk)) as database:
        await database.write(bump_generation)
        disk.fill(database)
        if fits:
            await database.write(grow, room=room)
            assert disk.steps == steps - 2
        else:
            with pytest.raises(StorageFullError):
                await database.write(grow, room=room)
        # What takes no new page is refused at the floor alone.
        await database.write(bump_generation, room=Room.BELOW_FLOOR)
        with pytest.raises(StorageFullError, match="floor"):
            await database.write(bump_generation)
        with pytest.raises(StorageFullError, match="floor"):
            await database.require_room()
        assert await database.read(current_generation) == 3


def at_zone(hours: float) -> datetime:
    return NOW.astimezone(timezone(timedelta(hours=hours)))


@pytest.mark.parametrize(
    "moment", [NOW, at_zone(5.5), at_zone(-11), datetime.max.replace(tzinfo=UTC)]
)
async def test_a_time_comes_back_as_the_same_moment_in_utc(
    database: Database, moment: datetime
) -> None:
    job = Job("0" * 16, "kind", JobState.DONE, "system", moment, None, moment)
    await database.write(lambda s: Jobs(s).save(job))
    stored = await database.read(lambda s: Jobs(s).get(job.id))
    assert stored == job
    assert stored.created_at.tzinfo is UTC
    assert stored.started_at is None


async def test_a_naive_time_is_refused(database: Database) -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(StatementError, match="naive datetime"):
        await database.write(lambda s: Blobs(s).record(Digest.of(b""), 0, naive))
    assert await database.read(lambda s: Blobs(s).all()) == []


def test_only_sqlite_gets_sqlites_treatment() -> None:
    assert is_sqlite("sqlite:////srv/moorage.db")
    assert not is_sqlite("postgresql+psycopg://user:password@host/name")


def test_closing_twice_is_harmless(database: Database) -> None:
    database.close()
    database.close()


@pytest.mark.only_sqlite
def test_make_engine_gives_the_writer_one_connection(url: str) -> None:
    engine = make_engine(url)
    try:
        assert engine.pool.size() == 1  # type: ignore[attr-defined]
    finally:
        engine.dispose()
