"""What many tests share: a fake go.dev, a signing key, settings that point there, the services.

Databases are SQLite files, and PostgreSQL's as well where a test is marked `both_shapes`. The whole
suite runs on PostgreSQL with `MOORAGE_TEST_SHAPE=postgresql`.
"""

import gc
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog

from app.db.engine import Database
from app.db.sqlite import sqlite_url
from app.services.assembly import Services
from app.settings import Settings
from tests import compiled, imported, postgres
from tests.e2e.warm import Warm, warmed_up
from tests.fakes import rgw
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.s3 import FakeS3
from tests.fakes.signer import Signer, gpg_is_here, throwaway_signer
from tests.installation import memory_folder, migrated_url, running
from tests.shapes import DEFAULT_SHAPE, Shape, drop_databases, place_of, shaped

UPSTREAM = Path(__file__).parents[1].parent / "shared" / "upstream"


def pytest_configure() -> None:
    """Compile each statement and import each key once in this process; time no example.

    A busy machine takes longer than Hypothesis' 200 ms for an example.
    """
    compiled.share()
    imported.share()
    # As structlog comes, a logged exception shows all variables of all frames: a second of work.
    structlog.get_config()["processors"][-1].exception_formatter = structlog.dev.plain_traceback
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")


def pytest_sessionfinish() -> None:
    """Stop the PostgreSQL server of this process, if a test has used it."""
    if postgres.cluster.cache_info().currsize:
        postgres.cluster().remove()


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what was imported: it is walked again and again else."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture
def tmp_path(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Return a folder of this test's own, in memory unless the test is marked `on_disk`.

    Most tests would only wait for a disk. One in memory is gone at the end of its test.
    """
    if request.node.get_closest_marker("on_disk") is not None:
        yield tmp_path_factory.mktemp("test")
        return
    with memory_folder() as folder:
        yield folder


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
def s3() -> Iterator[FakeS3]:
    """Return an S3 store; each test takes a bucket of its own from it.

    `make test-s3` sets MOORAGE_TEST_S3 to "rgw": Ceph's gateway in the place of moto's server.
    """
    with ExitStack() as stack:
        if os.environ.get("MOORAGE_TEST_S3") != "rgw":
            yield stack.enter_context(FakeS3())
            return
        if (reason := rgw.reason_to_skip()) is not None:
            pytest.skip(reason)
        yield stack.enter_context(rgw.RadosGateway())


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Runs commands without an interpreter's start. All folders share it: it needs one itself."""
    with warmed_up() as ready:
        yield ready


@pytest.fixture(scope="session")
def real_upstream() -> Path:
    if not UPSTREAM.is_dir():
        pytest.skip("the real Go archives are not beside the repository")
    return UPSTREAM


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test in the shapes that its marks name."""
    if "shape" not in metafunc.fixturenames:
        return
    if metafunc.definition.get_closest_marker("both_shapes") is not None:
        metafunc.parametrize("shape", list(Shape), ids=str, indirect=True)
    elif metafunc.definition.get_closest_marker("only_postgresql") is not None:
        metafunc.parametrize("shape", [Shape.POSTGRESQL], ids=str, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Drop the databases of a test once all that it opened is closed."""
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    try:
        yield
    finally:
        if folder is not None:
            drop_databases(folder)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Take back how a command that ran in this process has set up logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    if structlog.is_configured():
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()


@pytest.fixture(autouse=True)
def shape(request: pytest.FixtureRequest) -> Iterator[Shape]:
    """Return which database this test uses; skip the test where it can't have it."""
    chosen: Shape = getattr(request, "param", DEFAULT_SHAPE)
    if chosen is Shape.POSTGRESQL:
        if request.node.get_closest_marker("only_sqlite") is not None:
            pytest.skip("the test is about SQLite")
        if (reason := postgres.reason_to_skip()) is not None:
            pytest.skip(reason)
    with shaped(chosen):
        yield chosen


@pytest.fixture
def url(shape: Shape, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database without tables: an SQLite file that is not there yet."""
    if shape is Shape.SQLITE:
        yield sqlite_url(tmp_path / "moorage.db")
        return
    with postgres.cluster().database() as made:
        yield made


@pytest.fixture
def database_url(shape: Shape, tmp_path: Path) -> str:
    """Return the URL of a migrated database of this test's own."""
    if shape is Shape.SQLITE:
        return migrated_url(tmp_path / "moorage.db")
    return str(place_of(tmp_path)["database_url"])


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
        values: dict[str, Any] = {
            "data_dir": tmp_path / "data",
            **place_of(tmp_path),
            "port": 0,
            "releases": releases,
            "network": {"allow": ["127.0.0.0/8"], "tenant_hosts": ["127.0.0.1", "localhost"]},
            "sumdb": {"upstreams": []},
            # The floor is a share of this machine's disk, which may be nearly full.
            "storage": {"min_free_percent": 0, **more.pop("storage", {})},
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
