"""A public log that misbehaves: refused, told, kept as evidence, and nothing else kept of it."""

import asyncio
from datetime import UTC, datetime

import pytest

from app.core import tlog
from app.core.errors import (
    VerificationError,
)
from app.core.note import open_note
from app.core.notekey import parse_vkey
from app.core.tileproof import tiles_needed
from app.core.tlog import Tree
from app.db.engine import Session
from app.db.sumdb import LogTable
from tests.fakes.faults import Fault
from tests.fakes.modules import module
from tests.fakes.sumdb import FakeSumdb, Lie
from tests.services.bench import count_of
from tests.services.publiclog.bench import (
    HELLO,
    OTHER,
    V1,
    Relaying,
    assert_honest_again,
    audited,
    put,
    sums,
)
from tests.services.publiclog.conftest import Relay


def tree_of(log: FakeSumdb, size: int | None = None) -> Tree:
    return tlog.parse_tree(open_note(log.head(size), [parse_vkey(log.vkey)]).text)


def refusals() -> float:
    return count_of("moorage_sumdb_refusals_total")


async def head_of(relaying: Relaying) -> bytes:
    head = await relaying.head()
    return b"" if head is None else head.note


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


async def assert_refused(relaying: Relaying, name: str, says: str) -> None:
    """A lookup is refused again and again, and leaves one audit row for one piece of evidence."""
    for _ in range(2):
        with pytest.raises(VerificationError, match=r"^sum\.fake\.example: .*refused") as raised:
            await relaying.relay.lookup(name, V1)
        assert says in str(raised.value)
    rows = await audited(relaying.db, "sumdb.refuse")
    assert len(rows) == len(await relaying.evidence()) == 1
    assert says in rows[0].detail


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
    tiles = await relaying.tiles()
    log.fork(at, same_size=same_size)
    forked = log.head()
    await assert_refused(relaying, "example.com/m9", "signed two timelines")
    [evidence] = await relaying.evidence()
    assert (evidence.older, evidence.newer) == (known, forked)
    assert (await head_of(relaying), await relaying.kept()) == (known, before)
    assert await relaying.tiles() == tiles
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


async def test_F76_a_fork_is_seen_even_if_both_sides_are_taken_at_once_by_two_processes(
    make_relay: Relay, log: FakeSumdb
) -> None:
    one, two = make_relay(), make_relay()
    log.grow(100)
    await one.relay.latest()
    put(log, HELLO)
    log.grow(99)
    log.fork(150)
    # The other timeline's proof is on its way while the log's own head is taken.
    log.fault("/tile/8/0/000.p/201", Fault.delay_headers_until_released())
    asking = asyncio.ensure_future(two.relay.lookup(HELLO, V1))
    await asyncio.to_thread(log.wait_until, lambda: log.stalled == 1)
    log.heal()
    await one.newest()
    log.fork(150)
    log.release()
    with pytest.raises(VerificationError, match="signed two timelines: its tree of 201"):
        await asking
    log.heal()
    assert await head_of(one) == log.head(200)
    await assert_honest_again(two, log)


async def test_a_liar_does_not_fill_the_disk_with_evidence(
    relaying: Relaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.sumdb.MAX_EVIDENCE", 3)

    at = datetime(2026, 11, 23, tzinfo=UTC)

    def work(session: Session) -> list[bool]:
        table = LogTable(session, relaying.relay.name)
        return [table.add_evidence(b"", b"%d" % n, "why", at) for n in range(5)]

    assert await relaying.db.write(work) == [True, True, True, False, False]
    assert [one.newer for one in await relaying.evidence()] == [b"0", b"1", b"2"]


async def test_F76_a_refused_head_is_asked_for_once_in_five_seconds(
    relaying: Relaying, log: FakeSumdb
) -> None:
    log.grow(3)
    log.lie = Lie.BAD_SIGNATURE
    for _ in range(20):
        with pytest.raises(VerificationError):
            await relaying.relay.latest()
    assert log.hits["/latest"] == 1
