"""The database: sync sessions in threads, one thread hop per unit of work.

One dedicated thread writes, and every transaction of it begins with the lock of all writers. On
SQLite that is `BEGIN IMMEDIATE`: a deferred transaction that reads and then writes fails at once
with "database is locked" in spite of busy_timeout. On PostgreSQL, where other processes may be on
other hosts, that is an advisory lock (`postgresql.py`). Units of work that wait for the writer
share its next transaction, and so one sync of the disk. A reader sees one moment.
"""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from app import logs, metrics, tracing
from app.core.errors import (
    ConflictError,
    DatabaseBusyError,
    DefectError,
    MoorageError,
    StorageError,
    StorageFullError,
)
from app.db import postgresql
from app.db.lookup import Lookup
from app.db.notices import Notices
from app.db.postgresql import WaitLimits
from app.db.sqlitefile import problem_of

# Services name the session type without knowing SQLAlchemy.
__all__ = [
    "Database",
    "Room",
    "Session",
    "WaitLimits",
    "is_sqlite",
    "make_engine",
    "sqlite_path",
    "sqlite_url",
]

T = TypeVar("T")
_log = logs.get("db")

_READERS = 4
_MAX_GROUP = 64
"""Units of work in one transaction: who comes next waits for some 20 ms at most."""
_TRIES = 5
"""Attempts at a unit of work that PostgreSQL undoes, or whose connection proves lost."""

# Durability first: FULL survives power loss, which WAL's NORMAL does not for the last commits.
_PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=5000",
)
_TRANSACTION_BYTES = 64 * 1024
"""What a transaction takes besides large values: the pages that it changes, in SQLite's log."""
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
_NO_ANSWER = (
    "the database does not answer; a change may still be made: look at the present state before"
    " you try again"
)
_WAL_TRIES = 50
_WAL_PAUSE_S = 0.1


def sqlite_url(path: Path) -> str:
    """Return the SQLAlchemy URL of an SQLite file."""
    return f"sqlite:///{path}"


def is_sqlite(url: str) -> bool:
    """Report whether url is that of an SQLite database."""
    return make_url(url).get_backend_name() == "sqlite"


def sqlite_path(url: str) -> Path | None:
    """Return the file of an SQLite database; None for another database."""
    database = make_url(url).database
    return Path(database) if is_sqlite(url) and database else None


def make_engine(
    url: str,
    *,
    read_only: bool = False,
    limits: WaitLimits = WaitLimits(),  # noqa: B008 (frozen)
) -> Engine:
    """Return an engine with the settings and the transaction start that this product needs.

    Args:
        url: "sqlite:///…" or "postgresql+psycopg://…".
        read_only: refuse writes; for the readers' connections.
        limits: of waits for PostgreSQL.
    """
    size = _READERS if read_only else 1
    if not is_sqlite(url):
        # One writer more: revoking and denying have a thread of their own.
        connections = size if read_only else 2
        return postgresql.make_engine(url, limits, connections=connections, read_only=read_only)
    engine = create_engine(url, pool_size=size, max_overflow=0, hide_parameters=True)
    event.listen(engine, "connect", partial(_prepare_sqlite, read_only))
    event.listen(engine, "begin", _begin_read if read_only else _begin_write)
    return engine


