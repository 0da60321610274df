"""Ingesting one file: fetch, check size, SHA-256 and signature, make durable, then offer.

The order makes a crash safe: bytes are verified while staged, the blob is durable before a row
names it, and one transaction makes the file served. A crash before that transaction leaves at most
an orphaned blob. The next attempt adopts the blob instead of downloading it again.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from app import logs, metrics, tracing
from app.core.digest import Digest
from app.core.errors import (
    DeniedError,
    MoorageError,
    NotYetError,
    OverloadedError,
    StorageError,
    StorageFullError,
    UnknownError,
    UpstreamError,
    VerificationError,
)
from app.core.ownrelease import is_own
from app.core.releasefile import (
    FileRecord,
    FileState,
)
from app.db.audit import AuditLog
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import RELEASES, STORED, bump_generation
from app.db.leases import LeaseHolder, LeaseTable
from app.db.releases import IngestionOutcome, ReleaseTable
from app.services.clock import Now
from app.services.flight import Flight
from app.services.leases import Leases
from app.services.releases.fetching import Fetcher
from app.services.releases.judging import Judge
from app.services.releases.policy import (
    IngestionPolicy,
    Progress,
    Report,
    raise_if_gone,
    raise_if_held_back,
    silent,
)
from app.services.slots import FairSemaphore, Places, Turn
from app.storage.blobstore import BlobCondition, BlobStore
from app.upstream.godev import GoDev

_log = logs.get("ingestion")


@dataclass(frozen=True, slots=True)
class _QueuedFile:
    """A file that waits for its slot, and the clients that ask for it."""

    turn: Turn
    clients: set[str]

    def ask(self, slots: FairSemaphore, client: str) -> None:
        """Let the file come by the queue of another client, too."""
        if client not in self.clients:
            self.clients.add(client)
            slots.share(self.turn, client)


class Ingestion:
    """Brings files from upstream into the store, each file once."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        godev: GoDev,
        judge: Judge,
        leases: Leases,
        policy: IngestionPolicy,
        now: Now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._store = store
        self._fetcher = Fetcher(godev)
        self._judge = judge
        self._leases = leases
        self.policy = policy
        self._now = now
        self._monotonic = monotonic
        # The places bound the queue, and fairly; the flight's own bound is never met before that.
        self._flight: Flight[str, FileRecord] = Flight(
            max_waiters=policy.max_waiters, max_keys=8 * policy.max_queue
        )
        self._places = Places(policy.max_queue)
        self._slots = FairSemaphore(policy.parallel, has_reserve=False)
        self._queued: dict[str, _QueuedFile] = {}  # by filename
        self._failures: dict[str, tuple[float, MoorageError]] = {}
        self._closing = False

    async def ensure(
        self,
        filename: str,
        *,
        forced: bool = False,
        report: Report = silent,
        actor: str = "system",
        client: str = "",
    ) -> FileRecord:
        """Return the record of a served file; ingest the file if it is not served yet.

        Args:
            filename: as in the index.
            forced: True for an admin or the selection: the setting for on-demand ingestion and
                remembered failures don't apply.
            report: called with the progress; of concurrent callers only the first one's is used.
            actor: for the audit row.
            client: the address that asks, "" for background work; clients get slots in turn.

        Raises:
            UnknownError: no index has ever named the file.
            GoneError: its release was withdrawn.
            DeniedError: policy refuses the file.
            NotYetError: the file's signature is not published yet.
            VerificationError: the file is quarantined.
            OverloadedError: too many requests are waiting.
            UpstreamError: upstream could not send the file.
            StorageError: the file can't be stored.
        """
        record = await self._record(filename)
        if self.policy.serves(record) and not record.damaged:
            return record
        raise_if_gone(record)
        refusal = self.policy.refusal(record)
        if refusal is not None:
            raise DeniedError(refusal, "releases")
        if not forced:
            self._check_on_demand(record)
            self._raise_remembered_failure(filename)
        if self._closing:
            raise OverloadedError("this server is shutting down; ask again", retry_after_s=5)
        if filename in self._queued:
            self._queued[filename].ask(self._slots, client)
        return await self._flight.do(
            filename, lambda: self._ingest_once(filename, report, actor, client)
        )

    async def names_of(self, digest: Digest) -> list[str]:
        """Return the names of the files that have this digest."""
        return await self._db.read(lambda s: ReleaseTable(s).names_of(digest))

    def _check_on_demand(self, record: FileRecord) -> None:
        if not self.policy.on_demand and not record.has_bytes:
            raise DeniedError(
                f"{record.file.filename} is not mirrored here, and this mirror does not fetch "
                "on demand; an admin can add it to MOORAGE_RELEASES__SELECT__PINS and run "
                "`moorage releases sync`",
                "releases",
            )

    def _raise_remembered_failure(self, filename: str) -> None:
        until, error = self._failures.get(filename, (0.0, None))
        if error is not None and self._monotonic() < until:
            raise error.with_traceback(None)

    async def _record(self, filename: str) -> FileRecord:
        record = await self._db.read(lambda s: ReleaseTable(s).get(filename))
        if record is None:
            raise UnknownError(f"{filename} is in no release index that was read so far")
        return record

    async def _ingest_once(
        self, filename: str, report: Report, actor: str, client: str
    ) -> FileRecord:
        """Ingest under slot and lease; remember a failure, report progress, count the result."""
        started = self._monotonic()
        try:
            # The slot first: who waits for one must not hold, and renew, a lease meanwhile.
            async with (
                self._slot(filename, client),
                self._leases.hold(f"ingest:{filename}") as lease,
            ):
                record = await self._ingest(filename, lease, report, actor)
        except MoorageError as error:
            # A full disk may have room again in the next second, and costs no request upstream.
            if not isinstance(error, StorageFullError | OverloadedError):
                self._remember_failure(filename, error)
            report(Progress(filename, "failed", 0, 0))
            metrics.observe_ingestion(type(error).__name__, self._monotonic() - started)
            if not isinstance(error, NotYetError | VerificationError):  # `_settle` logged these
                _log.error("ingestion failed", filename=filename, error=str(error))
            raise
        self._failures.pop(filename, None)
        report(Progress(filename, "done", record.file.size_bytes, record.file.size_bytes))
        metrics.observe_ingestion(record.state, self._monotonic() - started)
        return record

    @asynccontextmanager
    async def _slot(self, filename: str, client: str) -> AsyncIterator[None]:
        """Return a context that holds a slot for a file; wait for the slot.

        Raises:
            OverloadedError: the client's part of the queue is used up.
        """
        if not self._places.take("", client):
            raise OverloadedError(
                f"{self.policy.max_queue} other files are fetched or wait for it; try again"
            )
        queued = self._queued[filename] = _QueuedFile(self._slots.queue(client), {client})
        try:
            try:
                key = await self._slots.wait(queued.turn)
            finally:
                del self._queued[filename]
            try:
                yield
            finally:
                self._slots.release(key)
        finally:
            self._places.give_back("", client)

    def _remember_failure(self, filename: str, error: MoorageError) -> None:
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
            if not record.has_bytes:  # a blob from before a crash: it may not be synced
                await self._store.make_durable(record.sha256)
            async with self._store.local_file(record.sha256) as path:
                outcome = await self._judge.judge(record, path)
        elif is_own(record.file.version):
            raise StorageError(
                f"{filename} is an own release whose stored bytes are damaged: publish the same "
                "file again (`moorage releases publish`)"
            )
        else:
            try:
                outcome = await self._fetch(record, report)
            except VerificationError as error:
                if self.policy.serves(record):  # the verdict is valid; only the blob needs healing
                    raise
                outcome = IngestionOutcome(FileState.QUARANTINED, str(error), self._now())
                return await self._settle(record, outcome, lease, actor)
        return await self._settle(record, replace(outcome, stored=True), lease, actor)

    async def _is_stored(self, record: FileRecord) -> bool:
        """Report whether the store has the right bytes, recorded or from before a crash."""
        condition = await self._store.check(record.sha256, record.file.size_bytes, deep=True)
        return condition is BlobCondition.OK

    async def _fetch(self, record: FileRecord, report: Report) -> IngestionOutcome:
        filename, size, sha256 = record.file.filename, record.file.size_bytes, record.sha256
        async with self._store.stage(size_hint_bytes=size) as staged:
            source = await self._fetcher.fetch(record.file, sha256, staged, report)
            report(Progress(filename, "verify", size, size))
            with tracing.span("verify"):
                outcome = await self._judge.judge(record, staged.path)
            # Make it durable before a row names it: after a crash here the next attempt adopts it.
            with tracing.span("commit"):
                await self._store.commit(staged, sha256)
        return replace(outcome, source_url=source)

    async def _settle(
        self, record: FileRecord, outcome: IngestionOutcome, lease: LeaseHolder, actor: str
    ) -> FileRecord:
        """Record the outcome; return the record if the file is served, else raise the reason."""
        await self._write(record, outcome, lease, actor)
        settled = await self._record(record.file.filename)
        log = _log.info if settled.served else _log.warning
        if settled.state is FileState.QUARANTINED:
            log = _log.error
        log(
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
                return  # the lease was lost: another process took over, and its result counts
            releases = ReleaseTable(session)
            before = releases.get(filename)
            if before is not None and before.is_gone:
                return  # withdrawn meanwhile: the row must not get its bytes back
            if before is not None and _is_same_state(before, outcome) and not outcome.derived:
                return
            if outcome.stored:
                Blobs(session).record(record.sha256, record.file.size_bytes, outcome.at)
            releases.settle(filename, outcome)
            AuditLog(session).append(
                outcome.at, actor, f"release.{outcome.state}", filename, outcome.reason
            )
            # A file that was not served is in no answer to a tenant: a sync of many files must not
            # end all of those answers with each file.
            is_in_no_answer = before is None or not before.served
            bump_generation(session, [RELEASES if is_in_no_answer else STORED])

        await self._db.write(work)

    async def judge_again(
        self, actor: str = "system", *, skip: frozenset[str] = frozenset()
    ) -> list[FileRecord]:
        """Judge every file that is held back again; return the files that are served now.

        If the bytes are stored, only the signature is downloaded again. If wrong bytes were thrown
        away, the file is downloaded again: upstream may send the right bytes now.

        Args:
            actor: for the audit rows.
            skip: names of files that were judged a moment ago.
        """
        records = await self._db.read(lambda s: ReleaseTable(s).all())
        held_back = [
            r
            for r in records
            if (r.has_bytes or r.state is FileState.QUARANTINED)
            and not self.policy.serves(r)
            and r.file.filename not in skip
        ]
        served = []
        for record in held_back:
            try:
                served.append(await self.ensure(record.file.filename, forced=True, actor=actor))
            except (NotYetError, VerificationError, DeniedError):
                continue  # the file stays held back; its record has the reason
            except (UpstreamError, StorageError, OverloadedError) as error:
                _log.warning("not judged", filename=record.file.filename, error=str(error))
        return served

    def begin_drain(self) -> None:
        """Start no new ingestion; running ones continue."""
        self._closing = True

    async def aclose(self, *, drain_s: float) -> None:
        """Start no new ingestion; wait drain_s seconds for running ones, then cancel them."""
        self._closing = True
        await self._flight.drain(drain_s)


def _is_same_state(before: FileRecord, outcome: IngestionOutcome) -> bool:
    """Whether outcome equals the recorded state, for instance when a file stays pending."""
    same = (before.state, before.reason) == (outcome.state, outcome.reason)
    return same and not before.damaged and before.has_bytes == outcome.stored
