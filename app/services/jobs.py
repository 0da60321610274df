"""Jobs: a request records a job, and the leading process runs the jobs one after another."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from app import logs
from app.core.errors import DatabaseBusyError, MoorageError, StorageFullError, UnknownError
from app.core.job import Job, JobProgress, JobState, Watch
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.jobs import Jobs
from app.db.room import Room
from app.services.clock import Now

SYNC = "releases.sync"
Runner = Callable[[Job, Watch], Awaitable[object]]
"""Does a job; the result is a value for JSON."""
_PROGRESS_S = 1.0
_log = logs.get("jobs")


async def _pause() -> None:
    await asyncio.sleep(_PROGRESS_S)


@dataclass(slots=True)
class _Watched:
    """The progress of the running job, asked for when it is written down."""

    ask: Callable[[], JobProgress] = JobProgress

    def watch(self, ask: Callable[[], JobProgress]) -> None:
        self.ask = ask


class JobService:
    """The queue of jobs.

    Args:
        db: has the queue.
        runners: do the jobs, by kind.
        now: the clock.
        pause: waits until the progress of the running job is written down again.
    """

    def __init__(
        self,
        db: Database,
        runners: Mapping[str, Runner],
        now: Now,
        pause: Callable[[], Awaitable[None]] = _pause,
    ) -> None:
        self._db = db
        self._runners = runners
        self._now = now
        self._pause = pause

    async def ask_for(self, kind: str, actor: str, names: tuple[str, ...] = ()) -> Job:
        """Return a queued job; an earlier one about the same, if it has not started yet."""
        at = self._now()
        names = tuple(sorted(set(names)))
        new = Job(secrets.token_hex(8), kind, JobState.QUEUED, actor, at, names=names)

        def work(session: Session) -> Job:
            for job in Jobs(session).unfinished(kind):
                if job.state is JobState.QUEUED and job.names == names:
                    return job
            Jobs(session).save(new)
            AuditLog(session).append(
                at, actor, "job.create", f"job:{new.id}", " ".join((kind, *names))
            )
            return new

        return await self._db.write(work)

    async def page(
        self, *, after: tuple[datetime, str] | None = None, limit: int = 1000
    ) -> list[Job]:
        """Return jobs, newest first; `after` is time and id of the last one of the page before."""
        return await self._db.read(lambda s: Jobs(s).newest(after=after, limit=limit))

    async def get(self, job_id: str) -> Job:
        """Return one job.

        Raises:
            UnknownError: no job has this id.
        """
        job = await self._db.read(lambda s: Jobs(s).get(job_id))
        if job is None:
            raise UnknownError(f"no job has the id {job_id[:80]}; see `moorage job list`")
        return job

    async def fail_abandoned(self) -> None:
        """Mark running jobs as failed; a new leader calls this, so their process is dead."""
        at = self._now()

        def work(session: Session) -> None:
            for job in Jobs(session).unfinished():
                if job.state is JobState.RUNNING:
                    result = json.dumps({"error": "the process that ran it ended; ask again"})
                    failed = replace(job, state=JobState.FAILED, finished_at=at, result=result)
                    self._save(session, failed)

        await self._db.write(work, room=Room.BELOW_FLOOR)

    async def run_next(self) -> bool:
        """Run the oldest queued job to its end; return False if no job is queued."""
        queued = await self._db.read(lambda s: Jobs(s).unfinished())
        job = next((j for j in queued if j.state is JobState.QUEUED), None)
        if job is None:
            return False
        running = replace(job, state=JobState.RUNNING, started_at=self._now())
        await self._db.write(lambda s: self._save(s, running))
        watched = _Watched()
        async with self._progress_written(running.id, watched):
            state, result = await self._run(running, watched.watch)
        ended = replace(
            running,
            state=state,
            finished_at=self._now(),
            result=json.dumps(result),
            progress=watched.ask(),
        )
        await self._save_result(ended)
        _log.info("job ended", job=job.id, kind=job.kind, state=state)
        return True

    @asynccontextmanager
    async def _progress_written(self, job_id: str, watched: _Watched) -> AsyncIterator[None]:
        """Return a context during which the progress of a job is written down."""
        writing = asyncio.create_task(self._write_progress(job_id, watched))
        try:
            yield
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write_progress(self, job_id: str, watched: _Watched) -> None:
        written: JobProgress | None = None
        while True:
            progress = watched.ask()
            if progress != written:
                try:
                    await self._db.write(partial(_save_progress, job_id, progress))
                    written = progress
                except (DatabaseBusyError, StorageFullError) as error:
                    _log.warning("progress not saved", job=job_id, error=str(error))
            await self._pause()

    async def _save_result(self, job: Job) -> None:
        """Save the result of a job; try until the database accepts it, since a caller waits."""
        while True:
            try:
                return await self._db.write(lambda s: self._save(s, job), room=Room.BELOW_FLOOR)
            except (DatabaseBusyError, StorageFullError) as error:
                _log.warning("job not saved", job=job.id, error=str(error))
                await asyncio.sleep(1)

    def _save(self, session: Session, job: Job) -> None:
        Jobs(session).save(job)
        at = job.finished_at or job.started_at or job.created_at
        AuditLog(session).append(at, job.actor, f"job.{job.state}", f"job:{job.id}", job.kind)

    async def _run(self, job: Job, watch: Watch) -> tuple[JobState, object]:
        try:
            return JobState.DONE, await self._runners[job.kind](job, watch)
        except MoorageError as error:
            return JobState.FAILED, {"error": str(error)}
        except Exception as error:
            # A defect must not leave the job running for ever; the log has its traceback.
            _log.exception("job broke", job=job.id, kind=job.kind)
            return JobState.FAILED, {"error": f"{type(error).__name__}, a defect; see the log"}


def _save_progress(job_id: str, progress: JobProgress, session: Session) -> None:
    Jobs(session).save_progress(job_id, progress)
