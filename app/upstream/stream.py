"""A TCP connection to an upstream, as httpcore wants it: straight on the event loop's transport.

httpcore's own way, through anyio, registers the socket anew for every read, and goes through the
event loop once more for every write. Here the transport reads on by itself into a bounded buffer.

Not here: which addresses may be connected to, and what is measured of the answers (`wire`).
"""

# ruff: noqa: ASYNC109 - httpcore's interface has timeout parameters

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

import httpcore

# So much may wait to be read before the transport stops reading. One read of the transport, up to
# 256 KiB, may exceed it: little is read of a body that is refused.
_BUFFER_BYTES = 32 * 1024


class SocketStream(httpcore.AsyncNetworkStream, asyncio.Protocol):
    """The bytes of one connection, in both directions. One task reads, and one writes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_ended = False  # nothing more comes
        self._is_closed = False  # by us; at its end TLS closes the transport by itself
        self._is_reading = True
        self._is_full = False  # the transport takes no more
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; see `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Keep bytes until they are read; see `asyncio.Protocol`."""
        self._chunks.append(data)
        self._waiting_bytes += len(data)
        if self._is_reading and self._waiting_bytes > _BUFFER_BYTES:
            self._transport.pause_reading()
            self._is_reading = False
        _wake(self._reader)

    def eof_received(self) -> bool:
        """Note the end; our direction stays open where there is no TLS."""
        self._is_ended = True
        _wake(self._reader)
        return self._transport.get_extra_info("ssl_object") is None

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end of both directions, and why; see `asyncio.Protocol`."""
        self._is_ended, self._is_full = True, False
        self._error = self._error or error
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        """Let writers wait; see `asyncio.Protocol`."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Let writers go on; see `asyncio.Protocol`."""
        self._is_full = False
        _wake(self._writer)

    # What httpcore calls.

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return 1 to max_bytes bytes; b"" at the end.

        Raises:
            ReadTimeout: none came within timeout seconds.
            ReadError: the connection is broken, or closed by us.
            SSLError: what came is no TLS.
        """
        if not self._chunks and not self._is_ended:
            self._reader = self._loop.create_future()
            await _woken(self._reader, timeout, httpcore.ReadTimeout)
        if not self._chunks:
            if isinstance(self._error, ssl.SSLError):
                raise self._error
            if self._error is not None or self._is_closed:
                raise httpcore.ReadError("the connection is broken") from self._error
            return b""
        chunk = self._chunks.popleft()
        if len(chunk) > max_bytes:
            rest = memoryview(chunk)[max_bytes:]  # a view: the rest may be split several times
            self._chunks.appendleft(cast(bytes, rest))
            chunk = chunk[:max_bytes]
        self._waiting_bytes -= len(chunk)
        if not self._is_reading and self._waiting_bytes <= _BUFFER_BYTES // 2:
            self._is_reading = True
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return bytes(chunk)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hand bytes to the transport; wait while it has more than it may hold.

        Raises:
            WriteTimeout: it did not get rid of them within timeout seconds.
            WriteError: the connection is broken, or closed by us.
        """
        self._require_open()
        self._transport.write(buffer)
        while self._is_full:
            self._writer = self._loop.create_future()
            await _woken(self._writer, timeout, httpcore.WriteTimeout)
            self._require_open()

    def _require_open(self) -> None:
        if self._error is not None or self._transport.is_closing():
            raise httpcore.WriteError("the connection is broken") from self._error

    async def aclose(self) -> None:
        """Close at once; what was not sent yet is dropped."""
        self._is_closed = True
        self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return this stream, with TLS from now on.

        Raises:
            SSLError: the other side is not trustworthy, or speaks no TLS.
            ConnectTimeout: the handshake took longer than timeout seconds.
            ConnectError: the connection broke, or bytes came before the handshake.
        """
        if self._chunks:  # they would be read as if TLS protected them
            raise httpcore.ConnectError("bytes came before the TLS handshake")
        try:
            async with asyncio.timeout(timeout):
                transport = await self._loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("no TLS handshake in time") from error
        except ssl.SSLError:
            raise
        except OSError as error:
            raise httpcore.ConnectError("the connection broke in the TLS handshake") from error
        if transport is None:  # the other side went away at the end of the handshake
            raise httpcore.ConnectError("the connection broke in the TLS handshake")
        self._transport = transport
        return self

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks: is_readable is whether bytes or the end wait to be read."""
        if info == "is_readable":
            return bool(self._chunks) or self._is_ended or self._transport.is_closing()
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._transport.get_extra_info(names.get(info, info))


async def connect(
    address: str,
    port: int,
    timeout: float | None,
    local_address: str | None = None,
    socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
) -> SocketStream:
    """Return a connection to a numeric address.

    Raises:
        ConnectTimeout: it was not accepted within timeout seconds.
        ConnectError: it was refused.
    """
    local = None if local_address is None else (local_address, 0)
    try:
        async with asyncio.timeout(timeout):
            _, stream = await asyncio.get_running_loop().create_connection(
                SocketStream, address, port, local_addr=local
            )
    except TimeoutError as error:
        raise httpcore.ConnectTimeout("the connection was not accepted in time") from error
    except OSError as error:
        raise httpcore.ConnectError("the connection was refused") from error
    sock = stream.get_extra_info("socket")
    for option in socket_options or ():
        sock.setsockopt(*option)
    return stream


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


async def _woken(
    waiter: asyncio.Future[None], seconds: float | None, late: type[httpcore.TimeoutException]
) -> None:
    """Return when waiter is done; raise late after so many seconds."""
    if seconds is None:
        await waiter
        return
    timer = asyncio.get_running_loop().call_later(seconds, _expire, waiter, late)
    try:
        await waiter
    finally:
        timer.cancel()


def _expire(waiter: asyncio.Future[None], late: type[httpcore.TimeoutException]) -> None:
    if not waiter.done():
        waiter.set_exception(late("nothing moved in time"))
