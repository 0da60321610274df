"""What the public log is asked about in the background, and what it is never told."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.principal import OPERATOR
from app.core.routing import LogPolicy
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.fakes.sumdb import FakeSumdb
from tests.nouns import an_owner
from tests.services.modules.bench import MOD, ZIP, Bench, process

NAME, V = "example.com/x", "v1.0.0"
X = module(NAME, V)


@pytest.fixture
async def late(tmp_path: Path, fake: FakeGoproxy) -> AsyncIterator[tuple[Bench, FakeSumdb]]:
    """A module that came in while the log was down, and the log, up again."""
    fake.put(X)
    with FakeSumdb() as log:
        log.add_module(X)
        upstreams = [{"name": log.name, "vkey": log.vkey, "url": log.url}]
        log.stop()
        async with process(tmp_path, sumdb={"upstreams": upstreams}) as bench:
            await bench.tenant("acme", fake)
            for kind in (MOD, ZIP):
                await bench.ask(kind, NAME, V)
            log.start()
            log.forget()
            yield bench, log


async def states(bench: Bench) -> set[str]:
    return {row.log_state.value for row in await bench.rows() if row.log_state.value}


async def test_what_came_in_while_the_log_was_down_is_verified_later(
    late: tuple[Bench, FakeSumdb],
) -> None:
    bench, _ = late
    assert await states(bench) == {"unverified"}
    assert await bench.services.modules.log_pass.step() == 2
    assert await states(bench) == {"verified"}


async def owned(bench: Bench, fake: FakeGoproxy) -> None:
    await bench.tenant("globex")
    await bench.services.tenants.ownership.put(an_owner("example.com", "globex"), OPERATOR)


async def routed(bench: Bench, fake: FakeGoproxy) -> None:
    await bench.tenant("globex")
    await bench.route("globex", NAME, fake, private=True)


async def asks_no_log(bench: Bench, _: FakeGoproxy) -> None:
    await bench.change_route("acme", log=LogPolicy.OFF)


async def leads_elsewhere(bench: Bench, _: FakeGoproxy) -> None:
    [route] = await bench.services.tenants.routes.page("acme", OPERATOR)
    await bench.services.tenants.routes.remove("acme", route.id, OPERATOR)


@pytest.mark.parametrize("change", [owned, routed, asks_no_log, leads_elsewhere])
async def test_F51_a_name_that_is_no_more_asked_for_in_public_is_not_told_to_the_log(
    late: tuple[Bench, FakeSumdb], fake: FakeGoproxy, change: object
) -> None:
    bench, log = late
    assert callable(change)
    await change(bench, fake)
    assert await bench.services.modules.log_pass.step() == 0
    assert log.lookups == 0
