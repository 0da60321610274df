"""Ingesting one file: fetch, check size, SHA-256 and signature, make durable, then offer.

The order is the crash safety: bytes are verified while staged, the blob is durable before any row
names it, and one transaction makes the file served. A crash before that transaction leaves an
orphaned blob at most, which the next attempt adopts instead of downloading again.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from app import logs, metrics
from app.core.digest import Digest
from app.core.errors import (
    BadInputError,
    BlobMissingError,
    DeniedError,
    MoorageError,
    NotYetError,
    OverloadedError,
    StorageError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamError,
    VerificationError,
)
from app.core.gorelease import Kind
from app.core.releasefile import (
    SERVED,
    FileRecord,
    FileState,
    RecordedVerdict,
    ToolchainIdentity,
)
from app.core.signature import VerdictReason
from app.db.audit import AuditLog
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.leases import LeaseHolder, LeaseTable
from app.db.releases import Outcome, Releases
from app.services.clock import Now
from app.services.flight import Flight
from app.services.leases import Leases
from app.services.releases.derive import derive_toolchain
from app.services.releases.keyring import ReleaseKeyring
from app.storage.blobstore import BlobCondition, BlobStore, StagedBlob
from app.upstream.godev import GoDev

_log = logs.get("ingestion")
SIGNED_SUFFIX = "tar.gz"  # the only kind for which upstream publishes signatures


@dataclass(frozen=True, slots=True)
class IngestionPolicy:
    """What may be ingested, and how much at once.

    Attributes:
        sha256_only: suffixes offered without a signature where upstream publishes none.
        on_demand: whether a request may start an ingestion.
        parallel: downloads at once in this process.
        retry_failed_s: for how long a failure is answered from memory, in seconds.
        max_waiters: requests that may wait for one file.
        max_queue: files that may be waited for.
    """

    sha256_only: frozenset[str]
    on_demand: bool = True
    parallel: int = 4
    retry_failed_s: float = 30
    max_waiters: int = 1000
    max_queue: int = 256

    def serves(self, record: FileRecord) -> bool:
        """Whether the bytes may go out, under the settings of now."""
        if record.state is FileState.SHA256_ONLY:
            return record.file.suffix in self.sha256_only
        return record.state is FileState.VERIFIED

    def refusal(self, record: FileRecord) -> str | None:
        """Return why this file can never be offered here, or None."""
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
    """How far one file is.

    Attributes:
        phase: "fetch", "verify", "done" or "failed".
    """

    filename: str
    phase: str
    done_bytes: int
    total_bytes: int


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Report to nobody."""


