"""Relaying a public log: what is passed on was verified, what was verified is kept."""

import asyncio
from collections.abc import Awaitable
from random import Random

import anyio
import pytest

from app.core.errors import (
    UnknownError,
    UpstreamAbsentError,
    UpstreamError,
    UpstreamUnavailableError,
)
from app.core.tile import Tile
from app.db.engine import Session
from app.db.sumdb import LogHead, LogTable
from tests.fakes.faults import Fault
from tests.fakes.sumdb import FakeSumdb
from tests.services.publiclog.bench import (
    HELLO,
    V1,
    Relaying,
    assert_honest_again,
    put,
    run_sql,
    sums,
)
from tests.services.publiclog.conftest import Relay
from tests.services.publiclog.goclient import GoClient

# Edges of tiles, and of levels: 256 is full, 257 begins the next, 65536 fills level 1.
SIZES = [1, 2, 255, 256, 257, 512, 513, 700, 768, 65_535, 65_536, 65_537, 66_000, 70_001]


async def test_a_lookup_is_passed_on_byte_for_byte_and_asked_for_once(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(300)
    number = put(log, HELLO)
    log.grow(10)
    answer = await relaying.relay.lookup(HELLO, V1)
    assert answer.startswith(f"{number}\n{HELLO} {V1} h1:".encode())
    assert answer.endswith(b"\n\n" + log.head())
    log.grow(500)
    assert await relaying.relay.lookup(HELLO, V1) == answer
    assert await relaying.relay.sums(HELLO, V1) == sums(1)
    assert log.hits["/lookup/example.com/!hello@v1.0.0"] == log.lookups == 1


async def test_tiles_are_passed_on_byte_for_byte_at_any_width_and_asked_for_once(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(70_000)
    put(log, HELLO)
    await relaying.relay.lookup(HELLO, V1)
    paths = ["tile/8/0/000", "tile/8/0/272", "tile/8/1/000", "tile/8/1/001", "tile/8/2/000"]
    widths = {"tile/8/0/000": [1, 7, 256], "tile/8/0/272": [256], "tile/8/1/000": [255, 256]}
    for path in paths:
        for width in widths.get(path, [1]):
            asked = path if width == 256 else f"{path}.p/{width}"
            assert await relaying.tile(asked) == log.tile_body(asked), asked
    assert all(count == 1 for path, count in log.hits.items() if path.startswith("/tile/"))
    log.stop()
    assert await relaying.tile("tile/8/0/272.p/9") == log.tile_body("tile/8/0/272.p/9")


async def test_what_is_no_tile_of_hashes_or_not_in_the_tree_is_unknown(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(300)
    for path in ("tile/8/data/000", "tile/7/0/000", "tile/8/0/001", "tile/8/1/000.p/2"):
        with pytest.raises(UnknownError):
            await relaying.tile(path)
    assert await relaying.tile("tile/8/0/001.p/44") == log.tile_body("tile/8/0/001.p/44")


async def test_the_newest_head_is_told_and_the_kept_one_where_the_log_is_down(
    relaying: Relaying, log: FakeSumdb
) -> None:
    with pytest.raises(UnknownError):
        await relaying.relay.latest(ask=False)
    for size in (0, 5, 300):
        log.grow(size - log.size)
        assert await relaying.newest() == log.head(size)
    log.stale_head(200)
    assert await relaying.newest() == log.head(300)
    log.stop()
    assert await relaying.newest() == log.head(300)


async def test_the_head_is_asked_for_once_in_five_seconds_whoever_asks(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(300)
    await asyncio.gather(*(relaying.relay.latest() for _ in range(50)))
    for number in range(2, 40):
        with pytest.raises(UnknownError):
            await relaying.tile(f"tile/8/0/{number:03}")
    assert log.hits["/latest"] == 1
    log.grow(100)
    assert await relaying.relay.latest() == log.head(300)
    relaying.clock.seconds += 5
    assert await relaying.tile("tile/8/0/001.p/144") == log.tile_body("tile/8/0/001.p/144")
    assert await relaying.relay.latest() == log.head(400)
    assert log.hits["/latest"] == 2


async def test_a_lookup_brings_a_newer_head_at_once(relaying: Relaying, log: FakeSumdb) -> None:
    log.grow(300)
    await relaying.relay.latest()
    put(log, HELLO)
    await relaying.relay.lookup(HELLO, V1)
    assert await relaying.tile("tile/8/0/001.p/45") == log.tile_body("tile/8/0/001.p/45")
    assert await relaying.relay.latest() == log.head(301)


async def test_a_log_that_fails_is_asked_for_its_head_once_in_five_seconds(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.fault("/latest", Fault.status(400), times=None)
    for _ in range(20):
        with pytest.raises(UpstreamError):
            await relaying.relay.latest()
    assert log.hits["/latest"] == 1
    log.clear_faults()
    log.grow(3)
    assert await relaying.newest() == log.head(3)


async def test_an_absent_lookup_is_asked_once_for_all_tenants(
    relaying: Relaying, log: FakeSumdb
) -> None:
    tenants = [f"t{number}" for number in range(20)]
    asked = [relaying.relay.lookup(HELLO, "v9.0.0", tenant=tenant) for tenant in tenants]
    for error in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(error, UpstreamAbsentError)
    with pytest.raises(UpstreamAbsentError):
        await relaying.relay.sums(HELLO, "v9.0.0")
    assert sum(n for path, n in log.hits.items() if path.startswith("/lookup/")) == 1


@pytest.mark.parametrize("kind", ["lookup", "sums", "tile"])
async def test_each_request_to_the_log_takes_a_slot_of_its_tenant(
    relaying: Relaying, log: FakeSumdb, kind: str
) -> None:
    log.grow(256 * 40)
    await relaying.relay.latest()
    put(log, HELLO)
    names = [f"example.com/m{number}" for number in range(30)]
    for number, name in enumerate(names):
        for path in (f"/lookup/{name}@{V1}", f"/tile/8/0/{number + 1:03}"):
            log.fault(path, Fault.delay_headers_until_released(), times=None)
    relay = relaying.relay

    def ask(number: int) -> Awaitable[object]:
        if kind == "tile":
            return relay.tile(Tile(8, 0, number + 1, 256), tenant="acme")
        if kind == "sums":
            return relay.sums(names[number], V1, tenant="acme")
        return relay.lookup(names[number], V1, tenant="acme")

    many = [asyncio.ensure_future(ask(number)) for number in range(len(names))]
    await anyio.to_thread.run_sync(lambda: log.wait_until(lambda: log.stalled == 8))
    await relaying.relay.lookup(HELLO, V1, tenant="globex")
    assert log.stalled == 8
    for one in many:
        one.cancel()
    log.clear_faults()
    log.release()
    await asyncio.gather(*many, return_exceptions=True)


async def test_a_log_that_is_down_and_unknown_versions_are_errors_of_the_upstream(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(3)
    for _ in range(2):
        with pytest.raises(UpstreamAbsentError):
            await relaying.relay.lookup(HELLO, V1)
    assert log.hits["/lookup/example.com/!hello@v1.0.0"] == 1
    log.stop()
    for asked in (relaying.relay.lookup(HELLO, "v1.0.1"), relaying.relay.latest()):
        with pytest.raises(UpstreamError) as raised:
            await asked
        assert not isinstance(raised.value, UpstreamAbsentError)
    with pytest.raises(UpstreamError):
        await relaying.tile("tile/8/0/000.p/3")
    assert await relaying.evidence() == []


async def test_offline_all_that_was_looked_up_verifies_for_every_client(
    relaying: Relaying, log: FakeSumdb
) -> None:
    clients = [relaying.client(log)]
    for number, size in enumerate(SIZES):
        log.grow(size - 1 - log.size)
        put(log, f"example.com/m{number}", number)
        follower = relaying.client(log)
        for client in (follower, clients[0]):
            assert await client.lookup(f"example.com/m{number}", V1) == sums(number)
        assert follower.latest.size == size
        clients.append(follower)
    log.stop()
    await assert_all_verify(relaying, log, clients, len(SIZES))


@pytest.mark.parametrize("seed", range(2))
async def test_offline_all_verifies_after_growth_at_random_with_heads_that_lag(
    make_relay: Relay, log: FakeSumdb, seed: int
) -> None:
    relays = [make_relay(), make_relay()]
    random = Random(seed)
    clients: list[GoClient] = []
    looked_up = 16
    for number in range(looked_up):
        log.grow(random.choice((0, 0, 1, 3, 200, 256, 900)))
        own = put(log, f"example.com/m{number}", number) + 1
        log.grow(random.choice((0, 1, 300)))
        log.stale_head(random.choice((None, own, random.randint(own, log.size))))
        one = random.choice(relays)
        clients.append(one.client(log))
        await clients[-1].lookup(f"example.com/m{number}", V1)
        if random.random() < 0.3:
            await random.choice(relays).relay.latest()
    log.stop()
    await assert_all_verify(relays[0], log, clients, looked_up)


async def assert_all_verify(
    relaying: Relaying, log: FakeSumdb, clients: list[GoClient], looked_up: int
) -> None:
    """Every record verifies for a fresh client and for each that saw a head, without a cache."""
    for latest in {client.latest for client in clients}:
        client = GoClient(log.vkey, relaying.relay.lookup, relaying.relay.tile, latest)
        for number in range(looked_up):
            client.forget()
            assert await client.lookup(f"example.com/m{number}", V1) == sums(number)
    for number in range(looked_up):
        assert await relaying.client(log).lookup(f"example.com/m{number}", V1) == sums(number)


async def test_two_processes_share_what_is_kept_and_agree_on_one_timeline(
    make_relay: Relay, log: FakeSumdb
) -> None:
    one, two = make_relay(), make_relay()
    for number in range(12):
        put(log, f"example.com/m{number}", number)
        log.grow(97)
    names = [f"example.com/m{number}" for number in range(12)]
    growing = asyncio.gather(*(asyncio.to_thread(log.grow, 50) for _ in range(6)))
    asked = [x.relay.lookup(name, V1) for name in names for x in (one, two)]
    answers = await asyncio.gather(*asked)
    await growing
    # Both may ask at once; what is kept is one answer.
    for name in names:
        assert await one.relay.lookup(name, V1) == await two.relay.lookup(name, V1)
    clients = [GoClient(log.vkey, one.relay.lookup, one.relay.tile) for _ in answers]
    for client, name in zip(clients, names, strict=False):
        await client.lookup(name, V1)
    log.stop()
    await assert_all_verify(two, log, clients, 12)
    assert await one.evidence() == []


async def test_a_head_is_recorded_only_over_the_one_it_was_compared_with(
    relaying: Relaying, log: FakeSumdb
) -> None:
    """Or two processes would take in two timelines, each grown from the same older head."""
    log.grow(9)

    def save(size: int, over: bytes | None) -> bool:
        head = LogHead(size, log.head(size), relaying.relay._now())

        def work(session: Session) -> bool:
            return LogTable(session, log.name).save_head(head, over)

        return asyncio.run_coroutine_threadsafe(relaying.db.write(work), loop).result()

    loop = asyncio.get_running_loop()
    tries = [(3, None), (4, None), (5, log.head(3)), (9, log.head(3)), (9, log.head(5))]
    saved = [await asyncio.to_thread(save, size, over) for size, over in tries]
    assert saved == [True, False, True, False, True]


async def test_fifty_lookups_and_tiles_at_once_are_one_request_each(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(1000)
    put(log, HELLO)
    asked = [relaying.relay.lookup(HELLO, V1) for _ in range(50)]
    assert len(set(await asyncio.gather(*asked))) == 1
    assert log.lookups == 1
    log.forget()
    await asyncio.gather(*(relaying.tile("tile/8/0/001") for _ in range(50)))
    assert log.tiles == 1


async def test_a_dropped_partial_tile_is_cut_from_the_full_one(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(299)
    put(log, HELLO)
    log.stale_head(300)
    log.grow(300)
    log.drops_partials = True
    assert await relaying.client(log).lookup(HELLO, V1) == sums(1)
    assert log.hits["/tile/8/0/001.p/44"] == log.hits["/tile/8/0/001"] == 1


async def test_a_tile_that_the_log_has_lost_is_no_absent_version(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(300)
    put(log, HELLO)
    for path in ("/tile/8/0/001.p/45", "/tile/8/0/001"):
        log.fault(path, Fault.status(404), times=1)
    with pytest.raises(UpstreamUnavailableError, match=r"has no tile/8/0/001.p/45"):
        await relaying.relay.lookup(HELLO, V1)
    await assert_honest_again(relaying, log)


async def test_a_tile_that_was_damaged_here_is_fetched_again(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(300)
    put(log, HELLO)
    await relaying.relay.latest()
    await run_sql(relaying.db, "update log_tiles set data = zeroblob(length(data))")
    assert await relaying.relay.lookup(HELLO, V1)
    assert await relaying.evidence() == []
    assert await relaying.tile("tile/8/0/001.p/45") == log.tile_body("tile/8/0/001.p/45")


async def test_the_lookups_of_one_tenant_take_no_places_of_another(
    relaying: Relaying, log: FakeSumdb
) -> None:
    put(log, HELLO)
    names = [f"example.com/m{number}" for number in range(200)]
    for name in names:
        log.fault(f"/lookup/{name}@{V1}", Fault.delay_headers_until_released(), times=None)
    many = [asyncio.ensure_future(relaying.relay.lookup(n, V1, tenant="acme")) for n in names]
    await anyio.to_thread.run_sync(lambda: log.wait_until(lambda: log.stalled == 8))
    await relaying.relay.lookup(HELLO, V1, tenant="globex")
    assert log.stalled == 8
    for one in many:
        one.cancel()
    log.clear_faults()
    log.release()
    await asyncio.gather(*many, return_exceptions=True)
