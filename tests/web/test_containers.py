"""`/v2/`: what a client of container images pulls, and who may."""

import asyncio
import base64
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.principal import Scope
from app.db.generation import bump_generation
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.signer import Signer
from tests.fakes.tls import TlsFront
from tests.services.bench import run_sql
from tests.verified import VerifiedMirror, verified_mirror
from tests.web.api import ok
from tests.web.harbour import add_token, bearer
from tests.web.wire import Got, Site, serving

A, B, C = "go1.99.2", "go1.99.1", "go1.98.5"
TAGS = ["1.98", "1.98.5", "1.99", "1.99.1", "1.99.2"]
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def mirror(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifiedMirror]:
    with verified_mirror(tmp_path_factory.mktemp("verified"), signer, [A, B, C]) as made:
        yield made


@pytest.fixture
async def site(mirror: VerifiedMirror, tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(mirror.copied(tmp_path)) as one:
        yield one


@pytest.fixture
async def closed(mirror: VerifiedMirror, tmp_path: Path) -> AsyncIterator[Site]:
    """The same mirror, which wants a token for every image."""
    settings = mirror.copied(tmp_path)
    releases = settings.releases.model_copy(update={"images_need_token": True})
    async with serving(settings.model_copy(update={"releases": releases})) as one:
        yield one


async def changed(site: Site, method: str, path: str, body: Any = None) -> Any:
    result = await ok(site, method, path, body)
    await site.services.shared.watch.poll()
    return result


def refused(got: Got, status: int, code: str) -> str:
    """It is the spec's error; return its message."""
    assert (got.status, got.header("content-type")) == (status, "application/json"), got.text
    assert got.header("cache-control") == "no-store"
    [error] = json.loads(got.body)["errors"]
    assert error["code"] == code
    return str(error["message"])


async def pulled(site: Site, reference: str, **headers: str) -> tuple[Any, Got]:
    got = await site.ask(f"/v2/go/manifests/{reference}", headers=headers)
    assert got.status == 200, got.text
    digest = f"sha256:{hashlib.sha256(got.body).hexdigest()}"
    assert got.header("docker-content-digest") == digest
    document = json.loads(got.body)
    assert got.header("content-type") == document["mediaType"]
    return document, got


async def test_an_image_is_pulled_from_its_tag_to_the_bytes_of_the_archive(site: Site) -> None:
    index, got = await pulled(site, "1.99.1")
    assert got.header("cache-control") == "public, max-age=60"
    assert (await site.ask("/v2/go/manifests/1.99.1", "HEAD")).lasting == got.lasting
    [entry] = index["manifests"]
    manifest, by_digest = await pulled(site, entry["digest"])
    assert by_digest.header("cache-control") == "public, max-age=31536000, immutable"
    assert (entry["mediaType"], entry["size"]) == (MANIFEST, len(by_digest.body))
    [described] = manifest["layers"]
    archive = await site.ask(f"/dl/{archive_name(B)}")
    layer = await site.ask(f"/v2/go/blobs/{described['digest']}")
    assert layer.body == archive.body
    assert described["digest"] == f"sha256:{hashlib.sha256(archive.body).hexdigest()}"
    assert layer.header("docker-content-digest") == described["digest"]
    config = await site.ask(f"/v2/go/blobs/{manifest['config']['digest']}")
    assert hashlib.sha256(config.body).hexdigest() == manifest["config"]["digest"][7:]
    assert json.loads(config.body)["config"]["Labels"]["org.opencontainers.image.version"] == (
        "1.99.1"
    )


async def test_a_layer_is_sent_in_ranges_and_by_head(site: Site) -> None:
    digest = hashlib.sha256(go_archive(A)).hexdigest()
    url, data = f"/v2/go/blobs/sha256:{digest}", go_archive(A)
    head = await site.ask(url, "HEAD")
    assert (head.status, head.header("content-length")) == (200, str(len(data)))
    for _ in range(2):  # prepared, then a hit
        part = await site.ask(url, headers={"Range": "bytes=10-19"})
        assert (part.status, part.body) == (206, data[10:20])
        assert part.header("content-range") == f"bytes 10-19/{len(data)}"
    assert (await site.ask(url, headers={"Range": f"bytes={len(data)}-"})).status == 416
    etag = head.header("etag") or ""
    assert (await site.ask(url, headers={"If-None-Match": etag})).status == 304


async def test_tags_are_listed_in_pages(site: Site) -> None:
    assert json.loads((await site.ask("/v2/go/tags/list")).body) == {"name": "go", "tags": TAGS}
    listed, url = [], "/v2/go/tags/list?n=2"
    while url:
        got = await site.ask(url)
        listed += json.loads(got.body)["tags"]
        link = got.header("link")
        assert link is None or link.endswith('>; rel="next"')
        url = link[1:].partition(">")[0] if link else ""
    assert listed == TAGS
    last = await site.ask("/v2/go/tags/list?last=1.99")
    assert json.loads(last.body)["tags"] == ["1.99.1", "1.99.2"]
    none = await site.ask("/v2/go/tags/list?n=0")
    assert (json.loads(none.body)["tags"], none.header("link")) == ([], None)
    for number in ("-1", "x", "1" * 30, "٣".encode().hex()):
        got = await site.ask(f"/v2/go/tags/list?n={number}")
        refused(got, 400, "PAGINATION_NUMBER_INVALID")


async def test_a_channel_is_a_tag_that_follows_its_revision(site: Site) -> None:
    refused(await site.ask("/v2/go/manifests/stable"), 404, "MANIFEST_UNKNOWN")
    await ok(site, "POST", "/channels", {"name": "stable"})
    await changed(site, "POST", "/channels/stable/revisions", {"current": B})
    stable, _ = await pulled(site, "stable")
    assert stable == (await pulled(site, "1.99.1"))[0]
    assert "stable" in json.loads((await site.ask("/v2/go/tags/list")).body)["tags"]
    await changed(site, "POST", "/channels/stable/revisions", {"current": C})
    assert (await pulled(site, "stable"))[0] == (await pulled(site, "1.98.5"))[0]


async def test_a_verdict_refers_to_image_and_index(site: Site, signer: Signer) -> None:
    index, got = await pulled(site, "1.99.2")
    for digest in (got.header("docker-content-digest"), index["manifests"][0]["digest"]):
        listed = await site.ask(f"/v2/go/referrers/{digest}")
        assert listed.header("content-type") == INDEX
        [entry] = json.loads(listed.body)["manifests"]
        artifact, _ = await pulled(site, entry["digest"])
        assert artifact["subject"]["digest"] == digest
        verdict, signature = [
            (await site.ask(f"/v2/go/blobs/{one['digest']}")).body for one in artifact["layers"]
        ]
        content = json.loads(verdict)
        assert content["filename"] == archive_name(A)
        assert content["signature"]["primary"] == signer.primary
        assert signature == (await site.ask(f"/dl/{archive_name(A)}.asc")).body
        empty = await site.ask(f"/v2/go/blobs/{artifact['config']['digest']}")
        assert empty.body == b"{}"
        of_type = "?artifactType=application/vnd.moorage.verdict.v1%2Bjson"
        filtered = await site.ask(f"/v2/go/referrers/{digest}{of_type}")
        assert filtered.body == listed.body
        assert filtered.header("oci-filters-applied") == "artifactType"
        other = await site.ask(f"/v2/go/referrers/{digest}?artifactType=x")
        assert json.loads(other.body)["manifests"] == []
    nothing = await site.ask(f"/v2/go/referrers/sha256:{'a' * 64}")
    assert (nothing.status, json.loads(nothing.body)["manifests"]) == (200, [])


async def test_what_is_not_there_is_said_in_the_specs_json(site: Site) -> None:
    none = f"sha256:{'a' * 64}"
    hint = refused(await site.ask("/v2/go/manifests/1.50"), 404, "MANIFEST_UNKNOWN")
    assert "moorage releases sync go1.50" in hint
    refused(await site.ask(f"/v2/go/manifests/{none}"), 404, "MANIFEST_UNKNOWN")
    refused(await site.ask(f"/v2/go/blobs/{none}"), 404, "BLOB_UNKNOWN")
    refused(await site.ask("/v2/python/tags/list"), 404, "NAME_UNKNOWN")
    refused(await site.ask("/v2/go/%2e%2e%2fx"), 400, "NAME_INVALID")
    for method, path in (("POST", "/v2/go/blobs/uploads/"), ("PUT", "/v2/go/manifests/1.99.1")):
        got = await site.ask(path, method)
        refused(got, 405, "UNSUPPORTED")
        assert got.header("allow") == "GET, HEAD"
    # A source archive, a manifest and a tree are no blobs of this repository.
    manifest = (await pulled(site, "1.99.1"))[0]["manifests"][0]["digest"]
    refused(await site.ask(f"/v2/go/blobs/{manifest}"), 404, "BLOB_UNKNOWN")


async def test_a_pinned_index_stays_when_another_platform_comes_in(
    site: Site, mirror: VerifiedMirror, signer: Signer
) -> None:
    _, before = await pulled(site, "1.99.2")
    data, name = go_archive(A, "linux", "arm64"), archive_name(A, "linux", "arm64")
    mirror.fake.put_file(name, data, signature=signer.sign(data))
    await site.services.releases.sync.sync([name])
    await site.services.shared.watch.poll()
    index, after = await pulled(site, "1.99.2")
    assert [one["platform"]["architecture"] for one in index["manifests"]] == ["amd64", "arm64"]
    assert after.body != before.body
    pinned = before.header("docker-content-digest") or ""
    assert (await pulled(site, pinned))[1].body == before.body
    [entry] = json.loads((await site.ask(f"/v2/go/referrers/{pinned}")).body)["manifests"]
    await pulled(site, entry["digest"])
    newest = after.header("docker-content-digest") or ""
    artifact = json.loads((await site.ask(f"/v2/go/referrers/{newest}")).body)["manifests"][0]
    assert len((await pulled(site, artifact["digest"]))[0]["layers"]) == 4


async def test_an_archive_without_its_tars_digest_is_no_image_until_it_is_computed(
    site: Site,
) -> None:
    _, before = await pulled(site, "1.99.2")
    await run_sql(site.services, "UPDATE derived_files SET tar_sha256 = NULL")
    await site.services.shared.db.write(bump_generation)
    await site.services.shared.watch.poll()
    refused(await site.ask("/v2/go/manifests/1.99.2"), 404, "MANIFEST_UNKNOWN")
    await site.services.releases.derived.step()
    await site.services.shared.watch.poll()
    assert (await pulled(site, "1.99.2"))[1].body == before.body


async def test_a_hit_asks_neither_database_nor_catalogue(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(go_archive(A)).hexdigest()
    urls = ("/v2/go/manifests/1.99", "/v2/go/tags/list", f"/v2/go/blobs/sha256:{digest}")
    first = {url: (await site.ask(url)).body for url in urls}

    async def fail(*_: object, **__: object) -> None:
        raise AssertionError("a hit looked further")

    monkeypatch.setattr(site.services.shared.db, "read", fail)
    monkeypatch.setattr(site.services.fleet.offered, "current", fail)
    monkeypatch.setattr(site.services.releases.catalog, "current", fail)
    assert {url: (await site.ask(url)).body for url in urls} == first


async def test_a_query_does_not_fill_the_cache(site: Site) -> None:
    await site.ask("/v2/go/manifests/1.99")
    size = len(site.application.surfaces.images._hot._answers)
    for number in range(3):
        assert (await site.ask(f"/v2/go/manifests/1.99?x={number}")).status == 200
        assert (await site.ask(f"/v2/go/tags/list?n={number}")).status == 200
        assert (await site.ask("/v2/go/manifests/1%2E99")).status == 200
    assert len(site.application.surfaces.images._hot._answers) == size


def basic(secret: str) -> dict[str, str]:
    pair = base64.b64encode(f"moorage:{secret}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


async def test_a_closed_mirror_wants_a_token_by_the_flow_of_docker(closed: Site) -> None:
    await ok(closed, "POST", "/tenants", {"name": "acme"})
    _, secret = await add_token(closed.services, "acme")
    digest = hashlib.sha256(go_archive(A)).hexdigest()
    urls = (
        "/v2/",
        "/v2/go/manifests/1.99.1",
        "/v2/go/tags/list",
        f"/v2/go/blobs/sha256:{digest}",
        f"/v2/go/referrers/sha256:{digest}",
    )
    for _ in range(2):
        for url in (*urls, "/v2/token?service=mirror.example&scope=repository:go:pull"):
            got = await closed.ask(url)
            refused(got, 401, "UNAUTHORIZED")
            assert got.header("www-authenticate") == (
                'Bearer realm="http://mirror.example/v2/token",service="mirror.example",'
                'scope="repository:go:pull"'
            )
        got = await closed.ask("/v2/token?account=moorage", headers=basic(secret))
        assert (got.status, got.header("cache-control")) == (200, "no-store")
        token = json.loads(got.body)["token"]
        for url in urls:
            got = await closed.ask(url, headers=bearer(token))
            assert got.status == 200
            assert (got.header("cache-control") or "").startswith(("private", "no-store"))
    for wrong in (basic("anonymous"), basic("moor_x"), bearer("anonymous"), bearer(secret[:-1])):
        refused(await closed.ask("/v2/token", headers=wrong), 401, "UNAUTHORIZED")
        refused(await closed.ask("/v2/go/tags/list", headers=wrong), 401, "UNAUTHORIZED")


async def test_a_token_that_ends_ends_its_hits(closed: Site) -> None:
    await ok(closed, "POST", "/tenants", {"name": "acme"})
    token_id, secret = await add_token(closed.services, "acme")
    _, publisher = await add_token(closed.services, "acme", [Scope.PUBLISH])
    url = "/v2/go/manifests/1.99.1"
    assert (await closed.ask(url, headers=bearer(secret))).status == 200
    refused(await closed.ask(url, headers=bearer(publisher)), 403, "DENIED")
    await changed(closed, "PATCH", "/tenants/acme", {"enabled": False})
    refused(await closed.ask(url, headers=bearer(secret)), 403, "DENIED")
    await changed(closed, "PATCH", "/tenants/acme", {"enabled": True})
    assert (await closed.ask(url, headers=bearer(secret))).status == 200
    await changed(closed, "DELETE", f"/tokens/{token_id}")
    refused(await closed.ask(url, headers=bearer(secret)), 401, "UNAUTHORIZED")


async def test_a_limited_channel_is_a_tag_for_its_tenants_alone(site: Site) -> None:
    assert (await site.ask("/v2/")).status == 200
    for name in ("acme", "beta"):
        await ok(site, "POST", "/tenants", {"name": name})
    _, acmes = await add_token(site.services, "acme")
    _, betas = await add_token(site.services, "beta")
    await ok(site, "POST", "/channels", {"name": "lts"})
    await ok(site, "POST", "/channels/lts/revisions", {"current": C})
    await changed(site, "PATCH", "/channels/lts", {"tenants": ["acme"]})
    for _ in range(2):
        got = await site.ask("/v2/")
        refused(got, 401, "UNAUTHORIZED")  # so that clients ask for a token
        anyones = json.loads((await site.ask("/v2/token")).body)["token"]
        assert (await site.ask("/v2/", headers=bearer(anyones))).status == 200
        assert (await site.ask("/v2/go/manifests/1.98.5", headers=bearer(anyones))).status == 200
        for headers in ({}, bearer(anyones), bearer("another-sites-secret")):
            refused(await site.ask("/v2/go/manifests/lts", headers=headers), 401, "UNAUTHORIZED")
            tags = json.loads((await site.ask("/v2/go/tags/list", headers=headers)).body)["tags"]
            assert "lts" not in tags
        refused(await site.ask("/v2/go/manifests/lts", headers=bearer(betas)), 403, "DENIED")
        got = await site.ask("/v2/go/manifests/lts", headers=bearer(acmes))
        assert (got.status, got.header("cache-control")) == (200, "private, max-age=60")
        listed = await site.ask("/v2/go/tags/list", headers=bearer(acmes))
        assert "lts" in json.loads(listed.body)["tags"]
    await changed(site, "PATCH", "/channels/lts", {"tenants": None})
    assert (await pulled(site, "lts"))[1].header("cache-control") == "public, max-age=60"


async def test_a_damaged_layer_is_told_in_json_and_healed(site: Site) -> None:
    digest = hashlib.sha256(go_archive(B)).hexdigest()
    url = f"/v2/go/blobs/sha256:{digest}"
    assert (await site.ask(url)).status == 200
    folder = site.services.shared.settings.data_dir
    [path] = [p for p in folder.rglob(digest) if p.is_file()]
    path.chmod(0o600)
    path.write_bytes(b"rot")
    refused(await site.ask(url), 503, "UNAVAILABLE")


needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")


async def skopeo(folder: Path, *arguments: str) -> tuple[int, str]:
    """Return how skopeo ends, and what it says."""
    process = await asyncio.create_subprocess_exec(
        "skopeo",
        *arguments,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, (out or err).decode()


def certs_of(front: TlsFront, folder: Path) -> Path:
    """Return a folder of authorities as skopeo wants it."""
    certs = folder / "certs"
    certs.mkdir()
    shutil.copy(front.ca_file, certs / "ca.crt")
    return certs


@needs_skopeo
async def test_skopeo_pulls_over_tls(site: Site, tmp_path: Path) -> None:
    with TlsFront(site.base) as front:
        image = f"docker://{front.url.removeprefix('https://')}/go"
        certs = certs_of(front, tmp_path)
        code, said = await skopeo(tmp_path, "list-tags", f"--cert-dir={certs}", image)
        assert (code, json.loads(said)["Tags"]) == (0, TAGS)
        copy = ("copy", f"--src-cert-dir={certs}", f"{image}:1.99.1", "dir:copied")
        code, said = await skopeo(tmp_path, *copy)
    assert code == 0, said
    data = go_archive(B)
    assert (tmp_path / "copied" / hashlib.sha256(data).hexdigest()).read_bytes() == data


@needs_skopeo
async def test_skopeo_pulls_from_a_closed_mirror_with_a_token_alone(
    mirror: VerifiedMirror, tmp_path: Path
) -> None:
    settings = mirror.copied(tmp_path)
    releases = settings.releases.model_copy(update={"images_need_token": True})
    async with serving(settings.model_copy(update={"releases": releases})) as closed:
        with TlsFront(closed.base) as front:
            host = front.url.removeprefix("https://")
            closed.application.surfaces.images._public_url = front.url
            look = ("inspect", "--raw", f"--cert-dir={certs_of(front, tmp_path)}")
            code, said = await skopeo(tmp_path, *look, f"docker://{host}/go:1.99")
            assert (code != 0, "unauthorized" in said) == (True, True)
            creds = f"--creds=moorage:{closed.secret}"
            code, said = await skopeo(tmp_path, *look, creds, f"docker://{host}/go:1.99")
            assert (code, json.loads(said)["mediaType"]) == (0, INDEX)
            last = "y" if closed.secret.endswith("x") else "x"
            wrong = f"--creds=moorage:{closed.secret[:-1]}{last}"
            code, _ = await skopeo(tmp_path, *look, wrong, f"docker://{host}/go:1.99")
            assert code != 0
