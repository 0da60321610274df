"""Connections to upstreams: an httpx transport that connects to checked addresses only.

The pool of httpcore (the engine of httpx), TLS, what is measured of each connection, and the
meaning of a broken one are here.

Not here: the bytes of a connection (`stream`), requests, redirects and deadlines (`http`), the
meaning of a status (`status`), the limits of a body (`body`), the check of addresses (`address`).
"""

# ruff: noqa: ASYNC109 - httpcore's interface has timeout parameters

import asyncio
import logging
import re
import select
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import httpcore
import httpx

from app.core.errors import (
    DeniedError,
    OverloadedError,
    SettingsError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from app.upstream import stream
from app.upstream.address import AddressGuard
from app.upstream.attempt import FailedAttempt, content_error
from app.upstream.breaker import Verdict
from app.upstream.limits import UpstreamLimits
from app.upstream.url import Url

MAX_HEAD_BYTES = 64 * 1024
# The body of a refusal up to this size is read and dropped, so that the connection can be used
# again: `go` asks for many paths that don't exist.
MAX_DROPPED_BYTES = 64 * 1024
KEEPALIVE_S = 30.0
_READ_BYTES = 256 * 1024  # at once; httpcore asks for 64 KiB, and each piece costs as much CPU

# httpcore tries to import it at every lock; where it is absent, each try searches the whole path.
if "sniffio" not in sys.modules and find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]

_HEAD_END = re.compile(rb"\n\r?\n")
_BROKEN = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    OSError,  # TLS errors come through as they are
)

# At DEBUG httpcore logs every header, a credential's too.
logging.getLogger("httpcore").setLevel(logging.WARNING)


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends each request to the `Url` that is its extension "url"; raises only `FailedAttempt`.

    The request's own URL is ignored, because httpx changes it: "/a/../b" becomes "/b" and "/<"
    becomes "/%3C". httpx also refuses hosts like "127.0.0.01" and paths over 64 KiB.

    Args:
        guard: checks every address.
        limits: the number of connections.
        ca_file: PEM certificates that are trusted besides the system's and certifi's.
        ca_pem: more of them, as text.

    Raises:
        SettingsError: ca_file or ca_pem holds no certificate, or the file can't be read.
    """

    def __init__(
        self,
        guard: AddressGuard,
        limits: UpstreamLimits,
        ca_file: Path | None = None,
        ca_pem: str = "",
    ) -> None:
        self._context = partial(trusted_authorities, ca_file, ca_pem)
        if ca_file is not None or ca_pem:
            self._context()  # a file that is wrong is told at the start
        self._limits = limits
        self._backend = _GuardedBackend(guard)
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer as soon as its head is complete; the reader fetches the body.

        Raises:
            FailedAttempt: no connection, or a malformed head. Reading the body raises it, too.
        """
        url: Url = request.extensions["url"]
        with _translated(url, in_body=False):
            pool = self._pool or await self._first_pool()
            answer = await pool.handle_async_request(_plain(request, url))
        response = _Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(url, answer),
            extensions=answer.extensions,
        )
        response.headers.encoding = "iso-8859-1"  # what every byte can be read as
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _first_pool(self) -> httpcore.AsyncConnectionPool:
        """Return the pool, made by the first request: most commands ask no upstream."""
        context = await asyncio.to_thread(self._context)
        if self._pool is None:
            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=context,
                max_connections=self._limits.connections,
                max_keepalive_connections=self._limits.connections // 5,
                keepalive_expiry=KEEPALIVE_S,
                network_backend=self._backend,
            )
        return self._pool


