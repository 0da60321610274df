"""Checksum databases through the admin API: a tenant's own log, relayed ones, and evidence."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from app.core import tlog
from app.core.notekey import parse_vkey
from app.core.principal import OPERATOR, Scope
from app.core.proof import check_proof
from app.core.record import Sums, parse_lookup
from app.db.sumdb import LogTable
from tests.fakes.sumdb import FakeSumdb
from tests.nouns import an_owner
from tests.web.asking import Admin, admin_of, refused, rows
from tests.web.harbour import add_tenant, harbour
from tests.web.wire import Site

LOG = "/tenants/acme/log"
X = "example.com/BurntSushi"
SUMS = Sums(f"h1:{'A' * 43}=", f"h1:{'B' * 42}E=")


@pytest.fixture
def public() -> Iterator[FakeSumdb]:
    with FakeSumdb("sum.fake.example/with/slashes") as log:
        log.add("example.com/public", "v1.0.0", SUMS.zip_h1, SUMS.go_mod_h1)
        yield log


@pytest.fixture
async def site(tmp_path: Path, public: FakeSumdb) -> AsyncIterator[Site]:
    upstreams = [{"name": public.name, "vkey": public.vkey, "url": public.url}]
    async with harbour(tmp_path, sumdb={"upstreams": upstreams}) as one:
        await add_tenant(one.services, "acme")
        await add_tenant(one.services, "other")
        yield one


@pytest.fixture
def admin(site: Site) -> Admin:
    return Admin(site)


async def fill(site: Site, count: int) -> None:
    """Make acme's log, and append records to it."""
    log = await site.services.sumdb.logs.create("acme")
    for n in range(count):
        await site.services.sumdb.logs.append(log, X, f"v1.0.{n}", SUMS)


def head_file(site: Site, name: str) -> Path:
    folder = site.services.shared.settings.data_dir / "keys" / "logs"
    return Path(folder / f"{quote(name, safe='')}.head")


# --- a tenant's own log ---


async def test_a_log_is_made_once_and_shown_with_its_key(site: Site, admin: Admin) -> None:
    assert "sumdb create" in refused(await admin.ask("GET", LOG), 404)
    made = await admin.post(LOG, None)
    assert made["name"] == "moorage.internal/acme"
    assert parse_vkey(made["vkey"]).name == made["name"]
    assert (made["tenant"], made["size"], made["retired"]) == ("acme", 0, [])
    assert made["root"] == tlog.hash_text(tlog.EMPTY_ROOT)
    again = await admin.ask("POST", LOG)
    assert again.status == 200
    assert await admin.get(LOG) == made
    assert len(await rows(site, "sumdb.create")) == 1


async def test_what_is_shown_is_the_newest_head_verbatim(site: Site, admin: Admin) -> None:
    await fill(site, 3)
    answer = await admin.get(LOG)
    log = await site.services.sumdb.logs.of("acme")
    assert log is not None
    assert answer["size"] == 3
    assert answer["head"].encode() == await site.services.sumdb.logs.latest(log)
    assert answer["head"].splitlines()[1:3] == ["3", answer["root"]]
    assert log.seed.hex() not in str(answer)


async def test_a_proof_of_the_api_holds_for_an_outsider(site: Site, admin: Admin) -> None:
    await fill(site, 5)
    for n in range(5):
        got = await admin.get(f"{LOG}/proof?module={X}&version=v1.0.{n}")
        included = check_proof(got["text"].encode(), parse_vkey(got["vkey"]))
        assert (included.module, included.version) == (got["module"], got["version"])
        assert (included.number, included.tree.size) == (got["number"], got["size"]) == (n, 5)
        lookup = parse_lookup(got["lookup"].encode())
        hashes = [tlog.parse_hash(one) for one in got["hashes"]]
        leaf = tlog.leaf_hash(lookup.text.encode())
        tlog.check_record(hashes, included.tree, n, leaf)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (f"module={X}&version=v1.9.0", 404),
        ("module=UPPER&version=v1.0.0", 400),
        (f"module={X}&version=master", 400),
        (f"module={X}&version=v1", 400),
        (f"module={X}%00&version=v1.0.0", 400),
        (f"module={X}", 422),
        ("", 422),
    ],
)
async def test_F98_a_proof_of_what_is_not_there_is_refused(
    site: Site, admin: Admin, query: str, status: int
) -> None:
    await fill(site, 1)
    refused(await admin.ask("GET", f"{LOG}/proof?{query}"), status)


