"""The HTTP client for upstreams, and the only importer of httpcore (the engine of httpx).

One call is up to four attempts, an attempt follows up to five redirects, and each hop is one
exchange under the circuit breaker of its own origin. What goes wrong leaves as an error of
`core.errors` whose message names origin and path, never a query or a credential.

httpx itself is left out: this way there is no cookie jar that tenants would share, no netrc, no
proxy from the environment, no redirect by itself, and no log line with a URL in it.

Not here: which addresses are allowed (`address`), what a status is worth and when to try again
(`retry`), when to leave an upstream alone (`breaker`), and whether a complete body is the right
one (the callers).
"""

# ruff: noqa: ASYNC109 - httpcore's interface has timeout parameters

import asyncio
import json
import logging
import re
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, Protocol

import httpcore
from cachetools import LRUCache

from app.core.errors import (
    BadInputError,
    DeniedError,
    OverloadedError,
    SettingsError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from app.upstream.address import AddressGuard, Credential, Url
from app.upstream.breaker import Breaker, BreakerState, Verdict
from app.upstream.retry import (
    MAX_RETRIES,
    FailedAttempt,
    Limits,
    Pace,
    RetryBudget,
    check_body_head,
    content_error,
    left_alone,
    refusal,
    retrying,
    too_slow,
)

MAX_REDIRECTS = 5
MAX_HEAD_BYTES = 64 * 1024
# The body of a refusal up to this size is read and dropped, so that the connection can be used
# again: `go` asks for many paths that don't exist.
MAX_DROPPED_BYTES = 64 * 1024
MAX_LANES = 1024

_LIMITS = Limits()
_REDIRECTS = (301, 302, 303, 307, 308)
_HEAD_END = re.compile(rb"\n\r?\n")
_BROKEN = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    OSError,  # TLS errors come through as they are
)

# At DEBUG httpcore logs every header, a credential's too.
logging.getLogger("httpcore").setLevel(logging.WARNING)


