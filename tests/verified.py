"""A mirror whose releases are verified already: ingested once, and copied for each test."""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.settings import Settings
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.installation import running
from tests.shapes import copied_place, place_of


@dataclass(frozen=True)
class VerifiedMirror:
    """A data folder to copy, and the upstream that it came from.

    Attributes:
        fake: the upstream; it has each release for linux-amd64, signed.
        releases: what settings say about releases.
    """

    fake: FakeGodev
    folder: Path
    releases: dict[str, Any]

    def copied(self, folder: Path, **more: Any) -> Settings:
        """Return settings of a copy in a folder of a test's own."""
        shutil.copytree(self.folder, folder / "data")
        copied_place(self.folder, folder / "data")
        return self.settings(folder / "data", **more)

    def settings(self, data_dir: Path, **more: Any) -> Settings:
        """Return settings for a data folder."""
        values = {
            "data_dir": data_dir,
            "port": 0,
            "drain_s": 0,
            "shutdown_s": 1,
            "releases": self.releases,
            "network": {"allow": ["127.0.0.0/8"]},
            "sumdb": {"upstreams": []},
            **place_of(data_dir),
        }
        return Settings.model_validate(values | more)


@contextmanager
def verified_mirror(
    folder: Path, signer: Signer, verified: Sequence[str], unfetched: Sequence[str] = ()
) -> Iterator[VerifiedMirror]:
    """Return a context with a mirror that has ingested some releases and knows others."""
    keyring = folder / "keyring.asc"
    keyring.write_bytes(signer.export)
    with FakeGodev() as fake:
        for version in (*verified, *unfetched):
            data = go_archive(version)
            fake.put_file(archive_name(version), data, signature=signer.sign(data))
        releases = {
            "index_url": fake.index_url,
            "files_urls": [fake.files_url],
            "keyring": keyring,
            "pinned_fingerprints": [signer.primary],
            "retry_failed_s": 0,
        }
        mirror = VerifiedMirror(fake, folder / "original", releases)
        asyncio.run(_ingest(mirror.settings(mirror.folder), verified))
        yield mirror


async def _ingest(settings: Settings, versions: Sequence[str]) -> None:
    async with running(settings) as services:
        result = await services.releases.sync.sync(versions)
        assert result.failed == ()
