"""Publishing a company's own Go releases: upload, check, make durable, then offer.

The order is that of ingestion, and so is the judge: bytes are verified while staged, the blob is
durable before a row names it, and one transaction makes the file served. What was published never
changes: the same bytes again are accepted, and heal a damaged file; other bytes are refused.

In the place of an index, a document says what was published: the release with the one file, in
go.dev's format.
"""

import time
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, replace

from app import logs, metrics
from app.core.bodylimit import BodyLimit
from app.core.digest import Digest
from app.core.errors import BadInputError, ConflictError, KeyringError
from app.core.gorelease import (
    MAX_FILE_BYTES,
    Release,
    ReleaseFile,
    ReleaseFileKind,
    parse_filename,
)
from app.core.logstate import LogState
from app.core.ownrelease import own_name
from app.core.principal import Principal
from app.core.releasefile import FileRecord, FileState
from app.core.releaseindex import render_index
from app.core.signature import VerdictReason
from app.core.withdrawal import gone
from app.db.audit import AuditLog
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import RELEASES, STORED, bump_generation
from app.db.keyrings import Keyrings
from app.db.leases import LeaseHolder, LeaseTable
from app.db.releaseindex import IndexLog
from app.db.releases import IngestionOutcome, ReleaseTable
from app.db.withdrawals import WithdrawalTable
from app.services.authorization import require_publisher
from app.services.clock import Now
from app.services.leases import Leases
from app.services.releases.judging import Judge
from app.services.releases.keyring import OwnKeyring
from app.services.releases.policy import SIGNED_SUFFIX
from app.storage.blobstore import BlobStore, StagedBlob
from app.upstream.gpg import SIGNATURE_MAX_BYTES, Keyring

