"""Lists while no release index could ever be read: own releases are offered, nothing is denied."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.archives import archive_name, go_archive
from tests.fakes.faults import Fault
from tests.fakes.signer import Signer
from tests.services.bench import INDEX_PATH
from tests.verified import VerifiedMirror
from tests.web.api import ok
from tests.web.test_own_releases import GO, NAME, OWN, mirror, owner, publish
from tests.web.wire import Site, serving

__all__ = ["mirror", "owner"]  # the fixtures
OWN_JSON = "/dl/?mode=json&include=own"
LISTS = (
    "/dl/?mode=json",
    "/dl/?mode=json&include=all",
    "/dl/VERSION?m=text",
    "/VERSION?m=text",
    "/dl/SHA256SUMS",
    "/HEAD/internal/history/release.go",
    "/dl/go.git/info/refs",
    "/dl/go.git/info/refs?service=git-upload-pack",
)


@pytest.fixture
async def site(mirror: VerifiedMirror, tmp_path: Path) -> AsyncIterator[Site]:
    """A service whose upstream has no index for it yet."""
    mirror.fake.fault(INDEX_PATH, Fault.status(404), times=None)
    try:
        async with serving(mirror.settings(tmp_path / "data")) as one:
            yield one
    finally:
        mirror.fake.clear_faults()


@pytest.fixture
async def owning(site: Site, owner: Signer) -> Site:
    """The same with an own release."""
    data = go_archive(OWN)
    assert (await publish(site, data, signature=owner.sign(data))).status == 201
    return site


async def test_the_page_has_own_releases_and_says_what_is_missing(owning: Site) -> None:
    got = await owning.ask("/dl/")
    assert (got.status, got.header("cache-control")) == (200, "no-store")
    assert "releases of the Go project are missing on this page" in got.text
    assert "Own releases" in got.text
    assert f'href="{NAME}"' in got.text
    assert 'href="?mode=json&amp;include=own"' in got.text
    assert "include=all" not in got.text  # that is an error now
    assert "Last attempt failed" in got.text


async def test_people_do_not_wait_for_an_upstream_that_was_just_away(
    owning: Site, mirror: VerifiedMirror
) -> None:
    first = await owning.ask("/dl/")
    before = mirror.fake.hits[INDEX_PATH]
    assert (await owning.ask("/dl/")).body == first.body
    assert mirror.fake.hits[INDEX_PATH] == before
    await owning.ask("/dl/?mode=json")
    assert mirror.fake.hits[INDEX_PATH] == before + 1  # what must not be incomplete looks again


async def test_own_releases_alone_are_json_that_needs_no_index(
    owning: Site, mirror: VerifiedMirror
) -> None:
    before = mirror.fake.hits[INDEX_PATH]
    got = await owning.ask(OWN_JSON)
    assert got.status == 200
    [release] = json.loads(got.body)
    assert (release["version"], release["own"]) == (OWN, True)
    assert [file["filename"] for file in release["files"]] == [NAME]
    assert mirror.fake.hits[INDEX_PATH] == before


@pytest.mark.parametrize("path", LISTS)
async def test_what_programs_read_is_no_list_that_lacks_the_public_releases(
    owning: Site, path: str
) -> None:
    got = await owning.ask(path)
    assert got.status == 502
    assert got.header("content-type") == "text/plain; charset=utf-8"
    assert got.text.startswith("public releases can't be listed, since their index was never read")
    assert OWN_JSON in got.text
    assert "404" in got.text  # what upstream has answered
    assert got.text.count("\n") == 1


@pytest.mark.parametrize("path", ["/dl/", *LISTS])
async def test_without_own_releases_each_list_is_an_error(site: Site, path: str) -> None:
    got = await site.ask(path)
    assert got.status == 502
    assert "include=own" not in got.text


async def test_no_own_release_is_an_empty_list_of_these(site: Site) -> None:
    assert json.loads((await site.ask(OWN_JSON)).body) == []


async def test_the_tags_of_images_are_those_of_own_releases(owning: Site) -> None:
    got = await owning.ask("/v2/go/tags/list")
    assert json.loads(got.body)["tags"] == [OWN.removeprefix("go")]


async def test_a_public_file_is_unknown_and_an_own_one_that_nobody_published_absent(
    owning: Site,
) -> None:
    assert (await owning.ask(f"/dl/{archive_name(GO)}")).status == 502
    got = await owning.ask(f"/dl/{archive_name('go1.99.1-corp2')}")
    assert got.status == 404
    assert "nobody has published it here" in got.text


async def test_once_the_index_is_read_everything_is_listed(
    owning: Site, mirror: VerifiedMirror
) -> None:
    assert "missing" in (await owning.ask("/dl/")).text
    mirror.fake.clear_faults()
    everything = json.loads((await owning.ask("/dl/?mode=json&include=all")).body)
    assert [one["version"] for one in everything] == [OWN, GO]
    page = await owning.ask("/dl/")
    assert page.header("cache-control") == "public, max-age=60"
    assert "missing" not in page.text
    assert f">{archive_name(GO)}<" in page.text
    assert [one["version"] for one in json.loads((await owning.ask(OWN_JSON)).body)] == [OWN]


async def test_an_index_that_was_read_once_is_enough(owning: Site, mirror: VerifiedMirror) -> None:
    mirror.fake.clear_faults()
    await owning.services.releases.reader.refresh()
    mirror.fake.fault(INDEX_PATH, Fault.status(404), times=None)
    await owning.services.shared.watch.poll()
    for path in ("/dl/", *LISTS):
        assert (await owning.ask(path)).status == 200, path
    assert "missing" not in (await owning.ask("/dl/")).text


async def test_a_channel_is_whole_without_any_index(owning: Site) -> None:
    await ok(owning, "POST", "/channels", {"name": "lts"})
    await ok(owning, "POST", "/channels/lts/revisions", {"current": OWN})
    await owning.services.shared.watch.poll()
    page = await owning.ask("/dl/channels/lts/")
    assert page.status == 200
    assert "missing" not in page.text
    for query in ("?mode=json", "?mode=json&include=all", "?mode=json&include=own"):
        got = await owning.ask(f"/dl/channels/lts/{query}")
        assert [one["version"] for one in json.loads(got.body)] == [OWN]
