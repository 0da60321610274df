"""The connections of a client: opened to checked addresses only, with TLS, and used again.

Not here: what goes over a connection (`connection`), requests, redirects and deadlines (`http`),
the check of addresses (`address`).
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import certifi

from app.core.errors import (
    DeniedError,
    OverloadedError,
    SettingsError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from app.upstream.address import AddressGuard, Url
from app.upstream.attempt import FailedAttempt
from app.upstream.breaker import Verdict
from app.upstream.connection import Connection
from app.upstream.limits import UpstreamLimits

# The body of a refusal up to this size is read and dropped, so that the connection can be used
# again: `go` asks for many paths that don't exist.
MAX_DROPPED_BYTES = 64 * 1024
KEEPALIVE_S = 30.0

_HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError)

Place = tuple[str, str, int]
"""Scheme, host and port."""


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """An answer whose head is complete; `chunks` yields its body.

    Attributes:
        headers: by lower-case names; repeated ones are joined by ", ".
    """

    url: Url
    status: int
    headers: dict[str, str]
    connection: Connection
    read_s: float

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            FailedAttempt: the body is cut short or malformed, or stops coming.
        """
        return self.connection.chunks(self.url, self.read_s)

    async def drop(self, drop_s: float) -> None:
        """Read and drop a short body of known length; any other body costs its connection."""
        declared = self.headers.get("content-length", "")
        if not declared.isdecimal() or int(declared) > MAX_DROPPED_BYTES:
            return
        with suppress(FailedAttempt, TimeoutError):
            async with asyncio.timeout(drop_s):
                async for _ in self.chunks():
                    pass


class Wire:
    """The connections to the upstreams of one client; used from one event loop.

    Args:
        guard: checks every address.
        limits: seconds, and the number of connections; a fifth of these may be idle.
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
        self._guard = guard
        self._limits = limits
        self._tls = _ssl_context(ca_file, ca_pem)
        self._free = asyncio.Semaphore(limits.connections)
        self._busy: set[Connection] = set()
        self._idle: deque[tuple[Place, Connection, float]] = deque()  # the newest last
        self.is_closed = False

    @asynccontextmanager
    async def exchange(self, url: Url, request: bytes) -> AsyncIterator[WireAnswer]:
        """Send a request; return a context with its answer. Its end frees the connection.

        Raises:
            FailedAttempt: no connection, or a malformed head.
        """
        try:
            async with asyncio.timeout(self._limits.pool_s):
                await self._free.acquire()
        except TimeoutError as error:
            busy = OverloadedError("all connections to upstreams are in use; try again")
            raise FailedAttempt(busy) from error
        connection: Connection | None = None
        try:
            connection = self._reuse(url) or await self._open(url)
            self._busy.add(connection)
            status, headers = await connection.ask(url, request, self._limits.read_s)
            yield WireAnswer(url, status, headers, connection, self._limits.read_s)
        finally:
            if connection is not None:
                self._busy.discard(connection)
                self._keep_or_close(url, connection)
            self._free.release()

    async def aclose(self) -> None:
        """Close every connection."""
        self.is_closed = True
        for connection in (*self._busy, *(connection for _, connection, _ in self._idle)):
            connection.abort()
        self._idle.clear()

    def _reuse(self, url: Url) -> Connection | None:
        """Return the newest idle connection to where a URL leads."""
        self._drop_expired()
        place = _place(url)
        for entry in reversed(self._idle):
            if entry[0] == place:
                self._idle.remove(entry)
                if entry[1].is_quiet:
                    return entry[1]
                entry[1].abort()
                return self._reuse(url)
        return None

    def _drop_expired(self) -> None:
        oldest_s = asyncio.get_running_loop().time() - KEEPALIVE_S
        while self._idle and self._idle[0][2] < oldest_s:
            self._idle.popleft()[1].abort()

    def _keep_or_close(self, url: Url, connection: Connection) -> None:
        if self.is_closed or not connection.is_reusable:
            connection.abort()
            return
        self._idle.append((_place(url), connection, asyncio.get_running_loop().time()))
        if len(self._idle) > max(self._limits.connections // 5, 1):
            self._idle.popleft()[1].abort()

    async def _open(self, url: Url) -> Connection:
        """Return a new connection to a checked address; TLS goes by the name.

        Raises:
            FailedAttempt: no address is allowed, or none accepts.
        """
        if len(self._busy) + len(self._idle) >= self._limits.connections and self._idle:
            self._idle.popleft()[1].abort()
        try:
            connection = await self._connect(url)
            if url.scheme == "https":
                await self._encrypt(connection, url)
        except DeniedError as error:
            raise FailedAttempt(UpstreamError(str(error), origin=url.origin)) from error
        except TimeoutError as error:
            silent = UpstreamTimeoutError(
                f"{url.shown} accepts no connection in time", origin=url.origin
            )
            raise FailedAttempt(silent, Verdict.FAILURE, again=True) from error
        except OSError as error:
            raise _unconnected(url, error) from error
        return connection

    async def _connect(self, url: Url) -> Connection:
        async with asyncio.timeout(self._limits.connect_s):
            addresses = await self._guard.addresses(url.host, url.port)
        # Equal shares: a dead address (IPv6 without a route) leaves time for the others.
        share_s = self._limits.connect_s / len(addresses)
        failure: OSError = OSError("the name has no address")
        for address in addresses:
            try:
                async with asyncio.timeout(share_s):
                    _, connection = await asyncio.get_running_loop().create_connection(
                        Connection, address, url.port
                    )
            except OSError as error:  # a TimeoutError, too
                failure = error
            else:
                return connection
        raise failure

    async def _encrypt(self, connection: Connection, url: Url) -> None:
        try:
            async with asyncio.timeout(self._limits.connect_s):
                transport = await asyncio.get_running_loop().start_tls(
                    connection.transport, connection, self._tls, server_hostname=url.host
                )
        except BaseException:
            connection.abort()
            raise
        if transport is None:
            raise ConnectionAbortedError("the handshake was cut off")
        connection.take_transport(transport)


def _place(url: Url) -> Place:
    return (url.scheme, url.host, url.port)


def _unconnected(url: Url, error: OSError) -> FailedAttempt:
    """Return the failure for a connection that can't be made; its text has none of lower layers."""
    if isinstance(error, ssl.SSLError) and not isinstance(error, _HUNG_UP):
        reason = getattr(error, "verify_message", None) or error.reason or "handshake failed"
        message = f"{url.shown}: no trustworthy TLS connection: {reason}"
        return FailedAttempt(UpstreamError(message, origin=url.origin), Verdict.FAILURE)
    gone = UpstreamUnavailableError(
        f"{url.shown} can't be reached: its name is unknown, or it refuses or drops the connection",
        origin=url.origin,
    )
    return FailedAttempt(gone, Verdict.FAILURE, again=True)


@lru_cache(maxsize=64)  # reading both stores takes 50 ms
def _ssl_context(ca_file: Path | None, ca_pem: str = "") -> ssl.SSLContext:
    """Return a verifying context that trusts the system's store, certifi's and ca_file."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise SettingsError(f"{ca_file} holds no PEM certificates: {error}") from error
    if ca_pem:
        try:
            context.load_verify_locations(cadata=ca_pem)
        except (ssl.SSLError, ValueError) as error:
            raise SettingsError("an upstream's CA bundle holds no PEM certificates") from error
    return context