class Sink(Protocol):
    """Where a body goes. What it raises reaches the caller untouched, and is not retried."""

    async def restart(self) -> None:
        """Forget everything: the download begins again."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came back, the body excluded.

    `url` is that of the last hop, without its query; `headers` have lower-case names, repeated
    ones joined by ", "; `size_bytes` is the length of the body.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    size_bytes: int


class _Memory:
    """A sink for small bodies."""

    def __init__(self) -> None:
        self.body = bytearray()

    async def restart(self) -> None:
        self.body.clear()

    async def write(self, chunk: bytes) -> None:
        self.body += chunk


@dataclass(frozen=True, slots=True)
class _Call:
    """What stays the same over all attempts of one call."""

    sink: Sink
    max_bytes: int
    deadline_s: float
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    exact_bytes: int | None = None
    credential: Credential | None = None
    follow_to: frozenset[str] | None = None
    any_status: bool = False  # errors and redirects are answers, too
    paced: bool = False  # the minimum rate applies
    progress: Callable[[int], None] = lambda _: None


class _Lane:
    """What is remembered about one origin and credential."""

    def __init__(self, clock: Callable[[], float], random: Random) -> None:
        self.breaker = Breaker(clock=clock, random=random)
        self.budget = RetryBudget(clock)


class HttpClient:
    """Fetches from upstreams. One for the whole process; close it with `aclose`.

    `clock` counts seconds and never goes back (breaker, budget, minimum rate); `wall_clock` is
    Unix time, for Retry-After dates; deadlines go by the event loop's clock. `ca_file` holds PEM
    certificates that are trusted besides the system's and certifi's. `observe` is told origin,
    outcome and seconds of each exchange; the outcomes are "ok", "abandoned" (cancelled, or the
    sink failed), "open" (the breaker refused) and the class names of `core.errors`.

    Every method that fetches raises
        BadInputError: url is no plain http or https URL.
        UpstreamAbsentError: 404 or 410.
        UpstreamUnavailableError: no connection, a reset, 408, 429, 5xx, or the breaker is open.
        UpstreamTimeoutError: the deadline, or the limit of one step, passed.
        UpstreamContentError: cut short, too long, encoded, or a status that makes no sense.
        UpstreamError: another refusal, TLS, a bad redirect, a private address.
        OverloadedError: all of our connections are in use.

    Raises:
        SettingsError: ca_file can't be read or holds no certificate.
    """

    def __init__(
        self,
        *,
        guard: AddressGuard,
        user_agent: str,
        random: Random,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        ca_file: Path | None = None,
        observe: Callable[[str, str, float], None] | None = None,
        limits: Limits = _LIMITS,
    ) -> None:
        self._user_agent = user_agent
        self._random = random
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._observe = observe or (lambda *_: None)
        self._limits = limits
        self._lanes: LRUCache[str, _Lane] = LRUCache(MAX_LANES)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_ssl_context(ca_file),
            max_connections=limits.connections,
            max_keepalive_connections=limits.connections // 5,
            keepalive_expiry=30.0,
            network_backend=_GuardedBackend(guard),
        )

    async def get(
        self,
        url: str,
        *,
        max_bytes: int,
        deadline_s: float,
        credential: Credential | None = None,
        accept: str | None = None,
        follow_to: frozenset[str] | None = None,
    ) -> tuple[Fetched, bytes]:
        """Return a body of at most max_bytes, held in memory.

        deadline_s covers everything, the waits between attempts included. follow_to names the
        origins ("https://dl.google.com") or hosts ("dl.google.com") that a redirect may lead to
        besides its own origin; None allows every public one.
        """
        sink = _Memory()
        headers = {} if accept is None else {"Accept": accept}
        call = _Call(sink, max_bytes, deadline_s, "GET", headers, b"", None, credential, follow_to)
        return await self._run(call, url), bytes(sink.body)

    async def download(
        self,
        url: str,
        sink: Sink,
        *,
        max_bytes: int,
        deadline_s: float,
        exact_bytes: int | None = None,
        credential: Credential | None = None,
        follow_to: frozenset[str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Fetched:
        """Write a body into sink, which never gets more than max_bytes or exact_bytes.

        The minimum rate of `Limits` applies. progress gets the bytes so far after each write, and
        0 when the download begins again.

        Raises:
            UpstreamContentError: also for a body that is not exact_bytes long.
        """
        call = _Call(
            sink, max_bytes, deadline_s, "GET", {}, b"", exact_bytes, credential, follow_to,
            paced=True, progress=progress or (lambda _: None),
        )  # fmt: skip
        return await self._run(call, url)

    async def send(
        self,
        method: str,
        url: str,
        *,
        json_body: Any = None,
        max_bytes: int = 16 * 1024 * 1024,
        deadline_s: float = 60.0,
        credential: Credential | None = None,
        accept: str | None = None,
    ) -> tuple[Fetched, bytes]:
        """Return the answer to any request, whatever its status; redirects are not followed.

        For our own admin API: no status raises. json_body None sends no body. Only a GET is tried
        again, and only after a broken connection.
        """
        sink = _Memory()
        headers = {} if accept is None else {"Accept": accept}
        body = b""
        if json_body is not None:
            body = json.dumps(json_body).encode()
            headers["Content-Type"] = "application/json"
        call = _Call(
            sink, max_bytes, deadline_s, method, headers, body, None, credential, any_status=True
        )
        return await self._run(call, url), bytes(sink.body)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    def breaker_states(self) -> Mapping[str, BreakerState]:
        """Return the states by "origin", or "origin#credential id" where one was sent."""
        return {name: lane.breaker.state for name, lane in self._lanes.items()}

    async def _run(self, call: _Call, text: str) -> Fetched:
        url = Url.parse(text)
        scope = asyncio.timeout(call.deadline_s)
        try:
            async with scope:
                return await self._attempts(call, url, scope)
        except TimeoutError as error:
            if not scope.expired():  # the sink's own
                raise
            raise UpstreamTimeoutError(
                f"{url.shown} gave no complete answer within {call.deadline_s:g} s",
                origin=url.origin,
            ) from error

    async def _attempts(self, call: _Call, url: Url, scope: asyncio.Timeout) -> Fetched:
        async def restart() -> None:
            await call.sink.restart()
            call.progress(0)

        now = asyncio.get_running_loop().time
        return await retrying(
            lambda: self._follow(call, url, scope),
            retries=MAX_RETRIES if call.method == "GET" else 0,
            budget=self._lane(call, url).budget,
            left_s=lambda: (scope.when() or 0.0) - now(),
            restart=restart,
            random=self._random,
            sleep=self._sleep,
        )

    async def _follow(self, call: _Call, url: Url, scope: asyncio.Timeout) -> Fetched:
        seen = {url}
        while True:
            answer = await self._hop(call, url, scope)
            if isinstance(answer, Fetched):
                return answer
            if answer in seen or len(seen) > MAX_REDIRECTS:
                trouble = "in a circle" if answer in seen else f"more than {MAX_REDIRECTS} times"
                raise FailedAttempt(content_error(url, f"redirects {trouble}"))
            seen.add(answer)
            url = answer

    async def _hop(self, call: _Call, url: Url, scope: asyncio.Timeout) -> Fetched | Url:
        """Make one exchange under its breaker; return its answer, or where it redirects to."""
        lane = self._lane(call, url)
        permit = lane.breaker.enter()
        if permit is None:
            self._observe(url.origin, "open", 0.0)
            raise FailedAttempt(left_alone(url, lane.breaker.retry_after_s()))
        began = self._clock()
        outcome, verdict = "abandoned", Verdict.IGNORED
        try:
            answer = await self._exchange(call, url)
            outcome, verdict = "ok", Verdict.SUCCESS
        except FailedAttempt as failed:
            outcome, verdict = type(failed.error).__name__, failed.verdict
            raise
        except asyncio.CancelledError:
            if scope.expired():
                outcome, verdict = UpstreamTimeoutError.__name__, Verdict.FAILURE
            raise
        finally:
            # Also when cancelled: a place of the half-open state would be lost for ever.
            lane.breaker.leave(permit, verdict)
            self._observe(url.origin, outcome, self._clock() - began)
        return answer

    async def _exchange(self, call: _Call, url: Url) -> Fetched | Url:
        response = await self._open(call, url)
        try:
            headers = _lower(response.headers)
            if call.any_status or response.status == 200:
                check_body_head(url, headers, call.max_bytes, call.exact_bytes)
                size_bytes = await self._read(call, url, response)
                _settle(response, headers, size_bytes)
                return Fetched(url.shown, response.status, headers, size_bytes)
            await _drop_body(response, headers, self._limits.drop_s)
            if response.status in _REDIRECTS and "location" in headers:
                return _redirected(call, url, headers["location"])
            raise refusal(url, response.status, headers, self._wall_clock())
        finally:
            await response.aclose()

    async def _open(self, call: _Call, url: Url) -> httpcore.Response:
        try:
            return await self._pool.handle_async_request(self._request(call, url))
        except DeniedError as error:
            raise FailedAttempt(UpstreamError(str(error), origin=url.origin)) from error
        except _HeadTooLongError as error:
            trouble = f"sent a header of more than {MAX_HEAD_BYTES} bytes"
            raise FailedAttempt(content_error(url, trouble)) from error
        except httpcore.PoolTimeout as error:
            raise FailedAttempt(
                OverloadedError("all connections to upstreams are in use; try again")
            ) from error
        except _BROKEN as error:
            raise _broken(url, error, in_body=False) from error

    def _request(self, call: _Call, url: Url) -> httpcore.Request:
        headers = {
            "Host": url.origin.partition("://")[2],
            "User-Agent": self._user_agent,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **call.headers,
        }
        if call.credential is not None:
            headers |= call.credential.headers_for(url)
        if call.body or call.method not in ("GET", "HEAD"):
            headers["Content-Length"] = str(len(call.body))
        return httpcore.Request(
            call.method,
            httpcore.URL(
                scheme=url.scheme.encode(),
                host=url.host.encode(),
                port=url.port,
                target=url.target.encode(),
            ),
            headers=list(headers.items()),
            content=call.body,
            extensions={"timeout": self._limits.timeouts()},
        )

    async def _read(self, call: _Call, url: Url, response: httpcore.Response) -> int:
        """Stream the body into the sink; return its length in bytes."""
        exact, size_bytes = call.exact_bytes, 0
        limit = call.max_bytes if exact is None else min(exact, call.max_bytes)
        pace = Pace(self._limits.rate_bytes_s, self._limits.rate_window_s)
        asked = self._clock()
        async with aclosing(_chunks(url, response)) as chunks:
            async for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > limit:
                    raise FailedAttempt(content_error(url, f"sent more than {limit} bytes"))
                if call.paced and not pace.is_kept(len(chunk), self._clock() - asked):
                    raise FailedAttempt(too_slow(url, self._limits), Verdict.FAILURE)
                await call.sink.write(chunk)
                call.progress(size_bytes)
                asked = self._clock()
        if exact is not None and size_bytes < exact:
            error = content_error(url, f"ended after {size_bytes} of {exact} bytes")
            raise FailedAttempt(error, Verdict.FAILURE, again=True)
        return size_bytes

    def _lane(self, call: _Call, url: Url) -> _Lane:
        credential = call.credential
        name = url.origin
        if credential is not None and credential.origin == url.origin:
            name += f"#{credential.id}"
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(self._clock, self._random)
        return lane


class _Wire(httpcore.AsyncNetworkStream):
    """A connection that measures each answer: the length of its head, and what came after it.

    httpcore keeps bytes that follow a complete answer and takes them for the next one's beginning,
    which may be another tenant's; so such a connection must not be used again.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._head = bytearray()
        self._after_head_bytes: int | None = None
        self._last = b""
        self._is_clean = True

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        got = await self._stream.read(max_bytes, timeout)
        self._last = (self._last + got)[-5:]
        if self._after_head_bytes is None:
            self._scan(got)
        else:
            self._after_head_bytes += len(got)
        return got

    def _scan(self, got: bytes) -> None:
        start = max(0, len(self._head) - 2)
        self._head += got
        end = _HEAD_END.search(self._head, start)
        if (end.end() if end else len(self._head)) > MAX_HEAD_BYTES:
            raise _HeadTooLongError
        if end:
            self._after_head_bytes = len(self._head) - end.end()
            self._head.clear()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._head.clear()
        self._after_head_bytes = None
        await self._stream.write(buffer, timeout)

    def settle(self, headers: Mapping[str, str], size_bytes: int) -> None:
        """Take note that the answer is complete with a body of size_bytes."""
        if "transfer-encoding" in headers:
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
        except BaseException as error:
            # httpcore leaves the socket open when the handshake is cancelled, and drops the cause.
            await self._stream.aclose()
            if isinstance(error.__cause__, ssl.SSLError):
                raise error.__cause__ from None
            raise

    def get_extra_info(self, info: str) -> Any:
        # To httpcore an idle connection that is readable is a closed one.
        if info == "is_readable" and not self._is_clean:
            return True
        return self._stream.get_extra_info(info)


