"""How much is fetched at once, and how fast a tenant may ask."""

import asyncio

import pytest

from app.core.errors import OverloadedError, UpstreamAbsentError, UpstreamTimeoutError
from app.services.slots import Buckets, FairSemaphore, Slots
from tests.services.bench import Stopwatch


class Fetches:
    """Fetches that hold their slot until they are let go."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._end = asyncio.Event()
        self.running: list[tuple[str, int]] = []
        self.clients: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def start(
        self, tenant: str, origin: int, limit: int, count: int, client: str = ""
    ) -> None:
        for _ in range(count):
            self.tasks.append(asyncio.ensure_future(self._one(tenant, origin, limit, client)))
        await _quiet()

    async def _one(self, tenant: str, origin: int, limit: int, client: str) -> None:
        async with self._slots.fetch(tenant, origin, limit, client):
            self.running.append((tenant, origin))
            self.clients.append(client)
            await self._end.wait()

    async def finish(self) -> None:
        self._end.set()
        await asyncio.gather(*self.tasks)


def assert_all_given_back(slots: Slots) -> None:
    assert not slots._places._by_tenant
    assert slots._places._total == 0
    for semaphore in (*slots._lanes.values(), *slots._origins.values(), slots._fetches):
        assert not semaphore._held
        assert not any(not turn.done() for turns in semaphore._waiting.values() for turn in turns)


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


async def test_a_crowd_waits_whatever_its_size_and_is_served_in_its_order() -> None:
    fetches = Fetches(Slots())
    await fetches.start("acme", 1, 2, 1000)
    assert len(fetches.running) == 2
    await fetches.finish()
    assert len(fetches.running) == 1000


async def test_waiting_ends_after_its_time() -> None:
    slots = Slots(wait_s=0.0)
    fetches = Fetches(slots)
    await fetches.start("acme", 1, 1, 1)
    with pytest.raises(OverloadedError, match="none succeeded within 0 s"):
        async with slots.fetch("acme", 1, 1):
            pass
    async with slots.fetch("acme", 2, 1):
        pass
    async with slots.fetch("globex", 1, 1):
        pass
    await fetches.finish()
    async with slots.fetch("acme", 1, 1):
        pass
    assert_all_given_back(slots)


@pytest.fixture
async def loop_time(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """Let the event loop's time stand still, until the test moves it."""
    clock = Stopwatch()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    return clock


class Queue:
    """Fetches of one client that end one by one."""

    def __init__(self, slots: Slots, count: int, outcome: Exception | None = None) -> None:
        self._slots = slots
        self._outcome = outcome
        self._ends: list[asyncio.Event] = []
        self.tasks = [asyncio.ensure_future(self._one()) for _ in range(count)]

    async def _one(self) -> None:
        async with self._slots.fetch("acme", 1, 1):
            self._ends.append(asyncio.Event())
            await self._ends[-1].wait()
            if self._outcome is not None:
                raise self._outcome

    async def end_next(self) -> None:
        await _quiet()
        self._ends.pop(0).set()
        await _quiet()

    def waiting(self) -> int:
        """Return how many neither ended nor have their slot."""
        return sum(not task.done() for task in self.tasks) - len(self._ends)


@pytest.mark.parametrize(
    ("outcome", "waiting"),
    [
        (None, 2),
        (UpstreamAbsentError("no such version", origin="", status=404), 2),
        (UpstreamTimeoutError("no answer", origin=""), 0),
    ],
    ids=["success", "absence", "failure"],
)
async def test_fetches_wait_on_while_others_succeed(
    loop_time: Stopwatch, outcome: Exception | None, waiting: int
) -> None:
    slots = Slots(wait_s=60.0)
    queue = Queue(slots, 4, outcome)
    await _quiet()
    loop_time.seconds += 50
    await queue.end_next()
    loop_time.seconds += 50
    await _quiet()
    assert queue.waiting() == waiting
    loop_time.seconds += 11
    await _quiet()
    assert queue.waiting() == 0
    with pytest.raises(OverloadedError, match="none succeeded within 60 s"):
        await queue.tasks[3]
    await queue.end_next()
    await asyncio.gather(*queue.tasks, return_exceptions=True)
    assert_all_given_back(slots)