def _prepare_sqlite(read_only: bool, connection: sqlite3.Connection, _record: object) -> None:
    # None hands BEGIN to us: sqlite3's own implicit BEGIN is deferred.
    connection.isolation_level = None
    _enter_wal(connection)
    for pragma in (*_PRAGMAS, *(["PRAGMA query_only=ON"] if read_only else [])):
        connection.execute(pragma)


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Change the file to WAL, which it stays in.

    Where several open a new file at once, all but one are told "database is locked" at once: the
    busy time-out does not hold for this change.
    """
    for tries_left in reversed(range(_WAL_TRIES)):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if not tries_left:
                raise
            time.sleep(_WAL_PAUSE_S)
        else:
            return


def _begin_write(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_read(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


class Room(StrEnum):
    """Which part of the disk a transaction may use. Everything else stays free for the next kind.

    ABOVE_FLOOR: whatever a request causes to be stored.
    BELOW_FLOOR: upkeep of rows that exist: leases, marks, removals. It may use the floor.
    TENANT_RESERVE: revoking and denying by a tenant's admin. They may use half of the reserve.
    RESERVE: the same by the platform's admins. They may use all of it: a tenant's admin must not
        keep them from revoking that admin's token.
    """

    ABOVE_FLOOR = "above floor"
    BELOW_FLOOR = "below floor"
    TENANT_RESERVE = "tenant reserve"
    RESERVE = "reserve"


class Disk(Protocol):
    """The disk of an SQLite database. The methods block."""

    def require(self, size_bytes: int) -> None:
        """Return if size_bytes more fit above the floor.

        Raises:
            StorageFullError: they do not fit.
        """

    def has_share(self) -> bool:
        """Return whether more than half of the reserve is left."""

    def let_go(self) -> bool:
        """Give a part of the reserve back to the disk; return False if nothing is left."""


class Database:
    """Units of work against one database; safe for concurrent use from one event loop.

    Attributes:
        url: of the database.
        notices: what other processes tell of changes.

    Args:
        url: "sqlite:///…" or "postgresql+psycopg://…".
        disk: where an SQLite file lies; None checks no free space.
        limits: of waits for PostgreSQL.
    """

    def __init__(
        self,
        url: str,
        disk: Disk | None = None,
        limits: WaitLimits = WaitLimits(),  # noqa: B008 (frozen)
    ) -> None:
        self.url = url
        self._disk = disk
        self._sqlite = is_sqlite(url)
        # SQLite bounds each of its waits itself: busy_timeout.
        self._wait_s = None if self._sqlite else limits.unit_s
        self.notices = Notices(None if self._sqlite else url, limits)
        self._writer = make_engine(url, limits=limits)
        self._reader = make_engine(url, read_only=True, limits=limits)
        self._read_threads = ThreadPoolExecutor(_READERS, "db-read")
        self._writes = _Queue(ThreadPoolExecutor(1, "db-write"))
        # Revoking and denying must not wait behind others. SQLite has one connection that writes.
        self._denials = (
            self._writes if self._sqlite else _Queue(ThreadPoolExecutor(1, "db-write-denials"))
        )

    @property
    def engine(self) -> Engine:
        """The engine that may write, for migrations."""
        return self._writer

    @property
    def reader(self) -> Engine:
        """The engine that only reads, and waits for no writer."""
        return self._reader

    async def read(self, work: Callable[[Session], T]) -> T:
        """Return work(session) from a read transaction; a `Lookup` needs none on SQLite.

        Raises:
            DatabaseBusyError: the database is locked or out of reach.
        """
        with _measured("read", work):
            return await self._run(partial(self._read, work))

    def _read(self, work: Callable[[Session], T]) -> T:
        if self._sqlite and isinstance(work, Lookup):
            return _ask(self._reader, cast(Lookup[T], work))
        return _transact(self._reader, work, self._tries)

    async def write(
        self,
        work: Callable[[Session], T],
        *,
        room: Room = Room.ABOVE_FLOOR,
        size_bytes: int = 0,
    ) -> T:
        """Return work(session) from a write transaction that is committed when it returns.

        Where several write at once, work may share its transaction with others, and may run more
        than once; only the last run counts. Nobody else writes meanwhile, in no process: what work
        reads is still right when it writes.

        Args:
            work: reads and writes.
            room: which part of the disk it may use.
            size_bytes: of the large values that it stores: bodies.

        Raises:
            ConflictError: a unique or foreign key constraint refused the change.
            DatabaseBusyError: the database is locked or out of reach. Nothing was changed, unless
                the message says that the outcome is unknown: PostgreSQL was lost at the commit.
            StorageFullError: the disk has no room for the change; nothing was changed.
        """
        is_denial = room in (Room.TENANT_RESERVE, Room.RESERVE)
        queue = self._denials if is_denial else self._writes
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(_retrieved)
        with _measured("write", work):
            queue.add(_Unit(work, outcome, room, size_bytes, time.monotonic()), self._write_waiting)
            return await self._outcome(outcome)

    async def problem(self, *, deep: bool) -> str | None:
        """Return the first thing that the database's own check finds wrong; None if all is well.

        Only SQLite has such a check.

        Args:
            deep: also compare every index with its table.

        Raises:
            DatabaseBusyError: the database can't be read now.
        """
        if not self._sqlite:
            return None
        return await self._run(partial(_problem, self._reader, deep))

    async def read_before_storing(
        self, work: Callable[[Session], T], is_stored: Callable[[T], bool]
    ) -> T:
        """Return work(session), as `read`; unless is_stored of it, require room, as `require_room`.

        One thread hop for both: what is not stored is about to be.

        Raises:
            DatabaseBusyError: the database is locked or out of reach.
            StorageFullError: it is not stored, and the disk has no room above the floor.
        """

        def call() -> T:
            known = self._read(work)
            if self._disk is not None and not is_stored(known):
                self._disk.require(_TRANSACTION_BYTES)
            return known

        with _measured("read", work):
            return await self._run(call)

    async def require_room(self) -> None:
        """Return if a small change would fit above the floor; asked before work that stores.

        Raises:
            StorageFullError: it would not fit.
        """
        if self._disk is not None:
            await self._run(partial(self._disk.require, _TRANSACTION_BYTES))

    @property
    def _tries(self) -> int:
        return 1 if self._sqlite else _TRIES

    def _write_waiting(self, queue: "_Queue") -> None:
        """Run the units of work that wait, in their order, in one transaction. In a thread."""
        group = queue.take()
        try:
            group = self._with_room(group)
            if len(group) > 1:
                failure = _failure(self._writer, group)
                if failure is None:
                    return
                if isinstance(failure, _UnknownOutcomeError):
                    raise failure
            # Each is tried alone, so that nobody fails for another's reason.
            for unit in group:
                self._write_alone(unit)
        except BaseException as error:
            for unit in group:
                unit.settle(error)

    def _with_room(self, group: list["_Unit"]) -> list["_Unit"]:
        """Return the units that fit into their part of the disk; settle the others."""
        if self._disk is None:
            return group
        fitting, size_bytes = [], _TRANSACTION_BYTES
        for unit in group:
            try:
                if self._is_held_to_floor(unit.room, self._disk):
                    # A value goes into the log first, and from there into the file.
                    self._disk.require(size_bytes + 2 * unit.size_bytes)
                    size_bytes += 2 * unit.size_bytes
            except StorageError as error:
                unit.settle(error)
            else:
                fitting.append(unit)
        return fitting

    @staticmethod
    def _is_held_to_floor(room: Room, disk: Disk) -> bool:
        """Return whether a change has to fit above the floor."""
        if room is Room.TENANT_RESERVE:
            return not disk.has_share()
        return room is Room.ABOVE_FLOOR

    def _write_alone(self, unit: "_Unit") -> None:
        """Run one unit in a transaction of its own; on a full disk again while room is made."""
        if self._wait_s is not None and time.monotonic() - unit.since_s > self._wait_s:
            unit.settle(DatabaseBusyError(_NO_ANSWER))  # its caller has heard that already
            return
        more_room = self._make_room(unit.room)
        while (error := _failure(self._writer, [unit], self._tries)) is not None:
            is_full = self._sqlite and isinstance(error, StorageFullError)
            if not (is_full and next(more_room, False)):
                unit.settle(error)
                return

    def _make_room(self, room: Room) -> Iterator[bool]:
        """Yield True each time that a full disk may have room for one more try.

        A checkpoint copies SQLite's log into the file; then the space of the log is used again. The
        checkpoint itself may need space for new pages, so that another follows each step of the
        reserve.
        """
        self._checkpoint()
        yield True
        while self._disk is not None and self._may_use_reserve(room, self._disk):
            if not self._disk.let_go():
                return
            self._checkpoint()
            yield True

    @staticmethod
    def _may_use_reserve(room: Room, disk: Disk) -> bool:
        return room is Room.RESERVE or (room is Room.TENANT_RESERVE and disk.has_share())

    def _checkpoint(self) -> None:
        """Copy SQLite's log into the file, as far as readers and the disk allow."""
        with suppress(DBAPIError, sqlite3.Error), closing(self._writer.raw_connection()) as raw:
            raw.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")

    async def _run(self, call: Callable[[], T]) -> T:
        """Return call(), from a thread of the readers."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        # A caller that goes away must not leave a half-known transaction behind unobserved.
        outcome.add_done_callback(_retrieved)
        # Not `run_in_executor`: its two linked futures cost as much CPU as a short query.
        self._read_threads.submit(_call, call, outcome)
        return await self._outcome(outcome)

    async def _outcome(self, outcome: asyncio.Future[T]) -> T:
        if self._wait_s is None:
            return await asyncio.shield(outcome)
        # The server limits each statement. A server that stands still does not.
        done, _ = await asyncio.wait([outcome], timeout=self._wait_s)
        if not done:
            raise DatabaseBusyError(_NO_ANSWER)
        return outcome.result()

    def close(self) -> None:
        """Wait for running work and close every connection."""
        self.notices.close()
        self._writes.threads.shutdown()
        self._denials.threads.shutdown()
        self._read_threads.shutdown()
        self._writer.dispose()
        self._reader.dispose()


class _UnknownOutcomeError(DatabaseBusyError):
    """The connection was lost at a commit: it may have been done."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit of work that waits for the writer, and where its outcome goes."""

    work: Callable[[Session], Any]
    outcome: asyncio.Future[Any]
    room: Room
    size_bytes: int
    since_s: float

    def settle(self, error: BaseException | None, result: object = None) -> None:
        """Pass the outcome to the caller, from the writer's thread; only the first call counts."""
        _settle(self.outcome, error, result)


