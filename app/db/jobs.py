"""Rows of jobs: work that an admin requests and the leading process does."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.job import Job, JobProgress, JobState
from app.db.base import Base, WordSet


class JobRow(Base):
    """One job.

    `result` is JSON text, in the form of the job's kind; `progress` the JSON of a `JobProgress`.
    """

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    result: Mapped[str]
    names: Mapped[list[str]] = mapped_column(WordSet)
    progress: Mapped[str | None]


class Jobs:
    """The repository of jobs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def save(self, job: Job) -> None:
        """Insert the job, or update its row."""
        self._session.merge(
            JobRow(
                id=job.id,
                kind=job.kind,
                state=job.state,
                actor=job.actor,
                created_at=job.created_at,
                started_at=job.started_at,
                finished_at=job.finished_at,
                result=job.result,
                names=list(job.names),
                progress=_progress_text(job.progress),
            )
        )
        self._session.flush()

    def save_progress(self, job_id: str, progress: JobProgress) -> None:
        """Update how far a running job is; a job that has ended stays as it is."""
        condition = (JobRow.id == job_id, JobRow.state == JobState.RUNNING)
        values = {"progress": _progress_text(progress)}
        self._session.execute(update(JobRow).where(*condition).values(values))

    def get(self, job_id: str) -> Job | None:
        """Return one job."""
        row = self._session.get(JobRow, job_id)
        return _job(row) if row else None

    def newest(self, *, after: tuple[datetime, str] | None, limit: int) -> list[Job]:
        """Return jobs, newest first.

        Args:
            after: time and id of the last job of the page before; None begins the list.
            limit: how many at most.
        """
        key = (JobRow.created_at, JobRow.id)
        query = select(JobRow).order_by(*(column.desc() for column in key)).limit(limit)
        if after is not None:
            query = query.where(tuple_(*key) < tuple_(*after))
        return [_job(row) for row in self._session.execute(query).scalars()]

    def unfinished(self, kind: str | None = None) -> list[Job]:
        """Return queued and running jobs, oldest first."""
        query = select(JobRow).where(JobRow.state.in_([JobState.QUEUED, JobState.RUNNING]))
        if kind is not None:
            query = query.where(JobRow.kind == kind)
        return [
            _job(row) for row in self._session.execute(query.order_by(JobRow.created_at)).scalars()
        ]


def _job(row: JobRow) -> Job:
    return Job(
        row.id,
        row.kind,
        JobState(row.state),
        row.actor,
        row.created_at,
        row.started_at,
        row.finished_at,
        row.result,
        tuple(row.names),
        _progress(row.progress),
    )


def _progress_text(progress: JobProgress | None) -> str | None:
    return None if progress is None else json.dumps(asdict(progress))


def _progress(text: str | None) -> JobProgress | None:
    if text is None:
        return None
    values: dict[str, Any] = json.loads(text)
    return JobProgress(**{**values, "current": tuple(values["current"])})