async def drop_body(response: httpx.Response, drop_s: float, *, keep_bytes: int = 0) -> bytes:
    """Read a short body of known length, and return its first keep_bytes.

    Of any other body only keep_bytes are read; then the body costs its connection.
    """
    declared = response.headers.get("content-length", "")
    is_short = declared.isdecimal() and int(declared) <= MAX_DROPPED_BYTES
    kept = bytearray()
    if not is_short and not keep_bytes:
        return b""
    with suppress(FailedAttempt, TimeoutError):
        async with asyncio.timeout(drop_s):
            # httpx says AsyncIterator.
            body = cast(AsyncGenerator[bytes, None], response.aiter_raw())
            async with aclosing(body) as chunks:
                async for chunk in chunks:
                    kept += chunk[: keep_bytes - len(kept)]
                    if len(kept) == keep_bytes and not is_short:
                        break
    return bytes(kept)


class _Response(httpx.Response):
    """An answer whose Location httpx does not read."""

    @property
    def has_redirect_location(self) -> bool:
        """False: httpx would parse the Location even if it follows no redirect, and fail."""
        return False


class _Body(httpx.AsyncByteStream):
    """A body that calls `_Wire.settle` when it is complete.

    The call comes before `aiter_raw` gives the connection back to the pool.
    """

    def __init__(self, url: Url, answer: httpcore.Response) -> None:
        self._url = url
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size_bytes = 0
        with _translated(self._url, in_body=True):
            async for chunk in self._answer.aiter_stream():
                size_bytes += len(chunk)
                yield chunk
        wire = self._answer.extensions["network_stream"]
        if isinstance(wire, _Wire):
            is_chunked = any(
                name.lower() == b"transfer-encoding" for name, _ in self._answer.headers
            )
            wire.settle(size_bytes, is_chunked=is_chunked)

    async def aclose(self) -> None:
        await self._answer.aclose()


