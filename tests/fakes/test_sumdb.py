"""The fake checksum database, judged by the real go command."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.note import open_note
from app.core.notekey import parse_vkey
from tests.e2e.gocommand import Go, shared_build_cache
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, module
from tests.fakes.sumdb import FakeSumdb, Lie

HELLO = module("example.com/Hello", "v1.0.0")
OTHER = module("example.com/other", "v1.0.0")


@pytest.fixture
def log() -> Iterator[FakeSumdb]:
    with FakeSumdb() as started:
        started.grow(300)
        yield started


@pytest.fixture
def go(tmp_path: Path, log: FakeSumdb, pytestconfig: pytest.Config) -> Iterator[Go]:
    with FakeGoproxy([HELLO, OTHER]) as proxy:
        made = Go(
            tmp_path, proxy.url, build_cache=shared_build_cache(pytestconfig), GOSUMDB=log.gosumdb
        )
        made.new_module()
        yield made


def download(go: Go, one: Module) -> str:
    return go.run("mod", "download", f"{one.path}@{one.version}").err


def test_go_verifies_against_the_log_while_it_grows(go: Go, log: FakeSumdb) -> None:
    log.add_module(HELLO)
    log.grow(400)
    assert download(go, HELLO) == ""
    assert log.hits["/lookup/example.com/!hello@v1.0.0"] == 1
    assert log.hits["/latest"] == log.hits["/supported"] == 0
    log.add_module(OTHER)
    log.grow(70_000)
    assert download(go, OTHER) == ""
    assert log.hits["/tile/8/0/001"] == log.hits["/tile/8/2/000.p/1"] == 1


def test_go_cuts_the_full_tile_where_the_partial_one_was_dropped(go: Go, log: FakeSumdb) -> None:
    log.add_module(HELLO)
    log.stale_head(301)
    log.grow(300)
    log.drops_partials = True
    assert download(go, HELLO) == ""
    assert log.hits["/tile/8/0/001.p/45"] == log.hits["/tile/8/0/001"] == 1


@pytest.mark.parametrize(
    ("lie", "says"),
    [  # protocol.md, 2.3: what the client says of each
        (Lie.WRONG_KEY, "note has no verifiable signatures"),
        (Lie.WRONG_NAME, "note has no verifiable signatures"),
        (Lie.BAD_SIGNATURE, "invalid signature"),
        (Lie.NO_NOTE, "cannot validate record 300 in tree of size 0"),
        (Lie.EMPTY, "malformed"),
        (Lie.WRONG_ID, "cannot authenticate record data in server response"),
        (Lie.BEYOND, "cannot validate record 301 in tree of size 301"),
    ],
)
def test_go_refuses_each_lie(go: Go, log: FakeSumdb, lie: Lie, says: str) -> None:
    log.add_module(HELLO)
    log.lie = lie
    assert says in download(go, HELLO)
    log.heal()
    assert download(go, HELLO) == ""


def test_go_refuses_forged_tiles_records_and_foreign_lines(go: Go, log: FakeSumdb) -> None:
    log.add_module(HELLO)
    log.forge_tile("tile/8/0/001")
    assert "downloaded inconsistent tile" in download(go, HELLO)
    log.heal()
    log.forge_record(HELLO.path, HELLO.version)
    assert "cannot authenticate record data" in download(go, HELLO)
    log.foreign_lines(OTHER.path, OTHER.version)
    assert "checksum missing from sumdb response" in download(go, OTHER)
    log.heal()
    assert download(go, HELLO) == ""


@pytest.mark.parametrize("same_size", [False, True])
def test_go_sees_a_fork_as_misbehaviour(go: Go, log: FakeSumdb, *, same_size: bool) -> None:
    log.add_module(HELLO)
    log.add_module(OTHER)
    assert download(go, HELLO) == ""
    log.fork(290, same_size=same_size)
    assert "SECURITY ERROR" in download(go, OTHER)


def test_heads_are_signed_by_the_key_that_is_told(log: FakeSumdb) -> None:
    note = open_note(log.head(), [parse_vkey(log.vkey)])
    assert note.text.splitlines()[1] == "300"