async def test_waiting_has_an_end_even_while_others_succeed(loop_time: Stopwatch) -> None:
    slots = Slots(wait_s=60.0)
    queue = Queue(slots, 13)
    await _quiet()
    for _ in range(10):
        loop_time.seconds += 55
        await queue.end_next()
    assert queue.waiting() == 2
    loop_time.seconds += 51
    await _quiet()
    assert queue.waiting() == 0
    with pytest.raises(OverloadedError, match="too many were first for 600 s"):
        await queue.tasks[12]
    await queue.end_next()
    await asyncio.gather(*queue.tasks, return_exceptions=True)
    assert_all_given_back(slots)


async def test_when_all_places_are_taken_each_tenant_still_has_its_share() -> None:
    slots = Slots(places=12)
    fetches = Fetches(slots)
    await fetches.start("acme", 1, 1, 12)
    with pytest.raises(OverloadedError, match="tenant acme waits for as many"):
        async with slots.fetch("acme", 2, 1):
            pass
    await fetches.start("globex", 1, 8, 3)  # 12 // (2 * 2)
    assert [tenant for tenant, _ in fetches.running].count("globex") == 3
    with pytest.raises(OverloadedError, match="tenant globex waits for as many"):
        async with slots.fetch("globex", 1, 8):
            pass
    await fetches.start("initech", 1, 1, 1)
    assert fetches.running[-1] == ("initech", 1)
    await fetches.finish()
    assert_all_given_back(slots)


async def test_whoever_stops_waiting_gives_the_place_back() -> None:
    slots = Slots()
    fetches = Fetches(slots)
    await fetches.start("acme", 1, 1, 3)
    for task in fetches.tasks[1:]:
        task.cancel()
    await asyncio.gather(*fetches.tasks[1:], return_exceptions=True)
    assert slots._places._by_tenant == {"acme": {"": 1}}
    fetches.tasks = fetches.tasks[:1]
    await fetches.finish()
    assert_all_given_back(slots)


async def test_two_tenants_with_150_hanging_upstreams_each_leave_a_third_its_slots() -> None:
    slots = Slots(fetches=64, places=600)
    fetches = Fetches(slots)
    for origin in range(150):
        await fetches.start("acme", origin, 8, 2)
        await fetches.start("globex", 1000 + origin, 8, 2)
    assert len(fetches.running) == 43  # 32 of the first, then no more than are free
    for _ in range(10):
        async with asyncio.timeout(1), slots.fetch("initech", 5000, 8):
            pass
    await fetches.start("initech", 5000, 8, 8)
    assert fetches.running[43:] == [("initech", 5000)] * 8
    await fetches.finish()
    assert_all_given_back(slots)


async def test_tenants_of_one_upstream_wait_for_its_connections_in_turn() -> None:
    slots = Slots()
    fetches = Fetches(slots)
    for number in range(12):
        await fetches.start(f"t{number}", 1, 8, 8)
    assert len(fetches.running) == 64  # the connections to one upstream
    assert {tenant for tenant, _ in fetches.running[48:]} >= {"t6", "t7", "t8"}
    await fetches.finish()
    assert len(fetches.running) == 96
    assert_all_given_back(slots)


async def test_clients_of_one_tenant_get_slots_in_turn() -> None:
    slots = Slots()
    fetches = Fetches(slots)
    await fetches.start("acme", 1, 2, 100, client="10.0.0.1")
    await fetches.start("acme", 1, 2, 1, client="10.0.0.2")
    await fetches.finish()
    assert fetches.clients.index("10.0.0.2") <= 4
    assert_all_given_back(slots)


