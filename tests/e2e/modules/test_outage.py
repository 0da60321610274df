"""What go can do while every upstream is down.

S-numbers are rows of the acceptance table in the protocol reference, F-numbers of the bad inputs.
"""

from collections.abc import Iterator

import pytest

from app.services.assembly import Services
from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import Served, add_route, add_tenant, serving
from tests.e2e.process import Site
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import go_mod_of, module

V = "v1.0.0"
STORED = module("example.com/stored", V, {
    "go.mod": go_mod_of("example.com/stored"),
    "stored.go": b"package stored\n",
    "sub/sub.go": b"package sub\n",
})  # fmt: skip


@pytest.fixture(scope="module")
def site_and_fake(
    warm: Warm, make_first_go, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, FakeGoproxy]]:
    """An installation that has stored a module, and whose upstreams are down since."""

    async def arrange(services: Services) -> None:
        await add_tenant(services, "default")
        # Its list and queries are never fresh: each is asked for anew, in vain.
        await add_route(services, "default", STORED.path, fake.url, ttl_s=0)

    folder = tmp_path_factory.mktemp("outage")
    with FakeGoproxy([STORED, module("example.com/stored", "v1.1.0-pre")], prefix="/repo") as fake:
        with serving(warm, folder, fake, arrange) as running:
            make_first_go(running.url()).out("get", STORED.path)
        fake.stop()
        yield running.site, fake


@pytest.fixture(scope="module")
def served(warm: Warm, site_and_fake: tuple[Site, FakeGoproxy]) -> Iterator[Served]:
    """The same installation, started again during the outage."""
    site, fake = site_and_fake
    with warm.serve(site) as server:
        yield Served(site, server, fake)


def test_S44_a_complete_client_cache_needs_nobody(make_go: MakeGo, served: Served) -> None:
    go = make_go(served.url())
    go.out("get", STORED.path)
    before = len(served.asked(STORED.path))
    go.out("mod", "download")
    go.out("mod", "verify")
    assert len(served.asked(STORED.path)) == before


def test_S44_a_cache_and_go_sum_are_enough_where_the_proxy_fails(
    make_go: MakeGo, served: Served
) -> None:
    go = make_go(served.url())
    go.out("get", STORED.path)
    go.but(GOPROXY=f"{served.server.url}/goproxy/nobody").out("mod", "download")


@pytest.mark.parametrize("query", ["", f"@{V}", "@latest", "@v1", "/sub", f"/sub@{V}"])
def test_S64_what_is_stored_is_served(make_go: MakeGo, served: Served, query: str) -> None:
    go = make_go(served.url())
    go.out("get", STORED.path + query)
    assert f"{STORED.path} {V}" in go.go_mod()
    assert f"{STORED.path} {V} {STORED.h1}" in go.go_sum()


def test_S64_a_list_that_is_out_of_date_is_marked(served: Served) -> None:
    reply = served.get(f"{STORED.path}/@v/list")
    assert reply.text == f"{V}\nv1.1.0-pre\n"
    assert reply.headers["Warning"] == '111 moorage "Revalidation Failed"'
    assert int(reply.headers["Age"]) > 0


def test_S64_a_program_builds_from_what_is_stored(make_go: MakeGo, served: Served) -> None:
    go = make_go(served.url())
    go.program(f"_ {STORED.path}", f"_ {STORED.path}/sub")
    go.out("mod", "tidy")
    go.out("vet", "./...")


@pytest.mark.parametrize("query", ["", f"@{V}", "@master"])
def test_S64_F51_an_unknown_module_is_an_outage_and_not_an_absence(
    make_go: MakeGo, served: Served, query: str
) -> None:
    ended = make_go(served.url()).run("get", f"example.com/unknown{query}")
    assert ended.code == 1
    assert "503 Service Unavailable" in ended.err
    assert "upstream is down; try again in " in ended.err


def test_S64_a_version_that_is_not_stored_is_an_outage_too(make_go: MakeGo, served: Served) -> None:
    ended = make_go(served.url()).run("get", f"{STORED.path}@v1.1.0-pre")
    assert "503 Service Unavailable" in ended.err