async def test_verifying_tells_what_is_wrong(site: Site, admin: Admin) -> None:
    await fill(site, 4)

    async def verified() -> Any:
        got = await admin.ask("POST", f"{LOG}/verify")
        assert got.status == 200, got.text
        return json.loads(got.body)

    assert await verified() == {
        "log": "moorage.internal/acme",
        "records": 4,
        "intact": True,
        "findings": [],
    }
    path = head_file(site, "moorage.internal/acme")
    path.write_text("damaged")
    report = await verified()
    assert report["intact"] is False
    assert "sumdb recover" in report["findings"][0]


async def test_F80_recovering_accepts_the_records_or_starts_another_log(
    site: Site, admin: Admin
) -> None:
    await fill(site, 2)
    first = await admin.get(LOG)
    recover = f"{LOG}/recover"
    detail = refused(await admin.ask("POST", recover, {"accept": True}), 409)
    assert "nothing is wrong" in detail
    head_file(site, first["name"]).write_text("damaged")
    accepted = await admin.ask("POST", recover, {"accept": True})
    assert accepted.status == 200
    assert await admin.get(LOG) == first
    head_file(site, first["name"]).write_text("damaged")
    anew = await admin.ask("POST", recover, {"accept": False})
    assert anew.status == 200
    second = await admin.get(LOG)
    assert (second["name"], second["size"]) == ("moorage.internal/acme-2", 0)
    assert [(one["name"], one["size"]) for one in second["retired"]] == [(first["name"], 2)]
    assert [row.detail for row in await rows(site, "sumdb.recover")] == [
        "accepted as it is",
        "retired",
    ]


BAD: list[tuple[str, Any, int]] = [
    ("recover", {}, 422),
    ("recover", {"accept": "yes"}, 422),
    ("recover", {"accept": 1}, 422),
    ("recover", {"accept": True, "extra": 1}, 422),
    ("recover", b"[" * 10_000, 400),
    ("recover", None, 422),
]


async def test_F98_a_malformed_decision_is_refused(site: Site, admin: Admin) -> None:
    await fill(site, 1)
    for action, body, status in BAD:
        refused(await admin.ask("POST", f"{LOG}/{action}", body), status)
    assert await rows(site, "sumdb.recover") == []


async def test_F28_a_log_is_its_tenants_admins_alone(site: Site) -> None:
    await fill(site, 1)
    inside = await admin_of(site, "acme")
    assert (await inside.get(LOG))["size"] == 1
    paths = [
        ("GET", LOG),
        ("POST", LOG),
        ("GET", f"{LOG}/proof?module={X}&version=v1.0.0"),
        ("POST", f"{LOG}/verify"),
    ]
    auditor = await admin_of(site, "acme", Scope.AUDIT)
    for stranger in (await admin_of(site, "other"), auditor):
        for method, path in paths:
            refused(await stranger.ask(method, path), 403)
    for method, path in paths:
        absent = path.replace("acme", "absent")
        refused(await Admin(site).ask(method, absent), 404)


async def test_a_token_may_have_the_scope_audit(admin: Admin) -> None:
    made = await admin.post("/tenants/acme/tokens", {"name": "a", "scopes": ["audit", "read"]})
    assert made["scopes"] == ["audit", "read"]


# --- relayed logs, and evidence ---


async def test_relayed_logs_are_shown_with_the_newest_head(
    site: Site, admin: Admin, public: FakeSumdb
) -> None:
    [before] = (await admin.get("/sumdb"))["items"]
    assert (before["name"], before["url"], before["vkey"]) == (public.name, public.url, public.vkey)
    assert (before["size"], before["root"], before["seen_at"]) == (None, None, None)
    await site.services.publiclog.relays[public.name].latest()
    [after] = (await admin.get("/sumdb"))["items"]
    assert (after["size"], after["evidence"]) == (public.size, 0)
    assert after["root"].encode() in public.head()


