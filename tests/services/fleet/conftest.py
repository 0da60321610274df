"""A mirror with three verified releases and one that nobody has fetched, under its own clock."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.core.channel import Channel, Choice, Manifest, parse_manifest
from app.core.note import open_note
from app.core.notekey import parse_vkey
from app.core.principal import OPERATOR
from app.services.assembly import Services
from app.services.clock import utc_now
from app.services.fleet.offered import OfferedChannel
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.installation import running
from tests.services.bench import WallClock
from tests.verified import VerifiedMirror, verified_mirror

VERIFIED = ("go1.99.2", "go1.99.1", "go1.98.5")
UNFETCHED = "go1.98.6"


@dataclass(frozen=True)
class Fleet:
    """Services, their clock, and the upstream."""

    services: Services
    clock: WallClock
    fake: FakeGodev

    async def channel(self, name: str = "stable", *versions: str, **more: object) -> None:
        """Make a channel, and a revision of each version."""
        channels = self.services.fleet.channels
        await channels.create(Channel.model_validate({"name": name, **more}), OPERATOR)
        for version in versions:
            await channels.set(name, Choice(current=version), OPERATOR)

    async def offered(self, name: str = "stable") -> OfferedChannel:
        """Return what requests see of a channel after a poll."""
        channels = await self.services.fleet.offered.current(fresh=True)
        return channels.by_name[name]

    async def manifest(self, name: str = "stable") -> Manifest:
        """Return the manifest that everybody gets, after its signature was checked."""
        signed = (await self.offered(name)).current
        assert signed is not None
        key = await self.services.fleet.manifests.key()
        return parse_manifest(open_note(signed.manifest, [parse_vkey(key.vkey)]).text)


@pytest.fixture(scope="package")
def mirror(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifiedMirror]:
    folder = tmp_path_factory.mktemp("verified")
    with verified_mirror(folder, signer, VERIFIED, [UNFETCHED]) as made:
        yield made


@pytest.fixture
async def fleet(mirror: VerifiedMirror, tmp_path: Path) -> AsyncIterator[Fleet]:
    clock = WallClock(utc_now())
    async with running(mirror.copied(tmp_path), now=clock) as services:
        yield Fleet(services, clock, mirror.fake)