class _Queue:
    """Units of work that wait for one thread."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.threads = threads
        self._waiting: deque[_Unit] = deque()

    def add(self, unit: _Unit, write: Callable[["_Queue"], None]) -> None:
        """Have the thread call write, which takes all units that wait by then."""
        self._waiting.append(unit)
        try:
            # One look at the queue for each unit: most of them find the queue empty.
            self.threads.submit(write, self)
        except RuntimeError:  # the database was closed
            self._waiting.remove(unit)
            raise

    def take(self) -> list[_Unit]:
        """Return the units that go into the next transaction. In the thread."""
        group: list[_Unit] = []
        while self._waiting and len(group) < _MAX_GROUP:
            group.append(self._waiting.popleft())
        return group


def _call(call: Callable[[], T], outcome: asyncio.Future[T]) -> None:
    """Pass the outcome of call() to the caller. In a thread."""
    try:
        result = call()
    except BaseException as error:
        _settle(outcome, error, None)
    else:
        _settle(outcome, None, result)


def _settle(outcome: asyncio.Future[Any], error: BaseException | None, result: object) -> None:
    """Pass an outcome from a thread to the event loop that waits for it."""
    with suppress(RuntimeError):  # the loop has ended: nobody waits any more
        outcome.get_loop().call_soon_threadsafe(_set, outcome, error, result)


def _set(outcome: asyncio.Future[Any], error: BaseException | None, result: object) -> None:
    if outcome.done():
        return
    if error is None:
        outcome.set_result(result)
    else:
        outcome.set_exception(error)


@contextmanager
def _measured(kind: str, work: Callable[[Session], Any]) -> Iterator[None]:
    """Count the time of a unit of work, its wait for a thread included, and make it a span."""
    began_s = time.monotonic()
    try:
        with tracing.span(f"db {kind}", "client", moorage__work=_name_of(work)):
            yield
    finally:
        metrics.observe_database(kind, time.monotonic() - began_s)


def _name_of(work: Callable[[Session], Any]) -> str:
    """Return the name of a unit of work, for its span: "ModuleFiles._record"."""
    named = work.make if isinstance(work, Lookup) else work
    named = named.func if isinstance(named, partial) else named
    return getattr(named, "__qualname__", "").partition(".<locals>")[0]


def _problem(reader: Engine, deep: bool) -> str | None:
    try:
        with reader.connect() as connection:
            return problem_of(
                cast(sqlite3.Connection, connection.connection.driver_connection), deep=deep
            )
    except sqlite3.OperationalError as error:
        raise DatabaseBusyError(f"the database can't be read now: {error}") from error


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody waits for any more; asyncio would log its traceback."""
    if not future.cancelled():
        future.exception()


