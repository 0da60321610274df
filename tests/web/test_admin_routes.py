"""The admin API of routes: bounds, credentials by name, private names."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.core.principal import OPERATOR, Scope
from tests.fakes.tls import Authority
from tests.nouns import a_credential, an_owner
from tests.services.bench import audit_rows
from tests.web.api import call, ok, refused
from tests.web.harbour import add_tenant, harbour
from tests.web.wire import Site

ROUTES = "/tenants/acme/routes"
PUBLIC: dict[str, Any] = {"pattern": "*", "upstreams": ["https://proxy.example"]}


@pytest.fixture(scope="module")
async def port(module_folder: Path) -> AsyncIterator[Site]:
    async with harbour(module_folder) as site:
        await add_tenant(site.services, "shared")
        yield site


@pytest.fixture
async def site(port: Site) -> AsyncIterator[Site]:
    """One server for all; each test has the tenant acme anew."""
    await add_tenant(port.services, "acme")
    await port.services.tenants.credentials.put(
        "acme", "artifactory", a_credential("bearer", "s3cret-canary"), OPERATOR
    )
    yield port
    await port.services.tenants.tenants.remove("acme", OPERATOR)


def upstream(**more: Any) -> dict[str, Any]:
    usual = {
        "url": "https://proxy.example",
        "credential": None,
        "on_absent": "next",
        "redirect_to": [],
        "ca_pem": "",
        "connect_s": 5.0,
        "metadata_s": 60.0,
        "zip_s": 900.0,
        "host_keys": "",
        "vanity": False,
    }
    return {**usual, **more}


async def test_a_url_alone_is_an_upstream_with_all_defaults(site: Site) -> None:
    made = await ok(site, "POST", ROUTES, PUBLIC)
    assert made == {
        "id": made["id"],
        "tenant": "acme",
        "pattern": "*",
        "upstreams": [upstream()],
        "private": False,
        "off": False,
        "forks": False,
        "ttl_s": 300,
        "log": "defer",
        "note": "",
        "revision": 1,
        "created_at": made["created_at"],
    }


async def test_a_note_is_one_short_line_that_stays_until_it_is_changed(site: Site) -> None:
    made = await ok(site, "POST", ROUTES, {**PUBLIC, "note": "é" * 300})
    one = f"{ROUTES}/{made['id']}"
    assert (await ok(site, "GET", one))["note"] == "é" * 300
    assert await refused(site, "PUT", one, {**PUBLIC, "note": "two\nlines"}) == (
        400,
        "the note has a control character or a line break",
    )
    assert (await refused(site, "PUT", one, {**PUBLIC, "note": "x" * 301}))[0] == 422
    changed = await ok(site, "PUT", one, {**PUBLIC, "note": "moves in May"})
    assert (changed["note"], changed["revision"]) == ("moves in May", 2)
    assert (await ok(site, "PUT", one, PUBLIC))["note"] == ""


async def test_a_route_lives_from_post_to_delete(site: Site) -> None:
    first_upstream = upstream(
        url="https://goproxy.corp.example:8443/repo/",
        credential="artifactory",
        on_absent="stop",
        redirect_to=["cdn.corp.example", "https://s3.corp.example:9000"],
        ca_pem=Authority.new().pem.decode(),
        connect_s=1,
        metadata_s=2.5,
        zip_s=7200,
    )
    body = {
        "pattern": "corp.example/*",
        "upstreams": [first_upstream, "https://second.example"],
        "private": True,
        "off": True,
        "forks": True,
        "ttl_s": 0,
    }
    got = await call(site, "POST", ROUTES, body)
    assert (got.status, got.header("etag")) == (201, '"1"')
    assert "s3cret-canary" not in got.text
    [made] = (await ok(site, "GET", ROUTES))["items"]
    assert made["upstreams"] == [
        {**first_upstream, "url": "https://goproxy.corp.example:8443/repo", "connect_s": 1.0},
        upstream(url="https://second.example"),
    ]
    assert (made["private"], made["off"], made["forks"], made["ttl_s"]) == (True, True, True, 0)
    assert made["log"] == "off"
    one = f"{ROUTES}/{made['id']}"
    assert await ok(site, "GET", one) == made
    changed = await ok(site, "PUT", one, PUBLIC, headers={"If-Match": '"1"'})
    assert (changed["revision"], changed["upstreams"]) == (2, [upstream()])
    stale = {"If-Match": '"1"'}
    assert (await refused(site, "PUT", one, PUBLIC, headers=stale))[0] == 412
    assert (await refused(site, "DELETE", one, headers=stale))[0] == 412
    assert await ok(site, "DELETE", one, headers={"If-Match": '"2"'}) is None
    assert (await refused(site, "GET", one))[0] == 404


async def test_a_put_of_what_is_so_already_changes_nothing(site: Site) -> None:
    body = {**PUBLIC, "upstreams": [upstream(credential="artifactory")]}
    made = await ok(site, "POST", ROUTES, body)
    before = await audit_rows(site.services), await site.services.shared.watch.poll()
    assert await ok(site, "PUT", f"{ROUTES}/{made['id']}", body) == made
    assert (await audit_rows(site.services), await site.services.shared.watch.poll()) == before


def one_upstream(**more: Any) -> dict[str, Any]:
    return {"upstreams": [upstream(**more)]}


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"pattern": "a,b"}, 400, "has a comma"),
    ({"pattern": ""}, 400, "empty"),
    ({"upstreams": []}, 422, "body.upstreams"),
    ({"upstreams": ["https://a.example"] * 11}, 422, "at most 10 items"),
    ({"upstreams": [7]}, 422, "body.upstreams.0"),
    ({"upstreams": "https://a.example"}, 422, "body.upstreams"),
    ({"upstreams": ["http://proxy.example"]}, 400, "use https://"),
    ({"upstreams": ["ftp://proxy.example"]}, 400, "neither http:// nor https://"),
    ({"upstreams": ["https://user:s3cret@proxy.example"]}, 400, ""),
    ({"upstreams": ["https://proxy.example/?token=s3cret"]}, 400, "no query and no fragment"),
    ({"upstreams": ["https://proxy.example/#s3cret"]}, 400, "no query and no fragment"),
    ({"upstreams": ["proxy.example"]}, 400, ""),
    ({"upstreams": ["off"]}, 400, ""),
    ({"upstreams": ["https://" + "a" * 2000]}, 422, "at most 2000 characters"),
    (one_upstream(credential="nobody"), 404, "has no credential 'nobody'"),
    (one_upstream(on_absent="maybe"), 422, "'next' or 'stop'"),
    (one_upstream(redirect_to=["a b"]), 400, ""),
    (one_upstream(redirect_to=["a.example"] * 21), 422, "at most 20 items"),
    (one_upstream(ca_pem="no certificate"), 400, "ca_pem holds no PEM certificates"),
    (one_upstream(secret="s3cret"), 422, "body.upstreams.0.secret"),
    (one_upstream(connect_s=0), 422, "greater than or equal to 0.1"),
    (one_upstream(connect_s=61), 422, "less than or equal to 60"),
    (one_upstream(metadata_s=-1), 422, "greater than or equal to 1"),
    (one_upstream(zip_s=7201), 422, "less than or equal to 7200"),
    (one_upstream(zip_s=float("nan")), 422, "finite"),
    (one_upstream(zip_s=float("inf")), 422, "finite"),
    (one_upstream(zip_s="900"), 422, "valid number"),
    (one_upstream(zip_s=True), 422, "valid number"),
    ({"ttl_s": -1}, 422, "greater than or equal to 0"),
    ({"ttl_s": 604801}, 422, "less than or equal to 604800"),
    ({"ttl_s": 10**30}, 422, "body.ttl_s"),
    ({"ttl_s": 1.5}, 422, "valid integer"),
    ({"ttl_s": "300"}, 422, "valid integer"),
    ({"private": "yes"}, 422, "valid boolean"),
    ({"private": True, "log": "require"}, 400, "log must be off"),
    ({"log": "maybe"}, 422, "body.log"),
    ({"extra": 1}, 422, "body.extra"),
]


@pytest.mark.parametrize(("change", "status", "message"), BAD, ids=[str(b[0])[:40] for b in BAD])
async def test_F98_a_bad_route_is_refused_with_the_reason(
    site: Site, change: dict[str, Any], status: int, message: str
) -> None:
    refusal = await refused(site, "POST", ROUTES, {**PUBLIC, **change})
    assert refusal[0] == status, refusal
    assert message in refusal[1]
    assert "s3cret" not in refusal[1]
    assert (await ok(site, "GET", ROUTES))["items"] == []


async def test_http_is_for_allowed_addresses_only(site: Site) -> None:
    await ok(site, "POST", ROUTES, {**PUBLIC, "upstreams": ["http://127.0.0.1:9"]})
    body = {"pattern": "x.example", "upstreams": ["http://10.0.0.1"]}
    status, detail = await refused(site, "POST", ROUTES, body)
    assert (status, "MOORAGE_NETWORK__ALLOW" in detail) == (400, True)


async def test_two_routes_of_a_tenant_have_two_patterns(site: Site) -> None:
    made = await ok(site, "POST", ROUTES, PUBLIC)
    status, detail = await refused(site, "POST", ROUTES, PUBLIC)
    assert (status, detail) == (
        409,
        f"route {made['id']} has the pattern * already; change that one",
    )


async def test_a_tenants_admin_makes_private_only_what_the_tenant_owns(site: Site) -> None:
    """A private route keeps its names from every tenant's public upstreams."""
    _, secret = await site.services.tenants.tokens.create(
        "acme", tenant="acme", scopes=frozenset({Scope.ADMIN})
    )
    body = {**PUBLIC, "pattern": "github.com", "private": True}
    assert (await refused(site, "POST", ROUTES, body, token=secret))[0] == 403
    await site.services.tenants.ownership.put(an_owner("corp.example/acme", "acme"), OPERATOR)
    owned = {**body, "pattern": "corp.example/acme/lib"}
    assert (await ok(site, "POST", ROUTES, owned, token=secret))["private"] is True
    for pattern in ("corp.example", "corp.example/acmes", "corp.example/*"):
        refusal = await refused(site, "POST", ROUTES, {**body, "pattern": pattern}, token=secret)
        assert refusal[0] == 403, pattern
    assert (await ok(site, "POST", ROUTES, body))["private"] is True  # a platform admin may


async def test_a_route_of_another_tenant_is_not_there(site: Site) -> None:
    made = await ok(site, "POST", ROUTES, PUBLIC)
    elsewhere = f"/tenants/shared/routes/{made['id']}"
    for method, body in (("GET", None), ("PUT", PUBLIC), ("DELETE", None)):
        assert (await refused(site, method, elsewhere, body))[0] == 404
    for number in ("0", "x", "9" * 30):
        assert (await refused(site, "GET", f"{ROUTES}/{number}"))[0] == 422


async def test_a_credential_of_another_tenant_is_not_there(site: Site) -> None:
    body = {**PUBLIC, **one_upstream(credential="artifactory")}
    status, detail = await refused(site, "POST", "/tenants/shared/routes", body)
    assert (status, "has no credential 'artifactory'" in detail) == (404, True)
