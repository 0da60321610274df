"""A company's own Go releases: published by upload, judged by own keys, offered as its own."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import MoorageError, StorageError
from app.core.logstate import LogState
from app.core.principal import Scope
from app.core.releaseindex import parse_index
from app.db.engine import Session
from app.db.releases import ReleaseTable
from tests.fakes.archives import archive_name, go_archive, source_name, src_archive
from tests.fakes.signer import Signer, gpg_is_here, throwaway_signer
from tests.services.bench import assert_sound, audited, staged, stored
from tests.verified import VerifiedMirror, verified_mirror
from tests.web.api import ok
from tests.web.harbour import add_token
from tests.web.wire import Got, Site, request, serving

GO, OWN = "go1.99.1", "go1.99.1-corp1"
NAME = archive_name(OWN)


@pytest.fixture(scope="module")
def owner() -> Iterator[Signer]:
    """The company's own key; that of go.dev is `signer`'s."""
    if not gpg_is_here():
        pytest.skip("gpg is not installed")
    with throwaway_signer() as made:
        yield made


@pytest.fixture(scope="module")
def mirror(
    signer: Signer, owner: Signer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VerifiedMirror]:
    folder = tmp_path_factory.mktemp("verified")
    keyring = folder / "own.asc"
    keyring.write_bytes(owner.export)
    with verified_mirror(folder, signer, [GO]) as made:
        made.releases.update(own_keyring=keyring, own_fingerprints=[owner.primary])
        yield made


@pytest.fixture
async def site(mirror: VerifiedMirror, tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(mirror.copied(tmp_path)) as one:
        yield one


async def publish(
    site: Site,
    data: bytes,
    name: str = NAME,
    *,
    signature: bytes | None = None,
    sha256: str = "",
    token: str | None = "",
) -> Got:
    headers = {"Content-Type": "application/octet-stream"}
    if signature is not None:
        headers["X-Moorage-Signature"] = base64.b64encode(signature).decode()
    query = f"?sha256={sha256}" if sha256 else ""
    url = f"/api/v1/releases/files/{name}{query}"
    got = await site.admin(url, "PUT", token=token, body=data, headers=headers)
    await site.services.shared.watch.poll()
    return got


def detail(got: Got, status: int) -> str:
    assert got.status == status, (got.status, got.text)
    assert got.header("content-type") == "application/problem+json"
    return str(json.loads(got.body)["detail"])


async def nothing_is_left(site: Site, before: set[str], name: str = NAME) -> None:
    """No row, no blob, no staged file, and nothing offered."""
    assert (await site.ask(f"/dl/{name}")).status == 404
    assert digests(site) == before
    assert staged(site.services) == []
    await assert_sound(site.services)


def digests(site: Site) -> set[str]:
    return {one.hex for one in stored(site.services)}


async def test_a_signed_archive_is_published_and_marked_everywhere(
    site: Site, owner: Signer, mirror: VerifiedMirror
) -> None:
    data, before = go_archive(OWN), sum(mirror.fake.hits.values())
    signature = owner.sign(data)
    got = await publish(site, data, signature=signature)
    assert got.status == 201, got.text
    shown = json.loads(got.body)
    assert (shown["version"], shown["support"], shown["state"]) == (OWN, "own", "verified")
    assert shown["verdict"]["primary"] == owner.primary
    assert shown["source_url"].startswith("published by token:")
    assert shown["toolchain"]["version"] == f"v0.0.1-{OWN}.linux-amd64"
    assert shown["derived"][0]["kind"] == "tree"
    for extra, body in (("", data), (".asc", signature)):
        assert (await site.ask(f"/dl/{NAME}{extra}")).body == body
    page = (await site.ask("/dl/")).text
    assert "Own releases" in page
    assert f">{NAME}<" in page
    everything = json.loads((await site.ask("/dl/?mode=json&include=all")).body)
    assert [(one["version"], one.get("own")) for one in everything] == [(OWN, True), (GO, None)]
    newest = parse_index((await site.ask("/dl/?mode=json")).body).releases
    assert [one.version for one in newest] == [GO]
    assert (await site.ask("/dl/VERSION")).text.startswith(f"{GO}\n")
    assert OWN not in (await site.ask("/dl/go.git/info/refs")).text
    listed = await ok(site, "GET", "/releases?offered=true", token=None)
    first = listed["items"][0]
    assert (first["version"], first["support"]) == (OWN, "own")
    tags = json.loads((await site.ask("/v2/go/tags/list")).body)["tags"]
    assert tags == ["1.99", "1.99.1", "1.99.1-corp1"]
    index = await site.ask("/v2/go/manifests/1.99.1-corp1")
    digest = index.header("docker-content-digest")
    [artifact] = json.loads((await site.ask(f"/v2/go/referrers/{digest}")).body)["manifests"]
    layers = json.loads((await site.ask(f"/v2/go/manifests/{artifact['digest']}")).body)["layers"]
    verdict = json.loads((await site.ask(f"/v2/go/blobs/{layers[0]['digest']}")).body)
    assert (verdict["own"], verdict["signature"]["primary"]) == (True, owner.primary)
    assert sum(mirror.fake.hits.values()) == before
    await assert_sound(site.services)


async def test_it_comes_in_channels_and_their_manifests(site: Site, owner: Signer) -> None:
    data = go_archive(OWN)
    await publish(site, data, signature=owner.sign(data))
    await ok(site, "POST", "/channels", {"name": "lts"})
    await ok(site, "POST", "/channels/lts/revisions", {"current": "1.99.1-corp1", "also": [GO]})
    await site.services.shared.watch.poll()
    root = "/dl/channels/lts/"
    assert (await site.ask(f"{root}current")).text == f"{OWN}\n"
    assert (await site.ask(f"{root}{NAME}")).body == data
    manifest = (await site.ask(f"{root}manifest")).text
    assert manifest.count('"own":true') == 1
    releases = json.loads((await site.ask(f"{root}?mode=json")).body)
    assert [one["version"] for one in releases] == [OWN, GO]
    plan, _ = await site.services.releases.sync.plan(refresh=False)
    assert not any(one.to_fetch for one in plan.files)


KINDS = [
    (archive_name(OWN, "darwin", "arm64"), go_archive(OWN, "darwin", "arm64"), True),
    (archive_name(OWN, "linux", "armv6l"), go_archive(OWN, "linux", "armv6l"), True),
    (archive_name(OWN, "windows"), go_archive(OWN, "windows"), False),
    (source_name(OWN), src_archive(OWN), True),
    (f"{OWN}.windows-amd64.msi", b"an installer\n", False),
    (f"{OWN}.darwin-amd64.pkg", b"another installer\n", True),
]


async def test_every_kind_and_platform(site: Site, owner: Signer) -> None:
    for name, data, is_signed in KINDS:
        digest = hashlib.sha256(data).hexdigest()
        how: dict[str, Any] = {"signature": owner.sign(data)} if is_signed else {"sha256": digest}
        got = await publish(site, data, name, **how)
        assert got.status == 201, got.text
        assert json.loads(got.body)["state"] == ("verified" if is_signed else "sha256-only")
        assert (await site.ask(f"/dl/{name}")).body == data
    await assert_sound(site.services)


async def test_the_same_again_is_accepted_and_another_is_not(site: Site, owner: Signer) -> None:
    data, other = go_archive(OWN), go_archive(OWN, seed=1)
    assert (await publish(site, data, signature=owner.sign(data))).status == 201
    before = digests(site)
    assert (await publish(site, data, signature=owner.sign(data))).status == 200
    why = detail(await publish(site, other, signature=owner.sign(other)), 409)
    assert hashlib.sha256(data).hexdigest() in why
    assert digests(site) == before
    assert (await site.ask(f"/dl/{NAME}")).body == data
    rows = await audited(site.services, "release.publish")
    assert [(row.object, hashlib.sha256(data).hexdigest() in row.detail) for row in rows] == [
        (NAME, True)
    ]


WRONG_NAMES = [
    archive_name(GO),
    archive_name("go1.99.9"),
    archive_name("go1.99.1-rc1"),
    archive_name("go1.99.1-Corp"),
    f"{OWN}.tar.gz",
    f"{OWN}.linux.tar.gz",
    f"{OWN}.src.zip",
    f"{OWN}.linux-amd64.exe",
    "go1.4-bootstrap-20171003.tar.gz",
]


async def test_no_name_that_go_dev_has_or_could_get(site: Site, owner: Signer) -> None:
    before, data = digests(site), go_archive(GO)
    for name in WRONG_NAMES:
        got = await publish(site, data, name, signature=owner.sign(data))
        assert detail(got, 400), name
    assert digests(site) == before
    await assert_sound(site.services)


async def test_what_is_refused_leaves_nothing(site: Site, owner: Signer, signer: Signer) -> None:
    data, before = go_archive(OWN), digests(site)
    signature, digest = owner.sign(data), hashlib.sha256(data).hexdigest()
    refusals = [
        (
            await publish(site, data, signature=signer.sign(data)),
            400,
            "OWN_KEYRING",
        ),  # go.dev's key
        (await publish(site, data, signature=owner.sign(b"else")), 400, "another file"),
        (await publish(site, data, signature=b"no signature"), 400, "refused"),
        (await publish(site, data), 400, "needs a signature"),
        (await publish(site, data, sha256=digest), 400, "needs a signature"),  # a tar.gz
        (await publish(site, data, signature=signature, sha256="0" * 64), 400, digest),
        (await publish(site, data, archive_name("go1.99.1-corp2"), signature=signature), 400, OWN),
        (await publish(site, b"", signature=signature), 400, "empty"),
    ]
    for got, status, words in refusals:
        assert words in detail(got, status)
    renamed = go_archive(GO)  # whose go says that it is go1.99.1
    got = await publish(site, renamed, signature=owner.sign(renamed))
    assert f"v0.0.1-{GO}.linux-amd64" in detail(got, 400)
    rubbish = b"rubbish"
    got = await publish(site, rubbish, signature=owner.sign(rubbish))
    assert "no archive of a Go release" in detail(got, 400)
    await nothing_is_left(site, before)


async def test_go_devs_releases_are_not_accepted_by_own_keys(
    site: Site, owner: Signer, mirror: VerifiedMirror
) -> None:
    name, data = archive_name("go1.99.7"), go_archive("go1.99.7")
    mirror.fake.put_file(name, data, signature=owner.sign(data))
    await site.services.releases.reader.refresh()
    with pytest.raises(MoorageError):
        await site.services.releases.ingestion.ensure(name, forced=True)
    assert (await site.ask(f"/dl/{name}")).status != 200


async def test_who_may_publish(site: Site, owner: Signer) -> None:
    await ok(site, "POST", "/tenants", {"name": "acme"})
    data = go_archive(OWN)
    signature = owner.sign(data)
    _, reader = await add_token(site.services, None, [Scope.READ], name="reader")
    _, tenants = await add_token(site.services, "acme", [Scope.ADMIN])
    _, publisher = await add_token(site.services, None, [Scope.PUBLISH], name="publisher")
    for token, status in ((None, 401), (reader, 403), (tenants, 403), (publisher, 201)):
        assert (await publish(site, data, signature=signature, token=token)).status == status


async def test_an_upload_that_is_cut_leaves_nothing(site: Site, owner: Signer) -> None:
    data, before = go_archive(OWN, extra_bytes=300_000), digests(site)
    headers = {
        "Authorization": f"Bearer {site.secret}",
        "X-Moorage-Signature": base64.b64encode(owner.sign(data)).decode(),
    }
    whole = request(f"/api/v1/releases/files/{NAME}", "PUT", headers, data)
    async with site.calling() as caller:
        await caller.send(whole[:-1000])
        caller.vanish()
    assert (await publish(site, data, signature=owner.sign(data))).status == 201
    assert len(digests(site) - before) == 4  # archive, tree, sums, document
    await assert_sound(site.services)


async def test_a_crash_before_the_rows_leaves_a_blob_that_the_next_attempt_adopts(
    site: Site, owner: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = go_archive(OWN)

    def fail(*_: object, **__: object) -> None:
        raise StorageError("the database is gone")

    with monkeypatch.context() as broken:
        broken.setattr(ReleaseTable, "settle", fail)
        assert (await publish(site, data, signature=owner.sign(data))).status == 503
    assert (await site.ask(f"/dl/{NAME}")).status == 404
    assert (await publish(site, data, signature=owner.sign(data))).status == 201
    await assert_sound(site.services)


async def test_a_damaged_file_is_healed_by_the_same_file_and_never_fetched(
    site: Site, owner: Signer, mirror: VerifiedMirror
) -> None:
    data, hits = go_archive(OWN), sum(mirror.fake.hits.values())
    await publish(site, data, signature=owner.sign(data))
    digest = hashlib.sha256(data).hexdigest()
    [path] = [p for p in site.services.shared.settings.data_dir.rglob(digest) if p.is_file()]
    path.chmod(0o600)
    path.write_bytes(b"rot")
    assert (await site.ask(f"/dl/{NAME}")).status == 503
    with pytest.raises(StorageError, match="publish the same file again"):
        await site.services.releases.ingestion.ensure(NAME, forced=True)
    assert (await publish(site, data, signature=owner.sign(data))).status == 200
    assert (await site.ask(f"/dl/{NAME}")).body == data
    assert sum(mirror.fake.hits.values()) == hits


async def test_an_index_that_lacks_it_or_claims_it_changes_nothing(
    site: Site, owner: Signer
) -> None:
    data = go_archive(OWN)
    await publish(site, data, signature=owner.sign(data))
    change = await site.services.releases.reader.refresh()
    assert change.vanished == ()
    await site.services.shared.watch.poll()
    assert json.loads((await site.ask(f"/api/v1/releases/files/{NAME}")).body)["listed"] is True


async def test_no_public_log_is_asked_about_it(site: Site, owner: Signer) -> None:
    data = go_archive(OWN)
    await publish(site, data, signature=owner.sign(data))

    def waiting(session: Session) -> list[str]:
        table = ReleaseTable(session)
        assert table.get(NAME).toolchain.log is LogState.PRIVATE  # type: ignore[union-attr]
        return [one.file.filename for one in table.without_log(after="", limit=10)]

    assert await site.services.shared.db.read(waiting) == [archive_name(GO)]


async def test_without_a_pinned_key_of_ones_own_nothing_signed_is_taken(
    mirror: VerifiedMirror, owner: Signer, tmp_path: Path
) -> None:
    settings = mirror.copied(tmp_path)
    update = {"own_keyring": None, "own_fingerprints": ()}
    releases = settings.releases.model_copy(update=update)
    async with serving(settings.model_copy(update={"releases": releases})) as site:
        data = go_archive(OWN)
        why = detail(await publish(site, data, signature=owner.sign(data)), 422)
        assert "MOORAGE_RELEASES__OWN_KEYRING" in why


async def test_its_toolchain_needs_no_upstream_at_all(
    mirror: VerifiedMirror, owner: Signer, tmp_path: Path
) -> None:
    """An installation that has never read an index, and never will."""
    nowhere = {"index_url": "http://127.0.0.1:9/dl/", "files_urls": ["http://127.0.0.1:9/go/"]}
    settings = mirror.settings(tmp_path / "data")
    releases = settings.releases.model_copy(update=nowhere)
    async with serving(settings.model_copy(update={"releases": releases})) as site:
        data = go_archive(OWN)
        assert (await publish(site, data, signature=owner.sign(data))).status == 201
        acme = {"name": "acme", "anonymous_read": True, "default": "allow"}
        await ok(site, "POST", "/tenants", acme)
        await site.services.shared.watch.poll()
        url = f"/goproxy/acme/golang.org/toolchain/@v/v0.0.1-{OWN}.linux-amd64"
        for suffix in ("info", "mod", "zip"):
            assert (await site.ask(f"{url}.{suffix}")).status == 200
        absent = await site.ask(url.replace("corp1", "corp2") + ".zip")
        assert absent.status == 404
