"""Circuit breakers: after too many failures an upstream is left alone for a while.

A pure state machine: clock and randomness are passed in; nothing here waits or connects.
`upstream/http.py` has one breaker for each origin and credential, and gives each exchange its
verdict.

    CLOSED     Every call passes. The breaker opens when more than 60 % of at least 20 calls in the
               last 300 s failed.
    OPEN       No call passes for 30 s; after each reopening 60, 120, 240, then 300 s; all +-20 %.
    HALF_OPEN  5 trials pass, at most 2 at a time. Then the same rate closes or reopens the breaker.

The states and their names are Michael Nygard's ("Release It!"); the spread of +-20 % keeps several
processes from trying at the same moment.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from random import Random

from cachetools import LRUCache

WINDOW_BUCKETS = 30
BUCKET_S = 10.0
MIN_CALLS = 20
MAX_FAILURE_PERCENT = 60
OPEN_S = 30.0
MAX_OPEN_S = 300.0
SPREAD = 0.2
TRIALS = 5
TRIALS_AT_ONCE = 2
MAX_BREAKERS = 1024


class BreakerState(StrEnum):
    """The states of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Verdict(StrEnum):
    """The outcome of an exchange, as a sign of the upstream's health.

    SUCCESS: an answer, even 403, 404 or 410.
    FAILURE: refused, reset, timed out, cut short, or 5xx.
    THROTTLE: 429. The upstream lives; its health stays unknown.
    IGNORED: no sign of health: cancelled, blocked by us, or wrong content.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    THROTTLE = "throttle"
    IGNORED = "ignored"


class Window:
    """Counts of named events in the last 300 s, in 30 buckets of 10 s.

    An event leaves the window together with its bucket, 290 to 300 s after it was added: events
    of second 0 and of second 9.9 both count until second 300, exclusive.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: deque[tuple[int, Counter[str]]] = deque()

    def add(self, event: str) -> None:
        """Count one event now."""
        bucket = self._expire()
        if not self._buckets or self._buckets[-1][0] != bucket:
            self._buckets.append((bucket, Counter()))
        self._buckets[-1][1][event] += 1

    def count(self, event: str) -> int:
        """Return how often event was added in the window."""
        self._expire()
        return sum(counts[event] for _, counts in self._buckets)

    def clear(self) -> None:
        """Forget every event."""
        self._buckets.clear()

    def _expire(self) -> int:
        bucket = int(self._clock() // BUCKET_S)
        while self._buckets and self._buckets[0][0] <= bucket - WINDOW_BUCKETS:
            self._buckets.popleft()
        return bucket


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to make one call. `period` numbers the period of the breaker's state."""

    period: int


class Breaker:
    """The breaker of one upstream.

        permit = breaker.enter()
        if permit is None:
            ...  # refuse, try again after breaker.retry_after_s()
        breaker.leave(permit, Verdict.SUCCESS)

    Every permit goes back through `leave` exactly once; after a cancelled call with IGNORED. Until
    then, the permit occupies one of two places in the half-open state.

    Args:
        clock: seconds that never go back.
        random: for the spread of the open time.
        on_change: called with True when the breaker opens, with False when it closes. Trials and
            further openings in between cause no call.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        random: Random,
        on_change: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._window = Window(clock)
        self._state = BreakerState.CLOSED
        self._period = 0
        self._open_s = OPEN_S
        self._open_until = 0.0
        self._running = 0
        self._trials: Counter[Verdict] = Counter()

    @property
    def state(self) -> BreakerState:
        """The state now; OPEN turns into HALF_OPEN by the clock alone."""
        if self._state is BreakerState.OPEN and self._clock() >= self._open_until:
            self._turn(BreakerState.HALF_OPEN)
        return self._state

    def retry_after_s(self) -> int:
        """Return the whole seconds, at least 1, after which a refused call may be made again.

        In the open state: the rest of the open time, rounded up. In the half-open state: 1.
        """
        if self.state is not BreakerState.OPEN:
            return 1
        return max(1, math.ceil(self._open_until - self._clock()))

    def enter(self) -> Permit | None:
        """Return a permit for one call, or None if the call must not be made."""
        state = self.state
        if state is BreakerState.OPEN:
            return None
        if state is BreakerState.HALF_OPEN:
            if self._running >= TRIALS_AT_ONCE or self._running + self._trials.total() >= TRIALS:
                return None
            self._running += 1
        return Permit(self._period)

    def leave(self, permit: Permit, verdict: Verdict) -> None:
        """Give a permit back, with the verdict on the call.

        A call that began in an earlier period is not counted.
        """
        state = self.state
        if permit.period != self._period:
            return
        if state is BreakerState.HALF_OPEN:
            self._running -= 1
        if verdict not in (Verdict.SUCCESS, Verdict.FAILURE):
            return
        if state is BreakerState.HALF_OPEN:
            self._count_trial(verdict)
        else:
            self._count_call(verdict)

    def _count_call(self, verdict: Verdict) -> None:
        self._window.add(verdict)
        failures = self._window.count(Verdict.FAILURE)
        calls = failures + self._window.count(Verdict.SUCCESS)
        if calls >= MIN_CALLS and _are_too_many(failures, calls):
            self._open(OPEN_S)

    def _count_trial(self, verdict: Verdict) -> None:
        self._trials[verdict] += 1
        if self._trials.total() < TRIALS:
            return
        if _are_too_many(self._trials[Verdict.FAILURE], TRIALS):
            self._open(min(MAX_OPEN_S, 2 * self._open_s))
        else:
            self._turn(BreakerState.CLOSED)

    def _open(self, seconds: float) -> None:
        self._open_s = seconds
        spread = self._random.uniform(1 - SPREAD, 1 + SPREAD)
        self._open_until = self._clock() + seconds * spread
        self._turn(BreakerState.OPEN)

    def _turn(self, state: BreakerState) -> None:
        before, self._state = self._state, state
        self._period += 1
        self._running = 0
        self._trials.clear()
        self._window.clear()
        if BreakerState.CLOSED in (before, state):
            self._on_change(state is not BreakerState.CLOSED)


class Breakers:
    """The breakers of all upstreams by name; of more than 1024, the least recently used is dropped.

    on_change is called with a name and True when its breaker opens, with False when its breaker
    closes or is dropped.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        random: Random,
        on_change: Callable[[str, bool], None] = lambda *_: None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._known: LRUCache[str, Breaker] = LRUCache(MAX_BREAKERS)

    def of(self, name: str) -> Breaker:
        """Return the breaker of a name; a new name gets a closed breaker."""
        breaker = self._known.get(name)
        if breaker is None:
            self._make_room()
            tell = partial(self._on_change, name)
            breaker = Breaker(clock=self._clock, random=self._random, on_change=tell)
            self._known[name] = breaker
        return breaker

    def states(self) -> Mapping[str, BreakerState]:
        """Return the states by name."""
        return {name: breaker.state for name, breaker in self._known.items()}

    def close(self) -> None:
        """Drop every breaker; see `on_change`."""
        while self._known:
            self._drop_one()

    def _make_room(self) -> None:
        if len(self._known) >= MAX_BREAKERS:
            self._drop_one()

    def _drop_one(self) -> None:
        name, breaker = self._known.popitem()
        if breaker.state is not BreakerState.CLOSED:
            self._on_change(name, False)


def _are_too_many(failures: int, calls: int) -> bool:
    """Return whether more than 60 % failed: 13 of 20 are too many, 12 of 20 are not."""
    return failures * 100 > calls * MAX_FAILURE_PERCENT
