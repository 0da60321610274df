"""A release file with its state in this mirror, and the verdict that led to the state.

The index entry is `gorelease.ReleaseFile`. Not here: how a state is reached (`services/releases`).
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.core.derived import Derived
from app.core.digest import Digest
from app.core.errors import UnknownError
from app.core.gorelease import ReleaseFile
from app.core.logstate import LogState
from app.core.withdrawal import Withdrawal


class FileState(StrEnum):
    """State of a file in this mirror. Only `verified` and `sha256-only` files are served."""

    KNOWN = "known"  # the index names the file; its bytes are not here
    FETCHING = "fetching"  # a process holds the file's lease
    VERIFIED = "verified"  # size, SHA-256 and signature are right
    SHA256_ONLY = "sha256-only"  # size and SHA-256 are right; settings demand no signature
    PENDING_SIGNATURE = "pending-signature"  # bytes are here, upstream has no signature yet
    QUARANTINED = "quarantined"  # refused; the reason says why


SERVED = frozenset({FileState.VERIFIED, FileState.SHA256_ONLY})


@dataclass(frozen=True, slots=True)
class RecordedVerdict:
    """The result of GPG verification, with the key export and gpg version; recorded at ingestion.

    Attributes:
        reason: a value of `signature.VerdictReason`.
        detail: one sentence for an admin.
        subkey: fingerprint of the key that signed, 40 hex characters, where known.
        primary: fingerprint of its primary key.
        signed_at: when the signature was made, UTC.
        keyring: digest of the key export that was used.
        gpg_version: "2.2.40".
        judged_at: when the signature was verified, UTC.
    """

    accepted: bool
    reason: str
    detail: str
    subkey: str | None
    primary: str | None
    signed_at: datetime | None
    keyring: Digest
    gpg_version: str
    judged_at: datetime


@dataclass(frozen=True, slots=True)
class ToolchainIdentity:
    """The golang.org/toolchain module that an archive implies.

    Attributes:
        version: "v0.0.1-go1.23.1.linux-amd64".
        h1: "h1:" and base64, as in go.sum.
        time: time in the archive's VERSION file, RFC 3339; None before Go 1.21, or not recorded.
        log: the public log's answer about the h1; NONE before the log was asked.
    """

    version: str
    h1: str
    time: str | None = None
    log: LogState = LogState.NONE


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file and all that is recorded about it.

    Attributes:
        listed: whether the newest index names the file. A file that vanished is still served.
        reason: why the file is not served, or why the last attempt failed; "" without a reason.
        has_bytes: whether the blob is stored; its size and SHA-256 were right.
        index: digest of the index document that first named the file and gave its SHA-256.
        source_url: where the bytes came from.
        signature: the detached signature, as published.
        derived: the files that are derived from an archive, None before they are.
        withdrawal: of an own release that was taken back; None for every other file.
    """

    file: ReleaseFile
    stable: bool
    listed: bool
    state: FileState
    reason: str
    has_bytes: bool
    damaged: bool
    index: Digest
    first_seen_at: datetime
    ingested_at: datetime | None
    source_url: str | None
    signature: bytes | None
    verdict: RecordedVerdict | None
    toolchain: ToolchainIdentity | None
    derived: Derived | None = None
    withdrawal: Withdrawal | None = None

    @property
    def served(self) -> bool:
        """Whether the bytes may be served."""
        return self.state in SERVED and not self.is_gone

    @property
    def is_gone(self) -> bool:
        """Whether the file's release was withdrawn for good."""
        return self.withdrawal is not None and self.withdrawal.is_gone

    @property
    def sha256(self) -> Digest:
        """The digest of the file's bytes.

        Raises:
            UnknownError: no index had a SHA-256 for the file.
        """
        if self.file.sha256 is None:
            raise UnknownError(f"{self.file.filename} has no recorded SHA-256")
        return self.file.sha256


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The result of reading the index.

    Attributes:
        read_at: when the index was last read and accepted, UTC.
        tried_at: when the last attempt was made, UTC.
        error: why the last attempt failed; "" after success.
        document: digest of the newest accepted document.
    """

    read_at: datetime | None
    tried_at: datetime | None
    error: str
    document: Digest | None


@dataclass(frozen=True, slots=True)
class IndexConflict:
    """A refused claim of an index that contradicts a recorded file, kept as evidence."""

    filename: str
    recorded_sha256: str
    recorded_size_bytes: int
    seen_sha256: str
    seen_size_bytes: int
    index: Digest
    seen_at: datetime
