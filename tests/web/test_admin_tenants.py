"""Tenants through the admin API: made, changed field by field, removed; what clients paste."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.core.clientconfig import Target
from app.core.principal import OPERATOR, Scope
from tests.nouns import a_route, an_owner, an_upstream
from tests.web.asking import API, Admin, admin_of, refused, rows
from tests.web.harbour import harbour
from tests.web.wire import Site

NEW = {
    "name": "acme",
    "title": "",
    "default": "deny",
    "anonymous_read": False,
    "enabled": True,
    "hosts": [],
    "private_hosts": [],
    "toolchains": None,
    "limits": {"streams": None, "cold": None, "rate": None, "quota_bytes": None},
    "revision": 1,
}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with harbour(tmp_path) as one:
        yield one


@pytest.fixture
def admin(site: Site) -> Admin:
    return Admin(site)


async def test_a_tenant_of_a_name_alone_denies_and_wants_a_token(admin: Admin) -> None:
    got = await admin.ask("POST", "/tenants", {"name": "acme"})
    assert (got.status, got.header("etag")) == (201, '"1"')
    made = json.loads(got.body)
    assert {**made, "created_at": ""} == {**NEW, "created_at": ""}
    got = await admin.ask("GET", "/tenants/acme")
    assert (got.header("etag"), json.loads(got.body)) == ('"1"', made)
    assert got.header("cache-control") == "no-store"
    [route] = await admin.site.services.tenants.routes.page("acme", OPERATOR)
    assert route.pattern.text == "*"
    await admin.post("/tenants", {"name": "bare", "catch_all": False})
    assert await admin.site.services.tenants.routes.page("bare", OPERATOR) == []


CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"title": "Acme Inc"}, {"title": "Acme Inc"}),
    ({"default": "allow"}, {"default": "allow"}),
    ({"anonymous_read": True}, {"anonymous_read": True}),
    ({"enabled": False}, {"enabled": False}),
    ({"hosts": ["b.example", "a.example"]}, {"hosts": ["a.example", "b.example"]}),
    ({"private_hosts": ["b.corp", "10.1.2.3:80"]}, {"private_hosts": ["10.1.2.3:80", "b.corp"]}),
    (
        {"limits": {"cold": 4}},
        {"limits": {"streams": 7, "cold": 4, "rate": None, "quota_bytes": None}},
    ),
    (
        {"limits": {"streams": None}},
        {"limits": {"streams": None, "cold": None, "rate": None, "quota_bytes": None}},
    ),
    ({"title": "x", "default": "allow"}, {"title": "x", "default": "allow"}),
]


@pytest.mark.parametrize(("change", "changed"), CHANGES)
async def test_a_patch_changes_what_it_names_and_nothing_else(
    admin: Admin, change: dict[str, Any], changed: dict[str, Any]
) -> None:
    before = await admin.post("/tenants", {"name": "acme", "limits": {"streams": 7}})
    got = await admin.ask("PATCH", "/tenants/acme", change)
    assert (got.status, got.header("etag")) == (200, '"2"')
    assert json.loads(got.body) == {**before, **changed, "revision": 2}
    assert await admin.get("/tenants/acme") == json.loads(got.body)
    assert len(await rows(admin.site, "tenant.update")) == 1


async def test_a_patch_that_changes_nothing_is_no_change(admin: Admin) -> None:
    await admin.post("/tenants", {"name": "acme", "hosts": ["b.example", "a.example"]})
    for same in ({}, {"default": "deny"}, {"hosts": ["b.example", "a.example"]}):
        assert (await admin.ask("PATCH", "/tenants/acme", same)).header("etag") == '"1"'
    assert await rows(admin.site, "tenant.update") == []


async def test_if_match_keeps_a_change_from_being_lost(admin: Admin) -> None:
    await admin.post("/tenants", {"name": "acme"})
    path = "/tenants/acme"
    first = await admin.ask("PATCH", path, {"title": "one"}, if_match='"1"')
    assert (first.status, first.header("etag")) == (200, '"2"')
    late = await admin.ask("PATCH", path, {"title": "two"}, if_match='"1"')
    assert "revision 2, not 1" in refused(late, 412)
    assert "ETag" in refused(await admin.ask("PATCH", path, {"title": "x"}, if_match="2"), 400)
    refused(await admin.ask("DELETE", path, if_match='"1"'), 412)
    refused(await admin.ask("DELETE", path, if_match='W/"2"'), 400)
    assert (await admin.get(path))["title"] == "one"
    assert (await admin.ask("DELETE", path, if_match='"2"')).status == 204
    refused(await admin.ask("GET", path), 404)


async def test_a_tenant_that_is_gone_leaves_nothing_that_works(admin: Admin) -> None:
    await admin.post("/tenants", {"name": "acme"})
    inside = await admin_of(admin.site, "acme")
    await admin.put("/ownership/corp.example", {"tenant": "acme"})
    await admin.put("/tenants/acme/credentials/art", {"kind": "bearer", "secret": "x"})
    assert (await inside.get("/tenants/acme"))["name"] == "acme"
    await admin.delete("/tenants/acme")
    refused(await inside.ask("GET", "/tenants/acme"), 401)
    assert (await admin.get("/ownership"))["items"] == []
    # The name is free again, and what comes under it begins with nothing.
    await admin.post("/tenants", {"name": "acme"})
    assert (await admin.get("/tenants/acme/credentials"))["items"] == []
    refused(await inside.ask("GET", "/tenants/acme"), 401)


CONFLICTS = [
    ({"name": "acme"}, "there is a tenant acme already"),
    ({"name": "other", "hosts": ["go.acme.example"]}, "leads to another tenant already"),
]


@pytest.mark.parametrize(("body", "message"), CONFLICTS)
async def test_a_name_or_host_that_is_taken_is_409(
    admin: Admin, body: dict[str, Any], message: str
) -> None:
    await admin.post("/tenants", {"name": "acme", "hosts": ["go.acme.example"]})
    assert message in refused(await admin.ask("POST", "/tenants", body), 409)


BAD: list[tuple[object, int]] = [
    ({}, 422),
    ({"name": ""}, 400),
    ({"name": "Acme"}, 400),
    ({"name": "a.example"}, 400),
    ({"name": "-a"}, 400),
    ({"name": "sumdb"}, 400),
    ({"name": "a" * 64}, 422),
    ({"name": "'; DROP TABLE tenants; --"}, 400),
    ({"name": "<script>alert(1)</script>"}, 400),
    ({"name": "a\0"}, 400),
    ({"name": 1}, 422),
    ({"name": None}, 422),
    ({"name": "a", "extra": 1}, 422),
    ({"name": "a", "revision": 1}, 422),
    ({"name": "a", "title": "t" * 201}, 422),
    ({"name": "a", "title": "two\nlines"}, 400),
    ({"name": "a", "title": None}, 422),
    ({"name": "a", "default": "maybe"}, 422),
    ({"name": "a", "anonymous_read": "yes"}, 422),
    ({"name": "a", "enabled": 1}, 422),
    ({"name": "a", "hosts": "a.example"}, 422),
    ({"name": "a", "hosts": ["A.example"]}, 400),
    ({"name": "a", "hosts": ["a.example:80"]}, 400),
    ({"name": "a", "hosts": ["a.example", "a.example"]}, 400),
    ({"name": "a", "hosts": [f"h{n}.example" for n in range(21)]}, 422),
    ({"name": "a", "limits": {"cold": 0}}, 422),
    ({"name": "a", "limits": {"cold": -1}}, 422),
    ({"name": "a", "limits": {"cold": 1_000_001}}, 422),
    ({"name": "a", "limits": {"cold": 2**64}}, 422),
    ({"name": "a", "limits": {"cold": 10**400}}, 422),
    ({"name": "a", "limits": {"cold": 1.5}}, 422),
    ({"name": "a", "limits": {"cold": True}}, 422),
    ({"name": "a", "limits": {"cold": "4"}}, 422),
    ({"name": "a", "limits": {"other": 4}}, 422),
    (b'{"name": "\\ud800"}', 422),
    (b'{"name": "a", "limits": {"cold": 1e999}}', 422),
    (b'{"name": "a", "limits": {"cold": NaN}}', 422),
    (b'{"name": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 422),
    (b'{"name": ' * 10_000 + b"1" + b"}" * 10_000, 422),
    (b'{"name": "' + b"a" * (1 << 20) + b'"}', 413),
]


async def test_F98_a_malformed_tenant_is_refused_and_nothing_is_changed(admin: Admin) -> None:
    for body, status in BAD:
        got = await admin.ask("POST", "/tenants", body)
        assert got.status in (400, status), (body, got.text)
        refused(got, got.status)
    assert (await admin.get("/tenants"))["items"] == []
    assert await rows(admin.site, "tenant.create") == []


UNKNOWN = ["nope", "%00", "%ff", "..", "a%2fb", "%27%20OR%201=1--", "%3Cb%3E", "a" * 500]


async def test_F98_an_unknown_tenant_is_404_whatever_its_name(admin: Admin) -> None:
    for name in UNKNOWN:
        refused(await admin.ask("GET", f"/tenants/{name}"), 404)
        refused(await admin.ask("DELETE", f"/tenants/{name}"), 404)


async def test_an_unknown_tenant_is_named_with_where_to_look(admin: Admin) -> None:
    detail = refused(await admin.ask("GET", "/tenants/nope"), 404)
    assert detail == "there is no tenant 'nope'; see `moorage tenant list`"


async def test_lists_are_pages_and_a_tenants_admin_sees_his_own(admin: Admin) -> None:
    names = ["acme", "beta", "ceta", "delta", "zeta"]
    for name in reversed(names):
        await admin.post("/tenants", {"name": name, "catch_all": False})
    pages = await admin.pages("/tenants", 2)
    assert [[t["name"] for t in page] for page in pages] == [names[:2], names[2:4], names[4:]]
    inside = await admin_of(admin.site, "beta")
    assert [t["name"] for t in (await inside.get("/tenants"))["items"]] == ["beta"]
    reader = await admin_of(admin.site, "beta", Scope.READ)
    refused(await reader.ask("GET", "/tenants"), 403)
    for query in ("cursor=x", "cursor=", "cursor=WzNd"):
        refused(await admin.ask("GET", f"/tenants?{query}"), 400)
    for query in ("limit=0", "limit=201", "limit=x", f"cursor={'a' * 1601}"):
        refused(await admin.ask("GET", f"/tenants?{query}"), 422)


async def test_what_costs_others_is_the_platforms_to_change(admin: Admin) -> None:
    await admin.post("/tenants", {"name": "acme", "hosts": ["a.example", "b.example"]})
    inside = await admin_of(admin.site, "acme")
    for change in ({"hosts": []}, {"limits": {"cold": 99}}, {"enabled": False}):
        assert "platform" in refused(await inside.ask("PATCH", "/tenants/acme", change), 403)
    got = await inside.ask("PATCH", "/tenants/acme", {"default": "allow", "anonymous_read": True})
    assert got.status == 200
    [denied] = await rows(admin.site, "access.deny")
    assert denied.object == f"PATCH {API}/tenants/acme"
    assert denied.detail.startswith("3 times from ")


async def test_F28_another_tenant_is_forbidden_whether_it_is_there_or_not(admin: Admin) -> None:
    for name in ("acme", "other"):
        await admin.post("/tenants", {"name": name})
    inside = await admin_of(admin.site, "acme")
    present = refused(await inside.ask("GET", "/tenants/other"), 403)
    absent = refused(await inside.ask("GET", "/tenants/absent"), 403)
    assert present.replace("other", "absent") == absent


# --- what clients paste ---


async def test_client_config_is_text_for_each_target(admin: Admin) -> None:
    await admin.post("/tenants", {"name": "acme", "anonymous_read": True})
    for target in Target:
        got = await admin.ask("GET", f"/tenants/acme/client-config?for={target}")
        assert got.status == 200
        assert got.header("content-type") == "text/plain; charset=utf-8"
        # The Host that the request came to: no setting says another.
        assert "http://mirror.example/goproxy/acme" in got.text
    default = await admin.ask("GET", "/tenants/acme/client-config")
    assert default.text == (await admin.ask("GET", "/tenants/acme/client-config?for=sh")).text
    refused(await admin.ask("GET", "/tenants/acme/client-config?for=nonsense"), 422)
    refused(await admin.ask("GET", "/tenants/nope/client-config"), 404)


async def test_client_config_names_what_no_public_log_may_hear_of(admin: Admin) -> None:
    services = admin.site.services
    for name in ("acme", "other"):
        await admin.post("/tenants", {"name": name, "anonymous_read": True})
    upstream = an_upstream("https://git.corp.example")
    await services.tenants.routes.create(
        "acme", a_route("corp.example/*", upstream, private=True), OPERATOR
    )
    for prefix, granted in (("a.example", ()), ("b.example", ("acme",)), ("c.example", ())):
        owner = "acme" if prefix == "a.example" else "other"
        await services.tenants.ownership.put(an_owner(prefix, owner, *granted), OPERATOR)
    got = await admin.ask("GET", "/tenants/acme/client-config?for=env")
    assert "GONOSUMDB=a.example,b.example,corp.example/*\n" in got.text
    got = await admin.ask("GET", "/tenants/other/client-config?for=env")
    assert "GONOSUMDB=b.example,c.example\n" in got.text


@pytest.mark.slow
async def test_a_tenant_with_tokens_has_no_client_config_over_http(admin: Admin) -> None:
    await admin.post("/tenants", {"name": "acme"})
    detail = refused(await admin.ask("GET", "/tenants/acme/client-config"), 400)
    assert "MOORAGE_PUBLIC_URL" in detail
    assert "https" in detail


async def test_the_public_url_is_what_clients_are_told(tmp_path: Path) -> None:
    async with harbour(tmp_path, public_url="https://moorage.example:8443") as site:
        admin = Admin(site)
        await admin.post("/tenants", {"name": "acme"})
        inside = await admin_of(site, "acme")
        got = await inside.ask("GET", "/tenants/acme/client-config?for=env")
        assert "GOPROXY=https://moorage.example:8443/goproxy/acme\n" in got.text
        assert "GOAUTH=netrc\n" in got.text
        assert site.secret not in got.text
        assert (inside.token or "") not in got.text


HOSTS = ["a b", "a.example/x", "a@b", "$(id)", "a.example:99999"]


async def test_F29_a_host_that_is_none_is_not_repeated_into_a_shell(admin: Admin) -> None:
    await admin.post("/tenants", {"name": "acme", "anonymous_read": True})
    target = f"{API}/tenants/acme/client-config"
    for host in HOSTS:
        assert (await admin.site.admin(target, headers={"Host": host})).status == 400
