"""The background work: one process leads, and what it does then.

Two servers on one data directory are in e2e/test_two_servers.py.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import anyio

from app import worker
from app.core.job import Job, JobState
from app.db.blobs import Blobs
from app.db.jobs import Jobs
from app.db.leases import LeaseTable
from app.services.assembly import Services
from app.services.clock import Pause, utc_now
from app.services.jobs import SYNC
from app.services.leases import TTL
from app.worker import Worker
from tests.fakes.archives import archive_name
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev

NAME = archive_name("go1.99.1")


class Pauses:
    """The pauses of the loops: each lasts until the test ends it.

    Attributes:
        waiting: the length in seconds of every pause that lasts, and what ends it.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[float, asyncio.Event]] = []

    async def __call__(self, seconds: float) -> None:
        pause = (seconds, asyncio.Event())
        self.waiting.append(pause)
        try:
            await pause[1].wait()
        finally:
            if pause in self.waiting:  # its loop was cancelled
                self.waiting.remove(pause)

    def count(self, seconds: float) -> int:
        return sum(length == seconds for length, _ in self.waiting)

    def end(self, seconds: float) -> None:
        """End the pauses of that length; from now on their loops count as working."""
        ended = [pause for pause in self.waiting if pause[0] == seconds]
        self.waiting = [pause for pause in self.waiting if pause[0] != seconds]
        for _, over in ended:
            over.set()

    def all_wait(self, others: int) -> bool:
        """Whether each loop but those of other sites pauses, and the one that keeps the lead."""
        return len(self.waiting) == len(loops()) - others + 1


