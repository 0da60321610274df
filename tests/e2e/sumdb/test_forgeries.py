"""What a checksum database that lies comes to: Moorage stops it first, and go would have, too.

S-numbers are rows of the acceptance table in the protocol reference, F-numbers of the threats. What
is refused of tiles and heads without a go is in tests/services/publiclog.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.e2e.sumdb.conftest import MakeGo
from tests.e2e.sumdb.relayed import Relayed
from tests.fakes.modules import Module, escape, module
from tests.fakes.sumdb import FakeSumdb, Lie

V = "v1.0.0"
_NUMBERS = itertools.count()
SECURITY_ERROR = "SECURITY ERROR\nThis download does NOT match one reported by the checksum server."


@dataclass(frozen=True)
class Forgery:
    """A way to lie about a module.

    Attributes:
        tell: has the log tell it.
        moorage: a part of Moorage's line.
        go: a part of what go says by itself; "" where it notices nothing.
    """

    tell: Callable[[FakeSumdb, Module], object]
    moorage: str
    go: str


def lie(which: Lie) -> Callable[[FakeSumdb, Module], object]:
    def tell(log: FakeSumdb, one: Module) -> None:
        log.add_module(one)
        log.lie = which

    return tell


def altered(log: FakeSumdb, one: Module) -> None:
    log.add_module(one)
    log.forge_record(one.path, one.version)


def foreign(log: FakeSumdb, one: Module) -> None:
    log.foreign_lines(one.path, one.version)


def missing(log: FakeSumdb, one: Module) -> None:
    log.missing_lines(one)


def extra(log: FakeSumdb, one: Module) -> None:
    log.extra_lines(one)


def tile(log: FakeSumdb, one: Module) -> None:
    log.add_module(one)
    log.forge_tile("tile/8/0/000")


def fork(log: FakeSumdb, one: Module) -> None:
    log.add_module(one)
    log.fork(1)


NO_SIGNATURE = "note has no verifiable signatures"
NOT_THE_RECORD = "cannot authenticate record data in server response"
FORGERIES = {
    "S47-F76-altered": Forgery(altered, "is not the one that was sent", NOT_THE_RECORD),
    "S47-F75-foreign": Forgery(
        foreign, "has a line for evil.example/m", f"response\n\n{SECURITY_ERROR}"
    ),
    "S47-F75-missing": Forgery(
        missing, "has 0 lines for the go.mod", f"response\n\n{SECURITY_ERROR}"
    ),
    "S47-F75-extra": Forgery(extra, "has a line for evil.example/m", ""),
    "S47-F75-empty": Forgery(lie(Lie.EMPTY), "malformed record", "malformed note"),
    "S47-F76-id": Forgery(lie(Lie.WRONG_ID), "is not the one that was sent", NOT_THE_RECORD),
    "S47-F76-beyond": Forgery(lie(Lie.BEYOND), "is beyond its tree", "cannot validate record"),
    "S47-F76-no-note": Forgery(
        lie(Lie.NO_NOTE), "it has no signed tree head", "cannot validate record"
    ),
    "S47-F76-signature": Forgery(
        lie(Lie.BAD_SIGNATURE), "is invalid: its text was altered", "invalid signature for key"
    ),
    "S47-F76-key": Forgery(lie(Lie.WRONG_KEY), "the note is not signed by", NO_SIGNATURE),
    "S47-F76-name": Forgery(lie(Lie.WRONG_NAME), "the note is not signed by", NO_SIGNATURE),
    "S49-F76-tile": Forgery(tile, "do not give the root hash", "downloaded inconsistent tile"),
    "S50-F76-fork": Forgery(
        fork,
        "signed two timelines",
        "SECURITY ERROR\ngo.sum database server misbehavior detected!",
    ),
}


@pytest.fixture(params=FORGERIES)
def forged(
    request: pytest.FixtureRequest, relayed: Relayed, log: FakeSumdb
) -> tuple[Forgery, Module, Module]:
    """A forgery, the module it is about, and one that is right."""
    if log.size < 3:
        log.grow(3)  # a fork and a forged tile need something before
    number = next(_NUMBERS)
    first = module(f"example.com/Forged/first{number}", V)
    one = module(f"example.com/Forged/one{number}", V)
    relayed.publish(first)
    relayed.proxy.put(one)
    return FORGERIES[request.param], one, first


@pytest.mark.parametrize("form", ["vkey", "vkey and url"])
def test_S47_S49_S50_moorage_stops_a_forged_answer_and_go_with_it(
    relayed: Relayed, log: FakeSumdb, make_go: MakeGo, form: str, forged
) -> None:
    forgery, one, first = forged
    gosumdb = log.vkey if form == "vkey" else relayed.gosumdb("unasked")
    go = make_go(relayed.url("unasked"), gosumdb)
    assert go.run("get", f"{first.path}@{V}").code == 0
    before = len(relayed.alarms())

    forgery.tell(log, one)
    refused = go.run("get", f"{one.path}@{V}")
    assert refused.code == 1
    assert "502 Bad Gateway\n\tserver response: sum.fake.example: the answer to" in refused.err
    assert forgery.moorage in refused.err
    assert "SECURITY ERROR" not in refused.err
    assert not [line for line in go.go_sum() if one.path in line]
    assert not relayed.keeps_lookup(one.path, V)
    assert forgery.moorage in relayed.alarms()[before]
    kept = relayed.evidence()[-1]
    assert forgery.moorage in kept.detail
    assert kept.older.startswith(b"go.sum database tree\n")
    assert kept.newer

    log.heal()
    assert go.run("get", f"{first.path}@{V}").code == 0
    assert relayed.served.get(f"sumdb/{log.name}/lookup/{_path(first)}", "unasked").status == 200


def test_S47_F75_F76_nothing_comes_in_by_a_route_that_asks_a_log_that_lies(
    relayed: Relayed, log: FakeSumdb, forged
) -> None:
    forgery, one, _ = forged
    forgery.tell(log, one)
    for tenant in ("default", "strict"):
        for suffix in ("mod", "zip"):
            refused = relayed.served.get(f"{_path(one).replace('@', '/@v/')}.{suffix}", tenant)
            assert (refused.status, forgery.moorage in refused.text) == (502, True), refused.text
    log.heal()
    assert not relayed.served.has_stored(one.path, V, "mod")
    assert not relayed.served.has_stored(one.path, V, "zip")


def test_S47_S49_S50_without_moorage_go_would_have_said_so_itself(
    relayed: Relayed, log: FakeSumdb, make_go: MakeGo, forged
) -> None:
    forgery, one, first = forged
    go = make_go(relayed.proxy.url, log.gosumdb)
    assert go.run("get", f"{first.path}@{V}").code == 0
    forgery.tell(log, one)
    ended = go.run("get", f"{one.path}@{V}")
    assert ended.code == (1 if forgery.go else 0)
    assert forgery.go in ended.err


def test_S47_S55_an_old_go_is_kept_from_foreign_lines_that_it_would_take(
    relayed: Relayed, log: FakeSumdb, make_go: MakeGo
) -> None:
    """CVE-2026-42501: go 1.23 takes them for a module that nobody has to vouch for."""
    one = module("example.com/Forged/old", V)
    relayed.proxy.put(one)
    log.foreign_lines(one.path, V)
    alone = make_go(relayed.proxy.url, log.gosumdb, old=True)
    assert alone.run("get", f"{one.path}@{V}").code == 0
    behind = make_go(relayed.url("unasked"), log.vkey, old=True)
    refused = behind.run("get", f"{one.path}@{V}")
    assert refused.code == 1
    assert "has a line for evil.example/m" in refused.err


def _path(one: Module) -> str:
    return escape(f"{one.path}@{one.version}")
