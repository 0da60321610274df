"""What many tests share: a fake go.dev, a signing key, settings that point there, the services."""

import gc
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from app.db.engine import Database, sqlite_url
from app.services.assembly import Services
from app.settings import Settings
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer, gpg_is_here, throwaway_signer
from tests.installation import migrated_url, running

UPSTREAM = Path(__file__).parents[1].parent / "shared" / "upstream"

MEMORY = Path("/dev/shm")  # Linux: a file system in memory


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what was imported: it is walked again and again else."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory, else on disk: for sweeps whose many fsyncs are only counted."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="moorage-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def signer() -> Iterator[Signer]:
    if not gpg_is_here():
        pytest.skip("gpg is not installed")
    with throwaway_signer() as made:
        yield made


@pytest.fixture
def fake() -> Iterator[FakeGodev]:
    with FakeGodev() as server:
        yield server


@pytest.fixture(scope="session")
def real_upstream() -> Path:
    if not UPSTREAM.is_dir():
        pytest.skip("the real Go archives are not beside the repository")
    return UPSTREAM


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of an SQLite file that is not there yet."""
    return sqlite_url(tmp_path / "moorage.db")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Return the URL of a migrated SQLite file of this test's own."""
    return migrated_url(tmp_path / "moorage.db")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(tmp_path: Path, fake: FakeGodev, signer: Signer) -> MakeSettings:
    """Return a function that makes settings pointing at the fake; nested names as dicts."""
    keyring = tmp_path / "keyring.asc"
    keyring.write_bytes(signer.export)

    def make(**more: Any) -> Settings:
        releases = {
            "index_url": fake.index_url,
            "files_urls": [fake.files_url],
            "keyring": keyring,
            "pinned_fingerprints": [signer.primary],
            "retry_failed_s": 0,
            **more.pop("releases", {}),
        }
        values = {
            "data_dir": tmp_path / "data",
            "port": 0,
            "releases": releases,
            "network": {"allow": ["127.0.0.0/8"], "tenant_hosts": ["127.0.0.1", "localhost"]},
            "sumdb": {"upstreams": []},
        }
        return Settings.model_validate(values | more)

    return make


MakeServices = Callable[..., Awaitable[Services]]


@pytest.fixture
async def start_services(make_settings: MakeSettings) -> AsyncIterator[MakeServices]:
    """Return an async function that migrates and starts services; all are closed at the end."""

    async with AsyncExitStack() as stack:

        async def start(settings: Settings | None = None, **more: Any) -> Services:
            return await stack.enter_async_context(running(settings or make_settings(**more)))

        yield start


@pytest.fixture
async def services(start_services: MakeServices) -> Services:
    """Started services with default settings, pointing at the fake."""
    started: Services = await start_services()
    return started


PutRelease = Callable[..., bytes]


@pytest.fixture
def put_release(fake: FakeGodev, signer: Signer) -> PutRelease:
    """Return a function that publishes a signed linux-amd64 archive and returns its bytes."""

    def put(version: str = "go1.99.1", *, signed: bool = True, **archive: Any) -> bytes:
        data = go_archive(version, "linux", "amd64", **archive)
        signature = signer.sign(data) if signed else None
        fake.put_file(archive_name(version, "linux", "amd64"), data, signature=signature)
        return data

    return put
