"""Jobs: a request records a job, and the leading process runs the jobs one after another."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from app import logs
from app.core.errors import DatabaseBusyError, MoorageError, StorageFullError, UnknownError
from app.core.job import Job, JobState
from app.db.audit import AuditLog
from app.db.engine import Database, Room, Session
from app.db.jobs import Jobs
from app.services.clock import Now

SYNC = "releases.sync"
Runner = Callable[[str], Awaitable[object]]  # argument: the actor; result: a value for JSON
_log = logs.get("jobs")


class JobService:
    """The queue of jobs."""

    def __init__(self, db: Database, runners: Mapping[str, Runner], now: Now) -> None:
        self._db = db
        self._runners = runners
        self._now = now

    async def ask_for(self, kind: str, actor: str) -> Job:
        """Return a queued job; an earlier one of the same kind, if it has not started yet."""
        at = self._now()
        new = Job(secrets.token_hex(8), kind, JobState.QUEUED, actor, at)

        def work(session: Session) -> Job:
            for job in Jobs(session).unfinished(kind):
                if job.state is JobState.QUEUED:
                    return job
            Jobs(session).save(new)
            AuditLog(session).append(at, actor, "job.create", f"job:{new.id}", kind)
            return new

        return await self._db.write(work)

    async def get(self, job_id: str) -> Job:
        """Return one job.

        Raises:
            UnknownError: no job has this id.
        """
        job = await self._db.read(lambda s: Jobs(s).get(job_id))
        if job is None:
            raise UnknownError(f"no job has the id {job_id}")
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
        state, result = await self._run(running)
        ended = replace(running, state=state, finished_at=self._now(), result=json.dumps(result))
        await self._save_result(ended)
        _log.info("job ended", job=job.id, kind=job.kind, state=state)
        return True

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

    async def _run(self, job: Job) -> tuple[JobState, object]:
        try:
            return JobState.DONE, await self._runners[job.kind](job.actor)
        except MoorageError as error:
            return JobState.FAILED, {"error": str(error)}
        except Exception as error:
            # A defect must not leave the job running for ever; the log has its traceback.
            _log.exception("job broke", job=job.id, kind=job.kind)
            return JobState.FAILED, {"error": f"{type(error).__name__}, a defect; see the log"}