_DOCUMENT_URL = "published"  # stands for the index's URL
_KINDS = {
    "tar.gz": ReleaseFileKind.ARCHIVE,
    "zip": ReleaseFileKind.ARCHIVE,
    "msi": ReleaseFileKind.INSTALLER,
    "pkg": ReleaseFileKind.INSTALLER,
}
_SOURCE = "src"
_LIMIT = BodyLimit("the release file", MAX_FILE_BYTES)
_log = logs.get("publishing")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that somebody publishes.

    Attributes:
        chunks: its bytes.
        size_bytes: as announced; None if unknown.
        signature: the detached signature; None without one.
        sha256: what the bytes must have; None if the publisher does not say.
    """

    chunks: AsyncIterable[bytes]
    size_bytes: int | None = None
    signature: bytes | None = None
    sha256: Digest | None = None


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """The record of a published file, and whether it is new."""

    record: FileRecord
    is_new: bool


class OwnReleases:
    """Publishes files of own releases."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        judge: Judge,
        own_keyring: OwnKeyring,
        leases: Leases,
        now: Now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._store = store
        self._judge = judge
        self._own_keyring = own_keyring
        self._leases = leases
        self._now = now
        self._monotonic = monotonic

    async def publish(self, who: Principal, filename: str, upload: Upload) -> PublishedFile:
        """Check and offer a file; the first value of a name stays for ever.

        Args:
            who: a platform admin, or whoever has a platform token of scope `publish`.
            filename: "go1.25.9-corp1.linux-amd64.tar.gz".
            upload: the file.

        Raises:
            DeniedError: who may not publish.
            BadInputError: the name is not one of an own release, or the file is refused.
            TooLargeError: the file is larger than any release file.
            ConflictError: a file of the name has other bytes, or the release was retired without
                the file.
            GoneError: the release was withdrawn.
            KeyringError: no own key is pinned, or it can't be used.
            StorageError: the file can't be stored.
        """
        require_publisher(who)
        file = parse_own(filename)
        _LIMIT.check(upload.size_bytes)
        self._check_way(file, upload)
        await self._db.read(lambda s: _check_not_withdrawn(s, file))
        started = self._monotonic()
        async with self._store.stage(size_hint_bytes=upload.size_bytes) as staged:
            digest = await _received(staged, upload)
            file = replace(file, sha256=digest, size_bytes=staged.size_bytes)
            async with self._leases.hold(f"ingest:{filename}") as lease:
                published = await self._settle(who, file, upload.signature, staged, lease)
        metrics.observe_ingestion(published.record.state, self._monotonic() - started)
        return published

    def _check_way(self, file: ReleaseFile, upload: Upload) -> None:
        """Refuse a way that policy does not allow before the bytes come."""
        if upload.signature is not None and len(upload.signature) > SIGNATURE_MAX_BYTES:
            raise BadInputError(f"no signature has over {SIGNATURE_MAX_BYTES} bytes")
        if upload.signature is None and upload.sha256 is None:
            raise BadInputError(
                f"{file.filename} needs a signature, or the SHA-256 that it must have"
            )
        if upload.signature is None and file.suffix not in self._judge.policy.sha256_only:
            raise BadInputError(
                f"{file.filename} needs a signature: by its SHA-256 alone this mirror takes "
                f"{', '.join(sorted(self._judge.policy.sha256_only)) or 'nothing'} "
                "(MOORAGE_RELEASES__SHA256_ONLY)"
            )

    async def _settle(
        self,
        who: Principal,
        file: ReleaseFile,
        signature: bytes | None,
        staged: StagedBlob,
        lease: LeaseHolder,
    ) -> PublishedFile:
        """Judge and record a received file, under the lease of its name."""
        before = await self._db.read(lambda s: ReleaseTable(s).get(file.filename))
        document = render_index([Release(file.version, stable=True, files=(file,))])
        record = self._record(file, Digest.of(document), signature)
        if before is not None:
            return PublishedFile(await self._again(who, before, record, staged), is_new=False)
        outcome = await self._judge.judge(record, staged.path)
        _raise_if_refused(record, outcome)
        await self._store.commit(staged, record.sha256)
        await self._store.put(document)
        outcome = replace(outcome, stored=True, source_url=f"published by {who.actor}")
        keyring = None if outcome.verdict is None else (await self._own_keyring.active())[1]
        await self._db.write(
            lambda s: self._write(s, who, record, document, outcome, keyring, lease),
            size_bytes=len(document),
        )
        settled = await self._db.read(lambda s: ReleaseTable(s).get(file.filename))
        if settled is None:
            raise ConflictError(
                f"{file.filename} is published by somebody else right now; try again"
            )
        _log.info("own release published", filename=file.filename, state=settled.state)
        return PublishedFile(settled, is_new=True)

    async def _again(
        self, who: Principal, before: FileRecord, record: FileRecord, staged: StagedBlob
    ) -> FileRecord:
        """Return the record of a file that was published before; the same bytes heal it.

        Raises:
            ConflictError: it has other bytes.
        """
        if before.file.sha256 != record.sha256:
            raise ConflictError(
                f"{before.file.filename} was published with SHA-256 {before.file.sha256}; what was "
                f"sent has {record.sha256}: give it another name, such as the next number"
            )
        await self._store.commit(staged, record.sha256)
        if before.damaged:
            await self._db.write(lambda s: self._healed(s, who, before))
        return replace(before, damaged=False)

    def _record(self, file: ReleaseFile, document: Digest, signature: bytes | None) -> FileRecord:
        """Return the record of a file that was received and is not judged."""
        return FileRecord(
            file=file,
            stable=True,
            listed=True,
            state=FileState.KNOWN,
            reason="",
            has_bytes=False,
            damaged=False,
            index=document,
            first_seen_at=self._now(),
            ingested_at=None,
            source_url=None,
            signature=signature,
            verdict=None,
            toolchain=None,
        )

    def _write(
        self,
        session: Session,
        who: Principal,
        record: FileRecord,
        document: bytes,
        outcome: IngestionOutcome,
        keyring: Keyring | None,
        lease: LeaseHolder,
    ) -> None:
        releases, file = ReleaseTable(session), record.file
        if not LeaseTable(session).holds(lease) or releases.get(file.filename) is not None:
            return  # another process took over; the caller sees what came of that
        _check_not_withdrawn(session, file)  # perhaps meanwhile
        Blobs(session).record(record.index, len(document), outcome.at)
        IndexLog(session).add_document(record.index, _DOCUMENT_URL, outcome.at)
        Blobs(session).record(record.sha256, file.size_bytes, outcome.at)
        releases.add(file, stable=True, index=record.index, at=outcome.at)
        releases.settle(file.filename, replace(outcome, signature=record.signature))
        # No public log may learn the name of an own release.
        releases.set_toolchain_log(file.filename, LogState.PRIVATE)
        if keyring is not None:
            Keyrings(session).keep_own(keyring.digest, keyring.armored, outcome.at)
        detail = f"sha256:{record.sha256}, {file.size_bytes} B, {outcome.state}"
        AuditLog(session).append(outcome.at, who.actor, "release.publish", file.filename, detail)
        bump_generation(session, [RELEASES])

    def _healed(self, session: Session, who: Principal, record: FileRecord) -> None:
        at = self._now()
        Blobs(session).record(record.sha256, record.file.size_bytes, at)
        AuditLog(session).append(
            at, who.actor, "release.heal", record.file.filename, f"sha256:{record.sha256}"
        )
        bump_generation(session, [STORED])


