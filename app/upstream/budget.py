"""The retry budget: retries must not make an outage worse."""

from collections.abc import Callable

from app.upstream.breaker import Window

BUDGET_FLOOR = 10
BUDGET_PERCENT = 10


class RetryBudget:
    """At most 10 retries, plus one for every ten calls, in the last 300 s.

    200 calls in the window allow 30 retries. While an upstream is well, no retry is refused. When
    it is down, four attempts for each call would keep it down.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._window = Window(clock)

    def count_call(self) -> None:
        """Count one call. Retries are not calls."""
        self._window.add("call")

    def take_retry(self) -> bool:
        """Take one retry from the budget; return False if the budget is used up."""
        allowed = BUDGET_FLOOR + self._window.count("call") * BUDGET_PERCENT // 100
        if self._window.count("retry") >= allowed:
            return False
        self._window.add("retry")
        return True
