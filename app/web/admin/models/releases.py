"""Releases, keys and jobs."""

import json
from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.core.derived import DerivedKind
from app.core.job import Job
from app.core.releasefile import FileRecord, IndexConflict
from app.core.withdrawal import REASON_CHARS, Withdrawal
from app.services.releases.catalog import Catalog
from app.services.releases.keyring import KeyringChange
from app.services.releases.sync import SyncPlan
from app.web.admin.models.base import In, Out

NAMES_MAX = 100  # of one sync
ReleaseName = Annotated[str, Field(max_length=100, pattern=r"^[\x21-\x7e]+$")]


class VerdictOut(Out):
    """What GPG verification found, once, at ingestion."""

    accepted: bool
    reason: str
    detail: str
    subkey: str | None
    primary: str | None
    signed_at: datetime | None
    keyring_sha256: str
    gpg_version: str
    judged_at: datetime


class ToolchainOut(Out):
    """The golang.org/toolchain module that an archive implies."""

    version: str
    h1: str


class DerivedOut(Out):
    """A file that was made from an archive: `/dl/` has it under the archive's name and the kind."""

    kind: str
    sha256: str
    size_bytes: int


class ConflictOut(Out):
    """An index that contradicted what is recorded, refused and kept as evidence."""

    seen_sha256: str
    seen_size_bytes: int
    index_sha256: str
    seen_at: datetime


class WithdrawalOut(Out):
    """What became of an own release: state is "retired" or "gone"."""

    release: str
    state: str
    reason: str
    at: datetime


class FileOut(Out):
    """One release file: state, verdict, provenance."""

    filename: str
    version: str
    support: str
    os: str
    arch: str
    kind: str
    size_bytes: int
    sha256: str | None
    state: str
    reason: str
    offered: bool
    listed: bool
    damaged: bool
    index_sha256: str
    first_seen_at: datetime
    ingested_at: datetime | None
    source_url: str | None
    verdict: VerdictOut | None
    toolchain: ToolchainOut | None
    derived: list[DerivedOut]
    withdrawal: WithdrawalOut | None
    conflicts: list[ConflictOut]


class ReleaseOut(Out):
    """One release and how its files stand."""

    version: str
    stable: bool
    support: str
    files: list[FileOut]


class PlanEntryOut(Out):
    """One file of the selection."""

    filename: str
    support: str
    size_bytes: int
    state: str
    reason: str
    refusal: str | None
    to_fetch: bool


class SkippedOut(Out):
    """Entries of the index that were not understood because of one key, and the first of them."""

    key: str
    count: int
    first: str


class PlanOut(Out):
    """What `releases sync` would do."""

    files: list[PlanEntryOut]
    fetch_files: int
    fetch_bytes: int
    unmatched_pins: list[str]
    skipped: list[SkippedOut]
    index_error: str


class SubkeyOut(Out):
    """A key that can sign, or could."""

    fingerprint: str
    created_at: datetime
    expires_at: datetime | None
    revoked: bool


class KeyringOut(Out):
    """The active keyring, and the keys of own releases: none, or those of a usable export."""

    sha256: str
    source: str
    taken_at: datetime
    primary: list[str]
    subkeys: list[SubkeyOut]
    own_primary: list[str]
    own_subkeys: list[SubkeyOut]


class KeyringChangeOut(Out):
    """What taking over an export changed."""

    sha256: str
    changed: bool
    added: list[str]
    removed: list[str]
    released: list[str]


class KeyringIn(In):
    """An export to take over; without one, the configured file is read again.

    fetch: read it from the URL in MOORAGE_RELEASES__KEYRING_URL.
    replace: accept an export that lacks subkeys which the active one has.
    """

    armored: str | None = Field(default=None, max_length=1024 * 1024)
    fetch: bool = False
    replace: bool = False


class SyncIn(In):
    """What to mirror instead of the selection.

    names: files ("go1.27.1.src.tar.gz") and releases ("1.27.1"; "1.27" is its newest patch), of
        which the selected platforms and kinds are mirrored; none for the selection.
    """

    names: Annotated[tuple[ReleaseName, ...], Field(max_length=NAMES_MAX)] = ()


class ReleaseRetireIn(In):
    """Why a release is taken back; gone: for good, with its bytes."""

    reason: Annotated[str, Field(max_length=REASON_CHARS)] = ""
    gone: bool = False


