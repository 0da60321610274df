"""A store of blobs belongs to one database: nothing is bound, or written, without consent."""

import asyncio
from pathlib import Path

import pytest

from app.core.errors import StorageError, StoreAwayError, UnfitDatabaseError
from app.db.blobs import Blobs
from app.services.assembly import Services
from app.services.clock import utc_now
from app.settings import Settings
from app.storage.s3client import S3Client, S3Place
from app.wiring import migrate
from tests.conftest import MakeSettings
from tests.fakes.s3 import FakeS3, storage_of
from tests.fakes.s3faults import S3Fault, S3FaultProxy
from tests.installation import running
from tests.services.test_datafolder import make_other


async def put(services: Services, data: bytes) -> str:
    """Store a blob, and its row."""
    digest = await services.shared.store.put(data)
    await services.shared.db.write(lambda s: Blobs(s).record(digest, len(data), utc_now()))
    return f"blobs/{digest.hex[:2]}/{digest.hex}"


def keys(place: S3Place) -> list[str]:
    return [stored.key for stored in S3Client(place).walk("")]


async def refused(settings: Settings, match: str) -> None:
    with pytest.raises(UnfitDatabaseError, match=match):
        async with running(settings):
            pass


async def test_a_bucket_belongs_to_one_database(
    make_settings: MakeSettings, tmp_path: Path, s3: FakeS3
) -> None:
    storage = storage_of(s3.place("moorage"))
    async with running(make_settings(storage=storage)):
        pass
    other = make_settings(storage=storage, data_dir=tmp_path / "other")
    migrate(other)
    make_other(other)
    await refused(other, "belongs to another database")
    await asyncio.to_thread(migrate, other, bind=True, bind_store=True)
    async with running(other):
        pass
    await refused(make_settings(storage=storage), "belongs to another database")


async def test_a_wrong_empty_bucket_is_refused_and_stays_as_it_is(
    make_settings: MakeSettings, s3: FakeS3
) -> None:
    right, wrong = s3.place(), s3.place()
    async with running(make_settings(storage=storage_of(right))):
        pass
    other = make_settings(storage=storage_of(wrong))
    await refused(other, "in another store")
    await asyncio.to_thread(migrate, other)
    await asyncio.to_thread(migrate, other, bind=True)  # a word about the folder alone
    assert keys(wrong) == []
    await refused(other, "migrate --bind-store")
    async with running(make_settings(storage=storage_of(right))):
        pass
    await asyncio.to_thread(migrate, other, bind_store=True)
    async with running(other):
        pass
    assert "marks/database.id" in keys(wrong)


@pytest.mark.only_sqlite
async def test_a_bucket_without_the_blobs_of_the_database_is_not_bound(
    make_settings: MakeSettings, s3: FakeS3
) -> None:
    async with running(make_settings()) as services:
        key = await put(services, b"a blob on disk")
        await put(services, b"another one")
    place = s3.place()
    settings = make_settings(storage=storage_of(place))
    await refused(settings, "has none of 2 that were looked for")
    assert keys(place) == []
    S3Client(place).put_file(key, settings.data_dir / key)
    async with running(settings):
        pass
    assert "marks/database.id" in keys(place)


async def test_a_bucket_that_is_away_is_waited_for_by_a_folder_that_never_used_it(
    make_settings: MakeSettings, s3: FakeS3
) -> None:
    with S3FaultProxy(s3.endpoint) as proxy:
        settings = make_settings(storage=storage_through(proxy, s3.place()))
        proxy.choose = lambda _method, _path: S3Fault.BUSY
        with pytest.raises(StoreAwayError, match="was not used with this store before"):
            async with running(settings):
                pass
        proxy.choose = lambda _method, _path: None
        async with running(settings):
            pass


async def test_a_bucket_that_is_away_is_asked_for_nothing_until_it_is_proven(
    make_settings: MakeSettings, s3: FakeS3
) -> None:
    with S3FaultProxy(s3.endpoint) as proxy:
        place = s3.place()
        settings = make_settings(storage=storage_through(proxy, place))
        async with running(settings) as services:
            await put(services, b"cached")
        is_away = True
        proxy.choose = lambda _method, _path: S3Fault.BUSY if is_away else None
        async with running(settings) as services:
            shared = services.shared
            assert await put_is_refused(services)
            is_away = False
            assert await put_is_refused(services)  # the bucket is back, and may be another one
            assert keys(place).count("marks/store.id") == 1
            await shared.prove_store()
            await put(services, b"new")


async def test_a_bucket_that_comes_back_as_another_one_stays_closed(
    make_settings: MakeSettings, s3: FakeS3
) -> None:
    with S3FaultProxy(s3.endpoint) as proxy:
        place = s3.place()
        settings = make_settings(storage=storage_through(proxy, place))
        async with running(settings) as services:
            await put(services, b"cached")
        is_away = True
        proxy.choose = lambda _method, _path: S3Fault.BUSY if is_away else None
        async with running(settings) as services:
            client = S3Client(place)
            for key in keys(place):
                client.delete(key)
            is_away = False
            with pytest.raises(UnfitDatabaseError, match="in another store"):
                await services.shared.prove_store()
            assert await put_is_refused(services, "in another store")
            assert keys(place) == []


def storage_through(proxy: S3FaultProxy, place: S3Place) -> dict[str, object]:
    storage = storage_of(place)
    storage["s3"]["endpoint"] = proxy.endpoint
    return storage


async def put_is_refused(services: Services, why: str = "did not answer at the start") -> bool:
    with pytest.raises(StorageError, match=why):
        await services.shared.store.put(b"something new")
    return True
