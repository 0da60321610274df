"""Reading go.dev's index: record new files, refuse claims that contradict recorded files.

A document that is no index is refused as a whole, and the old one stays. Entries that are not
understood are skipped and counted. If the hash or size of a known file changes, the recorded values
stay and the claim is kept as evidence. A file that vanishes from the index is still served.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from app import logs, metrics
from app.core.digest import Digest
from app.core.errors import BadInputError, UpstreamContentError, UpstreamError
from app.core.gorelease import ReleaseFile, ReleaseIndex, SkippedEntries
from app.core.ownrelease import is_own
from app.core.releasefile import FileRecord, IndexConflict, IndexStatus
from app.core.releaseindex import MAX_INDEX_BYTES, parse_index
from app.db.audit import AuditLog
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import RELEASES, bump_generation
from app.db.releaseindex import IndexLog
from app.db.releases import ReleaseTable
from app.services.clock import Now
from app.services.flight import Flight
from app.storage.blobstore import BlobStore
from app.upstream.godev import GoDev

_log = logs.get("index")


@dataclass(frozen=True, slots=True)
class IndexChange:
    """The changes of one read of the index.

    Attributes:
        added: names of new files.
        vanished: names that the previous document lists and this one does not.
        conflicts: claims that contradict recorded files, new or recorded before.
        skipped: what was not understood.
    """

    document: Digest
    added: tuple[str, ...]
    vanished: tuple[str, ...]
    conflicts: tuple[IndexConflict, ...]
    skipped: tuple[SkippedEntries, ...]


class ReleaseIndexReader:
    """Reads the index into the database."""

    def __init__(self, db: Database, store: BlobStore, godev: GoDev, now: Now) -> None:
        self._db = db
        self._store = store
        self._godev = godev
        self._now = now
        self._flight: Flight[str, IndexChange] = Flight()

    async def refresh(self, actor: str = "system") -> IndexChange:
        """Read the index, once for all concurrent callers, and return the changes.

        Raises:
            UpstreamError: the index can't be read, or is refused; the recorded state stays.
        """
        return await self._flight.do("index", lambda: self._refresh(actor))

    async def status(self) -> IndexStatus:
        """Return the result of the last read."""
        return await self._db.read(lambda s: IndexLog(s).status())

    async def skipped(self) -> tuple[SkippedEntries, ...]:
        """Return what is not understood of the document that is in use; () without a document.

        Raises:
            StorageError: the document can't be read.
        """
        document = (await self.status()).document
        if document is None:
            return ()
        data = await self._store.read(document, max_bytes=MAX_INDEX_BYTES)
        return (await asyncio.to_thread(self._parse, data)).skipped

    async def _refresh(self, actor: str) -> IndexChange:
        try:
            data = await self._godev.index()
            index = await asyncio.to_thread(self._parse, data)
        except UpstreamError as error:
            await self._note_failure(error)
            raise
        document = Digest.of(data)
        is_new = document != (await self.status()).document
        if is_new:
            await self._store.put(data)
        at = self._now()
        change = await self._db.write(
            lambda s: self._take_over(s, index, document, len(data), at, actor),
            size_bytes=len(data),
        )
        metrics.count_index_refresh("accepted")
        self._log_change(change, is_new=is_new)
        return change

    def _parse(self, data: bytes) -> ReleaseIndex:
        try:
            return parse_index(data)
        except BadInputError as error:
            raise UpstreamContentError(
                f"the release index of {self._godev.index_url} is refused: {error}",
                origin=self._godev.index_url,
            ) from error

    async def _note_failure(self, error: UpstreamError) -> None:
        refused = isinstance(error, UpstreamContentError)
        metrics.count_index_refresh("refused" if refused else "failed")
        _log.error("index refused" if refused else "index not read", error=str(error))
        at = self._now()

        def work(session: Session) -> None:
            log = IndexLog(session)
            if log.status().error != str(error):
                AuditLog(session).append(
                    at, "system", "index.fail", self._godev.index_url, str(error)
                )
                bump_generation(session, [RELEASES])  # the pages say what failed
            log.failed(str(error), at)

        await self._db.write(work)

    def _take_over(
        self,
        session: Session,
        index: ReleaseIndex,
        document: Digest,
        size_bytes: int,
        at: datetime,
        actor: str,
    ) -> IndexChange:
        log, releases = IndexLog(session), ReleaseTable(session)
        known = {record.file.filename: record for record in releases.all()}
        Blobs(session).record(document, size_bytes, at)
        changed_document = log.status().document != document
        log.accepted(document, self._godev.index_url, at)
        seen = {f.filename: (f, r.stable) for r in index.releases for f in r.files}
        added = tuple(name for name in seen if name not in known)
        # Oldest first, so that the order of rows is the order of releases.
        for name in reversed(added):
            file, stable = seen[name]
            releases.add(file, stable=stable, index=document, at=at)
        conflicts = tuple(self._conflicts(releases, known, seen.values(), document, at))
        vanished = tuple(
            n for n, r in known.items() if r.listed and n not in seen and not is_own(r.file.version)
        )
        for name in vanished:
            releases.set_listed(name, listed=False)
        for name in (n for n, r in known.items() if not r.listed and n in seen):
            releases.set_listed(name, listed=True)
        fresh = [c for c in conflicts if log.add_conflict(c)]
        change = IndexChange(document, added, vanished, conflicts, index.skipped)
        if changed_document:
            self._audit(session, change, fresh, at, actor)
        bump_generation(session, [RELEASES])
        return change

    def _conflicts(
        self,
        releases: ReleaseTable,
        known: dict[str, FileRecord],
        seen: Iterable[tuple[ReleaseFile, bool]],
        document: Digest,
        at: datetime,
    ) -> Iterable[IndexConflict]:
        for file, _ in seen:
            record = known.get(file.filename)
            if record is None:
                continue
            old = record.file
            if (old.sha256, old.size_bytes) == (file.sha256, file.size_bytes):
                continue
            is_known_hash = old.sha256 is not None and old.sha256 != file.sha256
            if not old.verifiable and file.verifiable and not is_known_hash:
                releases.complete(file, document)
                continue
            yield IndexConflict(
                file.filename,
                old.sha256.hex if old.sha256 else "",
                old.size_bytes,
                file.sha256.hex if file.sha256 else "",
                file.size_bytes,
                document,
                at,
            )

    def _audit(
        self,
        session: Session,
        change: IndexChange,
        fresh: list[IndexConflict],
        at: datetime,
        actor: str,
    ) -> None:
        audit = AuditLog(session)
        audit.append(
            at,
            actor,
            "index.accept",
            f"sha256:{change.document}",
            f"{len(change.added)} new, {len(change.vanished)} vanished, "
            f"{len(change.conflicts)} conflicting files{_skipped_text(change.skipped)}",
        )
        for conflict in fresh:
            audit.append(
                at,
                actor,
                "index.conflict",
                conflict.filename,
                f"recorded sha256 {conflict.recorded_sha256}, {conflict.recorded_size_bytes} B; "
                f"index says {conflict.seen_sha256}, {conflict.seen_size_bytes} B: refused",
            )

    def _log_change(self, change: IndexChange, *, is_new: bool) -> None:
        for entries in change.skipped:
            metrics.count_index_skipped(entries.key, entries.count)
            if is_new:
                _log.warning(
                    "index has more than is understood",
                    key=entries.key,
                    count=entries.count,
                    first=entries.first,
                )
        for conflict in change.conflicts:
            metrics.count_index_conflict()
            _log.error(
                "index contradicts a recorded file",
                filename=conflict.filename,
                recorded=conflict.recorded_sha256,
                seen=conflict.seen_sha256,
                document=change.document.hex,
            )
        if change.vanished:
            _log.warning("index lost files", count=len(change.vanished), first=change.vanished[0])
        if change.added:
            _log.info("index has new files", count=len(change.added), newest=change.added[0])


def _skipped_text(skipped: tuple[SkippedEntries, ...]) -> str:
    return "".join(f"; skipped for {s.key}: {s.count}" for s in skipped)
