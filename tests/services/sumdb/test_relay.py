"""Relaying a public log: what is passed on was verified, what was verified is kept."""

import asyncio
from random import Random

import pytest

from app.core import tlog
from app.core.errors import (
    UnknownError,
    UpstreamAbsentError,
    UpstreamError,
    UpstreamUnavailableError,
    VerificationError,
)
from app.core.note import open_note
from app.core.notekey import parse_vkey
from app.core.tile import tiles_needed
from app.core.tlog import Tree
from app.db.engine import Session
from app.db.sumdb import LogHead, LogTable
from tests.fakes.faults import Fault
from tests.fakes.modules import module
from tests.fakes.sumdb import FakeSumdb, Lie
from tests.services.bench import count_of
from tests.services.sumdb.bench import Relaying, audited, run_sql, sums
from tests.services.sumdb.conftest import Relay
from tests.services.sumdb.goclient import GoClient

HELLO, OTHER = "example.com/Hello", "example.com/other"
V1 = "v1.0.0"
# Edges of tiles, and of levels: 256 is full, 257 begins the next, 65536 fills level 1.
SIZES = [1, 2, 255, 256, 257, 512, 513, 700, 768, 65_535, 65_536, 65_537, 66_000, 70_001]


def put(log: FakeSumdb, name: str, number: int = 1) -> int:
    return log.add(name, V1, sums(number).zip_h1, sums(number).go_mod_h1)


def tree_of(log: FakeSumdb, size: int | None = None) -> Tree:
    return tlog.parse_tree(open_note(log.head(size), [parse_vkey(log.vkey)]).text)


def refusals() -> float:
    return count_of("moorage_sumdb_refusals_total")