@contextlib.asynccontextmanager
async def working(
    services: Services, pause: Pause = asyncio.sleep
) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.ensure_future(Worker(services, lambda: None, pause=pause).run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def seen(claim: Callable[[], object], timeout_s: float = 120) -> None:
    """Return once claim holds; an awaitable that claim gives is awaited."""
    with anyio.fail_after(timeout_s):
        while True:
            result = claim()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return
            await anyio.sleep(0.02)


def loops() -> list["asyncio.Task[None]"]:
    """Return the loops that run now."""
    tasks = asyncio.all_tasks()
    return [t for t in tasks if getattr(t.get_coro(), "__qualname__", "") == "Worker._every"]


async def loops_of_a_follower(services: Services) -> int:
    """Return the number of loops while a process that does not lead works beside all others."""
    others = len(loops())  # a site of other tests may still be open
    task = asyncio.ensure_future(Worker(services, lambda: None, leads=False).run())
    await seen(lambda: len(loops()) > others)
    count = len(loops())
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return count


async def state_of(services: Services, name: str = NAME) -> str | None:
    record = (await services.releases.catalog.current(fresh=True)).records.get(name)
    return record.state.value if record else None


async def holder(services: Services) -> str | None:
    live = await services.shared.db.read(lambda s: LeaseTable(s).live("leader", utc_now(), TTL))
    return live.get("leader")


async def test_the_leader_reads_the_index_at_once(services, fake: FakeGodev, put_release) -> None:
    put_release()
    async with working(services):
        await seen(lambda: fake.hits["/dl/"] == 1)
        await seen(lambda: state_of(services))
    assert await state_of(services) == "known"


async def test_it_lets_go_of_the_lead_when_it_is_cancelled(services) -> None:
    async with working(services):
        await seen(lambda: holder(services))
    assert await holder(services) is None
    assert await services.shared.leases.try_acquire("leader") is not None


async def test_nobody_leads_beside_a_living_leader(services, fake: FakeGodev) -> None:
    of_a_follower, pauses = await loops_of_a_follower(services), Pauses()
    async with services.shared.leases.hold("leader"), working(services, pauses):
        await seen(lambda: pauses.count(worker._TRY_S))  # it has tried to lead
        assert len(loops()) == of_a_follower
        assert fake.hits["/dl/"] == 0
    async with working(services):
        await seen(lambda: fake.hits["/dl/"] == 1)


async def test_F93_whoever_lost_the_lease_stops_working(
    start_services, fake: FakeGodev, put_release
) -> None:
    put_release()
    services = await start_services(releases={"refresh_s": 77})
    of_a_follower, pauses = await loops_of_a_follower(services), Pauses()
    async with working(services, pauses):
        await seen(lambda: pauses.count(77))  # it has read the index
        assert len(loops()) > of_a_follower
        # Another process takes over, as after a long pause of this one.
        last = await services.shared.db.read(lambda s: LeaseTable(s).holder("leader"))
        assert last is not None
        await services.shared.db.write(
            lambda s: LeaseTable(s).acquire(
                "leader", "host/1/1", utc_now(), TTL, dead_owner=last.owner
            )
        )

        def stopped() -> bool:
            pauses.end(worker._TRY_S)  # it looks whether it still leads
            return len(loops()) == of_a_follower

        await seen(stopped)
        assert not pauses.count(77)  # nobody reads the index again
    live = await services.shared.db.read(lambda s: LeaseTable(s).live("leader", utc_now(), TTL))
    assert live == {"leader": "host/1/1"}


async def test_an_upstream_that_is_down_ends_no_loop(
    start_services, fake: FakeGodev, put_release
) -> None:
    put_release()
    fake.fault("/dl/", Fault.status(404), times=2)
    services, pauses = await start_services(releases={"refresh_s": 77}), Pauses()

    async def is_read() -> bool:
        pauses.end(worker._RETRY_S)  # of a loop that failed
        return await state_of(services) is not None

    async with working(services, pauses) as task:
        await seen(is_read)
        assert not task.done()
    assert fake.hits["/dl/"] >= 3


async def test_a_signature_that_comes_later_releases_the_file_without_a_request(
    start_services, fake: FakeGodev, put_release, signer
) -> None:
    data = put_release(signed=False)
    services, pauses = await start_services(releases={"refresh_s": 77}), Pauses()
    await services.releases.reader.refresh()
    await services.releases.sync.sync()
    assert await state_of(services) == "pending-signature"

    async def is_verified() -> bool:
        pauses.end(77)
        return await is_state(services, "verified")

    async with working(services, pauses):
        fake.set_signature(NAME, signer.sign(data))
        await seen(is_verified)
    assert fake.hits[f"/go/{NAME}"] == 1


async def is_state(services: Services, state: str) -> bool:
    return await state_of(services) == state


async def test_a_background_sync_mirrors_the_selection(
    start_services, fake: FakeGodev, put_release
) -> None:
    put_release()
    services = await start_services(releases={"sync_s": 60})
    async with working(services):
        await seen(lambda: is_state(services, "verified"))
    assert fake.hits[f"/go/{NAME}"] == 1


async def test_without_sync_s_nothing_is_fetched_unasked(
    services, fake: FakeGodev, put_release
) -> None:
    put_release()
    others, pauses = len(loops()), Pauses()
    async with working(services, pauses):
        await seen(lambda: pauses.all_wait(others))
        pauses.end(worker._JOBS_S)  # what a loop may have asked for is done now
        await seen(lambda: pauses.all_wait(others))
        assert await state_of(services) == "known"
    assert f"/go/{NAME}" not in fake.hits


async def test_a_job_runs_once_and_tells_its_result(services, fake: FakeGodev, put_release) -> None:
    put_release()
    asked = await services.upkeep.jobs.ask_for(SYNC, "tester")
    again = await services.upkeep.jobs.ask_for(SYNC, "tester")
    assert again.id == asked.id  # it has not begun: one run serves both
    async with working(services):
        await seen(lambda: is_job(services, asked.id, JobState.DONE))
    done = await services.upkeep.jobs.get(asked.id)
    assert f'"fetched": ["{NAME}"]' in done.result
    assert fake.hits[f"/go/{NAME}"] == 1


async def is_job(services: Services, job_id: str, state: JobState) -> bool:
    return (await services.upkeep.jobs.get(job_id)).state is state


async def test_a_job_whose_leader_died_is_told_as_failed(services) -> None:
    abandoned = Job("a" * 16, SYNC, JobState.RUNNING, "tester", utc_now())
    await services.shared.db.write(lambda s: Jobs(s).save(abandoned))
    async with working(services):
        await seen(lambda: is_job(services, abandoned.id, JobState.FAILED))
    failed = await services.upkeep.jobs.get(abandoned.id)
    assert "the process that ran it ended" in failed.result
    assert failed.finished_at is not None


async def test_a_defect_in_a_job_fails_it_and_ends_no_loop(start_services, put_release) -> None:
    put_release()
    services = await start_services()

    async def broken(_actor: str) -> object:
        raise LookupError("a defect")

    services.upkeep.jobs._runners = {"broken": broken, **services.upkeep.jobs._runners}
    bad = await services.upkeep.jobs.ask_for("broken", "tester")
    good = await services.upkeep.jobs.ask_for(SYNC, "tester")
    async with working(services):
        await seen(lambda: is_job(services, good.id, JobState.DONE))
    assert (await services.upkeep.jobs.get(bad.id)).state is JobState.FAILED


async def test_F90_a_damaged_blob_is_found_by_the_scrub_and_fetched_again(
    start_services, fake: FakeGodev, put_release
) -> None:
    put_release()
    services = await start_services(storage={"scrub_days": 1})
    await services.releases.reader.refresh()
    digest = (await services.releases.ingestion.ensure(NAME)).file.sha256
    path = services.shared.settings.data_dir / "blobs" / digest.hex[:2] / digest.hex
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    long_ago = utc_now() - timedelta(days=2)
    await services.shared.db.write(lambda s: Blobs(s).mark_checked(digest, long_ago))
    async with working(services):
        await seen(lambda: fake.hits[f"/go/{NAME}"] == 2)
        await seen(lambda: path.exists() and path.read_bytes() == whole)
    evidence = services.shared.settings.data_dir / "quarantine"
    assert [kept.name for kept in evidence.iterdir()] == [f"{digest.hex}.0"]
