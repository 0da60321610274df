"""Rows of jobs: work that an admin requests and the leading process does."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.job import Job, JobState
from app.db.base import Base


class JobRow(Base):
    """One job; `result` is JSON text, in the form of the job's kind."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    result: Mapped[str]


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
            )
        )
        self._session.flush()

    def get(self, job_id: str) -> Job | None:
        """Return one job."""
        row = self._session.get(JobRow, job_id)
        return _job(row) if row else None

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
    )
