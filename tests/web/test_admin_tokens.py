"""Tokens through the admin API: shown once, rotated with a grace, revoked at once."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from app.core.principal import Scope
from app.core.token import looks_like_token
from tests.web.asking import API, Admin, admin_of, refused, rows
from tests.web.harbour import harbour
from tests.web.wire import Site

READER = {"name": "ci", "scopes": ["read"]}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with harbour(tmp_path) as one:
        yield one


@pytest.fixture
async def admin(site: Site) -> Admin:
    """The platform's, with the tenants acme and other."""
    one = Admin(site)
    for name in ("acme", "other"):
        await one.post("/tenants", {"name": name, "catch_all": False})
    return one


async def test_a_secret_is_in_the_answer_that_makes_it_and_nowhere_else(admin: Admin) -> None:
    got = await admin.ask("POST", "/tenants/acme/tokens", READER)
    assert (got.status, got.header("cache-control")) == (201, "no-store")
    made = json.loads(got.body)
    secret = made.pop("token")
    assert looks_like_token(secret)
    assert (made["name"], made["scopes"], made["tenant"]) == ("ci", ["read"], "acme")
    listed = await admin.ask("GET", "/tenants/acme/tokens")
    assert json.loads(listed.body)["items"] == [made]
    everything = listed.text + (await admin.ask("GET", "/tokens")).text
    everything += (await admin.ask("GET", "/audit")).text
    assert made["id"] in everything
    assert secret not in everything


@pytest.mark.parametrize(
    ("days", "life"), [({}, timedelta(days=365)), ({"days": 1}, timedelta(days=1))]
)
async def test_a_token_ends_unless_asked_otherwise(
    admin: Admin, days: dict[str, int], life: timedelta
) -> None:
    made = await admin.post("/tokens", {**READER, **days})
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert abs(lasts - life) < timedelta(minutes=1)
    forever = await admin.post("/tokens", {**READER, "days": None})
    assert forever["expires_at"] is None


async def test_a_rotated_token_and_its_successor_both_work_until_the_grace_ends(
    admin: Admin,
) -> None:
    old = await admin_of(admin.site, "acme")
    [listed] = (await admin.get("/tenants/acme/tokens"))["items"]
    made = await admin.post(f"/tenants/acme/tokens/{listed['id']}/rotate", {"grace_hours": 1})
    new = Admin(admin.site, made["token"])
    for one in (old, new):
        assert (await one.get("/tenants/acme"))["name"] == "acme"
    assert made["scopes"] == listed["scopes"]
    ending, _ = (await admin.get("/tenants/acme/tokens"))["items"]
    ends_in = datetime.fromisoformat(ending["expires_at"]) - admin.site.services.shared.now()
    assert timedelta(minutes=59) < ends_in <= timedelta(hours=1)
    again = await admin.ask("POST", f"/tenants/acme/tokens/{listed['id']}/rotate", {})
    assert "2 tokens named 'of tenant' are active" in refused(again, 409)


async def test_without_grace_the_old_token_ends_at_once(admin: Admin) -> None:
    old = await admin_of(admin.site, "acme")
    [listed] = (await admin.get("/tenants/acme/tokens"))["items"]
    await admin.post(f"/tokens/{listed['id']}/rotate", {"grace_hours": 0})
    assert "expired" in refused(await old.ask("GET", "/tenants/acme"), 401)


async def test_a_revoked_token_stops_at_once(admin: Admin) -> None:
    inside = await admin_of(admin.site, "acme")
    [listed] = (await inside.get("/tenants/acme/tokens"))["items"]
    await inside.delete(f"/tenants/acme/tokens/{listed['id']}")
    refused(await inside.ask("GET", "/tenants/acme/tokens"), 401)
    again = await admin.ask("DELETE", f"/tenants/acme/tokens/{listed['id']}")
    assert "revoked already" in refused(again, 409)
    rotated = await admin.ask("POST", f"/tenants/acme/tokens/{listed['id']}/rotate", {})
    assert "not active" in refused(rotated, 409)


async def test_F26_a_tenant_that_is_switched_off_takes_its_tokens_with_it(admin: Admin) -> None:
    inside = await admin_of(admin.site, "acme")
    for enabled, status in ((False, 401), (True, 200)):
        await admin.ask("PATCH", "/tenants/acme", {"enabled": enabled})
        assert (await inside.ask("GET", "/tenants/acme")).status == status
        assert (await admin.get("/tenants/acme"))["enabled"] is enabled