async def test_a_lookup_is_passed_on_byte_for_byte_and_asked_for_once(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(300)
    number = put(log, HELLO)
    log.grow(10)
    told = await relaying.relay.lookup(HELLO, V1)
    assert told.startswith(f"{number}\n{HELLO} {V1} h1:".encode())
    assert told.endswith(b"\n\n" + log.head())
    log.grow(500)
    assert await relaying.relay.lookup(HELLO, V1) == told
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
        assert await relaying.relay.latest() == log.head(size)
    log.stale_head(200)
    assert await relaying.relay.latest() == log.head(300)
    log.stop()
    assert await relaying.relay.latest() == log.head(300)


async def test_a_log_that_is_down_and_unknown_versions_are_errors_of_the_upstream(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(3)
    with pytest.raises(UpstreamAbsentError):
        await relaying.relay.lookup(HELLO, V1)
    log.stop()
    for asked in (relaying.relay.lookup(HELLO, V1), relaying.relay.latest()):
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


@pytest.mark.parametrize(
    ("lie", "says", "keeps_head"),
    [
        (Lie.EMPTY, "it does not end in a newline", False),
        (Lie.NO_NOTE, "no signed tree head", False),
        (Lie.BAD_SIGNATURE, "its text was altered", False),
        (Lie.WRONG_KEY, "not signed by sum.fake.example+", False),
        (Lie.WRONG_NAME, "only by sum.other.example+", False),
        (Lie.WRONG_ID, "is not the one that was sent", True),
        (Lie.BEYOND, "record 302 is beyond its tree of 302", True),
    ],
    ids=lambda value: f"F75-F76-{value}" if isinstance(value, Lie) else "",
)
async def test_each_lie_is_refused_told_and_kept_as_evidence(
    relaying: Relaying, log: FakeSumdb, lie: Lie, says: str, *, keeps_head: bool
) -> None:
    log.grow(300)
    put(log, OTHER)
    await relaying.relay.lookup(OTHER, V1)
    known, before, counted = await head_of(relaying), await relaying.kept(), refusals()
    put(log, HELLO)
    log.lie = lie
    await assert_refused(relaying, HELLO, says)
    log.lie = None
    [evidence] = await relaying.evidence()
    assert evidence.older == (log.head() if keeps_head else known) == await head_of(relaying)
    assert evidence.newer
    assert refusals() == counted + 2
    after = await relaying.kept()
    assert after["log_lookups"] == before["log_lookups"]
    assert keeps_head or after == before
    await assert_honest_again(relaying, log)


async def head_of(relaying: Relaying) -> bytes:
    head = await relaying.head()
    return b"" if head is None else head.note


async def assert_refused(relaying: Relaying, name: str, says: str) -> None:
    """A lookup is refused again and again, and leaves one audit row for one piece of evidence."""
    for _ in range(2):
        with pytest.raises(VerificationError, match=r"^sum\.fake\.example: .*refused") as raised:
            await relaying.relay.lookup(name, V1)
        assert says in str(raised.value)
    rows = await audited(relaying.db, "sumdb.refuse")
    assert len(rows) == len(await relaying.evidence()) == 1
    assert says in rows[0].detail


async def assert_honest_again(relaying: Relaying, log: FakeSumdb) -> None:
    log.heal()
    put(log, HELLO)
    log.grow(700)
    put(log, "example.com/later", 5)
    for name in (HELLO, "example.com/later"):
        await relaying.client(log).lookup(name, V1)
    log.stop()
    for name in (HELLO, "example.com/later"):
        await relaying.client(log).lookup(name, V1)


async def test_F75_a_record_that_the_log_has_not_is_refused(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(300)
    put(log, HELLO)
    log.forge_record(HELLO, V1)
    await assert_refused(relaying, HELLO, "is not the one that was sent")
    assert (await relaying.kept())["log_lookups"] == 0
    await assert_honest_again(relaying, log)


@pytest.mark.parametrize("kind", ["foreign", "missing", "extra"])
async def test_F75_a_true_record_with_other_lines_than_the_version_s_two_is_refused(
    relaying: Relaying, log: FakeSumdb, kind: str
) -> None:
    one = module("example.com/odd", V1)
    log.grow(300)
    add = {
        "foreign": lambda: log.foreign_lines(one.path, V1),
        "missing": lambda: log.missing_lines(one),
        "extra": lambda: log.extra_lines(one),
    }
    add[kind]()
    says = "has 0 lines for the go.mod" if kind == "missing" else "has a line for evil.example/m"
    await assert_refused(relaying, one.path, says)
    assert (await relaying.kept())["log_lookups"] == 0
    await assert_honest_again(relaying, log)


async def test_F76_each_forged_tile_on_the_way_is_refused_and_not_kept(
    relaying: Relaying, log: FakeSumdb
) -> None:
    put(log, HELLO)
    log.grow(70_000)
    tree = tree_of(log)
    places = [tile.path for tile in tiles_needed(tree, [tlog.stored_hash_index(0, 0)])]
    edge = tiles_needed(tree, [])
    assert (len(places), len(edge)) == (5, 3)
    for at, path in enumerate(places):
        log.forge_tile(path)
        with pytest.raises(VerificationError):
            await relaying.relay.lookup(HELLO, V1)
        # The edge proves the head, which is the log's whatever became of the record's own tiles.
        is_head_proven = at >= len(edge)
        kept = {"log_heads": is_head_proven, "log_tiles": 3 * is_head_proven, "log_lookups": 0}
        assert await relaying.kept() == kept
        log.heal()
    await assert_honest_again(relaying, log)


async def test_F76_a_forged_tile_that_a_client_asks_for_is_refused_and_told(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(1000)
    await relaying.relay.latest()
    log.forge_tile("tile/8/0/001")
    with pytest.raises(VerificationError, match=r"tile/8/0/001\.p/9 is refused: tile/8/0/001 "):
        await relaying.tile("tile/8/0/001.p/9")
    [evidence], [row] = await relaying.evidence(), await audited(relaying.db, "sumdb.refuse")
    assert evidence.older == log.head()
    assert row.object == "log:sum.fake.example"
    log.heal()
    assert await relaying.tile("tile/8/0/001.p/9") == log.tile_body("tile/8/0/001.p/9")


@pytest.mark.parametrize("same_size", [False, True])
@pytest.mark.parametrize("at", [0, 3, 250, 256, 300, 511, 598])
async def test_F76_a_fork_is_refused_with_both_notes_and_leaves_nothing(
    relaying: Relaying, log: FakeSumdb, at: int, *, same_size: bool
) -> None:
    """Wherever it parts: in tiles that are kept, in those that are not, at a tile's edge."""
    log.grow(590)
    for number in range(10):
        put(log, f"example.com/m{number}", number)
    await relaying.relay.lookup("example.com/m1", V1)
    assert await relaying.tile("tile/8/0/000") == log.tile_body("tile/8/0/000")
    known, before = await head_of(relaying), await relaying.kept()
    log.fork(at, same_size=same_size)
    forked = log.head()
    await assert_refused(relaying, "example.com/m9", "signed two timelines")
    [evidence] = await relaying.evidence()
    assert (evidence.older, evidence.newer) == (known, forked)
    assert (await head_of(relaying), await relaying.kept()) == (known, before)
    await assert_honest_again(relaying, log)


async def test_F76_a_fork_s_older_head_is_refused_too(relaying: Relaying, log: FakeSumdb) -> None:
    log.grow(400)
    put(log, HELLO)
    log.grow(400)
    await relaying.relay.latest()
    known, before = await head_of(relaying), await relaying.kept()
    log.fork(390)
    log.stale_head(500)
    forked = log.head(500)
    await assert_refused(relaying, HELLO, "tree of 801 records")
    [evidence] = await relaying.evidence()
    assert (evidence.older, evidence.newer) == (known, forked)
    assert await relaying.kept() == before | {"log_tiles": (await relaying.kept())["log_tiles"]}
    await assert_honest_again(relaying, log)


async def test_F76_a_head_before_the_record_is_refused_and_one_that_lags_is_not(
    relaying: Relaying, log: FakeSumdb
) -> None:
    """A client that knows no newer head could not check the record against the older one."""
    log.grow(300)
    put(log, HELLO)
    log.grow(300)
    await relaying.relay.latest()
    log.stale_head(299)
    await assert_refused(relaying, HELLO, "record 300 is beyond its tree of 299")
    log.stale_head(301)
    client = relaying.client(log)
    assert await client.lookup(HELLO, V1) == sums(1)
    assert client.latest.size == 301
    assert await head_of(relaying) == log.head(601)


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
