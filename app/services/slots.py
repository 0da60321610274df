"""Limits that tenants and their clients share fairly: fetches, checks, streams, requests a second.

Work above a limit waits instead of failing: `go` requests hundreds of files at once and gives up at
the first 429. The waiting time is bounded. The number of waiting fetches is bounded only to protect
memory, and then each tenant, and each client of it, has a share of the places.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from cachetools import LRUCache

from app.core.errors import OverloadedError, UpstreamAbsentError
from app.services.memory import MemoryBudget
from app.upstream.goproxy import CONNECTIONS

_MAX_LANES = 4096
_LONGEST_WAITS = 10  # a fetch waits as many times `wait_s` at most
Turn = asyncio.Future[str]
"""A turn at a FairSemaphore; its result is the key for which the permit is held."""


class FairSemaphore:
    """At most `permits` holders at once; waiting keys (tenants or addresses) get permits in turn.

    Args:
        permits: how many.
        has_reserve: whether a key gets a permit only while it holds fewer than are free. Then one
            busy key holds half of the permits at most, two hold a third each, and so on: a key that
            comes rarely finds a free permit.
    """

    def __init__(self, permits: int, *, has_reserve: bool = True) -> None:
        self._free = permits
        self._has_reserve = has_reserve
        self._advanced_at = 0.0  # time of the event loop
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[Turn]] = {}  # by key, the next one first

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Return a context that holds one permit for a key; wait for the permit."""
        await self.acquire(key)
        try:
            yield
        finally:
            self.release(key)

    async def acquire(self, key: str, wait_s: float | None = None) -> None:
        """Wait for a permit for a key and take it; `release` follows.

        Raises:
            TimeoutError: no permit was free for wait_s seconds.
        """
        turn = self.queue(key)
        if turn.done():
            return
        async with asyncio.timeout(wait_s):
            await self.wait(turn)

    async def acquire_while_advancing(self, key: str, wait_s: float, until: float) -> None:
        """Wait for a permit for a key while the work of others advances, and take the permit.

        Args:
            key: whose permit.
            wait_s: seconds since `advance` was called last, or since the waiting began.
            until: when the waiting ends anyway; time of the event loop.

        Raises:
            TimeoutError: no permit came in time.
        """
        now = asyncio.get_running_loop().time
        turn, began = self.queue(key), now()
        try:
            while not turn.done():
                left_s = min(max(began, self._advanced_at) + wait_s, until) - now()
                if left_s <= 0:
                    turn.cancel()
                    raise TimeoutError
                await asyncio.wait({turn}, timeout=left_s)
        except asyncio.CancelledError:
            self._give_up(turn)
            raise

    def advance(self) -> None:
        """Note that a holder's work succeeded: so those that wait may wait on."""
        self._advanced_at = asyncio.get_running_loop().time()

    def queue(self, key: str) -> Turn:
        """Return the turn of a key; it is granted now if a permit is free."""
        turn: Turn = asyncio.get_running_loop().create_future()
        self.share(turn, key)
        return turn

    def share(self, turn: Turn, key: str) -> None:
        """Let a turn that waits come by the queue of another key, too, whichever is sooner."""
        if turn.done():
            return
        if self._may_start(key):
            self._start(key)
            turn.set_result(key)
        else:
            self._waiting.setdefault(key, deque()).append(turn)

    async def wait(self, turn: Turn) -> str:
        """Return the key for which a turn got its permit; `release` that key."""
        try:
            return await turn
        except asyncio.CancelledError:
            self._give_up(turn)
            raise

    def _give_up(self, turn: Turn) -> None:
        """Cancel a turn; if its permit arrived in the same moment, pass the permit on."""
        if not turn.cancel() and not turn.cancelled():
            self.release(turn.result())

    def _may_start(self, key: str) -> bool:
        return self._free > (self._held[key] if self._has_reserve else 0)

    def _start(self, key: str) -> None:
        self._free -= 1
        self._held[key] += 1

    def release(self, key: str) -> None:
        """Give a permit back; waiting keys get it in turn."""
        self._free += 1
        self._held[key] -= 1
        for name in list(self._waiting):
            if not self._free:
                break
            if self._may_start(name):
                self._pass_on(name)
        if not self._held[key]:
            del self._held[key]

    def _pass_on(self, key: str) -> None:
        """Give a free permit to a key's next task, unless all its tasks are cancelled."""
        turns = self._waiting.pop(key)
        while turns:
            turn = turns.popleft()
            if turn.done():  # cancelled, or granted to another key
                continue
            self._start(key)
            turn.set_result(key)
            if turns:
                self._waiting[key] = turns  # at the end, behind all other keys
            return


