"""`/dl/` as people and programs see it: the page, the index as JSON, SHA256SUMS."""

import gzip
import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from app.core.releaseindex import parse_index
from tests.fakes.godev import FakeGodev
from tests.web.conftest import (
    OFFERED,
    ON_DEMAND,
    PENDING,
    QUARANTINED,
    REFUSED_KIND,
    STORED,
    UNVERIFIABLE,
    Mirror,
    Put,
    StartSite,
)
from tests.web.wire import Got, Site

ALL = "/dl/?mode=json&include=all"
RELEASE_KEYS = ["version", "stable", "files"]
# Order and types as golang.org/x/website/internal/dl marshals them.
FILE_KEYS = {
    "filename": str,
    "os": str,
    "arch": str,
    "version": str,
    "sha256": str,
    "size": int,
    "kind": str,
}


def versions(got: Got) -> list[str]:
    return [release["version"] for release in json.loads(got.body)]


def filenames(got: Got) -> set[str]:
    return {file["filename"] for release in json.loads(got.body) for file in release["files"]}


async def test_the_page_shows_every_offered_file_and_those_held_back(mirror: Mirror) -> None:
    got = await mirror.site.ask("/dl/")
    assert got.status == 200
    assert got.header("content-type") == "text/html; charset=utf-8"
    assert "default-src 'none'" in (got.header("content-security-policy") or "")
    assert got.header("x-content-type-options") == "nosniff"
    for name in (*OFFERED, PENDING, QUARANTINED):
        assert f">{name}<" in got.text
    for name in OFFERED:
        assert f'href="{name}"' in got.text
    for name in (PENDING, QUARANTINED):
        assert f'href="{name}' not in got.text
    for name in (REFUSED_KIND, UNVERIFIABLE):
        assert name not in got.text


async def test_every_link_of_the_page_works(mirror: Mirror) -> None:
    page = (await mirror.site.ask("/dl/")).text
    targets = {part.split('"')[0] for part in page.split('href="')[1:]}
    anchors = {link for link in targets if link.startswith("#")}
    assert all(f'id="{anchor[1:]}"' in page for anchor in anchors)
    links = {urljoin("/dl/", link) for link in targets - anchors}
    assert {f"/dl/{name}" for name in OFFERED} < links
    for link in links - {f"/dl/{name}" for name in set(OFFERED) - set(STORED)}:
        assert (await mirror.site.ask(link.replace("&amp;", "&"), "HEAD")).status == 200


async def test_include_all_is_everything_offered_newest_first(mirror: Mirror) -> None:
    got = await mirror.site.ask(ALL)
    assert got.header("content-type") == "application/json"
    assert got.header("access-control-allow-origin") == "*"
    expected = ["go1.100rc1", "go1.99.2", "go1.99.1", "go1.98.5", "go1.97.9"]
    assert versions(got) == expected
    assert filenames(got) == set(OFFERED)


async def test_what_is_held_back_refused_or_unverifiable_is_in_no_index(mirror: Mirror) -> None:
    for name in (PENDING, QUARANTINED, REFUSED_KIND, UNVERIFIABLE):
        assert name.encode() not in (await mirror.site.ask(ALL)).body
        assert name.encode() not in (await mirror.site.ask("/dl/SHA256SUMS")).body


async def test_without_include_it_is_the_newest_stable_of_the_two_newest_minors(
    mirror: Mirror,
) -> None:
    assert versions(await mirror.site.ask("/dl/?mode=json")) == ["go1.99.2", "go1.98.5"]


QUERIES = [
    ("?mode=json&include=all", "all"),
    ("?include=all&mode=json", "all"),
    ("?include=all&x=1&mode=json", "all"),
    ("?mode=json", "newest"),
    ("?mode=json&include=", "newest"),
    ("?mode=json&include=stable", "newest"),
    ("?mode=json&include=all&include=all", "newest"),
    ("?mode=json&include=own&include=all", "newest"),
    ("?include=own", "page"),
    ("", "page"),
    ("?", "page"),
    ("?mode=html", "page"),
    ("?mode=JSON", "page"),
    ("?include=all", "page"),
    ("?mode=json&mode=json", "page"),
    ("?mode=%6Ason", "newest"),
    ("?m%00de=json", "page"),
    ("?%ff=%fe", "page"),
    ("?=&&;;", "page"),
]


