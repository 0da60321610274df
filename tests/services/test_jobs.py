"""Jobs: queued once, run in order, their failures recorded, the abandoned ones failed."""

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from app.core import errors
from app.core.job import Job, JobProgress, JobState, Watch
from app.db.audit import AuditLog
from app.db.engine import Database
from app.services.assembly import Services
from app.services.jobs import SYNC, JobService
from tests.conftest import PutRelease
from tests.services.bench import NAME, WallClock, audited


@dataclass
class Bench:
    """A queue whose kinds of work are ours."""

    db: Database
    clock: WallClock
    done: list[str] = field(default_factory=list)
    progress: JobProgress = field(default_factory=JobProgress)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    pauses: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    next_write: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    def service(self) -> JobService:
        return JobService(
            self.db,
            {
                "good": self.good,
                "bad": self.bad,
                "slow": self.slow,
                "broken": self.broken,
                "counted": self.counted,
            },
            self.clock,
            self.pause,
        )

    async def pause(self) -> None:
        self.pauses.put_nowait(None)
        await self.next_write.get()

    async def good(self, job: Job, watch: Watch) -> object:
        self.done.append(job.actor)
        self.clock.advance(seconds=5)
        return {"did": ["this", 1]}

    async def bad(self, job: Job, watch: Watch) -> object:
        raise errors.UpstreamError("https://go.dev is down", origin="https://go.dev")

    async def broken(self, job: Job, watch: Watch) -> object:
        raise ZeroDivisionError("secret detail")

    async def slow(self, job: Job, watch: Watch) -> object:
        await asyncio.Event().wait()
        return None

    async def counted(self, job: Job, watch: Watch) -> object:
        watch(lambda: self.progress)
        await self.may_end.wait()
        return None


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database, WallClock())


async def test_a_job_is_queued_run_and_its_result_recorded(bench: Bench) -> None:
    jobs, asked_at = bench.service(), bench.clock()
    job = await jobs.ask_for("good", "token:00")
    assert await jobs.get(job.id) == job
    assert (job.state, job.actor, job.created_at) == (JobState.QUEUED, "token:00", asked_at)
    assert (job.started_at, job.finished_at) == (None, None)
    bench.clock.advance(seconds=1)
    started_at = bench.clock()
    assert await jobs.run_next()
    done = await jobs.get(job.id)
    assert (done.state, json.loads(done.result)) == (JobState.DONE, {"did": ["this", 1]})
    assert (done.started_at, done.finished_at) == (started_at, bench.clock())
    assert bench.done == ["token:00"]


async def test_a_job_serves_only_who_asks_for_the_same_names(bench: Bench) -> None:
    jobs = bench.service()
    everything = await jobs.ask_for("good", "cli")
    one = await jobs.ask_for("good", "cli", ("go1.99.1", "go1.98.1"))
    assert (everything.names, one.names) == ((), ("go1.98.1", "go1.99.1"))
    assert await jobs.ask_for("good", "cli", ("go1.98.1", "go1.99.1", "go1.98.1")) == one
    assert await jobs.ask_for("good", "cli") == everything
    assert await jobs.get(one.id) == one


async def test_the_progress_of_a_running_job_is_written_down_and_stays(bench: Bench) -> None:
    jobs = bench.service()
    job = await jobs.ask_for("counted", "cli")
    assert job.progress is None
    running = asyncio.ensure_future(jobs.run_next())
    await bench.pauses.get()
    for number in (1, 2):
        bench.progress = JobProgress(3, number, 0, 300, 100 * number, ("go1.99.1.src.tar.gz",))
        bench.next_write.put_nowait(None)
        await bench.pauses.get()
        now = await jobs.get(job.id)
        assert (now.state, now.progress) == (JobState.RUNNING, bench.progress)
    bench.progress = JobProgress(3, 2, 1, 300, 200)
    bench.may_end.set()
    assert await running
    ended = await jobs.get(job.id)
    assert (ended.state, ended.progress) == (JobState.DONE, bench.progress)


async def test_a_list_of_jobs_begins_with_the_newest(bench: Bench) -> None:
    jobs, by_age = bench.service(), []
    for number in range(3):
        by_age.append(await jobs.ask_for("good", "cli", (str(number),)))
        bench.clock.advance(seconds=number)  # the first two at the same time
    by_age.sort(key=lambda job: (job.created_at, job.id), reverse=True)
    assert await jobs.page() == by_age
    page = await jobs.page(limit=2)
    assert page == by_age[:2]
    assert await jobs.page(after=(page[-1].created_at, page[-1].id)) == by_age[2:]