async def test_F28_a_tenants_admin_reaches_no_token_but_the_tenants(admin: Admin) -> None:
    inside = await admin_of(admin.site, "acme")
    others = await admin.post("/tenants/other/tokens", READER)
    platforms = await admin.post("/tokens", READER)
    for token in (others, platforms):
        for path in (f"/tokens/{token['id']}", f"/tenants/other/tokens/{token['id']}"):
            refused(await inside.ask("DELETE", path), 403)
            refused(await inside.ask("POST", f"{path}/rotate", {}), 403)
        # Under its own tenant's name an id of others is as unknown as one that nobody has.
        present = await inside.ask("DELETE", f"/tenants/acme/tokens/{token['id']}")
        absent = await inside.ask("DELETE", "/tenants/acme/tokens/nope")
        assert refused(present, 404).replace(token["id"], "nope") == refused(absent, 404)
    for path in ("/tokens", "/tenants/other/tokens"):
        refused(await inside.ask("GET", path), 403)
        refused(await inside.ask("POST", path, READER), 403)
    [denied] = await rows(admin.site, "access.deny")
    assert denied.detail.startswith("12 times from ")
    assert await rows(admin.site, "token.revoke") == []


async def test_a_platform_admin_reaches_a_token_by_its_tenant_or_without(admin: Admin) -> None:
    ids = [(await admin.post("/tenants/acme/tokens", READER))["id"] for _ in range(2)]
    refused(await admin.ask("DELETE", f"/tenants/other/tokens/{ids[0]}"), 404)
    await admin.delete(f"/tenants/acme/tokens/{ids[0]}")
    await admin.delete(f"/tokens/{ids[1]}")


async def test_F28_a_reader_reads_no_admin_route_and_each_try_is_recorded(admin: Admin) -> None:
    reader = await admin_of(admin.site, "acme", Scope.READ, Scope.PUBLISH)
    for path in ("/tenants/acme", "/tenants/acme/tokens", "/audit", "/audit/downloads"):
        detail = refused(await reader.ask("GET", path), 403)
        assert "scope `admin`" in detail
        denied = (await rows(admin.site, "access.deny"))[-1]
        assert denied.object == f"GET {API}{path}"
        assert denied.detail.endswith(f"Z: {detail}")
        assert denied.actor.startswith("token:")
    # Whoever is nobody leaves no row: the log is not to be filled from outside.
    refused(await Admin(admin.site, None).ask("GET", "/tenants/acme"), 401)
    assert len(await rows(admin.site, "access.deny")) == 4
    assert (await admin.get("/audit/verify"))["intact"]


async def test_lists_are_pages_in_the_order_of_their_making(admin: Admin) -> None:
    made = [
        (await admin.post("/tenants/acme/tokens", {**READER, "name": f"n{n}"}))["id"]
        for n in range(5)
    ]
    pages = await admin.pages("/tenants/acme/tokens", 2)
    assert [[t["id"] for t in page] for page in pages] == [made[:2], made[2:4], made[4:]]
    every = [t["id"] for page in await admin.pages("/tokens", 2) for t in page]
    assert every[1:] == made  # the first is the token of the test itself
    for cursor in ("x", "", "WzNd"):
        refused(await admin.ask("GET", f"/tokens?cursor={cursor}"), 400)


BAD = [
    {},
    {"name": "ci"},
    {"name": "", "scopes": ["read"]},
    {"name": " ", "scopes": ["read"]},
    {"name": "two\nlines", "scopes": ["read"]},
    {"name": "n" * 101, "scopes": ["read"]},
    {"name": "ci", "scopes": []},
    {"name": "ci", "scopes": ["root"]},
    {"name": "ci", "scopes": "read"},
    {"name": "ci", "scopes": ["read"] * 5},
    {"name": "ci", "scopes": ["read"], "days": 0},
    {"name": "ci", "scopes": ["read"], "days": 367},
    {"name": "ci", "scopes": ["read"], "days": 10**30},
    {"name": "ci", "scopes": ["read"], "days": True},
    {"name": "ci", "scopes": ["read"], "tenant": "other"},
    {"name": "ci", "scopes": ["read"], "token": "moor_x"},
]
BAD_GRACE = [-1, 721, 10**30, 1.5, "1", None, True]


async def test_F98_a_malformed_token_is_refused(admin: Admin) -> None:
    for body in BAD:
        for path in ("/tokens", "/tenants/acme/tokens"):
            got = await admin.ask("POST", path, body)
            assert got.status in (400, 422), body
            refused(got, got.status)
    made = await admin.post("/tokens", READER)
    for grace in BAD_GRACE:
        got = await admin.ask("POST", f"/tokens/{made['id']}/rotate", {"grace_hours": grace})
        refused(got, 422)
    assert len(await rows(admin.site, "token.create")) == 2


UNKNOWN = ["nope", "%00", "%ff", "'%20OR%201=1", "%3Cb%3E", "a" * 900]


async def test_F98_an_unknown_token_is_404(admin: Admin) -> None:
    for token_id in UNKNOWN:
        refused(await admin.ask("DELETE", f"/tokens/{token_id}"), 404)
        detail = refused(
            await admin.ask("POST", f"/tenants/acme/tokens/{token_id}/rotate", {}), 404
        )
        assert "moorage token list" in detail
        assert len(detail) < 300
    refused(await admin.ask("GET", "/tenants/nope/tokens"), 404)
    refused(await admin.ask("POST", "/tenants/nope/tokens", READER), 404)