class Ingestion:
    """Brings files from upstream into the store, each once."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        godev: GoDev,
        keyring: ReleaseKeyring,
        leases: Leases,
        policy: IngestionPolicy,
        now: Now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._store = store
        self._godev = godev
        self._keyring = keyring
        self._leases = leases
        self.policy = policy
        self._now = now
        self._monotonic = monotonic
        self._flight: Flight[str, FileRecord] = Flight(
            max_waiters=policy.max_waiters, max_keys=policy.max_queue
        )
        self._slots = asyncio.Semaphore(policy.parallel)
        self._judging = asyncio.Semaphore(2)
        self._failures: dict[str, tuple[float, MoorageError]] = {}
        self._closing = False

    async def ensure(
        self,
        filename: str,
        *,
        asked_for: bool = False,
        report: Report = silent,
        actor: str = "system",
    ) -> FileRecord:
        """Return the record of a served file, ingesting it if need be.

        Args:
            filename: as in the index.
            asked_for: an admin or the selection wants it: settings about on-demand ingestion and
                remembered failures don't apply.
            report: is told how far it is; only that of the first of concurrent callers is used.
            actor: for the audit row.

        Raises:
            UnknownError: no index ever named it.
            DeniedError: policy doesn't let it in.
            NotYetError: its signature is not published yet.
            VerificationError: it is quarantined.
            OverloadedError: too many wait already.
            UpstreamError: it can't be had.
            StorageError: it can't be stored.
        """
        record = await self._record(filename)
        if self.policy.serves(record) and not record.damaged:
            return record
        refusal = self.policy.refusal(record)
        if refusal is not None:
            raise DeniedError(refusal)
        if not asked_for:
            self._check_on_demand(record)
            self._raise_remembered(filename)
        if self._closing:
            raise OverloadedError("this server is shutting down; ask again", retry_after_s=5)
        return await self._flight.do(filename, lambda: self._guarded(filename, report, actor))

    def _check_on_demand(self, record: FileRecord) -> None:
        if not self.policy.on_demand and not record.has_bytes:
            raise DeniedError(
                f"{record.file.filename} is not mirrored here, and this mirror does not fetch "
                "on demand; an admin can add it to MOORAGE_RELEASES__SELECT__PINS and run "
                "`moorage releases sync`"
            )

    def _raise_remembered(self, filename: str) -> None:
        until, error = self._failures.get(filename, (0.0, None))
        if error is not None and self._monotonic() < until:
            raise error.with_traceback(None)

    async def _record(self, filename: str) -> FileRecord:
        record = await self._db.read(lambda s: Releases(s).get(filename))
        if record is None:
            raise UnknownError(f"{filename} is in no release index that was read so far")
        return record

    async def _guarded(self, filename: str, report: Report, actor: str) -> FileRecord:
        """Do the work once; remember a failure, tell whoever watches."""
        started = self._monotonic()
        try:
            async with self._slots, self._leases.hold(f"ingest:{filename}") as lease:
                record = await self._ingest(filename, lease, report, actor)
        except MoorageError as error:
            self._remember(filename, error)
            report(Progress(filename, "failed", 0, 0))
            metrics.observe_ingestion(type(error).__name__, self._monotonic() - started)
            if not isinstance(error, NotYetError | VerificationError):  # those were told already
                _log.error("ingestion failed", filename=filename, error=str(error))
            raise
        self._failures.pop(filename, None)
        report(Progress(filename, "done", record.file.size_bytes, record.file.size_bytes))
        metrics.observe_ingestion(record.state, self._monotonic() - started)
        return record

    def _remember(self, filename: str, error: MoorageError) -> None:
        if len(self._failures) > self.policy.max_queue:
            self._failures.clear()
        self._failures[filename] = (self._monotonic() + self.policy.retry_failed_s, error)

    async def _ingest(
        self, filename: str, lease: LeaseHolder, report: Report, actor: str
    ) -> FileRecord:
        record = await self._record(filename)  # another process may have finished meanwhile
        if self.policy.serves(record) and not record.damaged:
            return record
        if await self._is_stored(record):
            async with self._store.local_file(_sha256(record)) as path:
                outcome = await self._judge(record, path)
        else:
            try:
                outcome = await self._fetch(record, report)
            except VerificationError as error:
                if self.policy.serves(record):  # its verdict stands; only the blob is to be healed
                    raise
                outcome = Outcome(FileState.QUARANTINED, str(error), self._now())
                return await self._settle(record, outcome, lease, actor)
        return await self._settle(record, replace(outcome, stored=True), lease, actor)

    async def _is_stored(self, record: FileRecord) -> bool:
        """Report whether the blob is there and whole, recorded or left by a crash."""
        condition = await self._store.check(_sha256(record), record.file.size_bytes, deep=True)
        return condition is BlobCondition.OK

    async def _fetch(self, record: FileRecord, report: Report) -> Outcome:
        filename, size = record.file.filename, record.file.size_bytes
        async with self._store.stage(size_hint_bytes=size) as staged:
            source = await self._download(record, staged, report)
            report(Progress(filename, "verify", size, size))
            outcome = await self._judge(record, staged.path)
            # Durable before any row names it: a crash here leaves an orphan that is adopted later.
            await self._store.commit(staged, _sha256(record))
        return replace(outcome, source_url=source)

    async def _download(self, record: FileRecord, staged: StagedBlob, report: Report) -> str:
        """Try the sources in order; return the URL whose bytes have the right SHA-256."""
        filename, size = record.file.filename, record.file.size_bytes
        troubles: list[MoorageError] = []
        for source in self._godev.files_urls:
            for _ in range(2):  # a mismatch is fetched afresh once: a damaged cache on the way
                await staged.restart()
                try:
                    url = await self._godev.download(
                        source,
                        filename,
                        staged,
                        size,
                        lambda done: report(Progress(filename, "fetch", done, size)),
                    )
                except UpstreamError as error:
                    troubles.append(error)
                    break
                digest = await staged.seal()
                if digest == _sha256(record):
                    return url
                troubles.append(
                    VerificationError(
                        f"{filename} from {source} has SHA-256 {digest}, "
                        f"the release index says {_sha256(record)}"
                    )
                )
        raise self._worst(record, troubles)

    def _worst(self, record: FileRecord, troubles: list[MoorageError]) -> MoorageError:
        """Return the error to answer with; wrong bytes count more than no bytes."""
        wrong = next((t for t in troubles if isinstance(t, VerificationError)), None)
        if wrong is not None:
            return wrong
        if all(isinstance(t, UpstreamAbsentError) for t in troubles):
            # The index promises it, so this is upstream's trouble and not a 404 of ours.
            return UpstreamError(
                f"the release index lists {record.file.filename}, but no source has it: "
                f"{troubles[0]}",
                origin=self._godev.files_urls[0],
            )
        return next(t for t in troubles if not isinstance(t, UpstreamAbsentError))

    async def _judge(self, record: FileRecord, path: Path) -> Outcome:
        """Return what signature and content say about bytes whose SHA-256 is right."""
        if self.policy.serves(
            record
        ):  # only its blob was lost: the verdict on these very bytes stands
            return Outcome(record.state, record.reason, self._now())
        toolchain = await self._toolchain(record, path)
        if toolchain is not None and not _is_of(toolchain, record):
            reason = f"it holds the toolchain {toolchain.version}, not {record.file.version}"
            return Outcome(FileState.QUARANTINED, reason, self._now())
        outcome = await self._judge_signature(record, path)
        return replace(outcome, toolchain=toolchain)

    async def _judge_signature(self, record: FileRecord, path: Path) -> Outcome:
        filename, at = record.file.filename, self._now()
        if record.file.suffix != SIGNED_SUFFIX:
            return Outcome(FileState.SHA256_ONLY, "", at)
        try:
            signature = await self._godev.signature(filename)
        except (UpstreamError, OverloadedError) as error:
            return Outcome(
                FileState.PENDING_SIGNATURE, f"its signature could not be fetched: {error}", at
            )
        if signature is None:
            if SIGNED_SUFFIX in self.policy.sha256_only:
                return Outcome(FileState.SHA256_ONLY, "", at)
            return Outcome(
                FileState.PENDING_SIGNATURE,
                "upstream publishes no signature for it yet; it is asked for again",
                at,
            )
        try:
            verdict = await self._verify(signature, path)
        except NotYetError as error:
            return Outcome(FileState.PENDING_SIGNATURE, str(error), at, signature=signature)
        return Outcome(_state(verdict), _reason(verdict), at, signature=signature, verdict=verdict)

    async def _verify(self, signature: bytes, path: Path) -> RecordedVerdict:
        keyring = await self._keyring.active()
        gpg = self._keyring.gpg
        async with self._judging:
            verdict = await asyncio.to_thread(gpg.verify, keyring, signature, path)
        return RecordedVerdict(
            accepted=verdict.accepted,
            reason=verdict.reason,
            detail=verdict.detail,
            subkey=verdict.subkey,
            primary=verdict.primary,
            signed_at=verdict.signed_at,
            keyring=keyring.digest,
            gpg_version=gpg.version,
            judged_at=self._now(),
        )

    async def _toolchain(self, record: FileRecord, path: Path) -> ToolchainIdentity | None:
        if record.file.kind is not Kind.ARCHIVE:
            return None
        if record.toolchain is not None:
            return record.toolchain
        try:
            return await asyncio.to_thread(derive_toolchain, record.file, path)
        except BadInputError as error:
            # The bytes are upstream's own all the same; only the derived module can't be had.
            _log.warning("no toolchain module", filename=record.file.filename, error=str(error))
            return None

    async def _settle(
        self, record: FileRecord, outcome: Outcome, lease: LeaseHolder, actor: str
    ) -> FileRecord:
        """Record the outcome; return the record of a served file, or raise why it isn't."""
        await self._write(record, outcome, lease, actor)
        settled = await self._record(record.file.filename)
        tell = _log.info if settled.served else _log.error
        tell(
            "file ingested" if settled.served else "file held back",
            filename=record.file.filename,
            state=settled.state,
            reason=settled.reason,
        )
        raise_if_held_back(settled)
        return settled

    async def _write(
        self, record: FileRecord, outcome: Outcome, lease: LeaseHolder, actor: str
    ) -> None:
        filename = record.file.filename

        def work(session: Session) -> None:
            if not LeaseTable(session).holds(lease):
                return  # too late: another process took over, and its result counts
            releases = Releases(session)
            before = releases.get(filename)
            if before is not None and _says_nothing_new(before, outcome):
                return
            if outcome.stored:
                Blobs(session).record(_sha256(record), record.file.size_bytes, outcome.at)
            releases.settle(filename, outcome)
            AuditLog(session).append(
                outcome.at, actor, f"release.{outcome.state}", filename, outcome.reason
            )
            bump_generation(session)

        await self._db.write(work)

    async def judge_again(
        self, actor: str = "system", *, but: frozenset[str] = frozenset()
    ) -> list[FileRecord]:
        """Judge every file that is held back with its bytes here; return those served now.

        Nothing is downloaded again but signatures.

        Args:
            actor: for the audit rows.
            but: names to leave alone, because they were judged a moment ago.
        """
        every = await self._db.read(lambda s: Releases(s).all())
        held = [
            r
            for r in every
            if r.has_bytes and not self.policy.serves(r) and r.file.filename not in but
        ]
        released = []
        for record in held:
            try:
                released.append(
                    await self.ensure(record.file.filename, asked_for=True, actor=actor)
                )
            except (NotYetError, VerificationError, DeniedError):
                continue  # it stays held back, and its record says why
            except (UpstreamError, StorageError, OverloadedError) as error:
                _log.warning("not judged", filename=record.file.filename, error=str(error))
        return released

    def begin_drain(self) -> None:
        """Start no new ingestion; those that run go on."""
        self._closing = True

    async def aclose(self, *, drain_s: float) -> None:
        """Start nothing new; give running ingestions drain_s seconds, then cancel them."""
        self._closing = True
        try:
            async with asyncio.timeout(drain_s):
                await self._flight.aclose(cancel=False)
        except TimeoutError:
            await self._flight.aclose(cancel=True)