@pytest.mark.parametrize(("query", "kind"), QUERIES)
async def test_the_query_decides_which_listing_it_is(mirror: Mirror, query: str, kind: str) -> None:
    right = {
        "all": await mirror.site.ask(ALL),
        "newest": await mirror.site.ask("/dl/?mode=json"),
        "page": await mirror.site.ask("/dl/"),
    }
    for root in ("/dl/", "/go/"):
        got = await mirror.site.ask(root + query)
        assert (got.status, got.body) == (200, right[kind].body)


async def test_a_query_of_more_than_16_fields_is_refused(mirror: Mirror) -> None:
    got = await mirror.site.ask("/dl/?" + "&".join(f"a{n}=1" for n in range(17)))
    assert got.status == 400
    assert got.text == "the query has more than 16 fields\n"


async def test_any_query_but_those_of_clients_leaves_the_cache_alone(mirror: Mirror) -> None:
    await mirror.site.ask("/dl/")
    hot = mirror.site.application.surfaces.downloads._hot._answers
    before = len(hot)
    for number in range(50):
        assert (await mirror.site.ask(f"/dl/?x={number}")).status == 200
        assert (await mirror.site.ask(f"/dl/SHA256SUMS?x={number}")).status == 200
        slashes = "/" * (number + 2)
        assert (await mirror.site.ask(f"/dl{slashes}?mode=json")).status == 200
    assert len(hot) <= before + 1


async def test_keys_and_types_are_those_of_go_dev(mirror: Mirror) -> None:
    for target in (ALL, "/dl/?mode=json"):
        releases: list[dict[str, Any]] = json.loads((await mirror.site.ask(target)).body)
        assert releases
        for release in releases:
            assert list(release) == RELEASE_KEYS
            assert isinstance(release["stable"], bool)
            for file in release["files"]:
                assert {key: type(value) for key, value in file.items()} == FILE_KEYS
                assert list(file) == list(FILE_KEYS)
                assert file["version"] == release["version"]
                assert file["kind"] in ("archive", "installer", "source")


async def test_the_index_is_one_that_moorage_itself_would_read(mirror: Mirror) -> None:
    parsed = parse_index((await mirror.site.ask(ALL)).body)
    files = {f.filename: f for r in parsed.releases for f in r.files}
    for name in OFFERED:
        sha256 = files[name].sha256
        assert sha256 is not None
        assert sha256.hex == hashlib.sha256(mirror.files[name]).hexdigest()
        assert files[name].size_bytes == len(mirror.files[name])


async def test_upstreams_entries_come_back_unchanged(mirror: Mirror) -> None:
    """What go.dev says of an offered file is what this mirror says, in the same order."""
    theirs = json.loads(
        mirror.fake._listing({"mode": ["json"], "include": ["all"]}).body[0].tobytes()
    )
    ours = json.loads((await mirror.site.ask(ALL)).body)
    expected = [
        {**release, "files": [f for f in release["files"] if f["filename"] in OFFERED]}
        for release in theirs
    ]
    assert ours == [release for release in expected if release["files"]]


LISTS = ("/dl/", ALL, "/dl/SHA256SUMS", "/HEAD/internal/history/release.go")


@pytest.mark.parametrize("target", [*LISTS, "/dl/go.git/info/refs?service=git-upload-pack"])
async def test_a_long_list_is_compressed_if_the_client_asks_for_it(
    start_site: StartSite, put: Put, target: str
) -> None:
    for number in range(20):
        put(f"go1.9{number // 10}.{number % 10}")
    site = await start_site()
    plain = await site.ask(target)
    assert (plain.header("content-encoding"), plain.header("vary")) == (None, "accept-encoding")
    for accepted in ("gzip", "deflate, gzip, br", "*", "identity;q=0.5, GZIP;q=1.0"):
        # The second answer comes from the cache.
        for _ in range(2):
            got = await site.ask(target, headers={"Accept-Encoding": accepted})
            assert (got.header("content-encoding"), got.header("vary")) == (
                "gzip",
                "accept-encoding",
            )
            assert gzip.decompress(got.body) == plain.body
            assert len(got.body) < len(plain.body) / 2
    assert got.header("etag") != plain.header("etag")
    headers = {"Accept-Encoding": "gzip", "If-None-Match": got.header("etag") or ""}
    assert (await site.ask(target, headers=headers)).status == 304
    head = await site.ask(target, "HEAD", headers={"Accept-Encoding": "gzip"})
    assert head.header("content-length") == str(len(got.body))
    for refused in ("identity", "br", "gzip;q=0", "gzip;q=0.000, *", ""):
        again = await site.ask(target, headers={"Accept-Encoding": refused})
        assert (again.header("content-encoding"), again.body) == (None, plain.body)


