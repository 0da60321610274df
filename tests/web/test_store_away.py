"""A replica that starts while S3 is away: it lives, says why, and becomes ready by itself."""

import asyncio
import shutil
from collections.abc import Iterator

import pytest

from app.core.errors import UnfitDatabaseError
from app.main import Application
from app.settings import Settings
from app.wiring import build
from tests.conftest import MakeSettings
from tests.fakes.archives import archive_name
from tests.fakes.s3 import FakeS3
from tests.fakes.s3faults import S3Fault, S3FaultProxy
from tests.installation import migrate, without_a_pause
from tests.services.test_storemark import storage_through
from tests.web.conftest import Put
from tests.web.test_waiting import ask

pytestmark = pytest.mark.both_shapes
NAME = archive_name("go1.99.1")
OTHER = archive_name("go1.99.2")


class Away:
    """An S3 that can be taken away and given back."""

    def __init__(self, proxy: S3FaultProxy) -> None:
        self.proxy = proxy
        self.is_away = False
        proxy.choose = lambda _method, _path: S3Fault.BUSY if self.is_away else None


@pytest.fixture
def away(s3: FakeS3) -> Iterator[Away]:
    with S3FaultProxy(s3.endpoint) as proxy:
        yield Away(proxy)


@pytest.fixture
def settings(make_settings: MakeSettings, s3: FakeS3, away: Away) -> Settings:
    made = make_settings(storage=storage_through(away.proxy, s3.place()))
    migrate(made)
    return made


@pytest.fixture
def files(put: Put) -> dict[str, bytes]:
    return dict(put(version) for version in ("go1.99.1", "go1.99.2"))


def application_of(settings: Settings) -> Application:
    return Application(build(settings, pause=without_a_pause), leads=False)


async def test_a_new_replica_waits_for_s3_and_then_serves(
    settings: Settings, away: Away, files: dict[str, bytes]
) -> None:
    away.is_away = True
    application = application_of(settings)
    await application.start()
    try:
        waiting = await ask(application, "/readyz")
        assert waiting.status_code == 503
        assert "was not used with this store before" in waiting.json()["checks"]["storage"]
        assert (await ask(application, "/healthz")).status_code == 200
        refused = await ask(application, f"/dl/{NAME}")
        assert (refused.status_code, "waits for the storage" in refused.text) == (503, True)
        away.is_away = False
        while application.health.waiting is not None:
            await asyncio.sleep(0.01)
        assert (await ask(application, "/readyz")).status_code == 200
        assert (await ask(application, f"/dl/{NAME}")).content == files[NAME]
    finally:
        await application.stop()


async def test_a_replica_that_comes_back_serves_its_cache_without_s3(
    settings: Settings, away: Away, files: dict[str, bytes]
) -> None:
    first = application_of(settings)
    await first.start()
    for name, data in files.items():
        assert (await ask(first, f"/dl/{name}")).content == data
    await first.stop()
    # Only one of the two stays in the cache.
    cache = settings.data_dir / "cache" / "blobs"
    for path in cache.glob("*/*"):
        if path.read_bytes() == files[OTHER]:
            path.unlink()
    away.is_away = True
    again = application_of(settings)
    await again.start()
    try:
        ready = await ask(again, "/readyz")
        assert (ready.status_code, "S3" in ready.json()["notes"]["storage"]) == (200, True)
        assert (await ask(again, f"/dl/{NAME}")).content == files[NAME]
        assert (await ask(again, f"/dl/{OTHER}")).status_code == 503
        away.is_away = False
        await again.services.shared.prove_store()
        got = await ask(again, f"/dl/{OTHER}")
        assert (got.status_code, got.content) == (200, files[OTHER])
        shutil.rmtree(cache)
        assert (await ask(again, f"/dl/{NAME}")).content == files[NAME]
    finally:
        await again.stop()


async def test_a_replica_is_not_ready_with_a_store_that_is_another_database_s(
    settings: Settings, away: Away
) -> None:
    first = application_of(settings)
    await first.start()
    await first.stop()
    away.is_away = True
    again = application_of(settings)
    await again.start()
    try:
        mark = again.services.shared.mark
        assert mark is not None
        away.is_away = False
        mark.claim("f" * 32)  # somebody else has it now
        with pytest.raises(UnfitDatabaseError):
            await again.services.shared.prove_store()
        refused = await ask(again, "/readyz")
        assert refused.status_code == 503
        assert "belongs to another database" in refused.json()["checks"]["storage"]
    finally:
        await again.stop()
