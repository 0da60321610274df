"""The policy generation: a change made in one process is seen by the others."""

import asyncio

from app.services.assembly import Services
from app.services.generation import GenerationWatch
from tests.conftest import MakeServices, MakeSettings, PutRelease
from tests.services.bench import NAME


async def two(start: MakeServices, make_settings: MakeSettings) -> tuple[Services, Services]:
    settings = make_settings()
    return await start(settings), await start(settings)


async def test_a_change_in_one_process_is_seen_by_another_after_its_poll(
    start_services: MakeServices, make_settings: MakeSettings, put_release: PutRelease
) -> None:
    put_release()
    first, second = await two(start_services, make_settings)
    before = second.releases.catalog.changed_at
    assert NAME not in (await second.releases.catalog.current()).records
    await first.releases.reader.refresh()
    # Until it polls, the other serves what it has prepared.
    assert NAME not in (await second.releases.catalog.current()).records
    await second.shared.watch.poll()
    assert second.releases.catalog.changed_at > before
    assert (await second.releases.catalog.current()).records[NAME].state == "known"

    await first.releases.ingestion.ensure(NAME)
    assert (await second.releases.catalog.current(fresh=True)).records[NAME].state == "verified"


class CountedWatch(GenerationWatch):
    """A watch whose polls a test counts and holds."""

    def __init__(self, services: Services) -> None:
        super().__init__(services.shared.db)
        self.polls = 0
        self.may_end = asyncio.Event()

    async def poll(self) -> int:
        self.polls += 1
        await self.may_end.wait()
        return await super().poll()


async def test_however_many_look_at_once_one_poll_runs_and_one_waits(services: Services) -> None:
    watch = CountedWatch(services)
    looks = [asyncio.ensure_future(watch.poll_shared())]
    while not watch.polls:
        await asyncio.sleep(0)
    # These come after the first poll began, which perhaps misses the change that they ask about.
    looks += [asyncio.ensure_future(watch.poll_shared()) for _ in range(50)]
    await asyncio.sleep(0)
    looks[7].cancel()
    watch.may_end.set()
    ends = await asyncio.gather(*looks, return_exceptions=True)
    assert watch.polls == 2
    assert [isinstance(end, int) for end in ends] == [number != 7 for number in range(51)]


async def test_every_change_of_what_is_offered_or_allowed_moves_the_generation(
    services: Services, put_release: PutRelease
) -> None:
    put_release()
    seen = [await services.shared.watch.poll()]

    async def moved() -> bool:
        seen.append(await services.shared.watch.poll())
        return seen[-1] > seen[-2]

    await services.releases.reader.refresh()
    assert await moved(), "index"
    record = await services.releases.ingestion.ensure(NAME)
    assert await moved(), "ingestion"
    token, _ = await services.tenants.tokens.create("name")
    await moved()  # a new token takes nothing from anybody
    await services.tenants.tokens.revoke(token.id)
    assert await moved(), "revoked token"
    assert record.file.sha256 is not None
    await services.upkeep.repair.damaged(record.file.sha256, "test", fetch=False)
    assert await moved(), "damage"
    await services.releases.ingestion.ensure(NAME)
    assert await moved(), "repair"
    await services.releases.ingestion.ensure(NAME)
    assert not await moved(), "nothing changed"


async def test_a_poll_that_ends_late_does_not_go_back(services: Services) -> None:
    watch = GenerationWatch(services.shared.db)
    watch.value = 1_000_000
    assert await watch.poll() == 1_000_000


async def test_the_catalogue_is_loaded_once_per_generation(
    services: Services, put_release: PutRelease
) -> None:
    put_release()
    await services.releases.reader.refresh()
    await services.shared.watch.poll()
    loaded = await asyncio.gather(*(services.releases.catalog.current() for _ in range(20)))
    assert len({id(one) for one in loaded}) == 1
    assert await services.releases.catalog.current(fresh=True) is loaded[0]
