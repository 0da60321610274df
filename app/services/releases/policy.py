"""Which files may be ingested and served under the present settings; reports of progress."""

from collections.abc import Callable
from dataclasses import dataclass

from app.core.errors import NotYetError, VerificationError
from app.core.releasefile import FileRecord, FileState
from app.core.withdrawal import gone

SIGNED_SUFFIX = "tar.gz"  # the only kind for which upstream publishes signatures


@dataclass(frozen=True, slots=True)
class IngestionPolicy:
    """Which files may be ingested, and how many at once.

    Attributes:
        sha256_only: suffixes offered without a signature if upstream publishes none.
        on_demand: whether a request may start an ingestion.
        parallel: concurrent downloads in this process.
        retry_failed_s: seconds for which a failure is answered from memory.
        max_waiters: requests that may wait for one file.
        max_queue: files for which requests may wait.
    """

    sha256_only: frozenset[str]
    on_demand: bool = True
    parallel: int = 4
    retry_failed_s: float = 30
    max_waiters: int = 1000
    max_queue: int = 256

    def serves(self, record: FileRecord) -> bool:
        """Whether the file may be served under the present settings."""
        if record.is_gone:
            return False
        if record.state is FileState.SHA256_ONLY:
            return record.file.suffix in self.sha256_only
        return record.state is FileState.VERIFIED

    def refusal(self, record: FileRecord) -> str | None:
        """Return why this file can't be offered under the present settings, or None."""
        file = record.file
        if not file.verifiable:
            return (
                f"{file.filename} can't be verified: the release index gives no SHA-256 or size "
                "for it, so this mirror does not offer it"
            )
        if file.suffix != SIGNED_SUFFIX and file.suffix not in self.sha256_only:
            return (
                f"{file.filename} has no signature upstream, and this mirror offers .{file.suffix} "
                "files only with one (MOORAGE_RELEASES__SHA256_ONLY)"
            )
        return None


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of one file.

    Attributes:
        phase: "wait", "fetch", "verify", "done" or "failed".
    """

    filename: str
    phase: str
    done_bytes: int
    total_bytes: int


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Ignore the progress."""


def raise_if_gone(record: FileRecord) -> None:
    """Return unless the file's release was withdrawn for good.

    Raises:
        GoneError: it was.
    """
    if record.withdrawal is not None and record.is_gone:
        raise gone(record.withdrawal)


def raise_if_held_back(record: FileRecord) -> None:
    """Raise the reason unless the file is served.

    Raises:
        GoneError: the file's release was withdrawn.
        NotYetError: the file's signature is not published yet.
        VerificationError: the file is quarantined.
    """
    raise_if_gone(record)
    if record.served:
        return
    if record.state is FileState.QUARANTINED:
        raise VerificationError(f"{record.file.filename} is quarantined: {record.reason}")
    reason = record.reason or "it is being fetched and checked; ask again"
    raise NotYetError(f"{record.file.filename} is not offered yet: {reason}")