def _check_not_withdrawn(session: Session, file: ReleaseFile) -> None:
    """Return if a file may be published: a release that was taken back gets no further files.

    The file of a retired release that was published before is accepted, as of any other release:
    the same bytes heal it.

    Raises:
        GoneError: the release was withdrawn for good.
        ConflictError: the release was retired, and the file is new.
    """
    withdrawal = WithdrawalTable(session).get(file.version)
    if withdrawal is None:
        return
    if withdrawal.is_gone:
        raise gone(withdrawal)
    if ReleaseTable(session).get(file.filename) is None:
        raise ConflictError(
            f"{withdrawal}; it gets no further files: publish another name, such as the next number"
        )


def parse_own(filename: str) -> ReleaseFile:
    """Return the file of an own release that a name stands for; SHA-256 and size are not known.

    Raises:
        BadInputError: the name is not one of a file of an own release.
    """
    name = parse_filename(filename)
    version = own_name(name.version)
    kind = ReleaseFileKind.SOURCE if name.platform == _SOURCE else _KINDS[name.suffix]
    os, dash, arch = name.platform.partition("-")
    if kind is ReleaseFileKind.SOURCE:
        if name.suffix != SIGNED_SUFFIX:
            raise BadInputError(f"{filename[:80]!a}: a source archive is a tar.gz")
        os = arch = ""
    elif not (dash and os.isalnum() and arch.isalnum() and name.platform.islower()):
        raise BadInputError(
            f"{filename[:80]!a} names no platform: it is such as {version}.linux-amd64.tar.gz"
        )
    return ReleaseFile(filename, os, arch, version, None, 0, kind)


async def _received(staged: StagedBlob, upload: Upload) -> Digest:
    """Write what comes into a staged file; return its digest.

    Raises:
        TooLargeError: the bytes are too many.
        BadInputError: they are none, cut short, or not those that were announced.
    """
    async for chunk in upload.chunks:
        _LIMIT.check(staged.size_bytes + len(chunk))
        await staged.write(chunk)
    if not staged.size_bytes:
        raise BadInputError("the file is empty")
    if upload.size_bytes not in (None, staged.size_bytes):
        raise BadInputError(
            f"the upload was cut: {staged.size_bytes} of {upload.size_bytes} bytes came"
        )
    digest = await staged.seal()
    if upload.sha256 not in (None, digest):
        raise BadInputError(f"what was sent has SHA-256 {digest}, not {upload.sha256}")
    return digest


def _raise_if_refused(record: FileRecord, outcome: IngestionOutcome) -> None:
    """Refuse a file that the judge does not have served: nothing of it is kept.

    Raises:
        BadInputError: the file or its signature is refused.
        KeyringError: gpg can't be used now.
    """
    filename, kind = record.file.filename, record.file.kind
    if outcome.state is FileState.PENDING_SIGNATURE and outcome.verdict is None:
        raise KeyringError(f"{filename} can't be judged: {outcome.reason}")
    verdict = outcome.verdict
    if verdict is not None and verdict.reason == VerdictReason.UNKNOWN_SUBKEY:
        raise BadInputError(
            f"{filename} is refused: it is signed by {verdict.subkey or 'a key'}, which is not in "
            "MOORAGE_RELEASES__OWN_KEYRING"
        )
    if outcome.state not in {FileState.VERIFIED, FileState.SHA256_ONLY}:
        raise BadInputError(f"{filename} is refused: {outcome.reason}")
    if kind is ReleaseFileKind.ARCHIVE and outcome.toolchain is None:
        raise BadInputError(
            f"{filename} is refused: it is no archive of a Go release; go/VERSION must say "
            f"{record.file.version}, and go/bin/go be there"
        )