class Places:
    """Places of fetches that run or wait; when all are in use, shares count.

    A tenant then still has its share: half of the places, divided by the number of tenants. Where
    a tenant has used up its share, each client of it still has the same part of that share.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._total = 0
        self._by_tenant: dict[str, Counter[str]] = {}  # places by client

    def take(self, tenant: str, client: str) -> bool:
        """Take a place; return False, and take none, if the shares are used up."""
        clients = self._by_tenant.get(tenant, Counter())
        if self._total >= self._places:
            share = _share(self._places, len(self._by_tenant))
            client_share = _share(share, len(clients))
            if clients.total() >= share and clients[client] >= client_share:
                return False
        self._by_tenant[tenant] = clients
        clients[client] += 1
        self._total += 1
        return True

    def give_back(self, tenant: str, client: str) -> None:
        """Give a place back."""
        self._total -= 1
        clients = self._by_tenant[tenant]
        clients[client] -= 1
        if not clients[client]:
            del clients[client]
        if not clients:
            del self._by_tenant[tenant]


def _share(places: int, count: int) -> int:
    return places // (2 * max(count, 1))


class Slots:
    """Slots for fetches from upstreams; each tenant has its own slots at each upstream.

    Args:
        checks: concurrent checks of content, of all tenants together; a check costs CPU.
        fetches: concurrent fetches of all tenants together.
        memory_bytes: what the bodies of requests under way may hold in memory together.
        wait_s: seconds that a fetch waits for its slot while no other fetch succeeds. While fetches
            succeed, it waits `_LONGEST_WAITS` times as long at most.
        places: fetches that run or wait, of all tenants together; beyond it shares count.
    """

    def __init__(
        self,
        *,
        checks: int = 3,
        fetches: int = 1024,
        memory_bytes: int = 128 * 1024 * 1024,
        wait_s: float = 60.0,
        places: int = 4096,
    ) -> None:
        self._lanes: LRUCache[tuple[str, int, int], FairSemaphore] = LRUCache(_MAX_LANES)
        self._origins: LRUCache[int, FairSemaphore] = LRUCache(_MAX_LANES)
        self._fetches = FairSemaphore(fetches)
        self._wait_s = wait_s
        self._places = Places(places)
        self.checks = FairSemaphore(checks)
        self.memory = MemoryBudget(memory_bytes)

    @asynccontextmanager
    async def fetch(
        self, tenant: str, origin_id: int, limit: int, client: str = ""
    ) -> AsyncIterator[None]:
        """Return a context for one fetch of a tenant from an upstream; wait for a slot.

        Args:
            tenant: whose slots are used.
            origin_id: the upstream.
            limit: concurrent fetches of the tenant from this upstream.
            client: the address that asks; waiting clients of a tenant get slots in turn.

        Raises:
            OverloadedError: no slot came in time, or the tenant's places are used up.
        """
        if not self._places.take(tenant, client):
            raise OverloadedError(
                f"tenant {tenant} waits for as many fetches from upstream as it may; try again"
            )
        semaphores = self._semaphores(tenant, origin_id, limit)
        try:
            async with AsyncExitStack() as held:
                await self._acquire(held, semaphores, tenant, client)
                try:
                    yield
                except UpstreamAbsentError:  # upstream works: it says that there is nothing
                    _advance(semaphores)
                    raise
                _advance(semaphores)
        finally:
            self._places.give_back(tenant, client)

    def _semaphores(self, tenant: str, origin_id: int, limit: int) -> tuple[FairSemaphore, ...]:
        """Return what a fetch needs a permit of: in the lane, of the origin, of the process."""
        # A single client uses all slots of its tenant: a reserve would slow down every build.
        lane = self._lanes.setdefault(
            (tenant, origin_id, limit), FairSemaphore(limit, has_reserve=False)
        )
        origin = self._origins.setdefault(origin_id, FairSemaphore(CONNECTIONS))
        return lane, origin, self._fetches

    async def _acquire(
        self, held: AsyncExitStack, semaphores: Iterable[FairSemaphore], tenant: str, client: str
    ) -> None:
        """Wait for the tenant's own slot first: whoever waits for it holds nothing of others."""
        longest_s = _LONGEST_WAITS * self._wait_s
        until = asyncio.get_running_loop().time() + longest_s
        try:
            for semaphore, key in zip(semaphores, (client, tenant, tenant), strict=True):
                await semaphore.acquire_while_advancing(key, self._wait_s, until)
                held.callback(semaphore.release, key)
        except TimeoutError as error:
            raise OverloadedError(
                f"tenant {tenant} has as many fetches from upstream under way as it may; none "
                f"succeeded within {self._wait_s:g} s, or too many were first for {longest_s:g} s; "
                "try again"
            ) from error


def _advance(semaphores: Iterable[FairSemaphore]) -> None:
    for semaphore in semaphores:
        semaphore.advance()


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
