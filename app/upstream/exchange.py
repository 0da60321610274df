"""One exchange with an upstream: a request, and its answer or the place that it redirects to.

Everything that httpx does on its own is switched off: cookies (tenants would share them), netrc,
proxies from the environment, redirects, default headers, log lines with URLs.

Not here: connections (`wire`), the meaning of a status (`status`), the limits of a body (`body`);
attempts, redirects one after the other, and breakers (`http`).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import cast

import httpx

from app import tracing
from app.core.errors import BadInputError, UpstreamError, UpstreamRedirectError
from app.upstream.attempt import FailedAttempt, content_error
from app.upstream.body import BodyMeter, check_body_head, is_gzip
from app.upstream.breaker import Verdict
from app.upstream.gunzip import Gunzip
from app.upstream.limits import UpstreamLimits
from app.upstream.reason import MAX_READ_BYTES, reason_of
from app.upstream.sink import Sink
from app.upstream.status import refusal
from app.upstream.url import Credential, Url
from app.upstream.wire import GuardedTransport, drop_body

_GZIP_FRAME_BYTES = 64 * 1024  # what gzip may add to a body that can't be compressed
_REASONED = (403, 404, 410)  # statuses whose text says why
_REDIRECTS = (301, 302, 303, 307, 308)
# httpx needs a URL; our transport reads the extension "url" instead.
_STAND_IN = httpx.URL("https://upstream.invalid/")

# At INFO httpx logs every URL.
logging.getLogger("httpx").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer without its body.

    Attributes:
        url: of the last hop, without its query.
        status: 200, except after `HttpClient.send`.
        headers: names in lower case; repeated headers are joined by ", ".
        size_bytes: the length of the body.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Call:
    """The parameters of one call, the same in every attempt."""

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

    def lane(self, url: Url) -> str:
        """Return "origin", or "origin#credential id" where url gets the credential."""
        if self.credential is not None and self.credential.origin == url.origin:
            return f"{url.origin}#{self.credential.id}"
        return url.origin


class Exchanges:
    """Makes the exchanges of one client.

    Args:
        transport: closed by `aclose`.
        user_agent: the User-Agent header.
        limits: seconds and rate.
        wall_clock: Unix time in seconds, for dates in Retry-After.
        clock: seconds that never go back, for the minimum rate.
    """

    def __init__(
        self,
        transport: GuardedTransport,
        user_agent: str,
        limits: UpstreamLimits,
        wall_clock: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._limits = limits
        self._wall_clock = wall_clock
        self._clock = clock
        self._http = _quiet_client(transport, user_agent, limits)

    @property
    def is_closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._http.is_closed

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def make(self, call: Call, url: Url, span: tracing.AnySpan) -> Response | Url:
        """Return the answer, its body in the call's sink; or where the answer redirects to.

        Args:
            call: what is asked.
            url: of this hop.
            span: gets the status.

        Raises:
            FailedAttempt: the answer is none, or a refusal.
        """
        # The transport itself: `AsyncClient.send` adds only what is switched off here (redirects,
        # cookies, authentication), and takes an eighth of a request's CPU for that.
        sent = await self._transport.handle_async_request(self._request(call, url))
        async with aclosing(sent) as answer:
            status, headers = answer.status_code, dict(answer.headers.items())
            span.set(http__response__status_code=status)
            if call.any_status or status == 200:
                check_body_head(url, headers, call.max_bytes, call.exact_bytes)
                size_bytes = await self._read(call, url, answer)
                return Response(url.shown, status, headers, size_bytes)
            has_reason = status in _REASONED and "content-encoding" not in headers
            keep_bytes = MAX_READ_BYTES if has_reason else 0
            body = await drop_body(answer, self._limits.drop_s, keep_bytes=keep_bytes)
            if status in _REDIRECTS and "location" in headers:
                return _redirected(call, url, headers["location"])
            sent_secret = call.credential is not None and bool(call.credential.headers_for(url))
            failed = refusal(url, status, headers, self._wall_clock(), had_credential=sent_secret)
            failed.error.upstream_text = reason_of(body, headers)
            raise failed

    def _request(self, call: Call, url: Url) -> httpx.Request:
        headers = {"Host": url.origin.partition("://")[2], **call.headers, **tracing.headers()}
        if call.credential is not None:
            headers |= call.credential.headers_for(url)
        if call.body or call.method not in ("GET", "HEAD"):
            headers["Content-Length"] = str(len(call.body))
        return self._http.build_request(
            call.method, _STAND_IN, headers=headers, content=call.body, extensions={"url": url}
        )

    async def _read(self, call: Call, url: Url, answer: httpx.Response) -> int:
        """Stream the body into the sink; return its length in bytes."""
        limits = self._limits if call.paced else None
        gunzip = Gunzip(call.max_bytes + _GZIP_FRAME_BYTES) if is_gzip(answer.headers) else None
        meter = BodyMeter(url, call.max_bytes, call.exact_bytes, limits)
        waiting_since = self._clock()
        body = cast(AsyncGenerator[bytes, None], answer.aiter_raw())  # httpx says AsyncIterator
        async with aclosing(body) as chunks:
            async for chunk in chunks:
                waited_s = self._clock() - waiting_since
                for piece in (chunk,) if gunzip is None else _decoded(gunzip, chunk, url):
                    meter.count(len(piece), waited_s)
                    await call.sink.write(piece)
                    call.progress(meter.size_bytes)
                    waited_s = 0.0
                    if gunzip is not None:  # a chunk may become thousands of pieces
                        await asyncio.sleep(0)
                waiting_since = self._clock()
        if gunzip is not None and not gunzip.is_complete:
            trouble = content_error(url, "sent a gzip body that is cut short")
            raise FailedAttempt(trouble, Verdict.FAILURE, again=True)
        return meter.finish()


def _decoded(gunzip: Gunzip, chunk: bytes, url: Url) -> Iterator[bytes]:
    try:
        yield from gunzip.pieces(chunk)
    except ValueError as error:
        raise FailedAttempt(content_error(url, f"sent a gzip body that {error}")) from error


def _quiet_client(
    transport: GuardedTransport, user_agent: str, limits: UpstreamLimits
) -> httpx.AsyncClient:
    """Return an httpx client that does nothing on its own."""
    client = httpx.AsyncClient(
        transport=transport,
        headers={"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"},
        cookies=CookieJar(DefaultCookiePolicy(netscape=False, rfc2965=False)),  # takes none
        timeout=httpx.Timeout(**limits.timeouts()),
        follow_redirects=False,
        trust_env=False,
    )
    del client.headers["Connection"]  # httpx's own
    return client


def _redirected(call: Call, url: Url, location: str) -> Url:
    try:
        target = url.redirect(location)
    except BadInputError as error:
        message = f"{url.shown} redirects to where it may not: {error}"
        raise FailedAttempt(UpstreamError(message, origin=url.origin)) from error
    try:
        return url.redirect(location, call.follow_to)
    except BadInputError as error:
        message = f"{url.shown} redirects to where it may not: {error}"
        raise FailedAttempt(
            UpstreamRedirectError(message, origin=url.origin, target=target.host)
        ) from error
