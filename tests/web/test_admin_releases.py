"""What the admin API tells and does about releases, jobs and keys."""

import hashlib
import json
from datetime import datetime
from typing import Any

import pytest

from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.web.conftest import (
    OFFERED,
    ON_DEMAND,
    PENDING,
    QUARANTINED,
    SHA256_ONLY,
    UNVERIFIABLE,
    VERIFIED,
    Mirror,
    Put,
    StartSite,
)
from tests.web.test_admin import is_problem
from tests.web.wire import Got, Site, until

RELEASES = "/api/v1/releases"
KEYS = "/api/v1/releases/keys"
NEWEST_FIRST = [
    "go1.100rc1",
    "go1.99.2",
    "go1.99.1",
    "go1.98.5",
    "go1.98.4",
    "go1.98.3",
    "go1.97.9",
    "go1.5",
]


def of(got: Got, status: int = 200) -> Any:
    assert got.status == status, got.text
    assert got.header("content-type") == "application/json"
    return json.loads(got.body)


async def walk(site: Site, query: str) -> list[str]:
    """Return the versions of all pages, in order."""
    versions: list[str] = []
    cursor = ""
    for _ in range(50):
        page = of(await site.ask(f"{RELEASES}?{query}{cursor}"))
        assert set(page) == {"items", "next_cursor"}
        versions += [release["version"] for release in page["items"]]
        if page["next_cursor"] is None:
            return versions
        cursor = f"&cursor={page['next_cursor']}"
    raise AssertionError("the pages never end")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 9, 200])
async def test_pages_show_every_release_exactly_once_newest_first(
    mirror: Mirror, limit: int
) -> None:
    assert await walk(mirror.site, f"limit={limit}") == NEWEST_FIRST


async def test_pages_of_what_is_offered_show_nothing_else(mirror: Mirror) -> None:
    for limit in (1, 2, 200):
        shown = await walk(mirror.site, f"offered=true&limit={limit}")
        assert shown == ["go1.100rc1", "go1.99.2", "go1.99.1", "go1.98.5", "go1.97.9"]


