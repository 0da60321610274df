"""A mirror with three verified releases and one that nobody has fetched, under its own clock."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from app.core.channel import Channel, Choice, Manifest, parse_manifest
from app.core.note import open_note
from app.core.notekey import parse_vkey
from app.core.principal import OPERATOR
from app.services.assembly import Services
from app.services.clock import utc_now
from app.services.fleet.offered import OfferedChannel
from tests.conftest import MakeSettings, PutRelease
from tests.fakes.archives import archive_name
from tests.fakes.godev import FakeGodev
from tests.installation import running
from tests.services.bench import WallClock

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


@pytest.fixture
async def fleet(
    make_settings: MakeSettings, put_release: PutRelease, fake: FakeGodev
) -> AsyncIterator[Fleet]:
    for version in (*VERIFIED, UNFETCHED):
        put_release(version)
    clock = WallClock(utc_now())
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(running(make_settings(), now=clock))
        await services.releases.reader.refresh()
        for version in VERIFIED:
            await services.releases.ingestion.ensure(archive_name(version), forced=True)
        yield Fleet(services, clock, fake)