def _failure(engine: Engine, group: list[_Unit], tries: int = 1) -> BaseException | None:
    """Run units of work in one transaction and settle them; return why nothing was changed.

    None means that all is committed. Else one of the units failed, or the commit did; no unit is
    settled then. After an `_UnknownOutcomeError` the commit may have been done.

    Raises:
        DatabaseBusyError: the transaction can't begin; no unit has run.
    """
    has_begun = False

    def work(session: Session) -> list[Any]:
        nonlocal has_begun
        connection = session.connection()
        has_begun = True
        if len(group) == 1:
            return [group[0].work(session)]
        return [_run_within(connection, unit.work) for unit in group]

    try:
        results = _transact(engine, work, tries)
    except BaseException as error:
        if not has_begun:
            raise
        return error
    for unit, result in zip(group, results, strict=True):
        unit.settle(None, result)
    return None


def _run_within(connection: Connection, work: Callable[[Session], T]) -> T:
    """Return work(session) from a session within a transaction, which stays open."""
    with Session(connection, expire_on_commit=False) as session, session.begin():
        return work(session)


def _ask(engine: Engine, lookup: Lookup[T]) -> T:
    """Return the answer to a look-up in SQLite."""
    try:
        return lookup.ask(engine)
    except DBAPIError as error:
        raise error_of(error) from error