async def test_without_a_job_there_is_nothing_to_run(bench: Bench) -> None:
    assert not await bench.service().run_next()


async def test_a_job_that_has_not_begun_serves_everybody_who_asks(bench: Bench) -> None:
    jobs = bench.service()
    first = await jobs.ask_for("good", "token:00")
    assert await jobs.ask_for("good", "token:11") == first
    other = await jobs.ask_for("bad", "token:11")
    assert other.id != first.id
    while await jobs.run_next():
        pass
    assert bench.done == ["token:00"]
    assert (await jobs.ask_for("good", "token:11")).id != first.id
    rows = await bench.db.read(lambda s: AuditLog(s).rows())
    assert [(r.action, r.actor, r.detail) for r, _, _ in rows] == [
        ("job.create", "token:00", "good"),
        ("job.create", "token:11", "bad"),
        ("job.running", "token:00", "good"),
        ("job.done", "token:00", "good"),
        ("job.running", "token:11", "bad"),
        ("job.failed", "token:11", "bad"),
        ("job.create", "token:11", "good"),
    ]


async def test_a_job_that_runs_already_does_not_serve_who_asks_now(bench: Bench) -> None:
    """It may have passed what the new one is asked for."""
    jobs = bench.service()
    first = await jobs.ask_for("slow", "token:00")
    running = asyncio.ensure_future(jobs.run_next())
    while (await jobs.get(first.id)).state is not JobState.RUNNING:
        await asyncio.sleep(0.01)
    assert (await jobs.ask_for("slow", "token:11")).id != first.id
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_jobs_run_in_the_order_in_which_they_were_asked_for(bench: Bench) -> None:
    jobs = bench.service()
    ids = []
    for kind in ("bad", "good"):
        ids.append((await jobs.ask_for(kind, "cli")).id)
        bench.clock.advance(seconds=1)
    await jobs.run_next()
    states = [(await jobs.get(job_id)).state for job_id in ids]
    assert states == [JobState.FAILED, JobState.QUEUED]


async def test_a_failure_is_recorded_with_its_reason_and_stops_no_other_job(bench: Bench) -> None:
    jobs = bench.service()
    bad = await jobs.ask_for("bad", "cli")
    assert await jobs.run_next()
    failed = await jobs.get(bad.id)
    assert failed.state == JobState.FAILED
    assert json.loads(failed.result) == {"error": "https://go.dev is down"}
    assert failed.finished_at is not None
    await jobs.ask_for("good", "cli")
    assert await jobs.run_next()


async def test_a_defect_fails_its_job_and_no_other(bench: Bench) -> None:
    jobs = bench.service()
    broken = await jobs.ask_for("broken", "cli")
    assert await jobs.run_next()
    failed = await jobs.get(broken.id)
    assert failed.state == JobState.FAILED
    assert json.loads(failed.result) == {"error": "ZeroDivisionError, a defect; see the log"}
    await jobs.ask_for("good", "cli")
    assert await jobs.run_next()


async def test_a_job_whose_leader_died_is_failed_by_the_next_one(bench: Bench) -> None:
    old = bench.service()
    lost = await old.ask_for("slow", "cli")
    running = asyncio.ensure_future(old.run_next())
    while (await old.get(lost.id)).state is not JobState.RUNNING:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    waiting = await old.ask_for("good", "cli")

    new = bench.service()
    await new.fail_abandoned()
    job = await new.get(lost.id)
    assert job.state == JobState.FAILED
    assert "ask again" in json.loads(job.result)["error"]
    assert job.finished_at == bench.clock()
    assert (await new.get(waiting.id)).state == JobState.QUEUED
    assert await new.run_next()
    assert (await new.get(waiting.id)).state == JobState.DONE


async def test_a_job_that_nobody_knows_is_unknown(bench: Bench) -> None:
    with pytest.raises(errors.UnknownError, match="no job has the id 0123"):
        await bench.service().get("0123")


async def test_a_sync_can_be_asked_for(services: Services, put_release: PutRelease) -> None:
    put_release()
    job = await services.upkeep.jobs.ask_for(SYNC, "token:00")
    assert await services.upkeep.jobs.run_next()
    report = json.loads((await services.upkeep.jobs.get(job.id)).result)
    assert (report["fetched"], report["failed"]) == ([NAME], [])
    [row] = await audited(services, "release.verified")
    assert row.actor == "token:00"
