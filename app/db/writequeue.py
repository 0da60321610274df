"""The queue of units of work that write: units that wait together share a transaction.

One sync of the disk then serves them all. A unit that fails fails alone. On a full disk a unit runs
again while room is made for it (`room.py`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.core.errors import DatabaseBusyError, StorageError, StorageFullError
from app.db import sqlite
from app.db.outcome import NO_ANSWER, settle
from app.db.room import Disk, Room
from app.db.transactions import UnknownOutcomeError, run_within, transact

TRANSACTION_BYTES = 64 * 1024
"""What a transaction takes besides large values: the pages that it changes, in SQLite's log."""

_MAX_GROUP = 64
"""Units of work in one transaction: who comes next waits for some 20 ms at most."""


@dataclass(frozen=True, slots=True)
class UnitOfWork:
    """A unit of work that waits for its thread.

    Attributes:
        work: reads and writes.
        outcome: where its result or error goes.
        room: which part of the disk it may use.
        size_bytes: of the large values that it stores.
        since_s: when it began to wait, by the monotonic clock.
    """

    work: Callable[[Session], Any]
    outcome: asyncio.Future[Any]
    room: Room
    size_bytes: int
    since_s: float

    def settle(self, error: BaseException | None, result: object = None) -> None:
        """Pass the outcome to the caller, from the thread; only the first call counts."""
        settle(self.outcome, error, result)


class WriteQueue:
    """Units of work that wait for one thread, in their order.

    Attributes:
        threads: the thread.

    Args:
        name: of the thread.
        engine: may write.
        disk: of an SQLite file; None checks no free space.
        wait_s: how long a caller waits for its unit; None: until the unit has run.
        tries: attempts at a unit that PostgreSQL undoes, or whose connection proves lost.
    """

    def __init__(
        self, name: str, engine: Engine, disk: Disk | None, *, wait_s: float | None, tries: int
    ) -> None:
        self.threads = ThreadPoolExecutor(1, name)
        self._engine = engine
        self._disk = disk
        self._wait_s = wait_s
        self._tries = tries
        self._waiting: deque[UnitOfWork] = deque()

    def add(self, unit: UnitOfWork) -> None:
        """Have the thread run a unit.

        Raises:
            RuntimeError: the database was closed.
        """
        self._waiting.append(unit)
        try:
            # One look at the queue for each unit: most of these looks find the queue empty.
            self.threads.submit(self._run_waiting)
        except RuntimeError:
            self._waiting.remove(unit)
            raise

    def _run_waiting(self) -> None:
        """Run the units that wait, in one transaction. In the thread."""
        group: list[UnitOfWork] = []
        while self._waiting and len(group) < _MAX_GROUP:
            group.append(self._waiting.popleft())
        try:
            group = self._with_room(group)
            if len(group) > 1:
                failure = _run_together(self._engine, group)
                if failure is None:
                    return
                if isinstance(failure, UnknownOutcomeError):
                    raise failure
            # Each is tried alone, so that nobody fails for another's reason.
            for unit in group:
                self._run_alone(unit)
        except BaseException as error:
            for unit in group:
                unit.settle(error)

    def _with_room(self, group: list[UnitOfWork]) -> list[UnitOfWork]:
        """Return the units that fit into their part of the disk; settle the others."""
        if self._disk is None:
            return group
        fitting, size_bytes = [], TRANSACTION_BYTES
        for unit in group:
            try:
                if unit.room.is_held_to_floor(self._disk):
                    # A value goes into the log first, and from there into the file.
                    self._disk.require(size_bytes + 2 * unit.size_bytes)
                    size_bytes += 2 * unit.size_bytes
            except StorageError as error:
                unit.settle(error)
            else:
                fitting.append(unit)
        return fitting

    def _run_alone(self, unit: UnitOfWork) -> None:
        """Run one unit in a transaction of its own; on a full disk again while room is made."""
        if self._wait_s is not None and time.monotonic() - unit.since_s > self._wait_s:
            unit.settle(DatabaseBusyError(NO_ANSWER))  # its caller has heard that already
            return
        more_room = self._make_room(unit.room)
        while (error := _run_together(self._engine, [unit], self._tries)) is not None:
            if not (isinstance(error, StorageFullError) and next(more_room, False)):
                unit.settle(error)
                return

    def _make_room(self, room: Room) -> Iterator[bool]:
        """Yield True each time that a full disk may have room for one more try.

        A checkpoint copies SQLite's log into the file; then the space of the log is used again. The
        checkpoint itself may need space for new pages, so that another follows each step of the
        reserve. PostgreSQL's disk is not ours.
        """
        if self._engine.dialect.name != "sqlite":
            return
        sqlite.checkpoint(self._engine)
        yield True
        while self._disk is not None and room.may_use_reserve(self._disk):
            if not self._disk.let_go():
                return
            sqlite.checkpoint(self._engine)
            yield True


def _run_together(engine: Engine, group: list[UnitOfWork], tries: int = 1) -> BaseException | None:
    """Run units of work in one transaction and settle them; return why nothing was changed.

    None means that all is committed. Else one of the units failed, or the commit did; no unit is
    settled then. After an `UnknownOutcomeError` the commit may have been done.

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
        return [run_within(connection, unit.work) for unit in group]

    try:
        results = transact(engine, work, tries)
    except BaseException as error:
        if not has_begun:
            raise
        return error
    for unit, result in zip(group, results, strict=True):
        unit.settle(None, result)
    return None
