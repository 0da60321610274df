"""What an answer is worth: whether to take it, to give up, or to try again, and when.

Retry-After follows RFC 9110, sections 10.2.3 and 5.6.7; full jitter is Marc Brooker's
"Exponential Backoff And Jitter" (AWS Architecture Blog); the budget keeps our retries from making
an outage worse. Nothing here connects: attempts are made in `upstream/http.py`, and broken
connections are judged in `upstream/wire.py`.
"""

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import count
from random import Random
from typing import TypeVar

from app.core.errors import (
    OverloadedError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from app.upstream.address import Url
from app.upstream.breaker import Verdict, Window

T = TypeVar("T")

MAX_RETRIES = 3
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 2.0
# Longer than this is not waited for: the caller gets the number and decides.
MAX_RETRY_AFTER_S = 30.0
BUDGET_FLOOR = 10
BUDGET_PERCENT = 10

# Nine digits are 31 years; int() of thousands of digits would be work for nothing.
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


def retry_after_s(value: str | None, now: float) -> float | None:
    """Return the seconds, 0 or more, that a Retry-After value asks to wait, or None.

    value is whole seconds or an HTTP date; now is Unix time in seconds, for the date. With now at
    784111770 (1994-11-06 08:49:30 GMT), "Sun, 06 Nov 1994 08:49:37 GMT" gives 7.0 and "120" gives
    120.0; a date in the past gives 0.0. Absent or malformed (RFC 9110 knows no sign, fraction or
    unit) gives None: the caller uses its default.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        # A date without a zone is GMT by RFC 9110; Python would take it as local time.
        moment = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def whole_seconds(seconds: float | None, default: int) -> int:
    """Return seconds rounded up, at least 1, or the default for None: 1.2 gives 2, 0.0 gives 1."""
    return default if seconds is None else max(1, math.ceil(seconds))


def full_jitter(random: Random, retry: int) -> float:
    """Return a delay in seconds, drawn evenly from 0 to min(2, 0.1 * 2**retry).

    retry counts from 0: the ceilings are 0.1, 0.2, 0.4, … and 2 from the fifth retry on.
    """
    return random.uniform(0.0, min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(retry, 10)))


class RetryBudget:
    """At most 10 retries, plus one for every ten calls, in the last 300 s.

    While an upstream is well, no retry is ever refused; when it is down, four times the load would
    keep it down. 200 calls in the window allow 30 retries.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._window = Window(clock)

    def count_call(self) -> None:
        """Count one call; its retries don't count as calls."""
        self._window.add("call")

    def take_retry(self) -> bool:
        """Take one retry out of the budget; False, and nothing taken, when it is used up."""
        allowed = BUDGET_FLOOR + self._window.count("call") * BUDGET_PERCENT // 100
        if self._window.count("retry") >= allowed:
            return False
        self._window.add("retry")
        return True


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an upstream may take for each step, in seconds, and its minimum rate.

    A download that brings less than `rate_bytes_s` over `rate_window_s` is given up. `pool_s` is
    how long a call waits for one of our own `connections`; `drop_s` how long reading away the body
    of a refusal may take.
    """

    connect_s: float = 5.0
    read_s: float = 30.0
    pool_s: float = 5.0
    drop_s: float = 1.0
    connections: int = 100
    rate_bytes_s: int = 32 * 1024
    rate_window_s: float = 30.0

    def timeouts(self) -> dict[str, float]:
        """Return the limits of single steps, named as `httpx.Timeout` wants."""
        return {
            "connect": self.connect_s,
            "read": self.read_s,
            "write": self.read_s,
            "pool": self.pool_s,
        }


class FailedAttempt(Exception):
    """One attempt failed. It never leaves the client, which raises `error` in its place.

    Attributes:
        error: what the caller gets if no other attempt is made.
        verdict: what the upstream's breaker counts.
        again: whether another attempt may help.
        wait_s: seconds that the upstream asked to wait before it, or None.
    """

    def __init__(
        self,
        error: UpstreamError | OverloadedError,
        verdict: Verdict = Verdict.IGNORED,
        *,
        again: bool = False,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.verdict = verdict
        self.again = again
        self.wait_s = wait_s


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    *,
    retries: int,
    budget: RetryBudget,
    left_s: Callable[[], float],
    restart: Callable[[], Awaitable[None]],
    random: Random,
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """Return the result of the first attempt that succeeds.

    left_s gives the seconds until the deadline: to wait past it would only turn a clear answer
    into a timeout. restart is awaited before every further attempt.

    Raises:
        UpstreamError: the last attempt's `error`, because it was the last of 1 + retries, another
            one can't help, the upstream wants more than 30 s or more than is left, or the budget
            is used up.
        OverloadedError: in the same way.
    """
    budget.count_call()
    for retry in count():
        try:
            return await attempt()
        except FailedAttempt as failed:
            delay_s = full_jitter(random, retry) if failed.wait_s is None else failed.wait_s
            can_wait = delay_s <= MAX_RETRY_AFTER_S and delay_s < left_s()
            if not (failed.again and retry < retries and can_wait and budget.take_retry()):
                raise failed.error from failed.__cause__
        await sleep(delay_s)
        await restart()
    raise AssertionError("count() has no end")


def refusal(url: Url, status: int, headers: Mapping[str, str], now: float) -> FailedAttempt:
    """Return what an answer to a full GET means whose status is neither 200 nor a redirect.

    headers have lower-case names; now is Unix time in seconds, for a Retry-After date. 206, which
    nobody asked for, and 203, 204 and 304 give an UpstreamContentError.
    """
    said, origin = f"{url.shown} answered {status}", url.origin
    if status in (404, 410):
        return FailedAttempt(
            UpstreamAbsentError(said, origin=origin, status=status), Verdict.SUCCESS
        )
    if status in (408, 429) or status >= 500:
        wait_s = retry_after_s(headers.get("retry-after"), now)
        error = UpstreamUnavailableError(
            said, origin=origin, status=status, retry_after_s=whole_seconds(wait_s, 30)
        )
        verdict = Verdict.THROTTLE if status == 429 else Verdict.FAILURE
        return FailedAttempt(error, verdict, again=status != 501, wait_s=wait_s)
    if status in (401, 403):
        said += ": it refuses our credential, or wants one, or denies us access"
    if 400 <= status < 500:
        return FailedAttempt(UpstreamError(said, origin=origin, status=status), Verdict.SUCCESS)
    said += " where only 200 makes sense"
    return FailedAttempt(UpstreamContentError(said, origin=origin, status=status))


def check_body_head(
    url: Url, headers: Mapping[str, str], max_bytes: int, exact_bytes: int | None
) -> None:
    """Refuse a body by its headers, before a byte of it is read.

    Raises:
        FailedAttempt: it is encoded although identity was asked for, its declared length is over
            max_bytes, or is not exact_bytes.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    declared = headers.get("content-length", "")
    if encoding not in ("", "identity"):
        trouble = "sent an encoded body although only identity was asked for"
    elif not declared.isdecimal():
        return
    elif exact_bytes is not None and int(declared) != exact_bytes:
        trouble = f"declares {int(declared)} bytes instead of {exact_bytes}"
    elif int(declared) > max_bytes:
        trouble = f"declares {int(declared)} bytes, more than the limit of {max_bytes}"
    else:
        return
    raise FailedAttempt(content_error(url, trouble))


def content_error(url: Url, trouble: str) -> UpstreamContentError:
    """Return the error whose message is the URL and what is wrong with its answer."""
    return UpstreamContentError(f"{url.shown} {trouble}", origin=url.origin)


def too_slow(url: Url, limits: Limits) -> UpstreamTimeoutError:
    """Return the error for a body below the minimum rate."""
    return UpstreamTimeoutError(
        f"{url.shown} sent less than {limits.rate_bytes_s} bytes per second", origin=url.origin
    )


def left_alone(url: Url, wait_s: int) -> UpstreamUnavailableError:
    """Return the error for an open breaker, whose rest is wait_s."""
    return UpstreamUnavailableError(
        f"{url.origin} failed too often; it is left alone for {wait_s} s",
        origin=url.origin,
        retry_after_s=wait_s,
    )


class Pace:
    """Whether a body comes at a minimum rate, measured over windows of waiting time.

    Only the time spent waiting for the upstream counts: a slow disk is not the upstream's fault.
    """

    def __init__(self, bytes_per_s: int, window_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._window_s = window_s
        self._bytes = 0
        self._waited_s = 0.0

    def is_kept(self, size_bytes: int, waited_s: float) -> bool:
        """Count a chunk that took waited_s to come; False when a window ended below the rate.

        At 32 KiB/s over 30 s, a window that ends after 31 s needs 31 * 32 KiB.
        """
        self._bytes += size_bytes
        self._waited_s += waited_s
        if self._waited_s < self._window_s:
            return True
        kept = self._bytes >= self._bytes_per_s * self._waited_s
        self._bytes, self._waited_s = 0, 0.0
        return kept


class BodyMeter:
    """Counts a body while it comes, and refuses it as soon as it is too long or too slow.

    It may have max_bytes, and no more than exact_bytes where that is known. limits holds the
    minimum rate; None asks for none. `size_bytes` is how much came so far.
    """

    def __init__(
        self, url: Url, max_bytes: int, exact_bytes: int | None, limits: Limits | None
    ) -> None:
        self.size_bytes = 0
        self._url = url
        self._exact_bytes = exact_bytes
        self._most_bytes = max_bytes if exact_bytes is None else min(exact_bytes, max_bytes)
        self._limits = limits
        self._pace = limits and Pace(limits.rate_bytes_s, limits.rate_window_s)

    def count(self, chunk_bytes: int, waited_s: float) -> None:
        """Count a chunk that took waited_s to come.

        Raises:
            FailedAttempt: with it the body is too long, or came too slowly.
        """
        self.size_bytes += chunk_bytes
        if self.size_bytes > self._most_bytes:
            raise FailedAttempt(
                content_error(self._url, f"sent more than {self._most_bytes} bytes")
            )
        if self._limits and self._pace and not self._pace.is_kept(chunk_bytes, waited_s):
            raise FailedAttempt(too_slow(self._url, self._limits), Verdict.FAILURE)

    def finish(self) -> int:
        """Return the length of the body, now that it ended.

        Raises:
            FailedAttempt: it is shorter than exact_bytes.
        """
        if self._exact_bytes is not None and self.size_bytes < self._exact_bytes:
            trouble = f"ended after {self.size_bytes} of {self._exact_bytes} bytes"
            raise FailedAttempt(content_error(self._url, trouble), Verdict.FAILURE, again=True)
        return self.size_bytes