def raise_if_held_back(record: FileRecord) -> None:
    """Return for a served file.

    Raises:
        NotYetError: its signature is not published yet.
        VerificationError: it is quarantined.
    """
    if record.state in SERVED:
        return
    if record.state is FileState.QUARANTINED:
        raise VerificationError(f"{record.file.filename} is quarantined: {record.reason}")
    reason = record.reason or "it is being fetched and checked; ask again"
    raise NotYetError(f"{record.file.filename} is not offered yet: {reason}")


def _is_of(toolchain: ToolchainIdentity, record: FileRecord) -> bool:
    """Whether the archive is of the release that names it: a wrong index could mix them up."""
    return toolchain.version.startswith(f"v0.0.1-{record.file.version}.")


def _says_nothing_new(before: FileRecord, outcome: Outcome) -> bool:
    """Whether recording outcome would only repeat what is recorded, as when it stays pending."""
    same = (before.state, before.reason) == (outcome.state, outcome.reason)
    return same and not before.damaged and before.has_bytes == outcome.stored


def _state(verdict: RecordedVerdict) -> FileState:
    if verdict.accepted:
        return FileState.VERIFIED
    if verdict.reason == VerdictReason.NO_SIGNATURE:
        return FileState.PENDING_SIGNATURE
    return FileState.QUARANTINED


def _reason(verdict: RecordedVerdict) -> str:
    return "" if verdict.accepted else verdict.detail


def _sha256(record: FileRecord) -> Digest:
    if record.file.sha256 is None:
        raise BlobMissingError(f"{record.file.filename} has no recorded SHA-256")
    return record.file.sha256
