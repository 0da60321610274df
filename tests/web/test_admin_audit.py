"""The record through the admin API: changes in pages, the chain, and downloads of one's own."""

from collections.abc import AsyncIterator
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import text

from app.core.principal import Scope
from app.db.denials import Denial
from app.db.engine import Database
from app.db.usage import Download, Usage
from app.services.audit import AuditReader
from tests.web.asking import Admin, admin_of, refused
from tests.web.harbour import harbour
from tests.web.wire import Site

DAYS = (date(2026, 11, 1), date(2026, 11, 2))


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


async def test_changes_are_pages_by_their_number(admin: Admin) -> None:
    for number in range(3):
        await admin.put(f"/ownership/c{number}.example", {"tenant": "acme"})
    pages = await admin.pages("/audit", 2)
    numbers = [row["seq"] for page in pages for row in page]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(len(page) == 2 for page in pages[:-1])
    by_action = await admin.pages("/audit?action=ownership.put", 2)
    objects = [[row["object"] for row in page] for page in by_action]
    assert objects == [["prefix:c0.example", "prefix:c1.example"], ["prefix:c2.example"]]


async def test_changes_are_found_by_how_their_actor_begins(admin: Admin) -> None:
    [by_cli] = (await admin.get("/audit?actor=cli"))["items"]
    assert by_cli["action"] == "token.create"
    mine = (await admin.get("/audit?actor=token:"))["items"]
    assert [row["action"] for row in mine] == ["tenant.create", "tenant.create"]
    # "%" and "_" are no wildcards.
    for actor in ("%25", "_li", "token:nope"):
        assert (await admin.get(f"/audit?actor={actor}"))["items"] == []


async def test_a_changed_row_breaks_the_chain(admin: Admin) -> None:
    whole = await admin.get("/audit/verify")
    assert whole["intact"]
    assert whole["first_break"] is None
    change = text("UPDATE audit SET detail = 'x' WHERE seq = 2")
    await admin.site.services.shared.db.write(lambda s: s.execute(change))
    assert await admin.get("/audit/verify") == {
        "rows": 1,
        "intact": False,
        "first_break": 2,
        "problem": "",
    }


@pytest.fixture
async def counted(admin: Admin) -> Admin:
    counts = {
        Download(day, tenant, token, "example.com/m", version): 1
        for day in DAYS
        for tenant, token in (("acme", "t1"), ("acme", ""), ("other", "t2"))
        for version in ("v1.0.0", "v1.1.0+incompatible")
    }
    await admin.site.services.shared.db.write(lambda s: Usage(s).add(counts))
    return admin


QUERIES = [
    ("", 12),
    ("module=example.com/m", 12),
    ("module=example.com/other", 0),
    ("module=example.com/%25", 0),
    ("version=v1.0.0", 6),
    ("version=v1.1.0%2Bincompatible", 6),
    ("tenant=acme", 8),
    ("tenant=nope", 0),
    ("since=2026-11-02", 6),
    ("since=2026-11-03", 0),
    ("tenant=other&version=v1.0.0&since=2026-11-02", 1),
]


async def test_downloads_are_found_by_what_is_asked(counted: Admin) -> None:
    for query, count in QUERIES:
        pages = await counted.pages(f"/audit/downloads?{query}", 5)
        rows = [tuple(one.values()) for page in pages for one in page]
        assert len(rows) == len(set(rows)) == count, query
        assert rows == sorted(rows)


async def test_F28_a_tenants_admin_sees_its_own_downloads(counted: Admin) -> None:
    inside = await admin_of(counted.site, "acme")
    for query in ("", "tenant=acme"):
        downloads = [d for page in await inside.pages(f"/audit/downloads?{query}", 3) for d in page]
        assert len(downloads) == 8
        assert {d["tenant"] for d in downloads} == {"acme"}
    refused(await inside.ask("GET", "/audit/downloads?tenant=other"), 403)
    refused(await inside.ask("GET", "/audit"), 403)
    refused(await inside.ask("GET", "/audit/verify"), 403)
    # Another tenant's cursor leads to nothing but one's own.
    theirs = await counted.get("/audit/downloads?tenant=other&limit=1")
    page = await inside.get(f"/audit/downloads?cursor={theirs['next_cursor']}")
    assert {d["tenant"] for d in page["items"]} == {"acme"}