class ProgressOut(Out):
    """How far the files of a job are; current: names of files that are fetched or checked now."""

    files: int
    files_done: int
    files_failed: int
    total_bytes: int
    done_bytes: int
    current: list[str]


class JobOut(Out):
    """A job and where it stands.

    names: what it is about; empty for all of it.
    progress: how far it was a second ago; null before it began.
    """

    id: str
    kind: str
    names: list[str]
    state: str
    actor: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: ProgressOut | None
    result: object


def file_out(
    catalog: Catalog, record: FileRecord, conflicts: list[IndexConflict] | None = None
) -> FileOut:
    """Return one file for people and programs."""
    file, verdict, toolchain = record.file, record.verdict, record.toolchain
    return FileOut(
        filename=file.filename,
        version=file.version,
        support=catalog.support(file.version),
        os=file.os,
        arch=file.arch,
        kind=file.kind,
        size_bytes=file.size_bytes,
        sha256=file.sha256.hex if file.sha256 else None,
        state=record.state,
        reason=record.reason,
        offered=catalog.offers(record),
        listed=record.listed,
        damaged=record.damaged,
        index_sha256=record.index.hex,
        first_seen_at=record.first_seen_at,
        ingested_at=record.ingested_at,
        source_url=record.source_url,
        verdict=None
        if verdict is None
        else VerdictOut(
            accepted=verdict.accepted,
            reason=verdict.reason,
            detail=verdict.detail,
            subkey=verdict.subkey,
            primary=verdict.primary,
            signed_at=verdict.signed_at,
            keyring_sha256=verdict.keyring.hex,
            gpg_version=verdict.gpg_version,
            judged_at=verdict.judged_at,
        ),
        toolchain=None
        if toolchain is None
        else ToolchainOut(version=toolchain.version, h1=toolchain.h1),
        derived=_derived_out(record),
        withdrawal=None if record.withdrawal is None else withdrawal_out(record.withdrawal),
        conflicts=[
            ConflictOut(
                seen_sha256=c.seen_sha256,
                seen_size_bytes=c.seen_size_bytes,
                index_sha256=c.index.hex,
                seen_at=c.seen_at,
            )
            for c in conflicts or []
        ],
    )


def withdrawal_out(withdrawal: Withdrawal) -> WithdrawalOut:
    """Return what became of a release for people and programs."""
    return WithdrawalOut.of(withdrawal)


def _derived_out(record: FileRecord) -> list[DerivedOut]:
    if record.derived is None:
        return []
    return [
        DerivedOut(kind=kind, sha256=file.sha256.hex, size_bytes=file.size_bytes)
        for kind in DerivedKind
        if (file := record.derived.file(kind)) is not None
    ]


def release_out(catalog: Catalog, version: str) -> ReleaseOut | None:
    """Return one release with all of its files, or None if it is unknown."""
    records = catalog.by_version.get(version, ())
    if not records:
        return None
    return ReleaseOut(
        version=version,
        stable=records[0].stable,
        support=catalog.support(version),
        files=[file_out(catalog, record) for record in records],
    )


def plan_out(plan: SyncPlan, index_error: str) -> PlanOut:
    """Return a plan for people and programs."""
    return PlanOut(
        files=[
            PlanEntryOut(
                filename=p.record.file.filename,
                support=p.support,
                size_bytes=p.record.file.size_bytes,
                state=p.record.state,
                reason=p.reason,
                refusal=p.refusal,
                to_fetch=p.to_fetch,
            )
            for p in plan.files
        ],
        fetch_files=sum(1 for p in plan.files if p.to_fetch),
        fetch_bytes=plan.fetch_bytes,
        unmatched_pins=list(plan.unmatched_pins),
        skipped=[SkippedOut(key=s.key, count=s.count, first=s.first) for s in plan.skipped],
        index_error=index_error,
    )


def change_out(change: KeyringChange, released: list[FileRecord]) -> KeyringChangeOut:
    """Return what taking over an export changed."""
    return KeyringChangeOut(
        sha256=change.keyring.digest.hex,
        changed=change.changed,
        added=list(change.added),
        removed=list(change.removed),
        released=[record.file.filename for record in released],
    )


def job_out(job: Job) -> JobOut:
    """Return one job."""
    return JobOut.of(job, result=json.loads(job.result))
