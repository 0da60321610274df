"""The database: sync sessions in threads, one thread hop per unit of work.

A unit of work that only reads sees one moment. One dedicated thread writes (`writequeue.py`), and
each of its transactions begins with the lock of all writers: on SQLite (`sqlite.py`) that is
`BEGIN IMMEDIATE`. On PostgreSQL, where other processes may be on other hosts, it is an advisory
lock (`postgresql.py`).
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app import tracing
from app.db import postgresql, sqlite
from app.db.lookup import Lookup
from app.db.notices import Notices
from app.db.outcome import call_for, new_outcome, wait_for
from app.db.postgresql import WaitLimits
from app.db.room import Disk, Room
from app.db.transactions import ask, transact
from app.db.writequeue import TRANSACTION_BYTES, UnitOfWork, WriteQueue
from app.metrics import hotpath

# Services name the session type without knowing SQLAlchemy.
__all__ = ["Database", "Session", "make_engine"]

T = TypeVar("T")

_READERS = 4
_TRIES = 5
"""Attempts at a unit of work that PostgreSQL undoes, or whose connection proves lost."""


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
    if sqlite.is_sqlite(url):
        connections = _READERS if read_only else 1
        return sqlite.make_engine(url, connections=connections, read_only=read_only)
    # One writer more: revoking and denying have a thread of their own.
    connections = _READERS if read_only else 2
    return postgresql.make_engine(url, limits, connections=connections, read_only=read_only)


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
        self._sqlite = sqlite.is_sqlite(url)
        # SQLite bounds each of its waits itself (busy_timeout), and undoes no transaction.
        self._wait_s = None if self._sqlite else limits.unit_s
        self._tries = 1 if self._sqlite else _TRIES
        self.notices = Notices(None if self._sqlite else url, limits)
        self._writer = make_engine(url, limits=limits)
        self._reader = make_engine(url, read_only=True, limits=limits)
        self._read_threads = ThreadPoolExecutor(_READERS, "db-read")
        self._writes = self._queue("db-write")
        # Revoking and denying must not wait behind others. SQLite has one connection that writes.
        self._denials = self._writes if self._sqlite else self._queue("db-write-denials")

    def _queue(self, name: str) -> WriteQueue:
        return WriteQueue(name, self._writer, self._disk, wait_s=self._wait_s, tries=self._tries)

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
            return ask(self._reader, cast(Lookup[T], work))
        return transact(self._reader, work, self._tries, reads_only=True)

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
        queue = self._denials if room.is_of_denials else self._writes
        with _measured("write", work):
            outcome: asyncio.Future[T] = new_outcome()
            queue.add(UnitOfWork(work, outcome, room, size_bytes, time.monotonic()))
            return await wait_for(outcome, self._wait_s)

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
        return await self._run(partial(sqlite.problem, self._reader, deep=deep))

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
                self._disk.require(TRANSACTION_BYTES)
            return known

        with _measured("read", work):
            return await self._run(call)

    async def require_room(self) -> None:
        """Return if a small change would fit above the floor; asked before work that stores.

        Raises:
            StorageFullError: it would not fit.
        """
        if self._disk is not None:
            await self._run(partial(self._disk.require, TRANSACTION_BYTES))

    async def _run(self, call: Callable[[], T]) -> T:
        """Return call(), from a thread of the readers."""
        outcome: asyncio.Future[T] = new_outcome()
        self._read_threads.submit(call_for, outcome, call)
        return await wait_for(outcome, self._wait_s)

    def close(self) -> None:
        """Wait for running work and close every connection."""
        self.notices.close()
        self._writes.threads.shutdown()
        self._denials.threads.shutdown()
        self._read_threads.shutdown()
        self._writer.dispose()
        self._reader.dispose()


@contextmanager
def _measured(kind: str, work: Callable[[Session], Any]) -> Iterator[None]:
    """Count the time of a unit of work, its wait for a thread included, and make it a span."""
    began_s = time.monotonic()
    try:
        with tracing.span(f"db {kind}", "client", moorage__work=_name_of(work)):
            yield
    finally:
        hotpath.observe_database(kind, time.monotonic() - began_s)


def _name_of(work: Callable[[Session], Any]) -> str:
    """Return the name of a unit of work, for its span: "ModuleFiles._record"."""
    named = work.make if isinstance(work, Lookup) else work
    named = named.func if isinstance(named, partial) else named
    return getattr(named, "__qualname__", "").partition(".<locals>")[0]
