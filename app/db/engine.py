"""The database: sync sessions in threads, one thread hop per unit of work.

SQLite gets one dedicated writer thread whose transactions are `BEGIN IMMEDIATE`: a deferred
transaction that reads and then writes fails at once with "database is locked" in spite of
busy_timeout. Units of work that wait for the writer share its next transaction, and so one sync of
the disk (`_Group`). Other databases get pooled sessions that keep SQLite's promises: what is read
in one unit of work is of one moment, and of two that insert the same row the later one looks again.
"""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from app.core.errors import ConflictError, DatabaseBusyError

# Services name the session type without knowing SQLAlchemy.
__all__ = ["Database", "Session", "is_sqlite", "make_engine", "sqlite_url"]

T = TypeVar("T")

_READERS = 4
_MAX_GROUP = 64
"""Units of work in one transaction: who comes next waits for some 20 ms at most."""
_TRIES = 5
"""Attempts at a unit of work when another transaction inserts the same row first."""

# Durability first: FULL survives power loss, which WAL's NORMAL does not for the last commits.
_PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=5000",
)
_WAL_TRIES = 50
_WAL_PAUSE_S = 0.1


def sqlite_url(path: Path) -> str:
    """Return the SQLAlchemy URL of an SQLite file."""
    return f"sqlite:///{path}"


def is_sqlite(url: str) -> bool:
    """Report whether url is that of an SQLite database."""
    return make_url(url).get_backend_name() == "sqlite"


def make_engine(url: str, *, read_only: bool = False) -> Engine:
    """Return an engine with the pragmas and the transaction start that this product needs.

    Args:
        url: "sqlite:///…" or "postgresql+psycopg://…".
        read_only: refuse writes; for SQLite's reader connections.
    """
    if not is_sqlite(url):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, pool_size=_READERS if read_only else 1, max_overflow=0)
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


class Database:
    """Units of work against one database; safe for concurrent use from one event loop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._sqlite = is_sqlite(url)
        self._writer = make_engine(url)
        if self._sqlite:
            self._reader = make_engine(url, read_only=True)
        else:
            # Without REPEATABLE READ, a policy could hold old rules under a new generation.
            self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ")
        self._write_threads = ThreadPoolExecutor(1 if self._sqlite else 4, "db-write")
        self._read_threads = ThreadPoolExecutor(_READERS, "db-read")
        self._waiting: deque[_Unit] = deque()

    @property
    def engine(self) -> Engine:
        """The engine that may write, for migrations."""
        return self._writer

    async def read(self, work: Callable[[Session], T]) -> T:
        """Return work(session) from a read transaction.

        Raises:
            DatabaseBusyError: the database is locked or out of reach.
        """
        return await self._run(self._read_threads, self._reader, work)

    async def write(self, work: Callable[[Session], T]) -> T:
        """Return work(session) from a write transaction that is committed when it returns.

        Where several write at once, work may share its transaction with others, and may run more
        than once; only the last run counts.

        Raises:
            ConflictError: a unique or foreign key constraint refused the change.
            DatabaseBusyError: the database is locked or out of reach; nothing was changed.
        """
        if self._sqlite:
            return await self._write_in_group(work)
        return await self._run(self._write_threads, self._writer, work, _TRIES)

    async def _write_in_group(self, work: Callable[[Session], T]) -> T:
        """Wait for the writer together with others; the writer takes all that wait by then."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(_retrieved)
        unit = _Unit(work, outcome)
        self._waiting.append(unit)
        try:
            # One look at the queue for each unit: most of them find the queue empty.
            self._write_threads.submit(self._write_waiting)
        except RuntimeError:  # the database was closed
            self._waiting.remove(unit)
            raise
        return await asyncio.shield(outcome)

    def _write_waiting(self) -> None:
        """Run the units of work that wait, in their order, in one transaction. In a thread."""
        group: list[_Unit] = []
        while self._waiting and len(group) < _MAX_GROUP:
            group.append(self._waiting.popleft())
        if not group:
            return
        try:
            if not _is_committed(self._writer, group):
                # Each is tried alone, so that nobody fails for another's reason.
                for unit in group:
                    _is_committed(self._writer, [unit])
        except BaseException as error:
            for unit in group:
                unit.settle(error)

    async def _run(
        self,
        threads: ThreadPoolExecutor,
        engine: Engine,
        work: Callable[[Session], T],
        tries: int = 1,
    ) -> T:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(threads, _transact, engine, work, tries)
        # A caller that goes away must not leave a half-known transaction behind unobserved.
        future.add_done_callback(_retrieved)
        return await asyncio.shield(future)

    def close(self) -> None:
        """Wait for running work and close every connection."""
        self._write_threads.shutdown()
        self._read_threads.shutdown()
        self._writer.dispose()
        self._reader.dispose()


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit of work that waits for the writer, and where its outcome goes."""

    work: Callable[[Session], Any]
    outcome: asyncio.Future[Any]

    def settle(self, error: BaseException | None, result: object = None) -> None:
        """Pass the outcome to the caller's event loop, from the writer's thread.

        Only the first call for a unit counts.
        """
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self.outcome.get_loop().call_soon_threadsafe(self._settle, error, result)

    def _settle(self, error: BaseException | None, result: object) -> None:
        if self.outcome.done():
            return
        if error is None:
            self.outcome.set_result(result)
        else:
            self.outcome.set_exception(error)


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody waits for any more; asyncio would log its traceback."""
    if not future.cancelled():
        future.exception()


def _is_committed(engine: Engine, group: list[_Unit]) -> bool:
    """Run units of work in one transaction and settle them; return False if a group failed.

    Nothing is changed then: one of the units failed, or the commit did.

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
        results = _transact(engine, work)
    except BaseException as error:
        if not has_begun:
            raise
        if len(group) > 1:
            return False
        group[0].settle(error)
    else:
        for unit, result in zip(group, results, strict=True):
            unit.settle(None, result)
    return True


def _run_within(connection: Connection, work: Callable[[Session], T]) -> T:
    """Return work(session) from a session within a transaction, which stays open."""
    with Session(connection, expire_on_commit=False) as session, session.begin():
        return work(session)


def _transact(engine: Engine, work: Callable[[Session], T], tries: int = 1) -> T:
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            return work(session)
    except IntegrityError as error:
        if tries > 1:
            return _transact(engine, work, tries - 1)
        raise ConflictError(f"the database refused the change: {_brief(error)}") from error
    except DBAPIError as error:
        raise DatabaseBusyError(f"the database can't be used now: {_brief(error)}") from error


def _brief(error: DBAPIError) -> str:
    """Return the driver's own words, without SQLAlchemy's statement and parameters."""
    cause: Any = error.orig
    return " ".join(str(cause).split())[:200]
