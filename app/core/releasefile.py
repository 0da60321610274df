"""A release file as this mirror knows it: its state, and the verdict that led there.

The index entry itself is `gorelease.ReleaseFile`; how a state is reached is `services/releases`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.core.digest import Digest
from app.core.errors import UnknownError
from app.core.gorelease import ReleaseFile
from app.core.logstate import LogState


class FileState(StrEnum):
    """Where a file stands. Only `verified` and `sha256-only` are ever served."""

    KNOWN = "known"  # in the index, bytes not here
    FETCHING = "fetching"  # somebody holds its lease
    VERIFIED = "verified"  # size, SHA-256 and signature are right
    SHA256_ONLY = "sha256-only"  # size and SHA-256 are right, and settings ask for no more
    PENDING_SIGNATURE = "pending-signature"  # bytes are here, upstream has no signature yet
    QUARANTINED = "quarantined"  # refused; the reason says why


SERVED = frozenset({FileState.VERIFIED, FileState.SHA256_ONLY})


@dataclass(frozen=True, slots=True)
class RecordedVerdict:
    """What GPG verification found, and with what; recorded once, at ingestion.

    Attributes:
        reason: a value of `signature.VerdictReason`.
        detail: one sentence for an admin.
        subkey: fingerprint of the key that signed, 40 hex characters, where known.
        primary: fingerprint of its primary key.
        signed_at: when the signature was made, UTC.
        keyring: digest of the key export that was used.
        gpg_version: "2.2.40".
        judged_at: when, UTC.
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
        time: of the archive's VERSION file, RFC 3339; None before Go 1.21, or not recorded.
        log: what the public log said of the h1; NONE while it was not asked.
    """

    version: str
    h1: str
    time: str | None = None
    log: LogState = LogState.NONE


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file and all that is recorded about it.

    Attributes:
        listed: the newest index still names it; a vanished file stays served.
        reason: why it is not served, or what the last attempt ran into; "" if nothing.
        has_bytes: size and SHA-256 were found right and the blob is stored.
        index: digest of the index document that first named it: where its SHA-256 comes from.
        source_url: where the bytes came from.
        signature: the detached signature, as published.
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

    @property
    def served(self) -> bool:
        """Whether its bytes may go out."""
        return self.state in SERVED

    @property
    def sha256(self) -> Digest:
        """The digest of its bytes.

        Raises:
            UnknownError: no index ever gave one.
        """
        if self.file.sha256 is None:
            raise UnknownError(f"{self.file.filename} has no recorded SHA-256")
        return self.file.sha256


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """How reading the index went.

    Attributes:
        read_at: when the index was last read and accepted, UTC.
        tried_at: when reading it was last tried.
        error: why the last try failed; "" if it didn't.
        document: digest of the newest accepted document.
    """

    read_at: datetime | None
    tried_at: datetime | None
    error: str
    document: Digest | None


@dataclass(frozen=True, slots=True)
class IndexConflict:
    """An index that contradicts what is recorded of a file: refused, and kept as evidence."""

    filename: str
    recorded_sha256: str
    recorded_size_bytes: int
    seen_sha256: str
    seen_size_bytes: int
    index: Digest
    seen_at: datetime
