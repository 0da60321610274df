"""Credentials through the admin API: written, named, and never read."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.core.principal import OPERATOR
from app.db.base import Base
from app.db.engine import Session
from tests.nouns import a_route, an_upstream
from tests.web.asking import Admin, refused, rows
from tests.web.conftest import Log
from tests.web.harbour import harbour
from tests.web.wire import Site

SECRET = "s3cret-Zo2-do-not-show"
BASIC = {"kind": "basic", "username": "bob", "secret": SECRET}
PATH = "/tenants/acme/credentials"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with harbour(tmp_path) as one:
        yield one


@pytest.fixture
async def admin(site: Site) -> Admin:
    one = Admin(site)
    await one.post("/tenants", {"name": "acme", "catch_all": False})
    return one


async def test_a_secret_goes_in_and_never_comes_out(admin: Admin, tmp_path: Path, log: Log) -> None:
    put = await admin.ask("PUT", f"{PATH}/art", BASIC)
    assert (put.status, put.header("etag")) == (200, '"1"')
    shown = json.loads(put.body)
    assert {**shown, "changed_at": ""} == {
        "name": "art",
        "kind": "basic",
        "username": "bob",
        "revision": 1,
        "changed_at": "",
    }
    assert (await admin.get(PATH))["items"] == [shown]
    everything = put.text + log.text
    for path in (PATH, "/audit", "/tenants/acme"):
        everything += (await admin.ask("GET", path)).text
    assert "bob" in everything
    assert SECRET not in everything
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    kept = b"".join([path.read_bytes() for path in files]) + await rows_of(admin.site)
    assert b"credential.put" in kept  # the looking works
    assert SECRET.encode() not in kept


async def rows_of(site: Site) -> bytes:
    """Return all that is in the database, which is no file here on PostgreSQL."""

    def read(session: Session) -> bytes:
        tables = Base.metadata.sorted_tables
        rows = [tuple(row) for table in tables for row in session.execute(select(table))]
        assert any("credential.put" in row for row in rows)
        return repr(rows).encode()

    return await site.services.shared.db.read(read)


async def test_another_secret_is_the_next_revision(admin: Admin) -> None:
    await admin.put(f"{PATH}/art", BASIC)
    late = {"kind": "bearer", "secret": "x"}
    refused(await admin.ask("PUT", f"{PATH}/art", late, if_match='"9"'), 412)
    refused(await admin.ask("PUT", f"{PATH}/new", late, if_match='"1"'), 412)
    refused(await admin.ask("PUT", f"{PATH}/art", late, if_match="1"), 400)
    got = await admin.ask("PUT", f"{PATH}/art", late, if_match='"1"')
    assert (got.status, got.header("etag")) == (200, '"2"')
    assert json.loads(got.body)["username"] == ""
    refused(await admin.ask("DELETE", f"{PATH}/art", if_match='"1"'), 412)
    assert (await admin.ask("DELETE", f"{PATH}/art", if_match='"2"')).status == 204
    assert (await admin.get(PATH))["items"] == []
    assert "credential list" in refused(await admin.ask("DELETE", f"{PATH}/art"), 404)
    assert len(await rows(admin.site, "credential.put")) == 2


async def test_a_credential_that_a_route_uses_stays(admin: Admin) -> None:
    await admin.put(f"{PATH}/art", BASIC)
    upstream = an_upstream("https://art.corp.example/go", credential="art")
    await admin.site.services.tenants.routes.create("acme", a_route("*", upstream), OPERATOR)
    assert "uses the credential art" in refused(await admin.ask("DELETE", f"{PATH}/art"), 409)


async def test_credentials_are_pages_by_name(admin: Admin) -> None:
    for name in ("c", "a", "b"):
        await admin.put(f"{PATH}/{name}", BASIC)
    pages = await admin.pages(PATH, 2)
    assert [[c["name"] for c in page] for page in pages] == [["a", "b"], ["c"]]
    refused(await admin.ask("GET", f"{PATH}?cursor=x"), 400)
    refused(await admin.ask("GET", "/tenants/nope/credentials"), 404)
    refused(await admin.ask("PUT", "/tenants/nope/credentials/a", BASIC), 404)


BAD: list[Any] = [
    SECRET,
    [SECRET],
    {"secret": SECRET},
    {"kind": "digest", "secret": SECRET},
    {"kind": SECRET, "secret": "x"},
    {"kind": "basic", "secret": SECRET},
    {"kind": "basic", "username": "a:b", "secret": SECRET},
    {"kind": "basic", "username": SECRET * 20, "secret": "x"},
    {"kind": "bearer", "username": "bob", "secret": SECRET},
    {"kind": "bearer", "secret": ""},
    {"kind": "bearer", "secret": [SECRET]},
    {"kind": "bearer", "secret": f"{SECRET}\r\nX-Evil: 1"},
    {"kind": "bearer", "secret": f"{SECRET}\0"},
    {"kind": "bearer", "secret": f"{SECRET}é"},
    {"kind": "bearer", "secret": SECRET * 1000},
    {"kind": "bearer", "secret": "x", "token": SECRET},
    {"kind": "bearer", "secret": "x", SECRET + "\n": 1},
]


async def test_F98_a_malformed_credential_is_refused_without_repeating_it(
    admin: Admin, log: Log
) -> None:
    for body in BAD[:-1]:
        got = await admin.ask("PUT", f"{PATH}/art", body)
        assert got.status in (400, 422), body
        refused(got, got.status)
        assert SECRET not in got.text, body
    refused(await admin.ask("PUT", f"{PATH}/art", BAD[-1]), 422)
    assert SECRET not in log.text
    assert (await admin.get(PATH))["items"] == []


NO_NAMES = ["A", "a%20b", "a%2Fb", "%00", "-a", "a" * 64, "%3Cb%3E", "a'"]


async def test_F98_a_name_that_is_none_is_refused(admin: Admin) -> None:
    for name in NO_NAMES:
        got = await admin.ask("PUT", f"{PATH}/{name}", BASIC)
        refused(got, 404 if name == "a%2Fb" else 400)
        refused(await admin.ask("DELETE", f"{PATH}/{name}"), 404)
