"""How much is fetched at once: for each tenant and upstream, and how many may wait for it.

Fetches above the limit wait their turn instead of failing: `go` asks for dozens of files at once
and gives up at the first 429. Only a crowd beyond the queue is told to come back.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cachetools import LRUCache

from app.core.errors import RateLimitedError

QUEUE_PER_SLOT = 16  # half of the queue of all tenants, with the defaults
LANE_PER_SLOT = 12  # of these at one upstream: a slow one leaves places to the others
_MAX_LANES = 4096


class Slots:
    """Slots for fetches; each tenant has its own at each upstream.

    Args:
        checks: zips that are checked at once; it costs CPU.
    """

    def __init__(self, *, checks: int = 2) -> None:
        self._lanes: LRUCache[tuple[str, int, int], asyncio.Semaphore] = LRUCache(_MAX_LANES)
        self._waiting: Counter[str | tuple[str, int]] = Counter()
        self.checks = asyncio.Semaphore(checks)

    @asynccontextmanager
    async def fetch(self, tenant: str, origin_id: int, limit: int) -> AsyncIterator[None]:
        """Return a context in which one fetch of a tenant from an upstream runs.

        Raises:
            RateLimitedError: limit * 16 fetches of the tenant run or wait already, or limit * 12
                at that upstream.
        """
        places: tuple[str | tuple[str, int], ...] = (tenant, (tenant, origin_id))
        for place, most in zip(places, (QUEUE_PER_SLOT, LANE_PER_SLOT), strict=True):
            if self._waiting[place] >= limit * most:
                raise RateLimitedError(
                    f"tenant {tenant} waits for {self._waiting[place]} fetches from upstream "
                    "already; try again"
                )
        key = (tenant, origin_id, limit)
        lane = self._lanes.setdefault(key, asyncio.Semaphore(limit))
        self._waiting.update(places)
        try:
            async with lane:
                yield
        finally:
            for place in places:
                self._waiting[place] -= 1
                if not self._waiting[place]:
                    del self._waiting[place]


class Buckets:
    """Token buckets: `rate` a second, with a burst of 4 seconds' worth.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float], burst_s: float = 4.0) -> None:
        self._clock = clock
        self._burst_s = burst_s
        self._levels: LRUCache[str, tuple[float, float]] = LRUCache(_MAX_LANES)

    def take(self, key: str, rate: float) -> float:
        """Take one from a bucket; return 0, or the seconds until there is one again."""
        now, most = self._clock(), rate * self._burst_s
        level, at = self._levels.get(key, (most, now))
        level = min(most, level + (now - at) * rate)
        if level < 1:
            self._levels[key] = (level, now)
            return (1 - level) / rate
        self._levels[key] = (level - 1, now)
        return 0.0
