"""Ingesting one file: fetch, check size, SHA-256 and signature, make durable, then offer.

The order is the crash safety: bytes are verified while staged, the blob is durable before any row
names it, and one transaction makes the file served. A crash before that transaction leaves an
orphaned blob at most, which the next attempt adopts instead of downloading again.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from app import logs, metrics
from app.core.digest import Digest
from app.core.errors import (
    DeniedError,
    MoorageError,
    NotYetError,
    OverloadedError,
    StorageError,
    UnknownError,
    UpstreamError,
    VerificationError,
)
from app.core.releasefile import (
    FileRecord,
    FileState,
)
from app.db.audit import AuditLog
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.leases import LeaseHolder, LeaseTable
from app.db.releases import IngestionOutcome, ReleaseTable
from app.services.clock import Now
from app.services.flight import Flight
from app.services.leases import Leases
from app.services.releases.fetching import Fetcher
from app.services.releases.judging import Judge
from app.services.releases.keyring import ReleaseKeyring
from app.services.releases.policy import (
    IngestionPolicy,
    Progress,
    Report,
    raise_if_held_back,
    silent,
)
from app.storage.blobstore import BlobCondition, BlobStore
from app.upstream.godev import GoDev

_log = logs.get("ingestion")


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
        self._fetcher = Fetcher(godev)
        self._judge = Judge(godev, keyring, policy, now)
        self._leases = leases
        self.policy = policy
        self._now = now
        self._monotonic = monotonic
        self._flight: Flight[str, FileRecord] = Flight(
            max_waiters=policy.max_waiters, max_keys=policy.max_queue
        )
        self._slots = asyncio.Semaphore(policy.parallel)
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

    async def names_of(self, digest: Digest) -> list[str]:
        """Return the filenames whose bytes a blob is."""
        return await self._db.read(lambda s: ReleaseTable(s).names_of(digest))

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
        record = await self._db.read(lambda s: ReleaseTable(s).get(filename))
        if record is None:
            raise UnknownError(f"{filename} is in no release index that was read so far")
        return record

    async def _guarded(self, filename: str, report: Report, actor: str) -> FileRecord:
        """Do the work once; remember a failure, tell whoever watches."""
        started = self._monotonic()
        try:
            async with self._leases.hold(f"ingest:{filename}") as lease, self._slots:
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
            if not record.has_bytes:  # left by a crash: its writer may not have synced it
                await self._store.make_durable(record.sha256)
            async with self._store.local_file(record.sha256) as path:
                outcome = await self._judge.judge(record, path)
        else:
            try:
                outcome = await self._fetch(record, report)
            except VerificationError as error:
                if self.policy.serves(record):  # its verdict stands; only the blob is to be healed
                    raise
                outcome = IngestionOutcome(FileState.QUARANTINED, str(error), self._now())
                return await self._settle(record, outcome, lease, actor)
        return await self._settle(record, replace(outcome, stored=True), lease, actor)

    async def _is_stored(self, record: FileRecord) -> bool:
        """Report whether the blob is there and whole, recorded or left by a crash."""
        condition = await self._store.check(record.sha256, record.file.size_bytes, deep=True)
        return condition is BlobCondition.OK

    async def _fetch(self, record: FileRecord, report: Report) -> IngestionOutcome:
        filename, size, sha256 = record.file.filename, record.file.size_bytes, record.sha256
        async with self._store.stage(size_hint_bytes=size) as staged:
            source = await self._fetcher.fetch(record.file, sha256, staged, report)
            report(Progress(filename, "verify", size, size))
            outcome = await self._judge.judge(record, staged.path)
            # Durable before any row names it: a crash here leaves an orphan that is adopted later.
            await self._store.commit(staged, sha256)
        return replace(outcome, source_url=source)

    async def _settle(
        self, record: FileRecord, outcome: IngestionOutcome, lease: LeaseHolder, actor: str
    ) -> FileRecord:
        """Record the outcome; return the record of a served file, or raise why it isn't."""
        await self._write(record, outcome, lease, actor)
        settled = await self._record(record.file.filename)
        tell = _log.info if settled.served else _log.warning
        if settled.state is FileState.QUARANTINED:
            tell = _log.error
        tell(
            "file ingested" if settled.served else "file held back",
            filename=record.file.filename,
            state=settled.state,
            reason=settled.reason,
        )
        raise_if_held_back(settled)
        return settled

    async def _write(
        self, record: FileRecord, outcome: IngestionOutcome, lease: LeaseHolder, actor: str
    ) -> None:
        filename = record.file.filename

        def work(session: Session) -> None:
            if not LeaseTable(session).holds(lease):
                return  # too late: another process took over, and its result counts
            releases = ReleaseTable(session)
            before = releases.get(filename)
            if before is not None and _says_nothing_new(before, outcome):
                return
            if outcome.stored:
                Blobs(session).record(record.sha256, record.file.size_bytes, outcome.at)
            releases.settle(filename, outcome)
            AuditLog(session).append(
                outcome.at, actor, f"release.{outcome.state}", filename, outcome.reason
            )
            bump_generation(session)

        await self._db.write(work)

    async def judge_again(
        self, actor: str = "system", *, but: frozenset[str] = frozenset()
    ) -> list[FileRecord]:
        """Judge every file that is held back again; return those served now.

        Where the bytes are here, nothing is downloaded again but the signature. Where wrong bytes
        were thrown away the file is fetched anew: upstream may send the right ones by now.

        Args:
            actor: for the audit rows.
            but: names to leave alone, because they were judged a moment ago.
        """
        every = await self._db.read(lambda s: ReleaseTable(s).all())
        held = [
            r
            for r in every
            if (r.has_bytes or r.state is FileState.QUARANTINED)
            and not self.policy.serves(r)
            and r.file.filename not in but
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
        await self._flight.drain(drain_s)


def _says_nothing_new(before: FileRecord, outcome: IngestionOutcome) -> bool:
    """Whether recording outcome would only repeat what is recorded, as when it stays pending."""
    same = (before.state, before.reason) == (outcome.state, outcome.reason)
    return same and not before.damaged and before.has_bytes == outcome.stored