async def test_when_a_tenants_share_is_used_up_each_client_of_it_still_has_a_part() -> None:
    slots = Slots(places=16)
    fetches = Fetches(slots)
    await fetches.start("acme", 1, 1, 16, client="10.0.0.1")
    with pytest.raises(OverloadedError):
        async with slots.fetch("acme", 2, 1, "10.0.0.1"):
            pass
    async with slots.fetch("acme", 2, 1, "10.0.0.2"):
        pass
    await fetches.finish()
    assert_all_given_back(slots)


class Checks:
    """Holders of a fair semaphore that end one by one, in the order that they began."""

    def __init__(self, permits: int) -> None:
        self.semaphore = FairSemaphore(permits)
        self.began: list[str] = []
        self.tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._ends: list[asyncio.Event] = []

    async def start(self, tenant: str, count: int) -> None:
        for _ in range(count):
            task = asyncio.ensure_future(self._one(tenant))
            self.tasks.setdefault(tenant, []).append(task)
        await _quiet()

    async def _one(self, tenant: str) -> None:
        async with self.semaphore.hold(tenant):
            self.began.append(tenant)
            end = asyncio.Event()
            self._ends.append(end)
            await end.wait()

    async def end_next(self) -> None:
        self._ends.pop(0).set()
        await _quiet()

    async def end_all(self) -> None:
        while self._ends:
            await self.end_next()
        await asyncio.gather(*(t for tasks in self.tasks.values() for t in tasks))


async def _quiet() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_tenant_never_holds_all_permits() -> None:
    checks = Checks(3)
    await checks.start("acme", 6)
    assert checks.began == ["acme", "acme"]
    await checks.start("globex", 1)
    assert checks.began == ["acme", "acme", "globex"]
    await checks.end_all()
    assert checks.began.count("acme") == 6


async def test_a_busy_key_leaves_as_many_permits_as_it_holds() -> None:
    checks = Checks(8)
    await checks.start("acme", 20)
    assert checks.began == ["acme"] * 4
    await checks.start("globex", 20)
    assert checks.began[4:] == ["globex"] * 2
    await checks.start("initech", 1)
    assert checks.began[6:] == ["initech"]
    await checks.end_all()
    assert len(checks.began) == 41


async def test_a_single_permit_is_anybody_s() -> None:
    checks = Checks(1)
    await checks.start("acme", 2)
    assert checks.began == ["acme"]
    await checks.end_all()
    assert checks.began == ["acme", "acme"]


async def test_waiting_tenants_take_turns() -> None:
    checks = Checks(1)
    await checks.start("acme", 4)
    await checks.start("globex", 2)
    await checks.start("initech", 1)
    await checks.end_all()
    assert checks.began == ["acme", "acme", "globex", "initech", "acme", "globex", "acme"]


async def test_a_turn_comes_by_the_queue_of_whoever_is_first() -> None:
    semaphore = FairSemaphore(1, has_reserve=False)
    await semaphore.acquire("acme")
    turns = [semaphore.queue("acme") for _ in range(3)]
    semaphore.share(turns[2], "globex")
    semaphore.release("acme")
    assert turns[0].result() == "acme"
    semaphore.release("acme")
    assert turns[2].result() == "globex"
    semaphore.release("globex")
    assert turns[1].result() == "acme"
    semaphore.share(turns[1], "globex")  # too late to change anything
    semaphore.release("acme")
    assert semaphore._free == 1
    assert not semaphore._held
    assert not semaphore._waiting


async def test_a_permit_is_not_lost_with_whoever_waited_for_it() -> None:
    checks = Checks(1)
    await checks.start("acme", 1)
    await checks.start("globex", 2)
    checks.tasks["globex"][0].cancel()
    await _quiet()
    # The next one is given the permit, and goes away before it can take it.
    checks._ends.pop(0).set()
    checks.tasks["globex"][1].cancel()
    await _quiet()
    await checks.start("initech", 1)
    assert checks.began == ["acme", "initech"]
    await checks.end_next()
    assert not checks.semaphore._held
    assert not checks.semaphore._waiting
    assert checks.semaphore._free == 1


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
