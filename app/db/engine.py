"""The database: sync sessions in threads, one thread hop per unit of work.

SQLite gets one dedicated writer thread whose transactions are `BEGIN IMMEDIATE`: a deferred
transaction that reads and then writes fails at once with "database is locked" in spite of
busy_timeout. Other databases get pooled sessions that keep SQLite's promises: what is read in one
unit of work is of one moment, and of two that insert the same row the later one looks again.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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

        Where several write at once, work may run more than once; only the last run counts.

        Raises:
            ConflictError: a unique or foreign key constraint refused the change.
            DatabaseBusyError: the database is locked or out of reach; nothing was changed.
        """
        tries = 1 if self._sqlite else _TRIES
        return await self._run(self._write_threads, self._writer, work, tries)

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


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody waits for any more; asyncio would log its traceback."""
    if not future.cancelled():
        future.exception()


def _transact(engine: Engine, work: Callable[[Session], T], tries: int) -> T:
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
