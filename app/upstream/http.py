"""The HTTP client for upstreams.

A call makes up to four attempts. An attempt follows up to nine redirects. Each hop is one exchange
under the circuit breaker of its own origin. Every failure leaves as an error of `core.errors`; its
message names origin and path, never a query or a credential.

Not here: one exchange (`exchange`), connections (`wire`), the check of addresses (`address`), the
waits between attempts (`retry`, `retryafter`), the retry budget (`budget`), the circuit breaker
(`breaker`). Whether a complete body is the right one is judged by the callers.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from cachetools import LRUCache

from app import tracing
from app.core.errors import OverloadedError, UpstreamTimeoutError
from app.upstream.address import AddressGuard
from app.upstream.attempt import FailedAttempt, content_error, left_alone
from app.upstream.breaker import MAX_BREAKERS, Breaker, Breakers, BreakerState, Permit, Verdict
from app.upstream.budget import RetryBudget
from app.upstream.exchange import Call, Exchanges, Response
from app.upstream.limits import UpstreamLimits
from app.upstream.retry import MAX_RETRIES, retrying
from app.upstream.sink import MemorySink, Sink
from app.upstream.url import Credential, Url
from app.upstream.wire import GuardedTransport

MAX_HOPS = 10  # requests of one call, redirects among them: as many as Go's own client makes
_POST_ANSWER_BYTES = 64 * 1024
_LIMITS = UpstreamLimits()


class HttpClient:
    """Fetches from upstreams. One for the whole process; close it with `aclose`.

    Args:
        guard: decides which addresses are allowed.
        user_agent: the User-Agent header.
        random: for the jitter of waits.
        clock: seconds that never go back, for breaker, budget and minimum rate. Deadlines use the
            event loop's clock.
        wall_clock: Unix time in seconds, for dates in Retry-After.
        sleep: waits between attempts.
        ca_file: PEM certificates that are trusted besides the system's and certifi's.
        ca_pem: more of them, as text.
        observe: called after each exchange with the origin that was asked first (redirects count
            under it), outcome and seconds. Outcomes are "ok",
            "abandoned" (cancelled, or the sink failed), "open" (the breaker refused) and the class
            names of `core.errors`.
        on_breaker: called with "origin" or "origin#credential id"; with True when the breaker
            opens, with False when it closes again.
        limits: seconds, rate and connections.

    Every method that fetches raises
        BadInputError: url is no plain http or https URL.
        UpstreamAbsentError: 404 or 410.
        UpstreamUnavailableError: no connection, a reset, 408, 429, 5xx, or the breaker is open.
        UpstreamTimeoutError: the deadline, or the limit of one step, passed.
        UpstreamContentError: cut short, too long, encoded, or a status that makes no sense.
        UpstreamError: another refusal, TLS, a bad redirect, a private address.
        OverloadedError: all of our connections are in use, or the client is closed.

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
        ca_pem: str = "",
        observe: Callable[[str, str, float], None] = lambda *_: None,
        on_breaker: Callable[[str, bool], None] = lambda *_: None,
        limits: UpstreamLimits = _LIMITS,
    ) -> None:
        self._random = random
        self._clock = clock
        self._sleep = sleep
        self._observe = observe
        self._breakers = Breakers(clock=clock, random=random, on_change=on_breaker)
        self._budgets: LRUCache[str, RetryBudget] = LRUCache(MAX_BREAKERS)
        transport = GuardedTransport(guard, limits, ca_file, ca_pem)
        self._exchanges = Exchanges(transport, user_agent, limits, wall_clock, clock)

    async def get(
        self,
        url: str,
        *,
        max_bytes: int,
        deadline_s: float,
        credential: Credential | None = None,
        accept: str | None = None,
        follow_to: frozenset[str] | None = None,
    ) -> tuple[Response, bytes]:
        """Return a body of at most max_bytes, held in memory.

        Args:
            url: absolute, http or https.
            max_bytes: of the body.
            deadline_s: for everything, the waits between attempts included.
            credential: sent to its own origin only.
            accept: the Accept header.
            follow_to: origins ("https://dl.google.com") or hosts ("dl.google.com") that redirects
                may lead to besides the URL's own origin; None allows every public one.
        """
        sink = MemorySink()
        headers = {} if accept is None else {"Accept": accept}
        call = Call(sink, max_bytes, deadline_s, "GET", headers, b"", None, credential, follow_to)
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
        is_paced: bool = True,
    ) -> Response:
        """Write a body into sink, which never gets more than max_bytes or exact_bytes.

        The minimum rate of `UpstreamLimits` applies if is_paced. progress gets the bytes so far
        after each write, and 0 when the download begins again.

        Raises:
            UpstreamContentError: also for a body that is not exact_bytes long.
        """
        call = Call(
            sink, max_bytes, deadline_s, "GET", {}, b"", exact_bytes, credential, follow_to,
            paced=is_paced, progress=progress or (lambda _: None),
        )  # fmt: skip
        return await self._run(call, url)

    async def exchange(
        self,
        url: str,
        sink: Sink,
        *,
        headers: Mapping[str, str],
        max_bytes: int,
        deadline_s: float,
        body: bytes | None = None,
        credential: Credential | None = None,
        follow_to: frozenset[str] | None = None,
        is_paced: bool = True,
    ) -> Response:
        """Write the answer to a GET, or to a POST with a body, into sink; as `download`.

        Only a GET is tried again. `Response.url` says where redirects have led.
        """
        method = "GET" if body is None else "POST"
        call = Call(
            sink, max_bytes, deadline_s, method, headers, body or b"", None, credential, follow_to,
            paced=is_paced,
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
    ) -> tuple[Response, bytes]:
        """Return the answer to any request, whatever its status; redirects are not followed.

        This is for our own admin API: no status raises an error. json_body None sends no body.
        Only a GET is tried again, and only after a broken connection.
        """
        sink = MemorySink()
        headers = {} if accept is None else {"Accept": accept}
        body = b""
        if json_body is not None:
            body = json.dumps(json_body).encode()
            headers["Content-Type"] = "application/json"
        call = Call(
            sink, max_bytes, deadline_s, method, headers, body, None, credential, any_status=True
        )
        return await self._run(call, url), bytes(sink.body)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, deadline_s: float
    ) -> int:
        """Return the status of the answer to a POST; neither redirects nor errors are followed.

        Of the answer's body, at most 64 KiB are taken, and dropped.
        """
        call = Call(
            MemorySink(), _POST_ANSWER_BYTES, deadline_s, "POST", headers, body, any_status=True
        )
        return (await self._run(call, url)).status

    async def aclose(self) -> None:
        """Close every connection, and leave no upstream alone any more."""
        self._breakers.close()
        await self._exchanges.aclose()

    def breaker_states(self) -> Mapping[str, BreakerState]:
        """Return the states by "origin", or "origin#credential id" where one was sent."""
        return self._breakers.states()

    async def _run(self, call: Call, text: str) -> Response:
        url = Url.parse(text)
        scope = asyncio.timeout(call.deadline_s)
        try:
            async with scope:
                return await self._attempts(call, url, scope)
        except TimeoutError as error:
            if not scope.expired():  # raised by the sink
                raise
            raise UpstreamTimeoutError(
                f"{url.shown} gave no complete answer within {call.deadline_s:g} s",
                origin=url.origin,
            ) from error

    async def _attempts(self, call: Call, url: Url, scope: asyncio.Timeout) -> Response:
        async def restart() -> None:
            await call.sink.restart()
            call.progress(0)

        now = asyncio.get_running_loop().time
        budget = self._budgets.setdefault(call.lane(url), RetryBudget(self._clock))
        return await retrying(
            lambda: self._follow(call, url, scope),
            retries=MAX_RETRIES if call.method == "GET" else 0,
            budget=budget,
            left_s=lambda: (scope.when() or 0.0) - now(),
            restart=restart,
            random=self._random,
            sleep=self._sleep,
        )

    async def _follow(self, call: Call, url: Url, scope: asyncio.Timeout) -> Response:
        seen, asked = {url}, url.origin
        while True:
            answer = await self._hop(call, url, scope, asked)
            if isinstance(answer, Response):
                return answer
            if answer in seen or len(seen) >= MAX_HOPS:
                # The words of Go's client.
                endless = f"on and on: stopped after {MAX_HOPS} redirects"
                trouble = "in a circle" if answer in seen else endless
                raise FailedAttempt(content_error(url, f"redirects {trouble}"))
            seen.add(answer)
            url = answer

    async def _hop(
        self, call: Call, url: Url, scope: asyncio.Timeout, asked: str
    ) -> Response | Url:
        """Make one exchange under its breaker; return its answer, or where it redirects to.

        asked: the origin of the call, under which its redirects are observed, too.
        """
        if self._exchanges.is_closed:
            raise FailedAttempt(OverloadedError("this process is shutting down; ask again"))
        breaker = self._breakers.of(call.lane(url))
        permit = breaker.enter()
        if permit is None:
            self._observe(asked, "open", 0.0)
            raise FailedAttempt(left_alone(url, breaker.retry_after_s()))
        with (
            tracing.span(
                "upstream", "client", http__request__method=call.method, url__full=url.shown
            ) as span,
            self._metered(breaker, permit, asked, scope),
        ):
            return await self._exchanges.make(call, url, span)

    @contextmanager
    def _metered(
        self, breaker: Breaker, permit: Permit, asked: str, scope: asyncio.Timeout
    ) -> Iterator[None]:
        """Report the outcome of an exchange to the breaker and to `observe`."""
        began = self._clock()
        outcome, verdict = "abandoned", Verdict.IGNORED
        try:
            yield
            outcome, verdict = "ok", Verdict.SUCCESS
        except FailedAttempt as failed:
            outcome, verdict = type(failed.error).__name__, failed.verdict
            raise
        except asyncio.CancelledError:
            if scope.expired():
                outcome, verdict = UpstreamTimeoutError.__name__, Verdict.FAILURE
            raise
        finally:
            # A cancelled call must give its place of the half-open state back, too.
            breaker.leave(permit, verdict)
            self._observe(asked, outcome, self._clock() - began)