async def test_F76_both_heads_of_a_fork_are_evidence_verbatim(
    site: Site, admin: Admin, public: FakeSumdb
) -> None:
    public.grow(10)
    known = public.head()
    relay = site.services.publiclog.relays[public.name]
    await relay.latest()
    relay._head_until = 0.0  # the head that was just asked for is kept for seconds
    public.fork(3)
    public.grow(10)
    got = await site.ask(f"/goproxy/acme/sumdb/{public.name}/latest")
    assert got.status == 502
    path = f"/sumdb/{quote(public.name, safe='')}/evidence"
    [one] = (await admin.get(path))["items"]
    assert one["known"].encode() == known == base64.b64decode(one["known_base64"])
    assert one["refused"].encode() == public.head() == base64.b64decode(one["refused_base64"])
    assert "two timelines" in one["detail"]
    assert (await admin.get("/sumdb"))["items"][0]["evidence"] == 1
    assert (await admin.get(f"/sumdb/{public.name}/evidence"))["items"] == [one]


async def test_evidence_comes_in_pages_and_outlives_the_relaying(site: Site, admin: Admin) -> None:
    services = site.services
    for n in range(5):
        await services.shared.db.write(
            lambda s, n=n: LogTable(s, "gone.example").add_evidence(
                b"", bytes([255, n]), f"{n}", services.shared.now()
            )
        )
    pages = await admin.pages("/sumdb/gone.example/evidence", 2)
    assert [[one["detail"] for one in page] for page in pages] == [["0", "1"], ["2", "3"], ["4"]]
    assert pages[0][1]["refused"] == "\\xff\x01"
    assert pages[0][1]["refused_base64"] == base64.b64encode(b"\xff\x01").decode()
    for name in ("absent.example", "%00", "a%0Ab", "'; DROP TABLE log_evidence"):
        refused(await admin.ask("GET", f"/sumdb/{quote(name)}/evidence"), 404)
    refused(await admin.ask("GET", "/sumdb/gone.example/evidence?cursor=x"), 400)


async def test_F28_relayed_logs_are_the_platforms(site: Site, public: FakeSumdb) -> None:
    inside = await admin_of(site, "acme")
    for path in ("/sumdb", f"/sumdb/{public.name}/evidence"):
        refused(await inside.ask("GET", path), 403)


# --- what clients paste ---


async def test_clients_verify_at_the_tenants_own_log_if_it_has_one(
    site: Site, admin: Admin, public: FakeSumdb
) -> None:
    await site.services.tenants.ownership.put(an_owner("corp.example", "acme"), OPERATOR)
    before = (await admin.ask("GET", "/tenants/acme/client-config?for=env")).text
    assert f"GOSUMDB={public.vkey}\n" in before
    assert "GONOSUMDB=corp.example\n" in before
    assert "GOTOOLCHAIN=auto\n" in before
    vkey = (await admin.post(LOG, None))["vkey"]
    after = (await admin.ask("GET", "/tenants/acme/client-config?for=env")).text
    assert f"GOSUMDB={vkey}\n" in after
    assert "GONOSUMDB=none\n" in after
    assert "GOTOOLCHAIN=auto\n" in after
    other = (await admin.ask("GET", "/tenants/other/client-config?for=env")).text
    assert f"GOSUMDB={public.vkey}\n" in other
    assert vkey not in other


async def test_a_log_that_go_knows_is_named_without_its_key(tmp_path: Path) -> None:
    async with harbour(tmp_path / "known", sumdb={}) as site:
        await add_tenant(site.services, "acme")
        text = (await Admin(site).ask("GET", "/tenants/acme/client-config?for=env")).text
    assert "GOSUMDB=sum.golang.org\n" in text
    assert "GOTOOLCHAIN=auto\n" in text


async def test_without_any_log_go_downloads_no_toolchain(tmp_path: Path) -> None:
    async with harbour(tmp_path / "none") as site:
        await add_tenant(site.services, "acme")
        text = (await Admin(site).ask("GET", "/tenants/acme/client-config?for=env")).text
    assert "GOSUMDB=off\n" in text
    assert "GOTOOLCHAIN=local\n" in text
