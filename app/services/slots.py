"""Limits that tenants share fairly: concurrent fetches, concurrent checks, requests a second.

Work above a limit waits instead of failing: `go` requests hundreds of files at once and gives up at
the first 429. The waiting time is bounded. The number of waiting fetches is bounded only to protect
memory, and then each tenant has a share of the places.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cachetools import LRUCache

from app.core.errors import OverloadedError
from app.services.memory import MemoryBudget

_MAX_LANES = 4096


class FairSemaphore:
    """At most `permits` holders at once; waiting tenants get a permit in turn.

    With two permits or more, one tenant never holds all of them, so that a tenant with few requests
    finds a free permit.
    """

    def __init__(self, permits: int) -> None:
        self._free = permits
        self._share = max(1, permits - 1)
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by tenant, the next one first

    @asynccontextmanager
    async def hold(self, tenant: str) -> AsyncIterator[None]:
        """Return a context that holds one permit for a tenant."""
        if self._may_start(tenant):
            self._start(tenant)
        else:
            await self._wait(tenant)
        try:
            yield
        finally:
            self._end(tenant)

    def _may_start(self, tenant: str) -> bool:
        return self._free > 0 and self._held[tenant] < self._share

    def _start(self, tenant: str) -> None:
        self._free -= 1
        self._held[tenant] += 1

    async def _wait(self, tenant: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._end(tenant)  # the permit arrived in the same moment: pass it on
            raise

    def _end(self, tenant: str) -> None:
        self._free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        for name in list(self._waiting):
            if self._may_start(name) and self._pass_on(name):
                return

    def _pass_on(self, tenant: str) -> bool:
        """Give the free permit to a tenant's next task; return False if all are cancelled."""
        turns = self._waiting.pop(tenant)
        while turns:
            turn = turns.popleft()
            if turn.done():  # cancelled
                continue
            self._start(tenant)
            turn.set_result(None)
            if turns:
                self._waiting[tenant] = turns  # at the end, behind all other tenants
            return True
        return False


class Slots:
    """Slots for fetches from upstreams; each tenant has its own slots at each upstream.

    Args:
        checks: concurrent checks of content, of all tenants together; a check costs CPU.
        memory_bytes: what the bodies of requests under way may hold in memory together.
        wait_s: seconds that a fetch waits for its slot.
        places: fetches that run or wait, of all tenants together. When all places are in use, each
            tenant may still use its share: half of the places, divided by the number of tenants.
    """

    def __init__(
        self,
        *,
        checks: int = 3,
        memory_bytes: int = 128 * 1024 * 1024,
        wait_s: float = 60.0,
        places: int = 4096,
    ) -> None:
        self._lanes: LRUCache[tuple[str, int, int], asyncio.Semaphore] = LRUCache(_MAX_LANES)
        self._wait_s = wait_s
        self._places = places
        self._taken: Counter[str] = Counter()
        self._total = 0
        self.checks = FairSemaphore(checks)
        self.memory = MemoryBudget(memory_bytes)

    @asynccontextmanager
    async def fetch(self, tenant: str, origin_id: int, limit: int) -> AsyncIterator[None]:
        """Return a context for one fetch of a tenant from an upstream; wait for a slot.

        Raises:
            OverloadedError: no slot was free for wait_s, or the tenant's places are used up.
        """
        if self._total >= self._places and self._taken[tenant] >= self._share():
            raise OverloadedError(
                f"tenant {tenant} waits for {self._taken[tenant]} fetches from upstream already; "
                "try again"
            )
        lane = self._lanes.setdefault((tenant, origin_id, limit), asyncio.Semaphore(limit))
        self._taken[tenant] += 1
        self._total += 1
        try:
            await self._acquire(lane, tenant)
            try:
                yield
            finally:
                lane.release()
        finally:
            self._total -= 1
            self._taken[tenant] -= 1
            if not self._taken[tenant]:
                del self._taken[tenant]

    def _share(self) -> int:
        return self._places // (2 * max(len(self._taken), 1))

    async def _acquire(self, lane: asyncio.Semaphore, tenant: str) -> None:
        if not lane.locked():
            await lane.acquire()
            return
        try:
            async with asyncio.timeout(self._wait_s):
                await lane.acquire()
        except TimeoutError as error:
            raise OverloadedError(
                f"tenant {tenant} has as many fetches from this upstream under way as it may, and "
                f"none ended within {self._wait_s:g} s; try again"
            ) from error


class Buckets:
    """Token buckets: `rate` tokens a second, and a burst of rate * burst_s tokens.

    Args:
        clock: monotonic seconds.
        burst_s: seconds that fill an empty bucket.
    """

    def __init__(self, clock: Callable[[], float], burst_s: float = 4.0) -> None:
        self._clock = clock
        self._burst_s = burst_s
        self._levels: LRUCache[str, tuple[float, float]] = LRUCache(_MAX_LANES)

    def take(self, key: str, rate: float) -> float:
        """Take a token and return 0; if the bucket is empty, return the seconds to the next one."""
        now, most = self._clock(), rate * self._burst_s
        level, at = self._levels.get(key, (most, now))
        level = min(most, level + (now - at) * rate)
        if level < 1:
            self._levels[key] = (level, now)
            return (1 - level) / rate
        self._levels[key] = (level - 1, now)
        return 0.0
