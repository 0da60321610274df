"""Rows of jobs."""

from dataclasses import replace

import pytest

from app.core.job import Job, JobState
from app.db.engine import Session
from app.db.jobs import Jobs
from tests.db.moments import T0, later

pytestmark = pytest.mark.both_shapes

JOB = Job("a" * 16, "releases.sync", JobState.QUEUED, "token:1", T0)


def test_a_job_comes_back_as_it_was_saved(session: Session) -> None:
    jobs = Jobs(session)
    done = replace(
        JOB,
        state=JobState.DONE,
        started_at=later(seconds=1),
        finished_at=later(seconds=2),
        result='{"fetched": []}',
    )
    for job in (JOB, done):
        jobs.save(job)
        assert jobs.get(JOB.id) == job
    assert jobs.get("b" * 16) is None


def test_queued_and_running_jobs_of_a_kind_come_oldest_first(session: Session) -> None:
    jobs, by_age = Jobs(session), []
    for number, state in enumerate(
        [JobState.RUNNING, JobState.DONE, JobState.QUEUED, JobState.FAILED, JobState.QUEUED]
    ):
        # The ids are in the opposite order.
        job = replace(JOB, id=f"{9 - number}" * 16, state=state, created_at=later(hours=number))
        jobs.save(job)
        by_age.append(job)
    jobs.save(replace(JOB, id="f" * 16, kind="other", created_at=later(hours=-1)))
    unfinished = [by_age[0], by_age[2], by_age[4]]
    assert jobs.unfinished(JOB.kind) == unfinished
    assert [job.id for job in jobs.unfinished()] == ["f" * 16, *(job.id for job in unfinished)]
    assert jobs.unfinished("unknown") == []
