"""Rows of release files and the verdicts on their signatures; the index is in `releaseindex`."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Select, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from app.core.derived import Derived
from app.core.digest import Digest
from app.core.gorelease import ReleaseFile, ReleaseFileKind
from app.core.logstate import LogState
from app.core.releasefile import (
    SERVED,
    FileRecord,
    FileState,
    RecordedVerdict,
    ToolchainIdentity,
)
from app.db.base import Base
from app.db.blobs import BlobRow
from app.db.derived import DerivedRow, DerivedTable, derived_of
from app.db.withdrawals import WithdrawalTable


class ReleaseFileRow(Base):
    """One file of an accepted index."""

    __tablename__ = "release_files"

    id: Mapped[int] = mapped_column(primary_key=True)
    filename: Mapped[str] = mapped_column(unique=True)
    version: Mapped[str] = mapped_column(index=True)
    stable: Mapped[bool]
    os: Mapped[str]
    arch: Mapped[str]
    kind: Mapped[str]
    sha256: Mapped[str | None] = mapped_column(index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    listed: Mapped[bool]
    state: Mapped[str]
    reason: Mapped[str]
    index_sha256: Mapped[str] = mapped_column(ForeignKey("index_documents.sha256"))
    first_seen_at: Mapped[datetime]
    blob_sha256: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"))
    ingested_at: Mapped[datetime | None]
    source_url: Mapped[str | None]
    signature: Mapped[bytes | None]
    toolchain_version: Mapped[str | None]
    toolchain_h1: Mapped[str | None]
    toolchain_time: Mapped[str | None]
    toolchain_log: Mapped[str | None]

    blob: Mapped[BlobRow | None] = relationship(lazy="raise")
    verdicts: Mapped[list["VerdictRow"]] = relationship(lazy="raise", order_by="VerdictRow.id")


class VerdictRow(Base):
    """One verdict on a file's signature; the newest one counts."""

    __tablename__ = "release_verdicts"

    id: Mapped[int] = mapped_column(primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("release_files.id"), index=True)
    accepted: Mapped[bool]
    reason: Mapped[str]
    detail: Mapped[str]
    subkey: Mapped[str | None]
    primary: Mapped[str | None]
    signed_at: Mapped[datetime | None]
    keyring_sha256: Mapped[str]
    gpg_version: Mapped[str]
    judged_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class IngestionOutcome:
    """The outcome of one ingestion, or of one new judgement.

    Attributes:
        stored: whether the blob is durable; False leaves the recorded blob as it is.
        at: time of the outcome, UTC.
        derived: files derived from the archive, durable; None leaves the recorded ones.
    """

    state: FileState
    reason: str
    at: datetime
    stored: bool = False
    source_url: str | None = None
    signature: bytes | None = None
    verdict: RecordedVerdict | None = None
    toolchain: ToolchainIdentity | None = None
    derived: Derived | None = None


