"""Bringing in the files that never change: .info, .mod and .zip of a version, each by itself.

The order is the crash safety: checked while staged, durable before a row names it, one transaction.
The first value wins for ever. Different content is refused, logged as an error, and kept as
evidence.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

from app import logs, metrics, tracing
from app.core.digest import Digest
from app.core.errors import (
    MoorageError,
    OverloadedError,
    UpstreamAbsentError,
    VerificationError,
)
from app.core.goproxy import MAX_GO_MOD_BYTES, RequestKind
from app.core.moduleinfo import MAX_INFO_BYTES
from app.core.modzip import DEFAULT_LIMITS
from app.core.routing import LogPolicy
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.modules import INLINE_BYTES, ModuleFile, ModuleTable, files_and_mark, files_of
from app.db.routes import RouteTable
from app.services.clock import Now
from app.services.flight import Flight
from app.services.leases import Turns
from app.services.modules.checks import SHORT_BYTES, FileKey, check_small, check_zip, contradiction
from app.services.modules.recording import FileRecords
from app.services.modules.spill import SpillSink
from app.services.modules.troubles import contradicted
from app.services.publiclog.checks import LogChecks, LoggedSums
from app.services.quota import Quotas
from app.services.slots import Slots
from app.services.upstreams import Source
from app.services.wholeness import Wholeness
from app.storage.blobstore import BlobCondition, BlobStore, StagedBlob

_MAX_BYTES = {RequestKind.INFO: MAX_INFO_BYTES, RequestKind.MOD: MAX_GO_MOD_BYTES}
_LARGE_BYTES = 1024 * 1024  # below it a thread hop costs more than it saves
_WITH_MOD = (RequestKind.MOD, RequestKind.ZIP)
_FetchKey = tuple[int, str, str, str, LogPolicy]
PendingSums = asyncio.Future[LoggedSums | None]
_log = logs.get("modules")


class ModuleFiles:
    """The files of module versions, each fetched once from each origin.

    Attributes:
        quotas: what is stored for each tenant.
        records: the rows of the files.
    """

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        turns: Turns,
        slots: Slots,
        log_checks: LogChecks,
        now: Now,
        *,
        max_waiters: int,
        max_queue: int,
        quotas: Quotas | None = None,
    ) -> None:
        self._db = db
        self._store = store
        self._turns = turns
        self._slots = slots
        self._log_checks = log_checks
        self._wholeness = Wholeness(db, store, now)
        self._now = now
        self.quotas = quotas or Quotas(db)
        self.records = FileRecords(db, log_checks, now)
        # Two flights: the callers of one tenant share its slot, all tenants share the fetch. So no
        # tenant waits behind the queue of another one.
        self._queue: Flight[tuple[str, _FetchKey], ModuleFile] = Flight(
            max_waiters=max_waiters, max_keys=max_queue
        )
        self._flight: Flight[_FetchKey, ModuleFile] = Flight(
            max_waiters=max_waiters, max_keys=max_queue
        )
        self._closing = False

    async def ensure(self, key: FileKey, source: Source, *, is_ahead: bool = False) -> ModuleFile:
        """Return a stored file, fetched now if it is not there or damaged.

        Args:
            key: which file.
            source: where from, and whose slots the fetch takes.
            is_ahead: the work runs ahead of requests; see `Flight.do`.

        Raises:
            UpstreamAbsentError: it is not there.
            UpstreamError: it can't be had, or is not what it should be.
            VerificationError: it contradicts what is recorded.
            OverloadedError: too much is under way.
            QuotaError: the tenant has used its quota.
            StorageError: it can't be stored.
        """
        if self._closing:
            raise OverloadedError("this server is shutting down; ask again", retry_after_s=5)
        # A caller that requires the log must not join a fetch that skips the log.
        fetch_key = (*key.identity, key.log)
        return await self._queue.do(
            (source.tenant, fetch_key),
            lambda: self._fetch_with_slot(fetch_key, key, source),
            is_ahead=is_ahead,
        )

    async def _fetch_with_slot(
        self, fetch_key: _FetchKey, key: FileKey, source: Source
    ) -> ModuleFile:
        """Fetch a file once the tenant has a slot, or join the fetch of another tenant."""

        def work() -> Awaitable[ModuleFile]:
            return self._fetch_in_turn(key, source)

        if self._flight.is_running(fetch_key):
            return await self._flight.do(fetch_key, work)
        # The slot first: who waits for one must not hold, and renew, a lease meanwhile.
        async with self._slots.fetch(source.tenant, key.origin_id, source.slots, source.client):
            return await self._flight.do(fetch_key, work)

    async def _fetch_in_turn(self, key: FileKey, source: Source) -> ModuleFile:
        """Fetch a file when it is this process's turn, unless another one stored it meanwhile."""
        turn = f"module:{key.origin_id}:{key.name}"
        try:
            async with self._turns.hold(turn):
                of_version = await self._db.read_before_storing(
                    files_of([key.origin_id], key.module, key.version), key.is_among
                )
                known = next((file for file in of_version if file.kind is key.kind), None)
                if known is not None:
                    whole = await self.whole(known)
                    if whole is not None:
                        return whole
                    await self._db.require_room()
                await self.quotas.require(source.tenant, source.quota_bytes)
                needs_mod = not any(file.kind in _WITH_MOD for file in of_version)
                return await self._bring_in(key, source, known, needs_mod=needs_mod)
        except MoorageError as error:
            metrics.count_module_fetch(key.kind, type(error).__name__)
            if not isinstance(error, UpstreamAbsentError):
                _log.warning("module file not fetched", name=key.name, error=str(error))
            raise

    async def _stored(self, key: FileKey) -> ModuleFile | None:
        stored = await self._db.read(files_of([key.origin_id], key.module, key.version, key.kind))
        return next(iter(stored), None)

    async def whole(self, file: ModuleFile) -> ModuleFile | None:
        """Return a stored file if its bytes can be served; None if they must be fetched again.

        A mark of damage is looked into: the bytes may be back, and then the mark is taken back.
        """
        if not file.damaged:
            return file
        if file.evicted:
            return None
        condition = await self._wholeness.check(file.sha256, file.size_bytes, "before a fetch")
        return replace(file, damaged=False) if condition is BlobCondition.OK else None

    async def _bring_in(
        self, key: FileKey, source: Source, known: ModuleFile | None, *, needs_mod: bool
    ) -> ModuleFile:
        """Fetch, check and record a file.

        Args:
            key: which file.
            source: where from.
            known: what is recorded of the file, if its bytes are lost.
            needs_mod: neither the version's .mod nor its .zip is stored.
        """
        # The log, and a new zip's .mod, are asked for while the file is on its way.
        pending_sums = asyncio.ensure_future(self._ask_log(key, source.tenant))
        needs_mod = needs_mod and key.kind is RequestKind.ZIP
        pending_mod = asyncio.ensure_future(
            self._mod_of_new_zip(key, source, pending_sums, needs_mod=needs_mod)
        )
        try:
            if key.kind is RequestKind.ZIP:
                file = await self._fetch_zip(key, source, known, pending_sums, pending_mod)
            else:
                file = await self._fetch_small(key, source, pending_sums)
            mod = await pending_mod
        finally:
            pending_mod.cancel()
            pending_sums.cancel()
            await asyncio.gather(pending_mod, pending_sums, return_exceptions=True)
        new = [file] if mod is None else [file, mod]
        settled = await self.records.record(*new, tenant=source.tenant)
        self.quotas.count(source.tenant, sum(one.size_bytes for one in new))
        for stored in (settled, mod):
            if stored is not None:
                metrics.count_module_fetch(stored.kind, "ok")
                _log.info(
                    "module file stored", name=stored.name, h1=stored.h1, bytes=stored.size_bytes
                )
        return settled

    async def _mod_of_new_zip(
        self, key: FileKey, source: Source, pending_sums: PendingSums, *, needs_mod: bool
    ) -> ModuleFile | None:
        """Return the .mod to compare a new zip with and to keep with the zip.

        None if none is needed, or upstream has none.
        """
        if not needs_mod:
            return None
        mod_key = replace(key, kind=RequestKind.MOD)
        try:
            return await self._fetch_small(mod_key, source, pending_sums)
        except UpstreamAbsentError:
            return None

    async def _ask_log(self, key: FileKey, tenant: str) -> LoggedSums | None:
        if key.kind is RequestKind.INFO or key.log is LogPolicy.OFF:
            return None
        return await self._log_checks.logged_sums(key.module, key.version, key.log, tenant=tenant)

    async def _with_log_state(self, file: ModuleFile, pending_sums: PendingSums) -> ModuleFile:
        """Return the file as the log sees it.

        Raises:
            VerificationError: the log vouches for other content; that is kept as evidence.
            UpstreamError: the log can't be asked, and the route requires it.
        """
        logged = await pending_sums
        if logged is None:
            return file
        try:
            return replace(file, log_state=logged.judge(file))
        except VerificationError as error:
            await self.records.keep_evidence(file, str(error))
            raise

    async def _fetch_small(
        self, key: FileKey, source: Source, pending_sums: PendingSums
    ) -> ModuleFile:
        async with self._sink(source) as sink:
            file = await self._receive_small(key, source, sink)
            file = await self._with_log_state(file, pending_sums)
            if file.size_bytes <= INLINE_BYTES:
                return file
            await sink.commit(file.sha256)
        return replace(file, body=None)

    def _sink(self, source: Source) -> SpillSink:
        return SpillSink(self._store, self._slots.memory, INLINE_BYTES, source.tenant)

    async def _receive_small(self, key: FileKey, source: Source, sink: SpillSink) -> ModuleFile:
        """Fetch a .info or .mod into a sink and check it, in a thread unless it is short."""
        await source.proxy.fetch(key.request, sink, _MAX_BYTES[key.kind])
        await sink.seal()
        at = self._now()
        with tracing.span("verify"):
            if sink.size_bytes <= SHORT_BYTES:
                return check_small(key, sink.read(), at)
            async with self._slots.checks.hold(source.tenant):
                return await asyncio.to_thread(lambda: check_small(key, sink.read(), at))

    async def _fetch_zip(
        self,
        key: FileKey,
        source: Source,
        known: ModuleFile | None,
        pending_sums: PendingSums | None = None,
        pending_mod: asyncio.Future[ModuleFile | None] | None = None,
    ) -> ModuleFile:
        async with self._store.stage() as staged:
            await source.proxy.fetch(key.request, staged, DEFAULT_LIMITS.zip_bytes)
            digest = await staged.seal()
            async with self._slots.checks.hold(source.tenant):
                with tracing.span("verify"):
                    check = check_zip(key, staged.path, digest, staged.size_bytes, self._now())
                    file = await _beside_flush(staged, check)
            # What contradicts the record must not even become a blob.
            is_unmarked = await self._refuse_contradiction(
                file, known or (None if pending_mod is None else await pending_mod)
            )
            if pending_sums is not None:
                file = await self._with_log_state(file, pending_sums)
            with tracing.span("commit"):
                await self._store.commit(staged, digest, is_unmarked=is_unmarked)
        return file

    async def _refuse_contradiction(self, file: ModuleFile, known: ModuleFile | None) -> bool:
        """Return if a file contradicts neither known nor, without it, what is recorded.

        Return True if the same look at the record showed that no mark of garbage collection stands
        against the file's blob; see `BlobStore.commit`.

        Raises:
            VerificationError: the file contradicts it; that is kept as evidence.
        """
        is_unmarked = False
        if known is not None:
            why = contradiction(known, file)
        else:
            others, is_unmarked = await self._db.read(
                files_and_mark(file.origin_id, file.module, file.version, file.sha256)
            )
            why = next((w for o in others if (w := contradiction(o, file))), None)
        if why is not None:
            await self.records.keep_evidence(file, why)
            raise contradicted(why)
        return is_unmarked

    async def recheck(self, key: FileKey, source: Source) -> ModuleFile:
        """Fetch a stored file again and compare it with the record; return what is recorded now.

        A .info that differs is taken over: no hash pins it, and only this mends a wrong one.

        Raises:
            VerificationError: upstream sends something else today; that is kept as evidence.
            UpstreamError: it can't be had.
            OverloadedError: the tenant has no slot for the fetch.
        """
        known = await self._stored(key)
        if known is None:
            raise VerificationError(f"{key.name} is not stored; there is nothing to compare")
        async with self._slots.fetch(source.tenant, key.origin_id, source.slots, source.client):
            return await self._fetch_and_compare(key, source, known)

    async def _fetch_and_compare(
        self, key: FileKey, source: Source, known: ModuleFile
    ) -> ModuleFile:
        if key.kind is not RequestKind.ZIP:
            async with self._sink(source) as sink:
                file = await self._receive_small(key, source, sink)
                await self._refuse_contradiction(file, known)
                if key.kind is RequestKind.INFO and file.sha256 != known.sha256:
                    return await self._take_over(file, sink)
            return known
        await self._fetch_zip(key, source, known)
        return known

    async def _take_over(self, file: ModuleFile, sink: SpillSink) -> ModuleFile:
        """Record another .info in the place of the recorded one; return it as it is recorded."""
        if file.size_bytes > INLINE_BYTES:
            await sink.commit(file.sha256)
            file = replace(file, body=None)

        def work(session: Session) -> None:
            if file.body is None:
                Blobs(session).record(file.sha256, file.size_bytes, file.stored_at)
            ModuleTable(session).replace_bytes(file)
            # Not for all tenants: an admin may do this again and again with an upstream of their
            # own.
            bump_generation(session, RouteTable(session).tenants_asking(file.origin_id))

        await self._db.write(work, size_bytes=file.size_bytes)
        return file

    async def read(self, file: ModuleFile) -> bytes:
        """Return the bytes of a .info or .mod.

        Raises:
            BlobDamagedError: its blob is damaged.
            BlobMissingError: its blob is gone.
        """
        if file.body is not None:
            if Digest.of(file.body) != file.sha256:
                raise VerificationError(f"the stored {file.name} was found damaged")
            return file.body
        return await self._store.read(file.sha256, max_bytes=MAX_GO_MOD_BYTES)

    def begin_drain(self) -> None:
        """Start no new fetch; those that run go on."""
        self._closing = True

    async def aclose(self, *, drain_s: float) -> None:
        """Start nothing new; give running fetches drain_s seconds, then cancel them."""
        self._closing = True
        await self._queue.drain(drain_s)
        await self._flight.aclose(cancel=True)


async def _beside_flush(staged: StagedBlob, check: Awaitable[ModuleFile]) -> ModuleFile:
    """Return what a check returns; meanwhile a large blob is written through to the disk."""
    if staged.size_bytes < _LARGE_BYTES:
        return await check
    flushing = asyncio.ensure_future(staged.flush())
    try:
        file = await check
    except BaseException:
        await asyncio.gather(flushing, return_exceptions=True)
        raise
    await flushing
    return file
