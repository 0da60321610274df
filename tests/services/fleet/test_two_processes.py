"""A rollout whose nodes ask two processes at once: the plan's counts hold over both."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.principal import OPERATOR
from app.services.clock import utc_now
from tests.installation import running
from tests.services.bench import WallClock
from tests.services.fleet.conftest import VERIFIED, Fleet
from tests.services.fleet.herd import enrol, settle
from tests.services.fleet.test_rollouts import start
from tests.shapes import DEFAULT_SHAPE, Shape
from tests.verified import VerifiedMirror

pytestmark = pytest.mark.both_shapes


@pytest.fixture
async def fleets(
    shape: Shape, mirror: VerifiedMirror, tmp_path: Path
) -> AsyncIterator[tuple[Fleet, Fleet]]:
    # The mirror of all tests is in the default shape, and a copy of it as well.
    is_copied = shape is DEFAULT_SHAPE
    settings = mirror.copied(tmp_path) if is_copied else mirror.settings(tmp_path / "data")
    clock = WallClock(utc_now())
    async with running(settings, now=clock) as one, running(settings, now=clock) as other:
        if not is_copied:
            await one.releases.sync.sync(VERIFIED[:2])
        yield Fleet(one, clock, mirror.fake), Fleet(other, clock, mirror.fake)


async def test_two_processes_together_never_exceed_the_grants_of_a_step(
    fleets: tuple[Fleet, Fleet],
) -> None:
    here, elsewhere = fleets
    await here.channel("stable", VERIFIED[1])
    machines = await enrol(here.services, [f"web-{n}" for n in range(12)])
    machines[1::2] = [replace(m, services=elsewhere.services) for m in machines[1::2]]
    for machine in machines:
        machine.current, machine.seen = VERIFIED[1], 1
        await settle(machine.services)
        await machine.check()
    await settle_both(fleets)
    await start(here, "1/0, 25%/0, 100%/0")
    granted = []
    for _ in range(6):
        await settle_both(fleets)
        for machine in machines:
            machine.grants.clear()
        answers = await asyncio.gather(*(machine.check() for machine in machines))
        granted.append(len({grant for machine in machines for grant in machine.grants}))
        for machine, answer in zip(machines, answers, strict=True):
            if machine.grants:
                await machine.obey(answer)
    # One canary, then as many as a quarter of twelve together with it, then the rest.
    assert [count for count in granted if count] == [1, 2, 9]
    await settle_both(fleets)
    status = await here.services.fleet.rollouts.show("stable", OPERATOR)
    assert status.gate.succeeded == 12


async def settle_both(fleets: tuple[Fleet, Fleet]) -> None:
    for _ in range(2):
        for fleet in fleets:
            await settle(fleet.services)
