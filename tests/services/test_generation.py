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
