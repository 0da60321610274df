"""A checksum database over time: it grows, drops what is full, is away; and another key.

S-numbers are rows of the acceptance table in the protocol reference.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.gocommand import Go
from tests.e2e.modules.served import Served
from tests.e2e.sumdb.conftest import MakeGo
from tests.e2e.sumdb.relayed import Relayed, relaying
from tests.e2e.warm import Warm
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, many
from tests.fakes.sumdb import NAME, FakeSumdb, Signer

V = "v1.0.0"
SIZES = (3, 250, 300, 520, 800)  # over 256, 512 and 768, the full tiles


@pytest.fixture
def own(warm: Warm, tmp_path: Path) -> Iterator[Relayed]:
    """A server and a log that a test may do anything to."""
    with FakeGoproxy() as proxy, FakeSumdb() as log, relaying(warm, tmp_path, proxy, log) as made:
        yield made


def get(go: Go, one: Module) -> None:
    """Get a module; its checksums must be the right ones."""
    go.out("get", f"{one.path}@{one.version}")
    assert f"{one.path} {one.version} {one.h1}" in go.go_sum()


def grown(own: Relayed, step: Callable[[Module], None]) -> list[Module]:
    """Have the log grow through SIZES, with a step for a module at each size."""
    modules = many(len(SIZES))
    for size, one in zip(SIZES, modules, strict=True):
        own.log.grow(size - own.log.size)
        own.publish(one)
        step(one)
    return modules


def asked_tiles(served: Served) -> list[str]:
    """Return the tiles that clients asked Moorage for."""
    lines = [e for e in served.server.events if e["event"] == "decision"]
    return [e["module"].rpartition("/tile/")[2] for e in lines if "/tile/" in e["module"]]


def test_S51_a_log_that_grows_verifies_and_nothing_full_is_fetched_twice(
    own: Relayed, make_go: MakeGo
) -> None:
    go = make_go(own.url(), own.log.vkey)
    grown(own, lambda one: get(go, one))
    upstream = {path: n for path, n in own.log.hits.items() if path.startswith("/tile/")}
    assert {n for path, n in upstream.items() if ".p/" not in path} == {1}
    assert {"/tile/8/0/000", "/tile/8/0/001", "/tile/8/0/002"} <= set(upstream)
    own.served.asked("none.example")  # every line before it is written
    tiles = asked_tiles(own.served)
    assert len(tiles) == len(set(tiles))
    assert {"8/0/000", "8/0/001", "8/0/002"} <= set(tiles)


def test_S48_partial_tiles_that_the_log_dropped_are_cut_from_full_ones(
    own: Relayed, make_go: MakeGo
) -> None:
    go, late = make_go(own.url(), own.log.vkey), make_go(own.url(), own.log.vkey)
    own.log.drops_partials = True
    modules = grown(own, lambda one: get(go, one))
    get(late, modules[0])  # its lookup has a head of four records
    first = own.served.get(f"sumdb/{NAME}/tile/8/0/000.p/4")
    assert first.body == own.log.tile_body("tile/8/0/000")[: 4 * 32]


def test_S48_a_tile_that_the_log_has_lost_is_an_outage_and_no_absence(
    own: Relayed, make_go: MakeGo
) -> None:
    (one,) = many(1)
    own.publish(one)
    own.log.grow(300)
    own.log.fault("/tile/8/0/000", Fault.status(404), times=None)
    go = make_go(own.url("unasked"), own.log.vkey)
    refused = go.run("get", f"{one.path}@{V}")
    assert refused.code == 1
    assert "503 Service Unavailable" in refused.err
    assert "server response: sum.fake.example can't be asked about" in refused.err
    own.log.clear_faults()
    get(go, one)


def test_S52_a_log_with_another_key_is_refused_by_whoever_saw_the_old_one(
    own: Relayed, make_go: MakeGo
) -> None:
    go = make_go(own.url(), own.log.vkey)
    one, two = many(2)
    own.publish(one, two)
    get(go, one)
    other = go.but(GOSUMDB=Signer(NAME, seed=8).vkey)
    refused = other.run("get", f"{two.path}@{V}")
    assert refused.code == 1
    assert "initializing sumdb.Client" in refused.err
    assert "note has no verifiable signatures" in refused.err
    get(go, two)


def test_S64_with_everything_down_all_that_was_looked_up_verifies_for_every_client(
    own: Relayed, make_go: MakeGo
) -> None:
    seen: dict[int, Go] = {}

    def look(one: Module) -> None:
        seen[own.log.size] = make_go(own.url(), own.log.vkey)
        get(seen[own.log.size], one)

    modules = grown(own, look)
    own.log.stop()
    own.proxy.stop()
    for go in (*seen.values(), make_go(own.url(), own.log.vkey)):
        go.forget_modules()  # the newest head that it saw stays
        for one in modules:
            get(go.but(), one)
    own.log.start()
    own.proxy.start()


def test_S67_what_was_looked_up_verifies_after_a_restart_and_at_a_second_server(
    warm: Warm, tmp_path: Path, make_go: MakeGo
) -> None:
    with FakeGoproxy() as proxy, FakeSumdb() as log:
        with relaying(warm, tmp_path, proxy, log) as relayed:
            go = make_go(relayed.url(), log.vkey)
            modules = grown(relayed, lambda one: get(go, one))
        log.stop()
        site = relayed.served.site
        with warm.serve(site) as one, warm.serve(site) as two:
            for server in (one, two):
                url = f"{server.url}/goproxy/default"
                for older in (go, make_go(url, log.vkey)):
                    older.forget_modules()
                    for module in modules:
                        get(older.but(GOPROXY=url), module)
        log.start()


def test_S45_a_log_that_is_away_is_still_supported_and_its_newest_head_told(
    own: Relayed, make_go: MakeGo
) -> None:
    grown(own, lambda one: get(make_go(own.url(), own.log.vkey), one))
    newest = own.served.get(f"sumdb/{NAME}/latest").body
    assert newest == own.log.head()
    own.log.stop()
    assert own.served.get(f"sumdb/{NAME}/supported").status == 200
    assert own.served.get(f"sumdb/{NAME}/latest?again").body == newest
    assert own.served.get("sumdb/sum.other.example/supported").status == 404
    own.log.start()


def test_S45_go_leaves_a_proxy_whose_log_never_answered(
    own: Relayed, warm: Warm, tmp_path: Path, make_go: MakeGo
) -> None:
    (one,) = many(1)
    own.log.stop()
    assert own.served.get(f"sumdb/{NAME}/supported").status in (502, 503)
    folder = tmp_path / "other"
    folder.mkdir()
    with FakeSumdb() as log, relaying(warm, folder, own.proxy, log) as other:
        other.publish(one)
        get(make_go(f"{own.url()}|{other.url()}", log.vkey), one)
        assert log.lookups
    own.log.start()


@pytest.mark.parametrize("name", ["localhost.localdev/sumdb", "sum.fake.example:8443/y/z"])
def test_S45_a_log_s_name_may_have_a_port_and_slashes(
    warm: Warm, tmp_path: Path, make_go: MakeGo, name: str
) -> None:
    with (
        FakeGoproxy() as proxy,
        FakeSumdb(name) as log,
        relaying(warm, tmp_path, proxy, log) as relayed,
    ):
        (one,) = many(1)
        relayed.publish(one)
        for gosumdb in (log.vkey, relayed.gosumdb()):
            get(make_go(relayed.url(), gosumdb), one)
        assert log.lookups == 1
