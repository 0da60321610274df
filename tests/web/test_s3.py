"""Files from S3 over HTTP: through the cache, by a redirect, and from an object that is bad."""

import json
import shutil
from typing import Any

from app.core.digest import Digest
from app.storage.s3client import S3Client
from tests.fakes.s3 import FakeS3, storage_of
from tests.web.conftest import Put, StartSite
from tests.web.wire import until

LARGE = 1 << 21


def key_of(data: bytes) -> str:
    digest = Digest.of(data)
    return f"blobs/{digest.hex[:2]}/{digest.hex}"


async def test_an_archive_is_in_s3_before_it_is_offered_and_comes_back_from_there(
    start_site: StartSite, put: Put, s3: FakeS3
) -> None:
    place = s3.place("moorage")
    site = await start_site(storage=storage_of(place))
    name, data = put(extra_bytes=LARGE)
    got = await site.ask(f"/dl/{name}")
    assert (got.status, got.body) == (200, data)
    stored = S3Client(place).head(key_of(data))
    assert stored is not None
    assert stored.size_bytes == len(data)
    folder = site.services.shared.settings.data_dir
    assert not (folder / "blobs").exists()
    shutil.rmtree(folder / "cache" / "blobs")
    assert (await site.ask(f"/dl/{name}")).body == data
    ready = json.loads((await site.ask("/readyz")).body)
    assert (ready["status"], ready["notes"]) == ("ready", {})


async def test_F90_a_bad_object_is_503_and_fetched_again(
    start_site: StartSite, put: Put, s3: FakeS3
) -> None:
    place = s3.place()
    site = await start_site(storage=storage_of(place))
    name, data = put()
    assert (await site.ask(f"/dl/{name}")).body == data
    for content in (b"", data[:-1], b"x" * len(data)):
        S3Client(place).put(key_of(data), content)
        shutil.rmtree(site.services.shared.settings.data_dir / "cache" / "blobs")
        got = await site.ask(f"/dl/{name}")
        assert (got.status, got.body) != (200, content)
        assert got.status in (200, 503)
        await until(lambda: _is_whole(site, name, data))


async def _is_whole(site: Any, name: str, data: bytes) -> bool:
    got = await site.ask(f"/dl/{name}")
    return got.status == 200 and got.body == data


async def test_a_redirect_leads_to_a_link_that_ends_for_large_files_alone(
    start_site: StartSite, put: Put, s3: FakeS3
) -> None:
    site = await start_site(storage=storage_of(s3.place(), redirect=True))
    small, small_data = put("go1.99.1")
    large, large_data = put("go1.99.2", extra_bytes=LARGE)
    assert (await site.ask(f"/dl/{small}")).body == small_data
    for _ in range(2):
        got = await site.ask(f"/dl/{large}")
        assert (got.status, got.body) == (302, b"")
        assert got.header("cache-control") == "no-store"
        location = got.header("location")
        assert "X-Amz-Expires=300" in location
        assert Digest.of(large_data).hex in location
    node = await site.ask(f"/dl/{large}", headers={"User-Agent": "moorage-node/1.0"})
    assert (node.status, node.body) == (200, large_data)
    assert (await site.ask(f"/dl/{large}", method="HEAD")).status == 200