async def test_pages_lose_nothing_where_versions_compare_equal(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    """`go1.9.2rc2` is no Go version, and 1.20 is 1.20.0."""
    names = ["go1.9.2rc2", "go1.9.3rc4", "go1.20", "go1.20.0", "go1.99.1"]
    for name in names:
        put(name)
    site = await start_site()
    await site.services.releases.reader.refresh()
    everything = await walk(site, "limit=200")
    assert sorted(everything) == sorted(names)
    assert await walk(site, "limit=1") == everything


async def test_a_release_shows_its_files_and_its_support(mirror: Mirror) -> None:
    release = of(await mirror.site.ask(f"{RELEASES}/go1.99.2"))
    assert (release["version"], release["stable"]) == ("go1.99.2", True)
    assert release["support"] == "supported"
    assert {file["filename"] for file in release["files"]} > {VERIFIED, SHA256_ONLY, ON_DEMAND}
    assert of(await mirror.site.ask(f"{RELEASES}/1.99.2")) == release
    support = {
        v: of(await mirror.site.ask(f"{RELEASES}/{v}"))["support"]
        for v in ("go1.97.9", "go1.100rc1")
    }
    assert support == {"go1.97.9": "end-of-life", "go1.100rc1": "pre-release"}


async def test_a_verified_file_shows_verdict_and_provenance(mirror: Mirror) -> None:
    file = of(await mirror.site.ask(f"{RELEASES}/files/{VERIFIED}"))
    digest = hashlib.sha256(mirror.files[VERIFIED]).hexdigest()
    assert (file["state"], file["reason"], file["offered"]) == ("verified", "", True)
    assert (file["sha256"], file["size_bytes"]) == (digest, len(mirror.files[VERIFIED]))
    assert file["source_url"] == mirror.fake.files_url + VERIFIED
    assert len(file["index_sha256"]) == 64
    assert not file["damaged"]
    assert file["toolchain"]["version"] == "v0.0.1-go1.99.2.linux-amd64"
    assert file["toolchain"]["h1"].startswith("h1:")
    verdict = file["verdict"]
    assert verdict["accepted"] is True
    assert verdict["primary"] == mirror.signer.primary
    assert verdict["subkey"] == mirror.signer.current
    assert len(verdict["keyring_sha256"]) == 64
    assert verdict["gpg_version"][0].isdigit()
    for moment in (file["ingested_at"], file["first_seen_at"], verdict["judged_at"]):
        assert datetime.fromisoformat(moment).utcoffset() is not None
    assert file["conflicts"] == []


STATES = [
    (VERIFIED, "verified", True),
    (SHA256_ONLY, "sha256-only", True),
    (ON_DEMAND, "known", True),
    (PENDING, "pending-signature", False),
    (QUARANTINED, "quarantined", False),
    (UNVERIFIABLE, "known", False),
]


@pytest.mark.parametrize(("name", "state", "offered"), STATES)
async def test_a_file_shows_its_state_and_whether_it_is_offered(
    mirror: Mirror, name: str, state: str, offered: bool
) -> None:
    file = of(await mirror.site.ask(f"{RELEASES}/files/{name}"))
    assert (file["state"], file["offered"]) == (state, offered)
    assert file["offered"] == (name in OFFERED)
    assert bool(file["reason"]) == (state in ("pending-signature", "quarantined"))


async def test_F62_a_file_shows_what_contradicted_it(start_site: StartSite, put: Put) -> None:
    name, data = put()
    site = await start_site()
    await site.services.releases.reader.refresh()
    _, other = put(seed=9)
    await site.services.releases.reader.refresh()
    file = of(await site.ask(f"{RELEASES}/files/{name}"))
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    (conflict,) = file["conflicts"]
    assert conflict["seen_sha256"] == hashlib.sha256(other).hexdigest()
    assert conflict["seen_size_bytes"] == len(other)
    assert len(conflict["index_sha256"]) == 64


async def test_a_sync_is_a_job_that_reaches_done_and_lists_its_result(
    start_site: StartSite, put: Put
) -> None:
    names = [put(version)[0] for version in ("go1.99.1", "go1.98.1", "go1.97.1")]
    site = await start_site(leads=True)
    queued = await site.admin(f"{RELEASES}/sync", "POST")
    job = of(queued, 202)
    assert (job["kind"], job["state"]) == ("releases.sync", "queued")

    async def ended() -> Any:
        current = of(await site.admin(f"/api/v1/jobs/{job['id']}"))
        return current if current["state"] not in ("queued", "running") else None

    ended_job = await until(ended)
    assert ended_job["state"] == "done"
    assert ended_job["result"]["fetched"] == sorted(names[:2])
    assert ended_job["result"]["failed"] == []
    assert ended_job["started_at"] <= ended_job["finished_at"]
    for name, state in zip(names, ("verified", "verified", "known"), strict=True):
        assert of(await site.ask(f"{RELEASES}/files/{name}"))["state"] == state


async def test_a_sync_of_what_is_named_is_a_job_about_those_names(
    start_site: StartSite, put: Put
) -> None:
    name, _ = put("go1.97.1")
    put("go1.99.1")
    site = await start_site()
    plan = of(await site.admin(f"{RELEASES}/plan?name=1.97&name={name}"))
    assert [(f["filename"], f["reason"]) for f in plan["files"]] == [(name, "named by 1.97")]
    body = json.dumps({"names": ["1.97"]}).encode()
    job = of(await site.admin(f"{RELEASES}/sync", "POST", body=body), 202)
    everything = of(await site.admin(f"{RELEASES}/sync", "POST", body=b"{}"), 202)
    assert (job["names"], everything["names"], job["progress"]) == (["1.97"], [], None)
    first = of(await site.admin("/api/v1/jobs?limit=1"))
    rest = of(await site.admin(f"/api/v1/jobs?limit=1&cursor={first['next_cursor']}"))
    assert first["items"] + rest["items"] == [everything, job]
    assert rest["next_cursor"] is None
    is_problem(await site.admin("/api/v1/jobs?cursor=WyJhIiwiYiJd"), 400)


@pytest.mark.parametrize(("method", "more"), [("GET", ""), ("POST", "/verify")])
async def test_the_wrong_name_of_a_file_is_answered_with_the_right_one(
    mirror: Mirror, method: str, more: str
) -> None:
    for wrong, meant in (
        (VERIFIED.replace("amd64", "adm64"), f"did you mean {VERIFIED}?"),
        ("go9.9.9.src.tar.gz", "`moorage releases show VERSION` lists them"),
        ("nonsense", "`moorage releases show VERSION` lists them"),
    ):
        got = await mirror.site.admin(f"{RELEASES}/files/{wrong}{more}", method)
        detail = is_problem(got, 404)["detail"]
        assert wrong in detail
        assert detail.endswith(meant)


async def test_a_sync_of_a_name_that_no_index_has_is_no_job(
    start_site: StartSite, put: Put
) -> None:
    put("go1.97.1")
    site = await start_site()
    body = json.dumps({"names": ["1.97.2"]}).encode()
    problem = is_problem(await site.admin(f"{RELEASES}/sync", "POST", body=body), 404)
    assert "did you mean go1.97.1?" in problem["detail"]
    is_problem(await site.admin(f"{RELEASES}/plan?name=1.97.2"), 404)
    assert of(await site.admin("/api/v1/jobs"))["items"] == []


async def test_a_plan_says_what_a_sync_would_fetch_and_why(start_site: StartSite, put: Put) -> None:
    name, data = put("go1.99.1")
    site = await start_site(releases={"select": {"pins": ["go1.5.1"]}})
    plan = of(await site.admin(f"{RELEASES}/plan"))
    (file,) = plan["files"]
    assert (file["filename"], file["size_bytes"], file["to_fetch"]) == (name, len(data), True)
    assert file["reason"]
    assert (plan["fetch_files"], plan["fetch_bytes"]) == (1, len(data))
    assert plan["unmatched_pins"] == ["go1.5.1"]
    assert plan["skipped"] == []


async def test_a_plan_without_an_index_and_without_upstream_is_a_5xx_problem(
    start_site: StartSite, fake: FakeGodev
) -> None:
    fake.stop()
    site = await start_site()
    got = await site.admin(f"{RELEASES}/plan")
    assert got.status in (502, 503, 504)
    is_problem(got, got.status)


async def test_verify_ingests_a_file(start_site: StartSite, put: Put) -> None:
    name, _ = put()
    site = await start_site(releases={"select": {"on_demand": False}})
    await site.services.releases.reader.refresh()
    got = await site.admin(f"{RELEASES}/files/{name}/verify", "POST")
    assert (of(got)["state"], of(got)["offered"]) == ("verified", True)
    assert (await site.ask(f"/dl/{name}")).status == 200


async def test_the_active_keyring_is_shown(mirror: Mirror) -> None:
    keyring = of(await mirror.site.ask(KEYS))
    assert keyring["sha256"] == hashlib.sha256(mirror.signer.export).hexdigest()
    assert (keyring["source"], keyring["primary"]) == ("setting", [mirror.signer.primary])
    shown = {key["fingerprint"] for key in keyring["subkeys"]}
    assert shown == {mirror.signer.current, mirror.signer.newer}


def armored(export: bytes, **more: object) -> bytes:
    return json.dumps({"armored": export.decode(), **more}).encode()


async def test_an_older_export_is_409_unless_replaced_on_purpose(
    site: Site, signer: Signer
) -> None:
    before = of(await site.ask(KEYS))
    got = await site.admin(KEYS, "POST", body=armored(signer.older_export))
    assert signer.newer in is_problem(got, 409)["detail"]
    assert of(await site.ask(KEYS)) == before
    change = of(await site.admin(KEYS, "POST", body=armored(signer.older_export, replace=True)))
    assert (change["changed"], change["removed"]) == (True, [signer.newer])
    assert of(await site.ask(KEYS))["source"] == "refresh"


GARBAGE = [b"", b"garbage", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nx\n", b"\x00" * 1000]


@pytest.mark.parametrize("export", GARBAGE, ids=range(len(GARBAGE)))
async def test_a_garbage_export_is_422_and_changes_nothing(mirror: Mirror, export: bytes) -> None:
    before = of(await mirror.site.ask(KEYS))
    is_problem(await mirror.site.admin(KEYS, "POST", body=armored(export)), 422)
    assert of(await mirror.site.ask(KEYS)) == before


async def test_F65_a_newer_export_releases_what_waited_for_it(
    start_site: StartSite, fake: FakeGodev, signer: Signer, put: Put
) -> None:
    name, data = put(signed=False)
    fake.set_signature(name, signer.sign(data, by=signer.newer))
    site = await start_site()
    replaced = await site.admin(KEYS, "POST", body=armored(signer.older_export, replace=True))
    assert replaced.status == 200
    held = await site.ask(f"/dl/{name}")
    assert held.status == 502
    file = of(await site.ask(f"{RELEASES}/files/{name}"))
    assert file["state"] == "quarantined"
    assert file["verdict"]["accepted"] is False
    change = of(await site.admin(KEYS, "POST", body=armored(signer.export)))
    assert (change["added"], change["released"]) == ([signer.newer], [name])
    assert (await site.ask(f"/dl/{name}")).body == data
    assert fake.hits[f"/go/{name}"] == 1


async def test_the_same_export_again_changes_nothing(site: Site, signer: Signer) -> None:
    for body in (armored(signer.export), b"{}"):
        change = of(await site.admin(KEYS, "POST", body=body))
        assert (change["changed"], change["added"], change["removed"]) == (False, [], [])


async def test_a_secret_is_nowhere_in_what_the_api_says(mirror: Mirror) -> None:
    for path in (RELEASES, KEYS, f"{RELEASES}/plan", f"{RELEASES}/files/{VERIFIED}", "/metrics"):
        got = await mirror.site.admin(path)
        assert got.status == 200
        assert mirror.site.secret not in got.text
        assert mirror.site.secret not in str(got.headers)
