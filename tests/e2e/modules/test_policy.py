"""What go reads and does when rules deny something, and when two tenants see different things.

S-numbers are rows of the acceptance table in the protocol reference, F-numbers of the bad inputs.
"""

from collections.abc import Iterator

import pytest

from app.core.effect import Effect
from app.services.assembly import Services
from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import Served, add_route, add_rule, add_tenant, serving
from tests.e2e.warm import Warm
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import go_mod_of, module

V = "v1.0.0"
REASON = "v1.2.0 logs passwords, see SEC-17"


@pytest.fixture(scope="module")
def private() -> Iterator[FakeGoproxy]:
    """The upstream that one tenant alone has."""
    with FakeGoproxy(prefix="/private") as fake:
        yield fake


@pytest.fixture(scope="module")
def served(
    warm: Warm, private: FakeGoproxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    async def arrange(services: Services) -> None:
        await add_tenant(services, "default")
        for pattern in ("example.com/s40", "example.com/s41/denied/sub"):
            versions = ">=v1.2.0" if pattern.endswith("s40") else ""
            await add_rule(services, "default", Effect.DENY, pattern, versions, reason=REASON)
        await add_tenant(services, "strict", default=Effect.DENY)
        await add_rule(services, "strict", Effect.ALLOW, "example.com/team/tool")
        await add_rule(services, "strict", Effect.ALLOW, "example.com/pinned", "<v1.2.0")
        await add_tenant(services, "blue")
        await add_tenant(services, "green")
        await add_rule(services, "green", Effect.DENY, "example.com/shared", ">=v1.1.0")
        await add_route(services, "blue", "corp.example", private.url, private=True)

    folder = tmp_path_factory.mktemp("policy")
    with FakeGoproxy(prefix="/repo") as fake, serving(warm, folder, fake, arrange) as running:
        yield running


@pytest.fixture(scope="module")
def blocked(served: Served) -> str:
    """A module whose newest version is denied."""
    for version in (V, "v1.1.0", "v1.2.0"):
        served.fake.put(module("example.com/s40", version))
    return "example.com/s40"


def test_S40_latest_passes_over_a_denied_version(
    make_go: MakeGo, served: Served, blocked: str
) -> None:
    go = make_go(served.url())
    assert go.out("list", "-m", "-versions", blocked) == f"{blocked} v1.0.0 v1.1.0"
    go.out("get", f"{blocked}@latest")
    assert f"{blocked} v1.1.0" in go.go_mod()


def test_S40_a_denied_version_is_refused_with_the_rules_reason(
    make_go: MakeGo, served: Served, blocked: str
) -> None:
    ended = make_go(served.url()).run("get", f"{blocked}@v1.2.0")
    assert ended.code == 1
    assert f"{blocked}/@v/v1.2.0.info: 403 Forbidden\n" in ended.err
    message = f"server response: {blocked}@v1.2.0 is denied by rule 1 (deny {blocked} >=v1.2.0)"
    assert f"{message}: {REASON}\n" in ended.err


def test_S40_an_older_version_can_be_had(make_go: MakeGo, served: Served, blocked: str) -> None:
    go = make_go(served.url())
    go.out("get", f"{blocked}@{V}")
    (listed,) = go.objects("list", "-m", "-u", "-json", blocked)
    assert listed["Update"]["Version"] == "v1.1.0"


def test_S40_a_denied_version_in_the_graph_stops_only_who_looks_at_the_whole_graph(
    make_go: MakeGo, served: Served, blocked: str
) -> None:
    user = "example.com/user"
    served.fake.put(module(user, V, go_mod=go_mod_of(user, {blocked: "v1.2.0"})))
    go = make_go(served.url())
    go.out("get", user)
    go.out("mod", "download")
    ended = go.run("list", "-m", "all")
    assert ended.code == 1
    assert f"{blocked}/@v/v1.2.0." in ended.err
    assert "403 Forbidden" in ended.err
    assert REASON in ended.err


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("absent", None),
        ("forbidden", Fault.status(403)),
        ("failing", Fault.status(500)),
    ],
)
def test_S41_a_package_is_found_in_its_module_whatever_upstream_says_of_the_longer_path(
    make_go: MakeGo, served: Served, name: str, fault: Fault | None
) -> None:
    path = f"example.com/s41/{name}"
    served.fake.put(module(path, V, {"go.mod": go_mod_of(path), "sub/sub.go": b"package sub\n"}))
    if fault is not None:
        served.fake.fault(f"/repo/{path}/sub/@v/list", fault, times=None)
    go = make_go(served.url())
    go.program(f"_ {path}/sub")
    go.out("mod", "tidy")
    assert f"{path} {V}" in go.go_mod()


@pytest.mark.parametrize("query", ["", f"@{V}", "@latest"])
def test_S41_a_longer_path_that_fails_at_once_does_not_stop_who_names_a_version(
    make_go: MakeGo, served: Served, query: str
) -> None:
    path = f"example.com/s41/query{query.replace('@', '-')}"
    served.fake.put(module(path, V, {"go.mod": go_mod_of(path), "sub/sub.go": b"package sub\n"}))
    for file in ("list", f"{V}.info"):
        served.fake.fault(f"/repo/{path}/sub/@v/{file}", Fault.status(401), times=None)
    go = make_go(served.url())
    go.out("get", f"{path}/sub{query}")
    assert f"{path} {V}" in go.go_mod()


