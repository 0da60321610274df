"""What is offered, and when a request makes the index be read."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from app.core import errors
from app.core.gorelease import Support
from app.core.releasefile import FileState
from app.services.assembly import Services
from app.services.releases.freshness import Freshness
from tests.conftest import MakeServices, MakeSettings, PutRelease
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev
from tests.installation import running
from tests.services.bench import INDEX_PATH, NAME, PATH, Stopwatch, WallClock, count_of
from tests.services.conftest import Rewire


async def names_offered(services: Services) -> list[str]:
    return [r.file.filename for r in (await services.releases.catalog.current(fresh=True)).offered]


async def test_releases_come_newest_first(services: Services, put_release: PutRelease) -> None:
    for version in ("go1.9.7", "go1.100.1", "go1.99rc1", "go1.99.1", "go1.98.12", "go1.98.2"):
        put_release(version)
    await services.releases.reader.refresh()
    catalog = await services.releases.catalog.current(fresh=True)
    assert [release.version for release in catalog.releases] == [
        "go1.100.1", "go1.99.1", "go1.99rc1", "go1.98.12", "go1.98.2", "go1.9.7",
    ]  # fmt: skip
    assert catalog.minors == ("1.100", "1.99")
    assert catalog.support("go1.99.1") is Support.SUPPORTED
    assert catalog.support("go1.98.12") is Support.END_OF_LIFE


async def test_what_could_never_be_fetched_is_not_offered(
    start_services: MakeServices, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    fake.put_file(archive_name("go1.99.1", "windows"), go_archive(goos="windows"))
    fake.put_file(archive_name("go1.98.1"), b"x", sha256="", size=0)
    services = await start_services(releases={"sha256_only": []})
    await services.releases.reader.refresh()
    assert await names_offered(services) == [NAME]
    assert len((await services.releases.catalog.current()).records) == 3


async def test_without_on_demand_only_what_is_served_is_offered(
    start_services: MakeServices, put_release: PutRelease
) -> None:
    put_release()
    put_release("go1.98.1")
    services = await start_services(releases={"select": {"on_demand": False}})
    await services.releases.reader.refresh()
    assert await names_offered(services) == []
    await services.releases.ingestion.ensure(NAME, forced=True)
    assert await names_offered(services) == [NAME]


@pytest.mark.parametrize("held", ["pending", "quarantined"])
async def test_what_is_held_back_is_not_offered(
    held: str, quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release(signed=held != "pending")
    await quick.releases.reader.refresh()
    assert await names_offered(quick) == [NAME]
    if held == "quarantined":
        fake.fault(PATH, Fault.flip_byte(at=0), times=None)
    with pytest.raises(errors.MoorageError):
        await quick.releases.ingestion.ensure(NAME)
    assert await names_offered(quick) == []
    catalog = await quick.releases.catalog.current()
    assert not any(map(catalog.offers, catalog.by_sha256.values()))


async def test_an_offered_file_is_found_by_its_sha256(
    services: Services, put_release: PutRelease
) -> None:
    put_release()
    await services.releases.reader.refresh()
    catalog = await services.releases.catalog.current(fresh=True)
    [(digest, record)] = catalog.by_sha256.items()
    assert record.file.filename == NAME
    assert record.file.sha256 is not None
    assert record.file.sha256.hex == digest


async def test_a_file_shows_as_fetching_while_somebody_holds_its_lease(
    services: Services, put_release: PutRelease
) -> None:
    put_release()
    await services.releases.reader.refresh()
    async with services.shared.leases.hold(f"ingest:{NAME}"):
        entry = await services.releases.catalog.file(NAME)
        assert entry is not None
        assert entry[0].state is FileState.FETCHING
    entry = await services.releases.catalog.file(NAME)
    assert entry is not None
    assert entry[0].state is FileState.KNOWN
    assert await services.releases.catalog.file("go1.1.1.src.tar.gz") is None


async def test_loading_counts_the_files_of_each_state(
    services: Services, put_release: PutRelease
) -> None:
    put_release()
    await services.releases.reader.refresh()
    await services.releases.ingestion.ensure(NAME)
    await services.releases.catalog.current(fresh=True)
    assert count_of("moorage_releases_files", state="verified") == 1


# Freshness: a request reads the index only where "not found" would be a guess.


@dataclass
class Bench:
    services: Services
    freshness: Freshness
    clock: WallClock
    stopwatch: Stopwatch


@pytest.fixture
async def bench(make_settings: MakeSettings, rewire: Rewire) -> AsyncIterator[Bench]:
    clock, stopwatch = WallClock(), Stopwatch()
    async with running(make_settings(), clock) as services:
        quick = rewire(services)
        freshness = Freshness(
            quick.releases.reader,
            quick.releases.catalog,
            clock,
            stopwatch,
            refresh_s=600,
            retry_failed_s=30,
        )
        yield Bench(quick, freshness, clock, stopwatch)


async def test_the_first_request_reads_the_index_and_later_ones_do_not(
    bench: Bench, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    for _ in range(3):
        await bench.freshness.first_index(await bench.services.releases.catalog.current())
    assert NAME in (await bench.services.releases.catalog.current()).records
    assert fake.hits[INDEX_PATH] == 1


async def test_an_index_that_is_young_enough_is_not_read_again(
    bench: Bench, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    assert await bench.freshness.look_again()  # never read
    for seconds, read in ((600 * 1.5 + 4, False), (1, True), (1, False)):
        bench.clock.advance(seconds=seconds)
        assert await bench.freshness.look_again() is read
    assert fake.hits[INDEX_PATH] == 2


async def test_a_failure_is_the_answer_and_is_remembered_for_a_while(
    bench: Bench, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    fake.fault(INDEX_PATH, Fault.status(404), times=None)
    for bench.stopwatch.seconds in (1000.0, 1029.9):
        with pytest.raises(errors.UpstreamAbsentError):
            await bench.freshness.first_index(await bench.services.releases.catalog.current())
    assert fake.hits[INDEX_PATH] == 1
    fake.clear_faults()
    bench.stopwatch.seconds = 1030.0
    await bench.freshness.first_index(await bench.services.releases.catalog.current())
    assert NAME in (await bench.services.releases.catalog.current()).records


async def test_an_old_index_that_cannot_be_read_anew_is_an_error_and_no_absence(
    bench: Bench, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    await bench.freshness.look_again()
    bench.clock.advance(hours=2)
    fake.fault(INDEX_PATH, Fault.status(500), times=None)
    with pytest.raises(errors.UpstreamUnavailableError):
        await bench.freshness.look_again()
    assert NAME in (await bench.services.releases.catalog.current()).records


async def test_an_index_read_by_a_clock_that_was_ahead_is_read_again(
    bench: Bench, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    bench.clock.advance(days=1)
    assert await bench.freshness.look_again()
    bench.clock.advance(days=-1)
    assert await bench.freshness.look_again()
    assert not await bench.freshness.look_again()
    assert fake.hits[INDEX_PATH] == 2
