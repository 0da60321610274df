"""Owned prefixes through the admin API: whose they are, and who else may use them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.asking import Admin, refused, rows
from tests.web.harbour import harbour
from tests.web.wire import Site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with harbour(tmp_path) as one:
        yield one


@pytest.fixture
async def admin(site: Site) -> Admin:
    one = Admin(site)
    for name in ("acme", "other"):
        await one.post("/tenants", {"name": name, "catch_all": False})
    return one


@pytest.mark.parametrize("path", ["corp.example/team", "corp.example%2Fteam"])
async def test_a_prefix_is_a_path_of_several_elements(admin: Admin, path: str) -> None:
    got = await admin.ask("PUT", f"/ownership/{path}", {"tenant": "acme", "granted": ["other"]})
    assert (got.status, got.header("etag")) == (200, '"1"')
    owned = json.loads(got.body)
    assert {**owned, "created_at": ""} == {
        "prefix": "corp.example/team",
        "tenant": "acme",
        "granted": ["other"],
        "revision": 1,
        "created_at": "",
    }
    assert (await admin.get("/ownership"))["items"] == [owned]
    await admin.delete(f"/ownership/{path}")
    assert (await admin.get("/ownership"))["items"] == []
    assert "owner list" in refused(await admin.ask("DELETE", f"/ownership/{path}"), 404)


async def test_the_same_again_is_no_change_and_another_owner_is_one(admin: Admin) -> None:
    path, body = "/ownership/corp.example", {"tenant": "acme"}
    for _ in range(2):
        assert (await admin.ask("PUT", path, body)).header("etag") == '"1"'
    assert len(await rows(admin.site, "ownership.put")) == 1
    refused(await admin.ask("PUT", path, {"tenant": "other"}, if_match='"2"'), 412)
    refused(await admin.ask("PUT", path, {"tenant": "other"}, if_match="x"), 400)
    got = await admin.ask("PUT", path, {"tenant": "other"}, if_match='"1"')
    assert got.header("etag") == '"2"'
    refused(await admin.ask("DELETE", path, if_match='"1"'), 412)
    assert (await admin.ask("DELETE", path, if_match='"2"')).status == 204


BAD: list[tuple[str, Any, int]] = [
    ("corp.example", {}, 422),
    ("corp.example", {"tenant": None}, 422),
    ("corp.example", {"tenant": "a" * 64}, 422),
    ("corp.example", {"tenant": "acme", "granted": "other"}, 422),
    ("corp.example", {"tenant": "acme", "granted": ["other"] * 1001}, 422),
    ("corp.example", {"tenant": "acme", "extra": 1}, 422),
    ("corp.example", {"tenant": "acme", "granted": ["acme"]}, 400),
    ("corp.example", {"tenant": "nope"}, 404),
    ("corp.example", {"tenant": "'; DROP TABLE tenants"}, 404),
    ("corp.example", {"tenant": "acme", "granted": ["nope"]}, 404),
    ("corp", {"tenant": "acme"}, 400),
    ("corp.example/*", {"tenant": "acme"}, 400),
    ("corp.example/", {"tenant": "acme"}, 400),
    ("corp.example//x", {"tenant": "acme"}, 400),
    ("corp.example/%2e%2e/x", {"tenant": "acme"}, 400),
    ("corp.example/!x", {"tenant": "acme"}, 400),
    ("corp.example/%00", {"tenant": "acme"}, 400),
    ("corp.example/%ff", {"tenant": "acme"}, 400),
    ("corp.example/%3Cscript%3E", {"tenant": "acme"}, 400),
    ("", {"tenant": "acme"}, 400),
]


async def test_F98_a_malformed_prefix_or_owner_is_refused(admin: Admin) -> None:
    for prefix, body, status in BAD:
        refused(await admin.ask("PUT", f"/ownership/{prefix}", body), status)
    assert (await admin.get("/ownership"))["items"] == []


async def test_owned_prefixes_are_pages_by_prefix(admin: Admin) -> None:
    for prefix in ("c.example", "a.example/x", "b.example"):
        await admin.put(f"/ownership/{prefix}", {"tenant": "acme"})
    pages = await admin.pages("/ownership", 2)
    prefixes = [[o["prefix"] for o in page] for page in pages]
    assert prefixes == [["a.example/x", "b.example"], ["c.example"]]
    refused(await admin.ask("GET", "/ownership?cursor=x"), 400)