class _Wire(httpcore.AsyncNetworkStream):
    """A connection that measures each answer: its head, and the bytes after the head.

    httpcore keeps bytes after a complete answer and reads them as the beginning of the next answer,
    which may be another tenant's. So a connection is used again only if `settle` saw no such bytes.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._socket = stream.get_extra_info("socket")
        self._head = bytearray()
        self._after_head_bytes: int | None = None
        self._last = b""
        self._is_clean = True

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        chunk = await self._stream.read(max(max_bytes, _READ_BYTES), timeout)
        self._last = (self._last + chunk)[-5:]
        if self._after_head_bytes is None:
            self._scan(chunk)
        else:
            self._after_head_bytes += len(chunk)
        return chunk

    def _scan(self, chunk: bytes) -> None:
        start = max(0, len(self._head) - 2)
        self._head += chunk
        end = _HEAD_END.search(self._head, start)
        if (end.end() if end else len(self._head)) > MAX_HEAD_BYTES:
            raise _HeadTooLongError
        if end:
            self._after_head_bytes = len(self._head) - end.end()
            self._head.clear()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._head.clear()
        self._after_head_bytes = None
        self._is_clean = False
        await self._stream.write(buffer, timeout)

    def settle(self, size_bytes: int, *, is_chunked: bool) -> None:
        """Note that the answer is complete with a body of size_bytes."""
        if is_chunked:
            self._is_clean = self._last == b"0\r\n\r\n"
        else:
            self._is_clean = self._after_head_bytes == size_bytes

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            return _Wire(await self._stream.start_tls(ssl_context, server_hostname, timeout))
        except BaseException:  # httpcore leaves the connection of a cancelled handshake open
            await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        # httpcore drops an idle connection that is readable. What the transport has read, the
        # system does not know any more; what came a moment ago, the transport has not read yet.
        if info == "is_readable":
            waits = not self._is_clean or self._stream.get_extra_info(info)
            return waits or _is_readable(self._socket)
        return self._stream.get_extra_info(info)


def _is_readable(sock: socket.socket) -> bool:
    """Whether the system has bytes, or the end, of a connection; a closed one counts as ended."""
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _HeadTooLongError(Exception):
    """An answer's head is over MAX_HEAD_BYTES."""


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that the guard has checked; TLS still goes by the name."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolve(host, port, timeout)
        # Equal shares: a dead address (IPv6 without a route) leaves time for the others.
        share_s = None if timeout is None else timeout / len(addresses)
        for address in addresses:
            try:
                return _Wire(
                    await stream.connect(address, port, share_s, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _resolve(self, host: str, port: int, timeout: float | None) -> list[str]:
        try:
            async with asyncio.timeout(timeout):
                return await self._guard.addresses(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("the name did not resolve in time") from error
        except OSError as error:
            raise httpcore.ConnectError("the name does not resolve") from error


@lru_cache(maxsize=64)  # reading both stores takes 50 ms
def trusted_authorities(ca_file: Path | None, ca_pem: str = "") -> ssl.SSLContext:
    """Return a verifying context that trusts the system's store, certifi's and ca_file.

    Raises:
        SettingsError: ca_file or ca_pem has no certificate.
    """
    context = httpcore.default_ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            reason = error.strerror if error.filename else "it has no certificate in PEM form"
            raise SettingsError(
                f"MOORAGE_NETWORK__CA_FILE: {ca_file} can't be used: {reason}; give the"
                " certificates of the authorities (BEGIN CERTIFICATE)"
            ) from error
    if ca_pem:
        try:
            context.load_verify_locations(cadata=ca_pem)
        except (ssl.SSLError, ValueError) as error:
            raise SettingsError("an upstream's CA bundle holds no PEM certificates") from error
    return context


def _plain(request: httpx.Request, url: Url) -> httpcore.Request:
    return httpcore.Request(
        request.method,
        httpcore.URL(
            scheme=url.scheme.encode(),
            host=url.host.encode(),
            port=url.port,
            target=url.target.encode(),
        ),
        headers=request.headers.raw,
        content=request.content,
        extensions={"timeout": request.extensions["timeout"]},
    )


@contextmanager
def _translated(url: Url, *, in_body: bool) -> Iterator[None]:
    """Turn every error of a connection into a FailedAttempt."""
    try:
        yield
    except DeniedError as error:
        raise FailedAttempt(UpstreamError(str(error), origin=url.origin)) from error
    except _HeadTooLongError as error:
        trouble = f"sent a header of more than {MAX_HEAD_BYTES} bytes"
        raise FailedAttempt(content_error(url, trouble)) from error
    except httpcore.PoolTimeout as error:
        busy = OverloadedError("all connections to upstreams are in use; try again")
        raise FailedAttempt(busy) from error
    except _BROKEN as error:
        raise _broken(url, error, in_body=in_body) from error


def _broken(url: Url, error: Exception, *, in_body: bool) -> FailedAttempt:
    """Return the failure for a broken connection. Its message has no text of lower layers."""
    origin, failure = url.origin, Verdict.FAILURE
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", None) or error.reason or "handshake failed"
        message = f"{url.shown}: no trustworthy TLS connection: {reason}"
        return FailedAttempt(UpstreamError(message, origin=origin), failure)
    if isinstance(error, httpcore.TimeoutException):
        is_connecting = isinstance(error, httpcore.ConnectTimeout)
        message = "accepts no connection in time" if is_connecting else "went silent"
        silent = UpstreamTimeoutError(f"{url.shown} {message}", origin=origin)
        return FailedAttempt(silent, failure, again=is_connecting)
    if in_body and isinstance(error, httpcore.RemoteProtocolError):
        short = content_error(url, "ended before its body was complete")
        return FailedAttempt(short, failure, again=True)
    if isinstance(error, httpcore.ConnectError):
        message = "can't be reached: its name is unknown, or it refuses or drops the connection"
    elif in_body:
        message = "broke the connection in the middle of its body"
    else:
        message = "closed the connection, or does not speak HTTP"
    gone = UpstreamUnavailableError(f"{url.shown} {message}", origin=origin)
    return FailedAttempt(gone, failure, again=True)
