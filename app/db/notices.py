"""Notices between processes: PostgreSQL's LISTEN and NOTIFY. On SQLite nobody is told anything.

A notice only ends a pause early. Whoever waits looks again after a pause of his own, so that a
notice that is lost (the connection broke, nobody listened yet) delays and does no harm.
"""

import asyncio
import threading
import time
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from app import logs
from app.db.postgresql import WaitLimits, connect_args

GENERATION = "generation"
"""The topic of changes of the policy generation."""

_CHANNEL = "moorage"
_MAX_TOPIC = 200
_LISTEN_AGAIN_S = 5.0
_log = logs.get("notices")


def notify(session: Session, topic: str) -> None:
    """Tell every process of a change, when the transaction has committed; on SQLite do nothing."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_notify(_CHANNEL, topic[:_MAX_TOPIC])))


class Notices:
    """What this process hears from others; used from one event loop.

    It has a connection of its own, made at the first wait and made again after it was lost.

    Args:
        url: of a PostgreSQL database; None for SQLite.
        limits: of the connection.
    """

    def __init__(self, url: str | None, limits: WaitLimits) -> None:
        self._engine: Engine | None = None
        if url is not None:
            args = connect_args(url, limits)
            self._engine = create_engine(url, poolclass=NullPool, connect_args=args)
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._connection: Any = None
        # The same from the moment that a thread has made it: that thread may outlive who asked.
        self._made: Any = None
        self._owning = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._socket = -1
        self._connect_at = 0.0

    @property
    def are_heard(self) -> bool:
        """Whether a notice would be heard now."""
        return self._connection is not None

    async def wait(self, topic: str, timeout_s: float) -> None:
        """Return after a notice of the topic, at the latest after timeout_s."""
        if self._engine is None:
            await asyncio.sleep(timeout_s)
            return
        self._listen(self._engine)
        waiters = self._waiters.setdefault(topic[:_MAX_TOPIC], set())
        waiter = asyncio.get_running_loop().create_future()
        waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout_s)
        finally:
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(topic[:_MAX_TOPIC], None)

    async def aclose(self) -> None:
        """Close the connection, and one that is being made."""
        self._engine = None
        if self._connecting is not None:
            await asyncio.gather(self._connecting, return_exceptions=True)
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._engine = None
        self._drop()

    def _listen(self, engine: Engine) -> None:
        """Begin to listen, unless this process does or has just tried."""
        is_trying = self._connecting is not None and not self._connecting.done()
        if self._connection is None and not is_trying and time.monotonic() >= self._connect_at:
            self._connect_at = time.monotonic() + _LISTEN_AGAIN_S
            self._connecting = asyncio.ensure_future(self._connect(engine))

    async def _connect(self, engine: Engine) -> None:
        try:
            connection = await asyncio.to_thread(self._make, engine)
        except Exception as error:  # of the driver, too, whose names this file does not know
            _log.warning("no notices", error=type(getattr(error, "orig", error)).__name__)
            return
        if connection is None:
            return
        self._connection = connection
        self._loop, self._socket = asyncio.get_running_loop(), connection.fileno()
        self._loop.add_reader(self._socket, self._hear)
        if self._engine is None:
            self._drop()

    def _make(self, engine: Engine) -> Any:
        """Return a connection that listens; None if this was closed meanwhile. In a thread."""
        connection = _listening(engine)
        with self._owning:
            if self._engine is not None:
                self._made = connection
                return connection
        connection.close()
        return None

    def _hear(self) -> None:
        """Take what has arrived, and wake those who wait for it. Called by the event loop."""
        connection = self._connection
        try:
            connection.pgconn.consume_input()
            while (notice := connection.pgconn.notifies()) is not None:
                for waiter in self._waiters.get(notice.extra.decode(errors="replace"), ()):
                    if not waiter.done():
                        waiter.set_result(None)
        except Exception as error:  # of the driver, whose names this file does not know
            _log.warning("notices ended", error=type(error).__name__)
            self._drop()

    def _drop(self) -> None:
        with self._owning:
            made, self._made = self._made, None
        connection, self._connection = self._connection, None
        if connection is not None and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                # A lost connection has forgotten its socket, whose number may come again.
                self._loop.remove_reader(self._socket)
        if made is not None:
            made.close()


def _listening(engine: Engine) -> Any:
    """Return a connection of the driver that listens. In a thread."""
    raw = engine.raw_connection()
    connection: Any = raw.driver_connection
    raw.detach()
    try:
        connection.autocommit = True
        connection.execute(f"LISTEN {_CHANNEL}")
    except BaseException:
        connection.close()
        raise
    return connection
