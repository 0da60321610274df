"""What the tests of HTTP share: a served mirror with files in every state, and fresh ones."""

import io
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app import logs
from app.core.errors import MoorageError
from app.settings import Settings
from tests.fakes.archives import archive_name, go_archive, source_name, src_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.installation import memory_folder
from tests.shapes import place_of
from tests.web.wire import Site, serving

VERIFIED = "go1.99.2.linux-amd64.tar.gz"
SOURCE = "go1.99.2.src.tar.gz"
SHA256_ONLY = "go1.99.2.windows-amd64.zip"
ON_DEMAND = "go1.99.2.darwin-arm64.tar.gz"
REFUSED_KIND = "go1.99.2.windows-amd64.msi"
PENDING = "go1.98.4.linux-amd64.tar.gz"
QUARANTINED = "go1.98.3.linux-amd64.tar.gz"
UNVERIFIABLE = "go1.5.linux-amd64.tar.gz"
PRERELEASE = "go1.100rc1.linux-amd64.tar.gz"
OLDER = ("go1.99.1.linux-amd64.tar.gz", "go1.98.5.linux-amd64.tar.gz", "go1.97.9.src.tar.gz")
OFFERED = (PRERELEASE, ON_DEMAND, VERIFIED, SOURCE, SHA256_ONLY, *OLDER)
STORED = (VERIFIED, SOURCE, SHA256_ONLY)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Mirror:
    """A served mirror that tests only read.

    Attributes:
        files: the right bytes of every file that upstream has, by name.
        signatures: what upstream publishes as NAME.asc.
    """

    site: Site
    fake: FakeGodev
    signer: Signer
    files: Mapping[str, bytes]
    signatures: Mapping[str, bytes]


def settings_for(fake: FakeGodev, signer: Signer, folder: Path, **more: Any) -> Settings:
    keyring = folder / "keyring.asc"
    keyring.write_bytes(signer.export)
    releases = {
        "index_url": fake.index_url,
        "files_urls": [fake.files_url],
        "keyring": keyring,
        "pinned_fingerprints": [signer.primary],
        "retry_failed_s": 0,
        **more.pop("releases", {}),
    }
    # The tests of a file share one site, and ask it faster than people do.
    rates = dict.fromkeys(("bad_tokens", "admin_token_rate", "admin_address_rate"), 1_000_000)
    values = {
        "limits": {**rates, **more.pop("limits", {})},
        "data_dir": folder / "data",
        "port": 0,
        "drain_s": 0,
        "shutdown_s": 1,
        "releases": releases,
        "network": {"allow": ["127.0.0.0/8"], "tenant_hosts": ["127.0.0.1", "localhost"]},
        "sumdb": {"upstreams": []},
        **place_of(folder),
    }
    return Settings.model_validate(values | more)


def publish(fake: FakeGodev, signer: Signer) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Fill the fake with a file for every state; return bytes and signatures by name."""
    files = {
        VERIFIED: go_archive("go1.99.2", extra_bytes=300_000),
        SOURCE: src_archive("go1.99.2"),
        SHA256_ONLY: go_archive("go1.99.2", "windows"),
        ON_DEMAND: go_archive("go1.99.2", "darwin", "arm64"),
        REFUSED_KIND: b"an installer\n",
        PENDING: go_archive("go1.98.4"),
        QUARANTINED: go_archive("go1.98.3"),
        UNVERIFIABLE: go_archive("go1.5"),
        PRERELEASE: go_archive("go1.100rc1"),
    }
    for name in OLDER:
        version = name.split(".linux")[0].split(".src")[0]
        files[name] = src_archive(version) if ".src." in name else go_archive(version)
    unsigned = {SHA256_ONLY, REFUSED_KIND, PENDING}
    signatures = {n: signer.sign(data) for n, data in files.items() if n not in unsigned}
    for name, data in files.items():
        lies: dict[str, Any] = {}
        if name == QUARANTINED:
            lies = {"sha256": "ab" * 32}
        if name == UNVERIFIABLE:
            lies = {"sha256": "", "size": 0}
        fake.put_file(name, data, signature=signatures.get(name), **lies)
    return files, signatures


@pytest.fixture(scope="session")
async def mirror(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mirror]:
    folder = tmp_path_factory.mktemp("mirror")
    with FakeGodev() as fake:
        files, signatures = publish(fake, signer)
        settings = settings_for(
            fake,
            signer,
            folder,
            releases={
                "sha256_only": ["zip", "pkg"],
                "retry_failed_s": 3600,
                "select": {"minors": 0},  # whoever asks for a sync changes nothing
            },
        )
        async with serving(settings) as site:
            await site.services.releases.reader.refresh()
            for name in (*STORED, PENDING, QUARANTINED):
                with suppress(MoorageError):
                    await site.services.releases.ingestion.ensure(name, forced=True)
            await site.services.releases.catalog.current(fresh=True)
            yield Mirror(site, fake, signer, files, signatures)


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    """Return a folder in memory for what the tests of one module share."""
    with memory_folder() as folder:
        yield folder


StartSite = Callable[..., Awaitable[Site]]


@pytest.fixture
async def start_site(fake: FakeGodev, signer: Signer, tmp_path: Path) -> AsyncIterator[StartSite]:
    """Return an async function that serves a fresh, empty mirror of the fake; see `serving`."""
    async with AsyncExitStack() as stack:

        async def start(
            settings: Settings | None = None,
            *,
            leads: bool = False,
            sweeps: bool = False,
            **more: Any,
        ) -> Site:
            settings = settings or settings_for(fake, signer, tmp_path, **more)
            return await stack.enter_async_context(serving(settings, leads=leads, sweeps=sweeps))

        yield start


@pytest.fixture
async def site(start_site: StartSite) -> Site:
    return await start_site()


Put = Callable[..., tuple[str, bytes]]


@pytest.fixture
def put(fake: FakeGodev, signer: Signer) -> Put:
    """Return a function that publishes a file and returns its name and bytes."""

    def publish_one(
        version: str = "go1.99.1", *, signed: bool = True, source: bool = False, **archive: Any
    ) -> tuple[str, bytes]:
        name = source_name(version) if source else archive_name(version)
        data = src_archive(version, **archive) if source else go_archive(version, **archive)
        fake.put_file(name, data, signature=signer.sign(data) if signed else None)
        return name, data

    return publish_one


class Log(io.StringIO):
    """What was logged, a JSON object on each line."""

    @property
    def text(self) -> str:
        return self.getvalue()

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["event"] == name]


@pytest.fixture
def log() -> Log:
    """Logging as the program sets it up, into memory."""
    stream = Log()
    logs.configure("info", "json", stream)
    return stream


@pytest.fixture(scope="session")
def sha256sum() -> str:
    return program("sha256sum")


def program(name: str) -> str:
    """Return the path of a program; the test is skipped without it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path
