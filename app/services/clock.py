"""The wall clock, pauses between two attempts, and what to do when the wall clock is set.

Tests pass clocks and pauses of their own.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from app import RELEASED, logs

MAX_PART_S = 1.0
"""How far wall clock and monotonic clock may part. Both follow a clock that is slewed; only a step
of the wall clock, or a suspended machine, makes them part."""

_log = logs.get("clock")

Now = Callable[[], datetime]
Monotonic = Callable[[], float]
Pause = Callable[[float], Awaitable[None]]


def utc_now() -> datetime:
    """Return the time, aware and in UTC."""
    return datetime.now(UTC)


class ClockWatch:
    """Notices that the wall clock was set, since it then parts from the monotonic clock.

    A decision by the earlier time (a rule or a token has expired, a list is fresh) does not hold
    any more. Whoever keeps such decisions is called, and forgets them. Used from one event loop.

    Attributes:
        jumps: how often the wall clock was set.
    """

    def __init__(self, now: Now, monotonic: Monotonic) -> None:
        self._now = now
        self._monotonic = monotonic
        self._offset_s = self._measure()
        self._forget: list[Callable[[], None]] = []
        self.jumps = 0

    def on_jump(self, forget: Callable[[], None]) -> None:
        """Have a function called whenever the wall clock was set."""
        self._forget.append(forget)

    def look(self) -> int:
        """Compare the clocks; return how often the wall clock was set so far."""
        offset_s = self._measure()
        by_s = offset_s - self._offset_s
        if abs(by_s) > MAX_PART_S:
            self._offset_s = offset_s
            self.jumps += 1
            _log.warning("the wall clock was set", by_s=round(by_s, 1))
            for forget in self._forget:
                forget()
        return self.jumps

    def trouble(self) -> str | None:
        """Return what is certainly wrong with the wall clock, or None."""
        now = self._now()
        if now >= RELEASED:
            return None
        return (
            f"the clock says {now:%Y-%m-%d %H:%M} UTC, and this Moorage was released on "
            f"{RELEASED:%Y-%m-%d}: set the clock of this machine"
        )

    def _measure(self) -> float:
        return self._now().timestamp() - self._monotonic()
