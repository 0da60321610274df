"""F96: what was prepared by a wrong wall clock ends when the clock is set right."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app import RELEASED
from app.core.effect import Effect
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.services.bench import Stopwatch, WallClock
from tests.web.conftest import Log
from tests.web.harbour import add_rule, add_tenant, proxy_settings
from tests.web.test_health import json_of
from tests.web.wire import Site, serving

NAME = "example.com/x"
X = module(NAME, "v1.0.0")
URL = f"/goproxy/acme/{NAME}/@v/v1.0.0.mod"


@dataclass(frozen=True)
class Clocks:
    """A site whose clocks stand still, but for what a test does to them."""

    site: Site
    wall: WallClock

    def set_wall(self, **by: float) -> None:
        """Set the wall clock, and let the process look at it, as it does every second."""
        self.wall.advance(**by)
        self.site.services.shared.clock.look()


@pytest.fixture
async def clocks(tmp_path: Path) -> AsyncIterator[Clocks]:
    wall = WallClock(datetime(2026, 11, 23, 12, tzinfo=UTC))
    with FakeGoproxy([X]) as fake:
        settings = proxy_settings(tmp_path)
        async with serving(settings, now=wall, monotonic=Stopwatch()) as site:
            await add_tenant(site.services, "acme", fake)
            yield Clocks(site, wall)


async def test_F96_a_denial_that_expired_by_a_wrong_clock_is_back_with_the_clock(
    clocks: Clocks,
) -> None:
    until = clocks.wall() + timedelta(hours=1)
    await add_rule(clocks.site.services, "acme", Effect.DENY, NAME, expires_at=until)
    assert (await clocks.site.ask(URL)).status == 403
    clocks.set_wall(days=1)
    for _ in range(3):
        assert (await clocks.site.ask(URL)).status == 200
    clocks.set_wall(days=-1)
    assert (await clocks.site.ask(URL)).status == 403


async def test_F96_a_list_that_was_prepared_while_the_clock_was_ahead_is_made_anew(
    clocks: Clocks,
) -> None:
    clocks.set_wall(days=1)
    path = f"/goproxy/acme/{NAME}/@v/list"
    assert (await clocks.site.ask(path)).body == b"v1.0.0\n"
    assert len(clocks.site.application.surfaces.goproxy._hot._answers) == 1
    clocks.set_wall(days=-1)
    assert len(clocks.site.application.surfaces.goproxy._hot._answers) == 0


async def test_F96_a_clock_before_the_release_is_said_aloud(tmp_path: Path, log: Log) -> None:
    wall = WallClock(RELEASED - timedelta(days=400))
    async with serving(proxy_settings(tmp_path), now=wall) as site:
        ready = await site.ask("/readyz")
        assert ready.status == 200
        assert "set the clock" in json_of(ready)["notes"]["clock"]
        assert b'moorage_notes{about="clock"} 1.0' in (await site.ask("/metrics")).body
        wall.advance(days=400)
        assert json_of(await site.ask("/readyz"))["notes"] == {}
        assert b'moorage_notes{about="clock"} 0.0' in (await site.ask("/metrics")).body
    [line] = log.events("an operator has to act")
    assert line["about"] == "clock"
