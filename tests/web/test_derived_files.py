"""What is derived from archives, over HTTP."""

import hashlib
import io
import json
import tarfile
import zipfile

import pytest

from app.core.digest import Digest
from tests.fakes.godev import FakeGodev
from tests.services.bench import blob_path, flipped, spoil
from tests.web.conftest import (
    PENDING,
    QUARANTINED,
    SHA256_ONLY,
    SOURCE,
    VERIFIED,
    Mirror,
    Put,
    StartSite,
)
from tests.web.wire import Got, until

MIB = 1 << 20


def contents_of(name: str, data: bytes) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of every file, as Python's own readers see them."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [i for i in archive.infolist() if not i.is_dir()]
            return {i.filename: (i.external_attr >> 16 & 0o777, archive.read(i)) for i in files}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = [m for m in tar if m.isfile()]
        return {m.name: (m.mode, tar.extractfile(m).read()) for m in files}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [VERIFIED, SHA256_ONLY])
async def test_the_tree_lists_every_file_of_the_archive(mirror: Mirror, name: str) -> None:
    got = await mirror.site.ask(f"/dl/{name}.tree")
    assert (got.status, got.complete) == (200, True)
    assert got.header("content-type") == "application/x-ndjson"
    lines = [json.loads(line) for line in got.text.splitlines()]
    assert {
        line["path"]: (line["mode"], line["size"], line["sha256"])
        for line in lines
        if line["type"] == "file"
    } == {
        path: (mode, len(content), hashlib.sha256(content).hexdigest())
        for path, (mode, content) in contents_of(name, mirror.files[name]).items()
    }
    folders = {line["path"] for line in lines if line["type"] == "dir"}
    assert {"go", "go/bin", "go/pkg/tool"} <= folders
    assert [line["path"] for line in lines] == sorted(line["path"] for line in lines)


@pytest.mark.parametrize("name", [VERIFIED, SHA256_ONLY])
async def test_the_sums_are_those_of_the_pieces(mirror: Mirror, name: str) -> None:
    got = await mirror.site.ask(f"/dl/{name}.chunks")
    data = mirror.files[name]
    pieces = [data[start : start + MIB] for start in range(0, len(data), MIB)]
    assert got.body == b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    assert got.header("content-type") == "application/octet-stream"


@pytest.mark.parametrize("extra", [".tree", ".chunks"])
async def test_a_derived_file_is_immutable_validated_and_in_ranges(
    mirror: Mirror, extra: str
) -> None:
    target = f"/dl/{VERIFIED}{extra}"
    whole = await mirror.site.ask(target)
    etag = f'"{hashlib.sha256(whole.body).hexdigest()}"'
    assert whole.header("etag") == etag
    assert whole.header("cache-control") == "public, max-age=31536000, immutable"
    assert whole.header("accept-ranges") == "bytes"
    part = await mirror.site.ask(target, headers={"Range": "bytes=3-9"})
    assert (part.status, part.body) == (206, whole.body[3:10])
    assert (await mirror.site.ask(target, headers={"If-None-Match": etag})).status == 304


ABSENT = [
    (f"{SOURCE}.tree", 404, "only archives of Go have one"),
    (f"{SOURCE}.chunks", 404, "only archives of Go have one"),
    (f"{SHA256_ONLY}.zst", 404, f"take {SHA256_ONLY}"),
    (f"{VERIFIED}.zst.chunks", 404, f"take {VERIFIED}"),
    (f"{PENDING}.tree", 503, "not offered yet"),
    (f"{QUARANTINED}.chunks", 502, "quarantined"),
    ("go9.9.9.linux-amd64.tar.gz.tree", 404, "no Go release file"),
    ("SHA256SUMS.tree", 404, "there is no"),
    (f"{VERIFIED}.tree.sha256", 404, "not the name"),
]


@pytest.mark.parametrize(("name", "status", "line"), ABSENT, ids=[name for name, _, _ in ABSENT])
async def test_what_there_is_not_is_refused_with_a_line(
    mirror: Mirror, name: str, status: int, line: str
) -> None:
    got = await mirror.site.ask(f"/dl/{name}")
    assert got.status == status
    assert line in got.text
    assert got.text.count("\n") == 1


async def test_lists_of_files_have_no_derived_ones(mirror: Mirror) -> None:
    for target in ("/dl/SHA256SUMS", "/dl/?mode=json&include=all"):
        text = (await mirror.site.ask(target)).text
        assert VERIFIED in text
        assert ".tree" not in text
        assert ".chunks" not in text


async def test_asking_for_the_tree_ingests_the_archive(start_site: StartSite, put: Put) -> None:
    site = await start_site()
    name, data = put()
    got = await site.ask(f"/dl/{name}.tree")
    assert (got.status, got.complete) == (200, True)
    assert (await site.ask(f"/dl/{name}")).body == data


@pytest.mark.parametrize("hot", [True, False])
async def test_F90_a_damaged_tree_is_never_served_and_derived_anew(
    start_site: StartSite, fake: FakeGodev, put: Put, hot: bool
) -> None:
    site = await start_site()
    name, _ = put()
    target = f"/dl/{name}.tree" if hot else f"/go/{name}.tree"
    right = (await site.ask(f"/dl/{name}.tree")).body
    path = blob_path(site.services, Digest.of(right))
    spoil(path, flipped(right))
    got = await site.ask(target)
    assert (got.status, b"damaged" in got.body) == (503, True)

    async def served() -> Got | None:
        got = await site.ask(target)
        assert (got.status, got.body) == (200, right) or got.status == 503
        return got if got.status == 200 else None

    await until(served)
    assert path.read_bytes() == right
    assert fake.hits[f"/go/{name}"] == 1


async def test_the_zstd_form_is_served_as_soon_as_it_is_made(
    start_site: StartSite, put: Put
) -> None:
    site = await start_site(releases={"zstd": {"level": 1, "niceness": 0}})
    name, data = put(extra_bytes=2 << 20)
    assert (await site.ask(f"/dl/{name}.zst")).status == 404  # and the archive comes in
    assert (await site.ask(f"/dl/{name}")).body == data
    await site.services.releases.zst.step()
    await site.services.shared.watch.poll()
    got = await site.ask(f"/dl/{name}.zst")
    assert (got.status, got.header("content-type")) == (200, "application/zstd")
    assert got.header("etag") == f'"{hashlib.sha256(got.body).hexdigest()}"'
    assert got.header("cache-control") == "public, max-age=60"
    part = await site.ask(f"/dl/{name}.zst", headers={"Range": f"bytes={MIB}-"})
    assert (part.status, part.body) == (206, got.body[MIB:])
    sums = await site.ask(f"/go/{name}.zst.chunks")
    pieces = [got.body[start : start + MIB] for start in range(0, len(got.body), MIB)]
    assert sums.body == b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    listing = (await site.ask("/dl/?mode=json&include=all")).text
    assert ".zst" not in listing


async def test_an_archive_that_may_not_be_had_has_no_tree(start_site: StartSite, put: Put) -> None:
    site = await start_site(releases={"select": {"on_demand": False}})
    name, _ = put()
    await site.services.releases.reader.refresh()
    assert (await site.ask(f"/dl/{name}.tree")).status == 403
