"""How much is fetched at once, and how fast a tenant may ask."""

import asyncio

import pytest

from app.core.errors import RateLimitedError
from app.services.slots import LANE_PER_SLOT, QUEUE_PER_SLOT, Buckets, Slots
from tests.services.bench import Stopwatch


class Fetches:
    """Fetches that hold their slot until they are let go."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._end = asyncio.Event()
        self.running: list[tuple[str, int]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, tenant: str, origin: int, limit: int, count: int) -> None:
        for _ in range(count):
            self.tasks.append(asyncio.ensure_future(self._one(tenant, origin, limit)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _one(self, tenant: str, origin: int, limit: int) -> None:
        async with self._slots.fetch(tenant, origin, limit):
            self.running.append((tenant, origin))
            await self._end.wait()

    async def finish(self) -> None:
        self._end.set()
        await asyncio.gather(*self.tasks)


async def test_a_fetch_above_the_limit_waits_its_turn() -> None:
    fetches = Fetches(Slots())
    await fetches.start("acme", 1, 2, 5)
    assert len(fetches.running) == 2
    await fetches.finish()
    assert len(fetches.running) == 5


async def test_each_upstream_and_each_tenant_has_slots_of_its_own() -> None:
    fetches = Fetches(Slots())
    await fetches.start("acme", 1, 2, 5)
    await fetches.start("acme", 2, 2, 1)
    await fetches.start("globex", 1, 2, 1)
    assert fetches.running[2:] == [("acme", 2), ("globex", 1)]
    await fetches.finish()


async def test_a_crowd_beyond_the_queue_is_told_to_come_back_and_others_are_not() -> None:
    slots = Slots()
    fetches = Fetches(slots)
    await fetches.start("acme", 1, 1, LANE_PER_SLOT)
    await fetches.start("acme", 2, 1, QUEUE_PER_SLOT - LANE_PER_SLOT)
    with pytest.raises(RateLimitedError, match="tenant acme waits for 16 fetches"):
        async with slots.fetch("acme", 2, 1):
            pass
    await fetches.start("globex", 1, 1, 1)
    assert fetches.running == [("acme", 1), ("acme", 2), ("globex", 1)]
    await fetches.finish()
    async with slots.fetch("acme", 1, 1):
        pass


async def test_one_slow_upstream_leaves_places_to_the_others_of_its_tenant() -> None:
    slots = Slots()
    fetches = Fetches(slots)
    await fetches.start("acme", 1, 1, LANE_PER_SLOT)
    with pytest.raises(RateLimitedError, match="tenant acme waits for 12 fetches"):
        async with slots.fetch("acme", 1, 1):
            pass
    async with slots.fetch("acme", 2, 1):
        pass
    await fetches.finish()


async def test_whoever_stops_waiting_gives_the_place_back() -> None:
    slots = Slots()
    fetches = Fetches(slots)
    await fetches.start("acme", 1, 1, 3)
    for task in fetches.tasks[1:]:
        task.cancel()
    await asyncio.gather(*fetches.tasks[1:], return_exceptions=True)
    assert slots._waiting["acme"] == 1
    fetches.tasks = fetches.tasks[:1]
    await fetches.finish()
    assert not slots._waiting


def test_a_bucket_gives_a_burst_and_then_its_rate() -> None:
    clock = Stopwatch()
    buckets = Buckets(clock)
    assert [buckets.take("acme", 10) for _ in range(40)] == [0.0] * 40
    assert buckets.take("acme", 10) == pytest.approx(0.1)
    assert buckets.take("globex", 10) == 0.0
    clock.seconds += 0.5
    assert [buckets.take("acme", 10) for _ in range(5)] == [0.0] * 5
    assert buckets.take("acme", 10) > 0


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    clock = Stopwatch()
    buckets = Buckets(clock, burst_s=2.0)
    buckets.take("acme", 5)
    clock.seconds += 1_000_000
    assert [buckets.take("acme", 5) == 0.0 for _ in range(11)] == [True] * 10 + [False]


def test_a_refused_request_costs_nothing() -> None:
    clock = Stopwatch()
    buckets = Buckets(clock, burst_s=1.0)
    buckets.take("acme", 1)
    waits = [buckets.take("acme", 1) for _ in range(100)]
    assert max(waits) <= 1.0
    clock.seconds += 1.0
    assert buckets.take("acme", 1) == 0.0
