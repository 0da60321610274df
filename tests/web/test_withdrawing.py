"""Taking an own release back: out of every list, still served by name, or gone for good."""

import hashlib
import json

import pytest
from sqlalchemy import select

from app.core.principal import Scope
from app.db.engine import Session
from app.db.modules import ModuleFileRow
from app.db.releases import ReleaseFileRow
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.signer import Signer
from tests.services.bench import assert_sound, audited
from tests.web.api import ok
from tests.web.harbour import add_token
from tests.web.test_own_releases import (
    GO,
    NAME,
    OWN,
    detail,
    digests,
    mirror,
    owner,
    publish,
    site,
)
from tests.web.wire import Got, Site

__all__ = ["mirror", "owner", "site"]  # the fixtures
DATA = go_archive(OWN)
DIGEST = hashlib.sha256(DATA).hexdigest()
TOOLCHAIN = "/goproxy/acme/golang.org/toolchain/@v"
VERSION = f"v0.0.1-{OWN}.linux-amd64"
TAG = OWN.removeprefix("go")


async def published(site: Site, owner: Signer) -> None:
    assert (await publish(site, DATA, signature=owner.sign(DATA))).status == 201
    acme = {"name": "acme", "anonymous_read": True, "default": "allow"}
    await ok(site, "POST", "/tenants", acme)
    await site.services.shared.watch.poll()


async def retire(site: Site, *, gone: bool = False, reason: str = "loses data") -> Got:
    body = json.dumps({"reason": reason, "gone": gone}).encode()
    got = await site.admin(f"/api/v1/releases/{OWN}/retire", "POST", body=body)
    await site.services.shared.watch.poll()
    return got


def named_blobs(session: Session) -> set[str | None]:
    """Return the blobs that files of releases and modules name; gc removes all others."""
    columns = (ReleaseFileRow.blob_sha256, ModuleFileRow.blob_sha256)
    return {sha256 for column in columns for sha256 in session.execute(select(column)).scalars()}


async def listings(site: Site) -> dict[str, str]:
    paths = (
        "/dl/",
        "/dl/?mode=json&include=all",
        "/dl/SHA256SUMS",
        "/v2/go/tags/list",
        f"{TOOLCHAIN}/list",
    )
    texts = {path: (await site.ask(path)).text for path in paths}
    offered = await ok(site, "GET", "/releases?offered=true", token=None)
    return {**texts, "offered": json.dumps(offered)}


BY_NAME = [
    f"/dl/{NAME}",
    f"/dl/{NAME}.asc",
    f"/dl/{DIGEST}",
    f"/v2/go/manifests/{TAG}",
    f"/v2/go/blobs/sha256:{DIGEST}",
    f"{TOOLCHAIN}/{VERSION}.info",
    f"{TOOLCHAIN}/{VERSION}.mod",
    f"{TOOLCHAIN}/{VERSION}.zip",
]


async def test_a_retired_release_is_in_no_list_and_served_to_who_names_it(
    site: Site, owner: Signer
) -> None:
    await published(site, owner)
    assert all(TAG in text for text in (await listings(site)).values())
    before = [(await site.ask(path)).body for path in BY_NAME]
    got = await retire(site)
    assert (got.status, json.loads(got.body)["state"]) == (200, "retired")
    assert {path for path, text in (await listings(site)).items() if TAG in text} == set()
    assert [(await site.ask(path)).body for path in BY_NAME] == before
    shown = await ok(site, "GET", f"/releases/files/{NAME}", token=None)
    assert (shown["state"], shown["offered"]) == ("verified", False)
    assert shown["withdrawal"]["reason"] == "loses data"
    again = await retire(site, reason="another")
    assert json.loads(again.body)["reason"] == "loses data"
    [row] = await audited(site.services, "release.retire")
    assert (row.object, row.detail) == (f"release:{OWN}", "loses data")
    await assert_sound(site.services)


async def test_a_release_that_is_gone_is_410_and_its_bytes_go(site: Site, owner: Signer) -> None:
    before = digests(site)
    await published(site, owner)
    for path in BY_NAME:
        assert (await site.ask(path)).status == 200, path
    index = await site.ask(f"/v2/go/manifests/{TAG}")
    names = [str(index.header("docker-content-digest"))]
    names += [one["digest"] for one in json.loads(index.body)["manifests"]]
    by_digest = [f"/v2/go/manifests/{name}" for name in names]
    for path in by_digest:
        assert (await site.ask(path)).status == 200, path
    await retire(site)
    assert json.loads((await retire(site, gone=True, reason="a key")).body)["state"] == "gone"
    for path in BY_NAME + by_digest:
        got = await site.ask(path)
        assert (got.status, "was withdrawn on" in got.text) == (410, True), path
        assert "a key" in got.text
    assert {path for path, text in (await listings(site)).items() if TAG in text} == set()
    assert json.loads((await retire(site)).body)["state"] == "gone"  # it stays so
    await assert_sound(site.services)
    record = (await site.services.releases.catalog.current(fresh=True)).records[NAME]
    assert (record.has_bytes, record.sha256.hex) == (False, DIGEST)
    named = await site.services.shared.db.read(named_blobs)
    assert DIGEST not in named
    assert before <= digests(site)


async def test_the_name_never_gets_other_bytes(site: Site, owner: Signer) -> None:
    await published(site, owner)
    other, more = go_archive(OWN, extra_bytes=10), archive_name(OWN, "linux", "arm64")
    await retire(site)
    assert (await publish(site, DATA, signature=owner.sign(DATA))).status == 200
    detail(await publish(site, other, signature=owner.sign(other)), 409)
    arm = go_archive(OWN, "linux", "arm64")
    said = detail(await publish(site, arm, more, signature=owner.sign(arm)), 409)
    assert "gets no further files" in said
    await retire(site, gone=True)
    for name, data in ((NAME, DATA), (NAME, other), (more, arm)):
        said = detail(await publish(site, data, name, signature=owner.sign(data)), 410)
        assert f"{OWN} was withdrawn on" in said


async def test_a_channel_keeps_a_release_and_never_takes_a_retired_one(
    site: Site, owner: Signer
) -> None:
    await published(site, owner)
    await ok(site, "POST", "/channels", {"name": "lts"})
    await ok(site, "POST", "/channels/lts/revisions", {"current": OWN, "also": [GO]})
    assert "channel lts offers" in detail(await retire(site, gone=True), 409)
    await ok(site, "POST", "/channels/lts/revisions", {"current": GO})
    assert (await retire(site)).status == 200
    headers = {"Content-Type": "application/json"}
    for path, body in (("revisions", {"current": OWN}), ("rollback", {})):
        url = f"/api/v1/channels/lts/{path}"
        got = await site.admin(url, "POST", body=json.dumps(body).encode(), headers=headers)
        assert f"{OWN} was retired on" in detail(got, 409)


@pytest.mark.parametrize(
    ("release", "status"), [(GO, 400), ("go1.99.1-corp7", 404), ("go1.99", 400)]
)
async def test_only_what_was_published_is_taken_back(site: Site, release: str, status: int) -> None:
    detail(await site.admin(f"/api/v1/releases/{release}/retire", "POST", body=b"{}"), status)


async def test_a_publishers_token_takes_nothing_back(site: Site, owner: Signer) -> None:
    await published(site, owner)
    _, publisher = await add_token(site.services, None, [Scope.PUBLISH], name="publisher")
    url = f"/api/v1/releases/{OWN}/retire"
    detail(await site.admin(url, "POST", token=publisher, body=b"{}"), 403)