class ReleaseTable:
    """The repository of release files."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[FileRecord]:
        """Return every file, in the order in which the files were recorded."""
        return self._records(_query().order_by(ReleaseFileRow.id), select(VerdictRow))

    def of_versions(self, versions: Collection[str]) -> list[FileRecord]:
        """Return the files of some releases, in the order in which the files were recorded."""
        is_of = ReleaseFileRow.version.in_(versions)
        ids = select(ReleaseFileRow.id).where(is_of)
        verdicts = select(VerdictRow).where(VerdictRow.file_id.in_(ids))
        return self._records(_query().where(is_of).order_by(ReleaseFileRow.id), verdicts)

    def without_log(self, *, after: str, limit: int) -> list[FileRecord]:
        """Return served archives whose toolchain has no answer of the public log, by filename.

        Args:
            after: the last filename of the batch before; "" begins with the first file.
            limit: how many at most.
        """
        files = (
            _query()
            .where(
                ReleaseFileRow.filename > after,
                ReleaseFileRow.state.in_(SERVED),
                ReleaseFileRow.toolchain_version.is_not(None),
                ReleaseFileRow.toolchain_h1.is_not(None),
                func.coalesce(ReleaseFileRow.toolchain_log, LogState.NONE) == LogState.NONE,
            )
            .order_by(ReleaseFileRow.filename)
            .limit(limit)
        )
        ids = files.with_only_columns(ReleaseFileRow.id).subquery()
        verdicts = select(VerdictRow).where(VerdictRow.file_id.in_(select(ids.c.id)))
        return self._records(files, verdicts)

    def _records(
        self, files: Select[ReleaseFileRow, bool, DerivedRow | None], verdicts: Select[VerdictRow]
    ) -> list[FileRecord]:
        """Return the records of files; verdicts selects at least those on the files."""
        ordered = self._session.execute(verdicts.order_by(VerdictRow.id)).scalars()
        newest = {row.file_id: _verdict(row) for row in ordered}
        withdrawals = WithdrawalTable(self._session).all()
        return [
            replace(
                _record(
                    row, bool(damaged), newest.get(row.id), derived_of(derived) if derived else None
                ),
                withdrawal=withdrawals.get(row.version),
            )
            for row, damaged, derived in self._session.execute(files)
        ]

    def get(self, filename: str) -> FileRecord | None:
        """Return one file."""
        row = self._row(filename)
        if row is None:
            return None
        blob = self._session.get(BlobRow, row.blob_sha256) if row.blob_sha256 else None
        verdict = self._session.execute(
            select(VerdictRow)
            .where(VerdictRow.file_id == row.id)
            .order_by(VerdictRow.id.desc())
            .limit(1)
        ).scalar_one_or_none()
        derived = (
            DerivedTable(self._session).get(Digest(row.sha256)) if blob and row.sha256 else None
        )
        damaged = bool(blob and blob.damaged)
        record = _record(row, damaged, _verdict(verdict) if verdict else None, derived)
        return replace(record, withdrawal=WithdrawalTable(self._session).get(row.version))

    def _row(self, filename: str) -> ReleaseFileRow | None:
        return self._session.execute(
            select(ReleaseFileRow).where(ReleaseFileRow.filename == filename)
        ).scalar_one_or_none()

    def add(self, file: ReleaseFile, *, stable: bool, index: Digest, at: datetime) -> None:
        """Record a file that an index names for the first time."""
        self._session.add(
            ReleaseFileRow(
                filename=file.filename,
                version=file.version,
                stable=stable,
                os=file.os,
                arch=file.arch,
                kind=file.kind,
                sha256=file.sha256.hex if file.sha256 else None,
                size_bytes=file.size_bytes,
                listed=True,
                state=FileState.KNOWN,
                reason="",
                index_sha256=index.hex,
                first_seen_at=at,
            )
        )

    def complete(self, file: ReleaseFile, index: Digest) -> None:
        """Record a hash and size that no index had before; a file with a blob does not change."""
        row = self._row(file.filename)
        if row is not None and row.blob_sha256 is None and file.sha256 is not None:
            row.sha256, row.size_bytes, row.index_sha256 = (
                file.sha256.hex,
                file.size_bytes,
                index.hex,
            )

    def set_listed(self, filename: str, *, listed: bool) -> None:
        """Record whether the newest index names the file."""
        row = self._row(filename)
        if row is not None:
            row.listed = listed

    def settle(self, filename: str, outcome: IngestionOutcome) -> None:
        """Record the outcome of an ingestion or of a new judgement."""
        row = self._row(filename)
        if row is None:
            raise LookupError(filename)
        row.state, row.reason = outcome.state, outcome.reason
        if outcome.stored:
            row.blob_sha256 = row.sha256
            row.ingested_at = row.ingested_at or outcome.at
        for name in ("source_url", "signature"):
            if getattr(outcome, name) is not None:
                setattr(row, name, getattr(outcome, name))
        if outcome.toolchain is not None:
            row.toolchain_version = outcome.toolchain.version
            row.toolchain_h1 = outcome.toolchain.h1
            row.toolchain_time = outcome.toolchain.time
        if outcome.derived is not None and row.sha256 is not None:
            derived = DerivedTable(self._session)
            derived.record(Digest(row.sha256), row.size_bytes, outcome.derived, outcome.at)
        if outcome.verdict is not None:
            self._session.add(_verdict_row(row.id, outcome.verdict))
        self._session.flush()

    def set_toolchain_log(self, filename: str, state: LogState) -> None:
        """Record the public log's answer about an archive's toolchain."""
        row = self._row(filename)
        if row is not None:
            row.toolchain_log = state
            self._session.flush()

    def refuse(self, filename: str, reason: str) -> None:
        """Quarantine a file, so that it is not served any more."""
        row = self._row(filename)
        if row is not None:
            row.state, row.reason = FileState.QUARANTINED, reason
            self._session.flush()

    def let_go(self, filename: str) -> bool:
        """Let the bytes of a file go, and what is derived from them; return False without any.

        The row stays, with its hash: the file is ingested again when it is asked for.
        """
        row = self._row(filename)
        if row is None or row.blob_sha256 is None:
            return False
        derived = self._session.get(DerivedRow, row.blob_sha256)
        if derived is not None:
            self._session.delete(derived)
        row.blob_sha256, row.state, row.reason = None, FileState.KNOWN, ""
        self._session.flush()
        return True

    def names_of(self, digest: Digest) -> list[str]:
        """Return the names of the files that have this blob."""
        return list(
            self._session.execute(
                select(ReleaseFileRow.filename).where(ReleaseFileRow.blob_sha256 == digest.hex)
            ).scalars()
        )


def _query() -> Select[ReleaseFileRow, bool, DerivedRow | None]:
    return (
        select(ReleaseFileRow, BlobRow.damaged, DerivedRow)
        .outerjoin(BlobRow, BlobRow.sha256 == ReleaseFileRow.blob_sha256)
        .outerjoin(DerivedRow, DerivedRow.archive_sha256 == ReleaseFileRow.blob_sha256)
    )


def with_lease(record: FileRecord, *, leased: bool) -> FileRecord:
    """Return the record in the state `fetching` while a process has the lease of its ingestion."""
    if leased and not record.served:
        return replace(record, state=FileState.FETCHING)
    return record


def _record(
    row: ReleaseFileRow,
    damaged: bool,
    verdict: RecordedVerdict | None,
    derived: Derived | None,
) -> FileRecord:
    toolchain = None
    if row.toolchain_version is not None and row.toolchain_h1 is not None:
        toolchain = ToolchainIdentity(
            row.toolchain_version,
            row.toolchain_h1,
            row.toolchain_time,
            LogState(row.toolchain_log or ""),
        )
    return FileRecord(
        file=ReleaseFile(
            filename=row.filename,
            os=row.os,
            arch=row.arch,
            version=row.version,
            sha256=Digest(row.sha256) if row.sha256 else None,
            size_bytes=row.size_bytes,
            kind=ReleaseFileKind(row.kind),
        ),
        stable=row.stable,
        listed=row.listed,
        state=FileState(row.state),
        reason=row.reason,
        has_bytes=row.blob_sha256 is not None,
        damaged=damaged,
        index=Digest(row.index_sha256),
        first_seen_at=row.first_seen_at,
        ingested_at=row.ingested_at,
        source_url=row.source_url,
        signature=row.signature,
        verdict=verdict,
        toolchain=toolchain,
        derived=derived,
    )


def _verdict(row: VerdictRow) -> RecordedVerdict:
    return RecordedVerdict(
        accepted=row.accepted,
        reason=row.reason,
        detail=row.detail,
        subkey=row.subkey,
        primary=row.primary,
        signed_at=row.signed_at,
        keyring=Digest(row.keyring_sha256),
        gpg_version=row.gpg_version,
        judged_at=row.judged_at,
    )


def _verdict_row(file_id: int, verdict: RecordedVerdict) -> VerdictRow:
    return VerdictRow(
        file_id=file_id,
        accepted=verdict.accepted,
        reason=verdict.reason,
        detail=verdict.detail,
        subkey=verdict.subkey,
        primary=verdict.primary,
        signed_at=verdict.signed_at,
        keyring_sha256=verdict.keyring.hex,
        gpg_version=verdict.gpg_version,
        judged_at=verdict.judged_at,
    )