async def test_F28_a_tenants_admin_sees_its_own_denials(admin: Admin) -> None:
    counter = admin.site.services.shared.denials
    for tenant in ("acme", "other"):
        for module in ("a.example", "b.example"):
            for token in ("t1", ""):
                counter.count(Denial(tenant, token, module, "rule 7"), "9f86d081884c7d65")
    await counter.flush()
    rows = [d for page in await admin.pages("/audit/denials", 3) for d in page]
    assert len(rows) == len({tuple(d.values()) for d in rows}) == 8
    [one] = await admin.pages("/audit/denials?tenant=other&token=t1&module=a.example", 3)
    [row] = one
    facts = {name: row[name] for name in ("tenant", "token", "module", "rule", "count")}
    assert facts == {
        "tenant": "other",
        "token": "t1",
        "module": "a.example",
        "rule": "rule 7",
        "count": 1,
    }
    assert row["last_request"] == "9f86d081884c7d65"
    assert (await admin.get("/audit/denials?since=2999-01-01"))["items"] == []
    inside = await admin_of(admin.site, "acme")
    for query in ("", "tenant=acme"):
        denials = [d for page in await inside.pages(f"/audit/denials?{query}", 3) for d in page]
        assert [d["tenant"] for d in denials] == ["acme"] * 4
    refused(await inside.ask("GET", "/audit/denials?tenant=other"), 403)
    theirs = await admin.get("/audit/denials?tenant=other&limit=1")
    page = await inside.get(f"/audit/denials?cursor={theirs['next_cursor']}")
    assert page["items"] == []


BAD = [
    ("/audit/denials?cursor=x", 400),
    ("/audit/denials?cursor=WyJhIiwiYiIsImMiLCJkIiwiZSJd", 400),
    ("/audit/denials?module=%00", 422),
    ("/audit/denials?since=yesterday", 422),
    ("/audit?cursor=x", 400),
    ("/audit?cursor=", 400),
    ("/audit?cursor=WyJhIl0", 400),
    ("/audit?limit=0", 422),
    ("/audit?limit=201", 422),
    ("/audit?action=", 422),
    ("/audit?action=%00", 422),
    ("/audit?actor=%ff", 422),
    (f"/audit?actor={'a' * 401}", 422),
    ("/audit/downloads?cursor=x", 400),
    ("/audit/downloads?cursor=WyJhIiwiYiIsImMiLCJkIiwiZSJd", 400),
    ("/audit/downloads?since=yesterday", 422),
    ("/audit/downloads?since=2026-13-01", 422),
    ("/audit/downloads?since=99999-01-01", 422),
    ("/audit/downloads?module=%00", 422),
    ("/audit/downloads?module=a%0ab", 422),
    ("/audit/downloads?limit=99999999999999999999", 422),
]


async def test_F98_a_malformed_question_is_refused(admin: Admin) -> None:
    for target, status in BAD:
        refused(await admin.ask("GET", target), status)


async def test_refused_calls_leave_a_row_for_each_kind_and_a_stop_writes_them(
    tmp_path: Path,
) -> None:
    async with harbour(tmp_path) as site:
        await Admin(site).post("/tenants", {"name": "acme", "catch_all": False})
        reader = await admin_of(site, "acme", Scope.READ)
        for _ in range(100):
            refused(await reader.ask("GET", "/tenants/acme"), 403)
        broken = await site.admin(
            "/api/v1/tenants/acme/rules",
            "POST",
            token=reader.token,
            body=b"{",
            headers={"Content-Type": "application/json"},
        )
        assert broken.status == 422
        nobody = await site.admin("/api/v1/tenants/acme/rules", "POST", token="x", body=b"{")
        assert nobody.status in (401, 415, 422)
        url = site.services.shared.db.url
    with closing(Database(url)) as database:
        rows = await AuditReader(database).list(after=0, limit=1000)
        assert (await AuditReader(database).verify())[1] is None
    last = [(row.action, row.object) for row in rows if row.action.startswith("access.")]
    assert last == [
        ("access.deny", "GET /api/v1/tenants/acme"),
        ("access.malformed", "POST /api/v1/tenants/acme/rules"),
    ]
    assert rows[-2].detail.startswith("100 times from ")


async def test_a_defect_is_a_problem_that_tells_nothing(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: AuditReader) -> None:
        raise RuntimeError("/srv/moorage/secret")

    monkeypatch.setattr(AuditReader, "verify", broken)
    got = await admin.ask("GET", "/audit/verify")
    assert "log has the details" in refused(got, 500)
    assert "secret" not in got.text
