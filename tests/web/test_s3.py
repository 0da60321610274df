"""Files from S3 over HTTP: through the cache, by a redirect, and from an object that is bad."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.core.digest import Digest
from app.storage.s3client import S3Client
from app.wiring import migrate
from tests.fakes.godev import FakeGodev
from tests.fakes.s3 import FakeS3, storage_of
from tests.fakes.signer import Signer
from tests.shapes import Shape
from tests.web.conftest import Put, StartSite, settings_for
from tests.web.wire import serving, until

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


async def test_what_is_on_disk_can_be_copied_into_a_bucket(
    fake: FakeGodev, signer: Signer, tmp_path: Path, put: Put, s3: FakeS3, shape: Shape
) -> None:
    name, data = put()
    on_disk = settings_for(fake, signer, tmp_path)
    async with serving(on_disk) as site:
        assert (await site.ask(f"/dl/{name}")).body == data
        await site.services.file_heads()
    place = s3.place("moorage")
    client, folder = S3Client(place), on_disk.data_dir
    for path in (folder / "blobs").rglob("*"):
        if path.is_file():
            client.put_file(f"blobs/{path.relative_to(folder / 'blobs').as_posix()}", path)
    for path in (folder / "keys" / "logs").glob("audit.chain"):
        client.put_file(f"heads/{path.name}", path)
    in_bucket = settings_for(fake, signer, tmp_path, storage=storage_of(place))
    if shape is Shape.POSTGRESQL:  # such a database is bound to the directory of its blobs
        with pytest.raises(RuntimeError, match="did not start"):
            async with serving(in_bucket):
                pass
        await asyncio.to_thread(migrate, in_bucket, bind_store=True)
    async with serving(in_bucket) as site:
        fake.stop()
        assert (await site.ask(f"/dl/{name}")).body == data
        await site.services.file_heads()
        assert json.loads((await site.ask("/readyz")).body)["notes"] == {}
        report = await site.services.upkeep.fsck.run(deep=True, repair=False)
        assert report.clean
