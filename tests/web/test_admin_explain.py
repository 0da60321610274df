"""Explain: the rules and the route in order, what is stored, and never another story than `go` is
told.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from app.core.effect import Effect
from app.core.principal import OPERATOR, Scope
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.nouns import a_credential, a_route, a_rule, a_tenant, an_owner, an_upstream
from tests.web.api import ok, refused
from tests.web.harbour import add_route, add_rule, add_tenant, add_token, harbour, settled
from tests.web.wire import Site

X = module("example.com/x", "v1.0.0")
CAPITAL = module("example.com/BurntSushi", "v1.0.0")
TEAM = module("corp.example/team", "v1.0.0")
DAY = "v1.1.0"


@pytest.fixture(scope="module")
async def port(module_folder: Path) -> AsyncIterator[Site]:
    """Tenants that nothing changes: acme with routes to a public and a private fake."""
    with FakeGoproxy([X, module(X.path, DAY), CAPITAL]) as public, FakeGoproxy([TEAM]) as private:
        async with harbour(module_folder) as site:
            services = site.services
            await add_tenant(services, "acme", public)
            await services.tenants.credentials.put(
                "acme", "git", a_credential("bearer", "s3cret-canary"), OPERATOR
            )
            team = an_upstream(private.url, credential="git")
            await add_route(services, "acme", "corp.example", team, private=True)
            await add_tenant(services, "other", public)
            await add_rule(services, "acme", Effect.DENY, X.path, "<v1.1.0", reason="CVE-1")
            await add_rule(services, None, Effect.DENY, "evil.example", reason="malware")
            await services.tenants.ownership.put(an_owner("owned.example", "other"), OPERATOR)
            await settled(services)
            yield site


async def explained(
    site: Site, name: str, tenant: str = "acme", version: str | None = None, **more: Any
) -> Any:
    query = {"module": name} | ({} if version is None else {"version": version})
    return await ok(site, "GET", f"/tenants/{tenant}/explain?{urlencode(query)}", **more)


def deciding(explanation: Any) -> tuple[str, str]:
    [step] = [step for step in explanation["steps"] if step["decides"]]
    return step["stage"], step["outcome"]


async def test_a_denied_version_names_the_rule_and_the_route_that_would_be_taken(
    port: Site,
) -> None:
    explanation = await explained(port, X.path, version=X.version)
    assert (explanation["allowed"], explanation["by"]) == (False, "rule 1")
    assert explanation["reason"].endswith("is denied by rule 1 (deny example.com/x <v1.1.0): CVE-1")
    assert deciding(explanation) == ("deny rules", "denies")
    assert [step["stage"] for step in explanation["steps"]] == [
        "platform rules",
        "ownership",
        "deny rules",
        "allow rules",
        "default",
    ]
    assert [(r["pattern"], r["private"]) for r in explanation["routes"]] == [("*", False)]
    assert [u["credential"] for u in explanation["upstreams"]] == [None]
    assert (explanation["private"], explanation["route_refusal"], explanation["is_query"]) == (
        None,
        "",
        False,
    )
    assert (explanation["stored"], explanation["conflicts"]) == ([], [])


# Module, version, what decides; the same is asked of the front below.
CASES = [
    (X.path, "v1.0.0", ("deny rules", "denies"), 403),
    (X.path, "v1.1.0", ("default", "allows"), 200),
    (X.path, None, ("default", "allows"), 200),
    ("evil.example/x", "v1.0.0", ("platform rules", "denies"), 403),
    ("evil.example/x", None, ("platform rules", "denies"), 403),
    ("owned.example/x", "v1.0.0", ("ownership", "denies"), 403),
    (TEAM.path, "v1.0.0", ("default", "allows"), 200),
]


@pytest.mark.parametrize(("name", "version", "decides", "status"), CASES)
async def test_what_is_explained_is_what_go_is_told(
    port: Site, name: str, version: str | None, decides: tuple[str, str], status: int
) -> None:
    explanation = await explained(port, name, version=version)
    assert deciding(explanation) == decides
    file = f"{version}.mod" if version else "list"
    got = await port.ask(f"/goproxy/acme/{name}/@v/{file}")
    assert (got.status, explanation["allowed"]) == (status, status == 200)
    assert status == 200 or got.text == f"{explanation['reason']}\n"


async def test_the_longest_pattern_is_the_first_route_and_names_of_secrets_are_all_that_is_shown(
    port: Site,
) -> None:
    explanation = await explained(port, TEAM.path, version=TEAM.version)
    assert [(r["pattern"], r["private"]) for r in explanation["routes"]] == [
        ("corp.example", True),
        ("*", False),
    ]
    assert explanation["private"] == "a private route covers it"
    assert [u["credential"] for u in explanation["upstreams"]] == ["git"]
    assert "s3cret-canary" not in str(explanation)


async def test_a_private_name_without_a_private_route_says_that_nothing_is_asked(
    port: Site,
) -> None:
    explanation = await explained(port, TEAM.path, "other", TEAM.version)
    assert explanation["allowed"] is True
    assert "is a private name (a private route covers it)" in explanation["route_refusal"]
    assert (explanation["upstreams"], explanation["stored"]) == ([], [])
    assert [r["pattern"] for r in explanation["routes"]] == ["*"]


async def test_what_is_stored_is_shown_with_its_hashes_and_where_it_came_from(port: Site) -> None:
    one = CAPITAL
    path = "/goproxy/acme/example.com/!burnt!sushi/@v/v1.0.0"
    for kind in ("info", "mod", "zip"):
        assert (await port.ask(f"{path}.{kind}")).status == 200
    explanation = await explained(port, one.path, version=one.version)
    stored = {file["kind"]: file for file in explanation["stored"]}
    assert list(stored) == ["info", "mod", "zip"]
    assert (stored["mod"]["h1"], stored["zip"]["h1"]) == (one.mod_h1, one.h1)
    assert stored["zip"]["log_state"] == "unverified"
    assert stored["zip"]["size_bytes"] == len(one.zip)
    assert {file["origin"] for file in explanation["stored"]} == {
        explanation["upstreams"][0]["url"]
    }
    assert not any(file["damaged"] for file in explanation["stored"])


@pytest.mark.parametrize("query", ["master", "latest", "v1", "v1.0", "upgrade", "abcdef012345"])
async def test_a_query_is_said_to_be_judged_again(port: Site, query: str) -> None:
    explanation = await explained(port, X.path, version=query)
    assert (explanation["is_query"], explanation["version"], explanation["stored"]) == (
        True,
        query,
        [],
    )
    assert explanation["allowed"] is True  # some version could be: v1.1.0 is


async def test_a_tenant_that_is_switched_off_is_what_decides(port: Site) -> None:
    await port.services.tenants.tenants.create(a_tenant("idle", enabled=False), OPERATOR)
    explanation = await explained(port, X.path, "idle", X.version)
    assert (explanation["allowed"], explanation["by"]) == (False, "tenant")
    assert not any(step["decides"] for step in explanation["steps"])


async def test_a_tenant_without_a_route_says_so(port: Site) -> None:
    await add_tenant(port.services, "bare")
    explanation = await explained(port, X.path, "bare")
    assert (explanation["routes"], explanation["upstreams"]) == ([], [])
    assert explanation["route_refusal"].startswith("no route of tenant bare serves example.com/x")


async def test_an_expired_rule_is_not_told(port: Site) -> None:
    """Its end is a time, not a change: no generation passes."""
    await add_tenant(port.services, "brief")
    services = port.services
    draft = a_rule(Effect.DENY, X.path, expires_at=services.shared.now().replace(year=2099))
    await services.tenants.rules.create("brief", draft, OPERATOR)
    explanation = await explained(port, X.path, "brief")
    assert deciding(explanation) == ("deny rules", "denies")
    assert explanation["steps"][2]["what"].endswith("UTC")


BAD = [
    ({"module": ""}, 400),
    ({"module": "UPPER"}, 400),
    ({"module": "example.com/../x"}, 400),
    ({"module": "example.com/x\x00"}, 400),
    ({"module": "'; DROP TABLE rules; --"}, 400),
    ({"module": "<script>alert(1)</script>"}, 400),
    ({"module": "exämple.com"}, 400),
    ({"module": "a" * 2001}, 422),
    ({"module": X.path, "version": ""}, 400),
    ({"module": X.path, "version": "-rf"}, 400),
    ({"module": X.path, "version": "a/b"}, 400),
    ({"module": X.path, "version": "v1.0.0\n"}, 400),
    ({"module": X.path, "version": "v" * 501}, 422),
    ({"version": "v1.0.0"}, 422),
]


@pytest.mark.parametrize(("query", "status"), BAD, ids=range(len(BAD)))
async def test_F98_a_malformed_question_is_a_problem(
    port: Site, query: dict[str, str], status: int
) -> None:
    refusal = await refused(port, "GET", f"/tenants/acme/explain?{urlencode(query)}")
    assert refusal[0] == status, refusal


async def test_only_admins_of_the_tenant_are_told(port: Site) -> None:
    _, own = await add_token(port.services, "acme", {Scope.ADMIN}, name="own")
    _, others = await add_token(port.services, "other", {Scope.ADMIN}, name="others")
    assert (await explained(port, X.path, token=own))["tenant"] == "acme"
    path = f"/tenants/acme/explain?module={X.path}"
    assert (await refused(port, "GET", path, token=others))[0] == 403
    assert (await refused(port, "GET", "/tenants/nobody/explain?module=a.b"))[0] == 404


async def test_a_route_that_is_off_is_shown_as_such(port: Site) -> None:
    await add_tenant(port.services, "museum")
    draft = a_route("*", an_upstream("https://proxy.example"), off=True, note="kept for audits")
    await port.services.tenants.routes.create("museum", draft, OPERATOR)
    explanation = await explained(port, X.path, "museum")
    assert [(r["off"], r["note"]) for r in explanation["routes"]] == [(True, "kept for audits")]


TOOLCHAIN = "golang.org/toolchain"
TOOLCHAIN_VERSION = "v0.0.1-go1.27.1.linux-amd64"


async def test_a_toolchain_is_the_mirrors_unless_a_route_of_its_very_name_leads_away(
    port: Site,
) -> None:
    explanation = await explained(port, TOOLCHAIN, version=TOOLCHAIN_VERSION)
    assert (explanation["mirrored"], explanation["allowed"], explanation["route_refusal"]) == (
        True,
        True,
        "",
    )
    assert (explanation["routes"], explanation["upstreams"], explanation["stored"]) == ([], [], [])
    assert not (await explained(port, X.path))["mirrored"]
    upstream = "https://toolchains.example"
    await add_tenant(port.services, "elsewhere", upstream)
    assert (await explained(port, TOOLCHAIN, "elsewhere"))["mirrored"]
    await add_route(port.services, "elsewhere", TOOLCHAIN, upstream)
    away = await explained(port, TOOLCHAIN, "elsewhere")
    assert (away["mirrored"], away["routes"][0]["pattern"]) == (False, TOOLCHAIN)