def _transact(engine: Engine, work: Callable[[Session], T], tries: int = 1) -> T:
    """Return work(session) from a committed transaction; try again what PostgreSQL has undone."""
    is_committing = False
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            result = work(session)
            session.flush()
            is_committing = True
            return result
    except IntegrityError as error:
        raise ConflictError(f"the database refused the change: {_brief(error)}") from error
    except StaleDataError as error:
        raise ConflictError("the row was changed or removed meanwhile; look at it again") from error
    except DBAPIError as error:
        is_lost = postgresql.is_lost(error)
        if is_lost and is_committing:
            _brief(error)
            raise _UnknownOutcomeError(
                "the database was lost while a change was written: the outcome is unknown; look at"
                " the present state before you try again"
            ) from error
        if tries > 1 and (is_lost or postgresql.may_pass(error)):
            _log.info("a unit of work is tried again", error=type(error.orig).__name__)
            return _transact(engine, work, tries - 1)
        raise error_of(error) from error


def error_of(error: DBAPIError) -> MoorageError:
    """Return what to tell of an error of the database."""
    if getattr(error.orig, "sqlite_errorcode", 0) in _FULL:
        return StorageFullError(
            "the server's disk is full, and the change can't be written; free some space"
        )
    if postgresql.is_disk_full(error):
        return StorageFullError("the database's disk is full; free some space")
    if isinstance(error, DataError | ProgrammingError | NotSupportedError):
        # Trying again can't help: a value or a statement that the database never takes.
        _log.error("the database refused a statement", exc_info=error)
        return DefectError("a defect of this server; its log has the details")
    return DatabaseBusyError(f"the database can't be used now: {_brief(error)}")


def _brief(error: DBAPIError) -> str:
    """Return why, without SQLAlchemy's statement and parameters: clients read it.

    That are SQLite's own words. PostgreSQL's details may quote values, and the words of its driver
    name host, user or socket: these go to the log alone.
    """
    cause: Any = error.orig
    words = " ".join(str(cause).split())[:300]
    if isinstance(cause, sqlite3.Error):
        return words
    _log.warning("the database failed", error=words)
    return getattr(getattr(cause, "diag", None), "message_primary", None) or "no connection to it"