class _HeadTooLongError(Exception):
    """An answer's head is over MAX_HEAD_BYTES."""


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that the guard has checked; TLS still goes by the name."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._guard.addresses(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("the name did not resolve in time") from error
        except OSError as error:
            raise httpcore.ConnectError("the name does not resolve") from error
        # An even share each: a dead address (IPv6 without a route) leaves time for the others.
        share_s = None if timeout is None else timeout / len(addresses)
        for address in addresses:
            try:
                return _Wire(
                    await self._backend.connect_tcp(
                        address, port, share_s, local_address, socket_options
                    )
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


@lru_cache(maxsize=4)  # reading both stores takes 50 ms
def _ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a verifying context that trusts the system's store, certifi's and ca_file."""
    context = httpcore.default_ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise SettingsError(f"{ca_file} holds no PEM certificates: {error}") from error
    return context


async def _chunks(url: Url, response: httpcore.Response) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes, with every broken connection as a FailedAttempt."""
    try:
        async for chunk in response.aiter_stream():
            yield chunk
    except _BROKEN as error:
        raise _broken(url, error, in_body=True) from error


async def _drop_body(
    response: httpcore.Response, headers: Mapping[str, str], drop_s: float
) -> None:
    """Read a short body of known length away; a connection with any other will be closed."""
    declared = headers.get("content-length", "")
    if not declared.isdecimal() or int(declared) > MAX_DROPPED_BYTES:
        return
    with suppress(*_BROKEN):
        async with asyncio.timeout(drop_s):
            size_bytes = 0
            async for chunk in response.aiter_stream():
                size_bytes += len(chunk)
            _settle(response, headers, size_bytes)


def _settle(response: httpcore.Response, headers: Mapping[str, str], size_bytes: int) -> None:
    wire = response.extensions["network_stream"]
    if isinstance(wire, _Wire):
        wire.settle(headers, size_bytes)


def _lower(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    lower: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        lower[name] = f"{lower[name]}, {value}" if name in lower else value
    return lower


def _redirected(call: _Call, url: Url, location: str) -> Url:
    try:
        return url.redirect(location, call.follow_to)
    except BadInputError as error:
        message = f"{url.shown} redirects to where it may not: {error}"
        raise FailedAttempt(UpstreamError(message, origin=url.origin)) from error


def _broken(url: Url, error: Exception, *, in_body: bool) -> FailedAttempt:
    """Return what a broken connection means. Texts of lower layers are kept out of the message."""
    origin, failure = url.origin, Verdict.FAILURE
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", None) or error.reason or "handshake failed"
        return FailedAttempt(
            UpstreamError(f"{url.shown}: no trustworthy TLS connection: {reason}", origin=origin),
            failure,
        )
    if isinstance(error, httpcore.TimeoutException):
        is_connecting = isinstance(error, httpcore.ConnectTimeout)
        said = "accepts no connection in time" if is_connecting else "went silent"
        return FailedAttempt(
            UpstreamTimeoutError(f"{url.shown} {said}", origin=origin), failure, again=is_connecting
        )
    if in_body and isinstance(error, httpcore.RemoteProtocolError):
        return FailedAttempt(
            content_error(url, "ended before its body was complete"), failure, again=True
        )
    if isinstance(error, httpcore.ConnectError):
        said = "can't be reached: its name is unknown, or it refuses or drops the connection"
    elif in_body:
        said = "broke the connection in the middle of its body"
    else:
        said = "closed the connection, or does not speak HTTP"
    return FailedAttempt(
        UpstreamUnavailableError(f"{url.shown} {said}", origin=origin), failure, again=True
    )
