"""The retry loop: attempts, and the waits between them.

Full jitter is Marc Brooker's "Exponential Backoff And Jitter" (AWS Architecture Blog).

Not here: the attempts themselves (`http`), what each kind of failure means (`status`, `body`,
`wire`), and how many retries an upstream gets in all (`budget`).
"""

from collections.abc import Awaitable, Callable
from itertools import count
from random import Random
from typing import TypeVar

from app.upstream.attempt import FailedAttempt
from app.upstream.budget import RetryBudget

T = TypeVar("T")

MAX_RETRIES = 3
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 2.0
# A longer wait is left to the caller, who gets the number of seconds.
MAX_RETRY_AFTER_S = 30.0


def full_jitter(random: Random, retry: int) -> float:
    """Return a delay in seconds, drawn evenly from 0 to min(2, 0.1 * 2**retry).

    retry counts from 0: the ceilings are 0.1, 0.2, 0.4, … and 2 from the fifth retry on.
    """
    return random.uniform(0.0, min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(retry, 10)))


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

    Args:
        attempt: makes one attempt.
        retries: attempts after the first one, at most.
        budget: of the upstream.
        left_s: returns the seconds until the deadline. A wait past the deadline would turn a clear
            error into a timeout.
        restart: awaited before every attempt but the first.
        random: for the jitter.
        sleep: waits between attempts.

    Raises:
        UpstreamError: the `error` of the last attempt. No further one is made after 1 + retries
            attempts, if it can't help, if the wait is over 30 s or past the deadline, or if the
            budget is used up.
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
