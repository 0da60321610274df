"""The client's connection below ASGI: it can take bytes straight from a file, and can be cut.

uvicorn has no sendfile. Our protocol class puts a `Connection` into the scope of each request
(extension `moorage.connection`); an application works without it, only slower.
"""

import asyncio
import contextlib
import fcntl
import os
import sys
import termios
from collections.abc import Callable, MutableMapping
from typing import Any, Final, Protocol

from app.core.errors import StorageError

CONNECTION = "moorage.connection"


class Cycle(Protocol):
    """What is needed of uvicorn's request-response cycle: it counts the bytes of the body."""

    expected_content_length: int


class Connection:
    """One request's hold on its connection.

    The socket's descriptor is duplicated, because uvloop lets nobody else wait for its own.
    """

    def __init__(self, transport: asyncio.Transport, cycle: Cycle) -> None:
        self._transport = transport
        self._cycle = cycle
        self._descriptor: int | None = None
        self.is_secured: Final = transport.get_extra_info("ssl_object") is not None

    def abort(self) -> None:
        """Cut the connection at once, whatever was not sent yet."""
        self._transport.abort()

    def takes_files(self) -> bool:
        """Whether `send_file` can be used: without TLS, if a descriptor for it can be had."""
        if self.is_secured:
            return False
        if self._descriptor is None:
            # Without one (EMFILE) the body goes through memory instead.
            with contextlib.suppress(OSError):
                self._descriptor = os.dup(self._transport.get_extra_info("socket").fileno())
        return self._descriptor is not None

    async def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Send count bytes of an open file as the next part of the body; return how many went.

        Fewer than count only if the file is shorter.

        Raises:
            ConnectionError: the client is gone.
            TimeoutError: it took nothing for too long.
            StorageError: the disk answered with an error.
        """
        await self._wait_while(self._transport.get_write_buffer_size)  # bytes keep their order
        if not self.takes_files() or self._descriptor is None:
            raise StorageError("no descriptor is left to send the file with")
        sent = 0
        while sent < count:
            try:
                step = os.sendfile(self._descriptor, descriptor, offset + sent, count - sent)
            except BlockingIOError:
                await self._writable(self._descriptor)
                continue
            except (ConnectionError, TimeoutError):
                raise
            except OSError as error:
                raise StorageError(f"the file can't be sent: {error.strerror}") from error
            if not step:
                break
            sent += step
            self._cycle.expected_content_length -= step
        return sent

    async def acknowledged(self) -> None:
        """Wait until the client's side has everything that was sent from a file.

        Raises:
            ConnectionError: the client is gone.
        """
        await self._wait_while(self._unacknowledged)

    def _unacknowledged(self) -> int:
        """Return how many bytes lie in the socket's send queue; 0 where that can't be told."""
        if self._descriptor is None:
            return 0
        try:
            queued = fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, b"\0" * 4)
        except OSError:
            return 0
        return int.from_bytes(queued, sys.byteorder)

    async def _wait_while(self, queued: Callable[[], int]) -> None:
        """Wait until nothing is queued any more, looking ever more seldom."""
        pause_s = 0.0
        while queued():
            if self._transport.is_closing():
                raise ConnectionResetError("the client is gone")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s + 0.0005, 0.05)

    async def _writable(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_writer(descriptor, _resolve, ready)
        try:
            await ready
        finally:
            loop.remove_writer(descriptor)
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")

    def close(self) -> None:
        """Release the duplicated descriptor; the connection itself stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def connection_of(scope: MutableMapping[str, Any]) -> Connection | None:
    """Return the connection of a request; None under a server that puts none into the scope."""
    connection = scope.get("extensions", {}).get(CONNECTION, {}).get("connection")
    return connection if isinstance(connection, Connection) else None