async def test_a_short_list_and_a_file_are_sent_as_they_are(mirror: Mirror) -> None:
    for target in ("/VERSION", f"/dl/{STORED[0]}", f"/dl/{STORED[0]}.sha256"):
        got = await mirror.site.ask(target, headers={"Accept-Encoding": "gzip"})
        assert (got.header("content-encoding"), got.header("vary")) == (None, None)


async def test_the_version_is_that_of_the_newest_stable_release(mirror: Mirror) -> None:
    for target in ("/VERSION?m=text", "/VERSION", "/dl/VERSION?m=text", "/go/VERSION"):
        got = await mirror.site.ask(target)
        assert got.header("content-type") == "text/plain; charset=utf-8"
        version, time = got.text.splitlines()
        assert version == "go1.99.2"
        assert re.fullmatch(r"time \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)


async def test_without_a_stable_release_there_is_no_version(
    start_site: StartSite, put: Put
) -> None:
    put("go1.99rc1")
    got = await (await start_site()).ask("/VERSION?m=text")
    assert (got.status, got.text) == (404, "no stable release is offered here; see /dl/\n")


async def test_tags_and_history_have_what_is_offered(mirror: Mirror) -> None:
    refs = (await mirror.site.ask("/dl/go.git/info/refs")).text
    tags = [line.partition("\trefs/tags/")[2] for line in refs.splitlines()]
    assert sorted(tags) == sorted(versions(await mirror.site.ask(ALL)))
    for root in ("", "/dl", "/go"):
        text = (await mirror.site.ask(f"{root}/HEAD/internal/history/release.go")).text
        assert re.findall(r"Version\{(.*)\}", text) == [
            "1, 99, 2",
            "1, 99, 1",
            "1, 98, 5",
            "1, 97, 9",
        ]


NEAR = [
    ("go1.21.darwin-arm64.tar.gz", "go1.21.0.darwin-arm64.tar.gz"),
    ("go1.21.darwin-arm64.tar.gz.sha256", "go1.21.0.darwin-arm64.tar.gz"),
    ("go1.20.0.darwin-arm64.tar.gz", "go1.20.darwin-arm64.tar.gz"),
]


@pytest.mark.parametrize(("asked", "near"), NEAR)
async def test_a_name_with_a_zero_too_few_or_too_many_gets_a_hint(
    start_site: StartSite, fake: FakeGodev, asked: str, near: str
) -> None:
    for name in ("go1.21.0.darwin-arm64.tar.gz", "go1.20.darwin-arm64.tar.gz"):
        fake.put_file(name, b"an archive")
    site = await start_site()
    got = await site.ask(f"/dl/{asked}")
    assert got.status == 404
    assert got.text.endswith(f"in the release index; did you mean {near}?\n")
    far = await site.ask("/dl/go1.22.darwin-arm64.tar.gz")
    assert (far.status, "did you mean" in far.text) == (404, False)


async def test_listings_are_cached_shortly_and_revalidated(mirror: Mirror) -> None:
    for target in (*LISTS, "/dl/?mode=json", "/VERSION", "/dl/go.git/info/refs"):
        got = await mirror.site.ask(target)
        assert got.header("cache-control") == "public, max-age=60"
        etag = got.header("etag")
        assert etag is not None
        again = await mirror.site.ask(target, headers={"If-None-Match": f'W/{etag}, "x"'})
        assert (again.status, again.body) == (304, b"")
        assert again.header("etag") == etag
        assert (await mirror.site.ask(target, headers={"If-None-Match": '"x"'})).status == 200


async def test_sha256sums_has_a_line_for_every_offered_file(mirror: Mirror) -> None:
    got = await mirror.site.ask("/dl/SHA256SUMS")
    assert got.header("content-type") == "text/plain; charset=utf-8"
    lines = dict(reversed(line.split("  ")) for line in got.text.splitlines())
    assert lines == {n: hashlib.sha256(mirror.files[n]).hexdigest() for n in OFFERED}
    assert got.text.endswith("\n")


async def test_sha256sums_passes_sha256sum(mirror: Mirror, tmp_path: Path, sha256sum: str) -> None:
    (tmp_path / "SHA256SUMS").write_bytes((await mirror.site.ask("/dl/SHA256SUMS")).body)
    for name in STORED:
        (tmp_path / name).write_bytes((await mirror.site.ask(f"/dl/{name}")).body)

    def check() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sha256sum, "-c", "--strict", "--ignore-missing", "SHA256SUMS"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    good = check()
    assert (good.returncode, good.stderr) == (0, "")
    assert sorted(good.stdout.splitlines()) == sorted(f"{name}: OK" for name in STORED)
    (tmp_path / STORED[0]).write_bytes(b"another file")
    assert check().returncode == 1


async def test_an_empty_mirror_that_fetches_nothing_on_demand_lists_nothing(
    start_site: StartSite, put: Put
) -> None:
    put()
    site = await start_site(releases={"select": {"on_demand": False}})
    page = await site.ask("/dl/")
    assert page.status == 200
    assert "moorage releases sync" in page.text
    assert json.loads((await site.ask(ALL)).body) == []
    assert json.loads((await site.ask("/dl/?mode=json")).body) == []
    assert (await site.ask("/dl/SHA256SUMS")).body == b""


async def test_without_on_demand_only_verified_files_are_listed(
    start_site: StartSite, put: Put
) -> None:
    names = [put(version)[0] for version in ("go1.99.2", "go1.99.1", "go1.98.7", "go1.97.3")]
    site = await start_site(releases={"select": {"on_demand": False}})
    await site.services.releases.reader.refresh()
    for name in names[1:]:
        await site.services.releases.ingestion.ensure(name, forced=True)
    await site.services.releases.catalog.current(fresh=True)
    assert filenames(await site.ask(ALL)) == set(names[1:])
    # The newest minors are those of the index, not those that happen to be here.
    assert versions(await site.ask("/dl/?mode=json")) == ["go1.99.1", "go1.98.7"]


async def test_a_minor_that_is_end_of_life_is_never_among_the_newest(
    start_site: StartSite, put: Put
) -> None:
    names = [put(version)[0] for version in ("go1.99.2", "go1.98.7", "go1.97.3")]
    site = await start_site(releases={"select": {"on_demand": False}})
    await site.services.releases.reader.refresh()
    for name in names[1:]:
        await site.services.releases.ingestion.ensure(name, forced=True)
    await site.services.releases.catalog.current(fresh=True)
    assert versions(await site.ask("/dl/?mode=json")) == ["go1.98.7"]
    assert versions(await site.ask(ALL)) == ["go1.98.7", "go1.97.3"]


@pytest.mark.parametrize("target", ["/dl/", ALL, "/dl/?mode=json", "/dl/SHA256SUMS"])
async def test_a_listing_of_an_index_that_was_never_read_is_an_error_and_not_empty(
    start_site: StartSite, fake: FakeGodev, put: Put, target: str
) -> None:
    put()
    fake.stop()
    site: Site = await start_site()
    got = await site.ask(target)
    assert got.status in (502, 503, 504)
    assert got.header("content-type") == "text/plain; charset=utf-8"
    fake.start()
    assert (await site.ask(target)).status == 200


async def test_a_file_on_demand_is_listed_before_it_is_here(mirror: Mirror) -> None:
    assert ON_DEMAND in filenames(await mirror.site.ask(ALL))
    assert mirror.fake.hits[f"/go/{ON_DEMAND}"] == 0


async def test_a_vanished_file_stays_listed_only_if_it_is_here(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    here, data = put("go1.99.1")
    away, _ = put("go1.99.2")
    put("go1.99.3")
    site = await start_site()
    assert (await site.ask(f"/dl/{here}")).status == 200
    fake.remove(here)
    fake.remove(away)
    await site.services.releases.reader.refresh()
    await site.services.releases.catalog.current(fresh=True)
    listed = filenames(await site.ask(ALL))
    assert here in listed
    assert away not in listed
    assert (await site.ask(f"/dl/{here}")).body == data


async def test_a_fresh_mirror_serves_what_it_understands_of_an_index_that_grew(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, data = put("go1.99.1")
    fake.put_file("go1.99.1.sbom.tar.gz", b"x", version="go1.99.1", kind="sbom")
    fake.put_file("go1.99.1.linux-amd64.tar.zst", b"x", version="go1.99.1", kind="archive")
    fake.put_file("gotip.src.tar.gz", b"x", version="tip", kind="source", stable=False)
    site = await start_site()
    assert filenames(await site.ask(ALL)) == {name}
    assert (await site.ask(f"/dl/{name}")).body == data
    for skipped in ("go1.99.1.sbom.tar.gz", "go1.99.1.linux-amd64.tar.zst", "gotip.src.tar.gz"):
        assert (await site.ask(f"/dl/{skipped}")).status == 404
