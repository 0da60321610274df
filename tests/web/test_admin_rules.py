"""The admin API of rules: what is written is what acts, and a bad rule is refused with a reason."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.core.principal import OPERATOR, Scope
from tests.services.bench import audit_rows
from tests.web.api import call, ok, refused
from tests.web.harbour import add_tenant, harbour, settled
from tests.web.wire import Site

RULES = "/tenants/acme/rules"
DENY_X: dict[str, Any] = {"effect": "deny", "pattern": "example.com/x"}


@pytest.fixture(scope="module")
async def port(module_folder: Path) -> AsyncIterator[Site]:
    async with harbour(module_folder) as site:
        await add_tenant(site.services, "shared")
        yield site


@pytest.fixture
async def site(port: Site) -> AsyncIterator[Site]:
    """One server for all; each test has the tenant acme anew, and no platform rules."""
    await add_tenant(port.services, "acme")
    yield port
    await port.services.tenants.tenants.remove("acme", OPERATOR)
    for recorded in await port.services.tenants.rules.page(None, OPERATOR):
        await port.services.tenants.rules.remove(None, recorded.id, OPERATOR)


@pytest.mark.parametrize("path", [RULES, "/rules"])
async def test_a_rule_lives_from_post_to_delete(site: Site, path: str) -> None:
    body = {
        **DENY_X,
        "versions": ">=v1.2.0 , <v2.0.0",
        "reason": "CVE-2026-1",
        "expires_at": "2099-01-31T01:00:00+01:00",
    }
    got = await call(site, "POST", path, body)
    assert (got.status, got.header("etag")) == (201, '"1"')
    made = await ok(site, "GET", path)
    [rule] = made["items"]
    assert rule == {
        "id": rule["id"],
        "tenant": "acme" if path == RULES else None,
        "effect": "deny",
        "pattern": "example.com/x",
        "versions": ">=v1.2.0 <v2.0.0",
        "reason": "CVE-2026-1",
        "expires_at": "2099-01-31T00:00:00Z",
        "revision": 1,
        "created_at": rule["created_at"],
    }
    one = f"{path}/{rule['id']}"
    assert await ok(site, "GET", one) == rule
    changed = await ok(site, "PUT", one, {**DENY_X, "reason": "all of it"})
    assert (changed["versions"], changed["expires_at"], changed["revision"]) == ("", None, 2)
    assert await ok(site, "DELETE", one) is None
    assert (await refused(site, "GET", one))[0] == 404
    assert (await refused(site, "DELETE", one))[0] == 404
    actions = [r.action for r in await audit_rows(site.services) if r.action.startswith("rule.")]
    assert actions[-3:] == ["rule.create", "rule.update", "rule.remove"]


async def test_a_rule_acts_once_its_generation_is_seen(site: Site) -> None:
    listed = "/goproxy/acme/example.com/x/@v/list"
    assert (await site.ask(listed)).status == 403  # there is no route
    made = await ok(site, "POST", RULES, {**DENY_X, "reason": "CVE-1"})
    await settled(site.services)
    text = (await site.ask(listed)).text
    assert text == (f"example.com/x is denied by rule {made['id']} (deny example.com/x): CVE-1\n")


async def test_a_put_of_what_is_so_already_changes_nothing(site: Site) -> None:
    made = await ok(site, "POST", RULES, DENY_X)
    before = await audit_rows(site.services), await site.services.shared.watch.poll()
    again = await ok(site, "PUT", f"{RULES}/{made['id']}", DENY_X)
    assert again == made
    assert (await audit_rows(site.services), await site.services.shared.watch.poll()) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("path", [RULES, "/rules"])
async def test_who_changes_what_somebody_else_has_changed_hears_of_it(
    site: Site, method: str, path: str
) -> None:
    one = f"{path}/{(await ok(site, 'POST', path, DENY_X))['id']}"
    await ok(site, "PUT", one, {**DENY_X, "reason": "second"}, headers={"If-Match": '"1"'})
    body = {**DENY_X, "reason": "third"} if method == "PUT" else None
    status, detail = await refused(site, method, one, body, headers={"If-Match": '"1"'})
    assert status == 412
    assert "is at revision 2, not 1" in detail
    for malformed in ("1", 'W/"1"', '"x"', '"1", "2"', ""):
        status, _ = await refused(site, method, one, body, headers={"If-Match": malformed})
        assert status == 400, malformed
    assert (await ok(site, "GET", one))["reason"] == "second"
    assert (await call(site, method, one, body, headers={"If-Match": '"2"'})).status in (200, 204)


async def test_lists_are_pages(site: Site) -> None:
    for number in range(5):
        await ok(site, "POST", RULES, {"effect": "deny", "pattern": f"example.com/m{number}"})
    patterns: list[str] = []
    cursor = ""
    while cursor is not None:
        page = await ok(site, "GET", f"{RULES}?limit=2{cursor and f'&cursor={cursor}'}")
        patterns += [rule["pattern"] for rule in page["items"]]
        cursor = page["next_cursor"]
    assert patterns == [f"example.com/m{number}" for number in range(5)]
    assert (await refused(site, "GET", f"{RULES}?cursor=nope"))[0] == 400
    assert (await refused(site, "GET", f"{RULES}?limit=201"))[0] == 422


# What is sent, the status, and the reason that is told: a bad rule is refused when it is written.
BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"pattern": ""}, 400, "empty"),
    ({"pattern": "a,b"}, 400, "has a comma; write one pattern for each"),
    ({"pattern": "x["}, 400, 'an open "["'),
    ({"pattern": "/x"}, 400, "begins or ends with a slash"),
    ({"pattern": "a b"}, 400, "white space"),
    ({"pattern": "ex\u00e4mple.com"}, 400, "not ASCII"),
    ({"pattern": "github.com/!burnt!sushi"}, 400, "write the plain path"),
    ({"pattern": "'; DROP TABLE rules; --"}, 400, "white space"),
    ({"pattern": "<script>"}, 400, "no module path has a '<'"),
    ({"pattern": "x\r\nX-Evil: 1"}, 400, "malformed pattern"),
    ({"pattern": "a" * 257}, 422, "at most 256 characters"),
    ({"pattern": 7}, 422, "body.pattern"),
    ({"versions": "nonsense"}, 400, "is not a term such as >=v1.2.3, v1.2 or v1"),
    ({"versions": ">=v1.2"}, 400, "needs a full version"),
    ({"versions": "v1, v2"}, 400, 'alternatives need "||"'),
    ({"versions": "v1" * 300}, 422, "at most 512 characters"),
    ({"reason": "a\nb"}, 400, "the reason has a control character or a line break"),
    ({"reason": "a" * 301}, 422, "at most 300 characters"),
    ({"effect": "forbid"}, 422, "'allow' or 'deny'"),
    ({"effect": None}, 422, "body.effect"),
    ({"expires_at": "2027-01-31T00:00:00"}, 400, "needs a zone"),
    ({"expires_at": "2020-01-31T00:00:00Z"}, 400, "is in the past"),
    ({"expires_at": "9999-12-31T23:59:59-14:00"}, 422, "beyond the years 1 to 9999"),
    ({"expires_at": "soon"}, 422, "body.expires_at"),
    ({"expires_at": 10**30}, 422, "body.expires_at"),
    ({"extra": 1}, 422, "body.extra: Extra inputs are not permitted"),
    ({"id": 1}, 422, "body.id"),
    ({"tenant": "other"}, 422, "body.tenant"),
]


@pytest.mark.parametrize(("change", "status", "message"), BAD, ids=[str(b[0])[:40] for b in BAD])
async def test_F98_a_bad_rule_is_refused_with_the_reason(
    site: Site, change: dict[str, Any], status: int, message: str
) -> None:
    made = await ok(site, "POST", RULES, {"effect": "deny", "pattern": "example.com/good"})
    for method, path in (("POST", RULES), ("PUT", f"{RULES}/{made['id']}"), ("POST", "/rules")):
        refusal = await refused(site, method, path, {**DENY_X, **change})
        assert refusal[0] == status
        assert message in refusal[1]
    assert await ok(site, "GET", f"{RULES}/{made['id']}") == made
    assert (await ok(site, "GET", "/rules"))["items"] == []


async def test_a_platform_rule_can_only_deny(site: Site) -> None:
    status, detail = await refused(site, "POST", "/rules", {**DENY_X, "effect": "allow"})
    assert (status, detail) == (400, "a platform rule can only deny; allow it in the tenants")


async def test_the_same_rule_twice_is_a_conflict(site: Site) -> None:
    made = await ok(site, "POST", RULES, DENY_X)
    status, detail = await refused(site, "POST", RULES, {**DENY_X, "reason": "again"})
    assert (status, detail) == (409, f"rule {made['id']} says that already: deny example.com/x")
    other = await ok(site, "POST", RULES, {**DENY_X, "versions": "v1"})
    assert (await refused(site, "PUT", f"{RULES}/{other['id']}", DENY_X))[0] == 409


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "9" * 30, "%00", str(2**63)])
async def test_F98_an_id_that_is_none_is_a_problem(site: Site, number: str) -> None:
    for path in (f"{RULES}/{number}", f"/rules/{number}"):
        for method, body in (("GET", None), ("PUT", DENY_X), ("DELETE", None)):
            assert (await refused(site, method, path, body))[0] == 422


async def test_a_rule_of_one_tenant_is_not_there_in_another_or_on_the_platform(site: Site) -> None:
    made = await ok(site, "POST", RULES, DENY_X)
    for path in (f"/tenants/shared/rules/{made['id']}", f"/rules/{made['id']}"):
        for method, body in (("GET", None), ("PUT", DENY_X), ("DELETE", None)):
            assert (await refused(site, method, path, body))[0] == 404
    assert (await refused(site, "GET", "/tenants/nobody/rules"))[0] == 404
    assert (await refused(site, "POST", "/tenants/nobody/rules", DENY_X))[0] == 404


async def test_F28_an_admin_of_a_tenant_writes_its_rules_and_no_others(site: Site) -> None:
    _, secret = await site.services.tenants.tokens.create(
        "acme", tenant="acme", scopes=frozenset({Scope.ADMIN})
    )
    made = await ok(site, "POST", RULES, DENY_X, token=secret)
    assert (await ok(site, "GET", RULES, token=secret))["items"] == [made]
    for path in ("/tenants/shared/rules", "/rules"):
        assert (await refused(site, "POST", path, DENY_X, token=secret))[0] == 403
    denied = (await audit_rows(site.services))[-1]
    assert denied.action == "access.deny"
    assert "2 times" in denied.detail
    for path in ("/tenants/shared/rules", "/rules"):
        assert f"POST /api/v1{path} 1" in denied.detail
