"""A job: work that an admin asked for and that outlives the request."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """One job.

    Attributes:
        id: 16 random hex characters.
        kind: "releases.sync".
        actor: who asked: a token's id.
        result: JSON text; what the work reports, or {"error": …} when it failed.
    """

    id: str
    kind: str
    state: JobState
    actor: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: str = "{}"