def test_S41_a_longer_path_that_fails_is_told_where_no_parent_is_a_module(
    make_go: MakeGo, served: Served
) -> None:
    path = "example.com/s41/nowhere/sub"
    served.fake.fault(f"/repo/{path}/@v/list", Fault.status(403), times=None)
    ended = make_go(served.url()).run("get", path)
    assert "502 Bad Gateway" in ended.err
    assert "upstream answered 403, it does not let this server in" in ended.err


def test_S41_a_rule_that_denies_the_longer_path_itself_stops_go(
    make_go: MakeGo, served: Served
) -> None:
    path = "example.com/s41/denied"
    served.fake.put(module(path, V, {"go.mod": go_mod_of(path), "sub/sub.go": b"package sub\n"}))
    ended = make_go(served.url()).run("get", f"{path}/sub")
    assert ended.code == 1
    assert "403 Forbidden" in ended.err
    assert REASON in ended.err


def test_S42_what_denies_a_parent_does_not_stop_its_module(make_go: MakeGo, served: Served) -> None:
    path = "example.com/team/tool"
    served.fake.put(module(path, V, {"go.mod": go_mod_of(path), "cmd/x/x.go": b"package x\n"}))
    go = make_go(served.url("strict"))
    go.out("get", f"{path}/cmd/x")
    assert f"{path} {V}" in go.go_mod()
    assert served.get("example.com/team/@v/list", "strict").status == 403
    assert not served.fake.hits["/repo/example.com/team/@v/list"]


def test_S42_an_allowed_range_is_all_that_a_strict_tenant_sees(
    make_go: MakeGo, served: Served
) -> None:
    for version in (V, "v1.2.0"):
        served.fake.put(module("example.com/pinned", version))
    go = make_go(served.url("strict"))
    go.out("get", "example.com/pinned")
    assert f"example.com/pinned {V}" in go.go_mod()
    ended = go.run("get", "example.com/pinned@v1.2.0")
    assert "example.com/pinned@v1.2.0 is outside the allowed versions" in ended.err


def test_S43_a_package_that_is_nowhere_is_told_by_its_longest_path(
    make_go: MakeGo, served: Served
) -> None:
    ended = make_go(served.url()).run("get", "example.com/s43/a/b/c")
    assert ended.code == 1
    assert "module example.com/s43/a/b/c: reading" in ended.err
    assert "example.com/s43/a/b/c/@v/list: 404 Not Found" in ended.err
    assert "server response: not found: example.com/s43/a/b/c/@v/list: unknown here" in ended.err


def test_S65_two_tenants_of_one_url_space_have_their_own_lists_and_versions(
    make_go: MakeGo, served: Served
) -> None:
    for version in (V, "v1.1.0"):
        served.fake.put(module("example.com/shared", version))
    blue, green = make_go(served.url("blue")), make_go(served.url("green"))
    assert blue.out("list", "-m", "-versions", "example.com/shared").split()[1:] == [V, "v1.1.0"]
    assert green.out("list", "-m", "-versions", "example.com/shared").split()[1:] == [V]
    blue.out("get", "example.com/shared@v1.1.0")
    # It is stored now, from the very same origin; that makes it no more allowed.
    ended = green.run("get", "example.com/shared@v1.1.0")
    assert "403 Forbidden" in ended.err
    green.out("get", "example.com/shared")


def test_S65_a_private_module_is_served_to_its_tenant_alone_and_asked_for_nowhere_else(
    make_go: MakeGo, served: Served, private: FakeGoproxy
) -> None:
    path = "corp.example/Secret/lib"
    mine = module(path, V)
    private.put(mine)
    served.fake.put(module(path, V, {"evil.go": b"package evil\n"}))
    blue = make_go(served.url("blue"))
    blue.out("get", path)
    assert f"{path} {V} {mine.h1}" in blue.go_sum()
    before = len(private.requests)
    for tenant in ("green", "default"):
        go = make_go(served.url(tenant))
        for query in (path, f"{path}@{V}", f"{path}@master"):
            ended = go.run("get", query)
            assert ended.code == 1
            assert "403 Forbidden" in ended.err
            assert "is a private name" in ended.err
    assert not served.fake.asked_for("corp.example")
    assert len(private.requests) == before


def test_S65_equal_paths_of_two_upstreams_are_two_modules(
    make_go: MakeGo, served: Served, private: FakeGoproxy
) -> None:
    # Asked for in the order that a shared cache would mix up.
    path = "corp.example/equal"
    private.put(module(path, V))
    make_go(served.url("blue")).out("get", path)
    replies = {name: served.get(f"{path}/@v/{V}.zip", name).status for name in ("blue", "green")}
    assert replies == {"blue": 200, "green": 403}
