"""A job: work that an admin asked for and that outlives the request."""

from collections.abc import Callable
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
class JobProgress:
    """How far the files of a job are.

    Attributes:
        files: how many files the job fetches in all.
        files_done: how many of them ended well.
        files_failed: how many failed.
        total_bytes: the size of all files.
        done_bytes: how much of it was fetched; what failed counts as nothing.
        current: names of files that are fetched or checked now, at most 8.
    """

    files: int = 0
    files_done: int = 0
    files_failed: int = 0
    total_bytes: int = 0
    done_bytes: int = 0
    current: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One job.

    Attributes:
        id: 16 random hex characters.
        kind: "releases.sync".
        actor: who asked: a token's id, or "system".
        names: what the work is about, in the words of the kind; empty for all of it.
        progress: how far it was when that was last written down; None before it began.
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
    names: tuple[str, ...] = ()
    progress: JobProgress | None = None


Watch = Callable[[Callable[[], JobProgress]], None]
"""A job that begins calls it once, with a function that tells how far the job is."""
