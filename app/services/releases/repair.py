"""Healing damaged blobs: out of reach at once, fetched again when next asked for, or right away."""

import asyncio

from app import logs, metrics
from app.core.digest import Digest
from app.core.errors import MoorageError
from app.db.audit import AuditLog
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.releases import Releases
from app.services.clock import Now
from app.services.flight import Flight
from app.services.releases.ingestion import Ingestion
from app.storage.blobstore import BlobCondition, BlobStore

_log = logs.get("repair")


class Repair:
    """Takes damaged blobs out of reach and has them fetched again."""

    def __init__(self, db: Database, store: BlobStore, ingestion: Ingestion, now: Now) -> None:
        self._db = db
        self._store = store
        self._ingestion = ingestion
        self._now = now
        self._running: set[asyncio.Task[None]] = set()
        self._looking: Flight[Digest, bool] = Flight()

    async def suspect(
        self, digest: Digest, size_bytes: int, why: str, *, fetch: bool = True
    ) -> bool:
        """Look at a blob once more, and treat it as `damaged` if it is; True if it is.

        One at a time for each blob: whoever comes later must not take away what was healed
        meanwhile, and a file that was only touched (linked, its mode changed) is not damaged.
        """

        async def look() -> bool:
            condition = await self._store.check(digest, size_bytes, deep=True)
            if condition is BlobCondition.OK:
                return False
            await self.damaged(digest, f"{why}: {condition}", fetch=fetch)
            return True

        return await self._looking.do(digest, look)

    async def damaged(self, digest: Digest, why: str, *, fetch: bool = True) -> None:
        """Quarantine the blob, record it, and fetch it again in the background.

        Args:
            digest: of the blob whose bytes were found wrong or missing.
            why: what was found, for log and audit.
            fetch: start fetching now.
        """
        await self._store.quarantine(digest)
        at = self._now()

        def work(session: Session) -> list[str]:
            names = Releases(session).names_of(digest)
            if Blobs(session).mark_damaged(digest):
                AuditLog(session).append(at, "system", "blob.damage", f"sha256:{digest}", why)
                bump_generation(session)
            return names

        names = await self._db.write(work)
        metrics.count_blob_damaged()
        _log.error("blob damaged", digest=digest.hex, why=why, files=names)
        if fetch and names:
            task = asyncio.ensure_future(self._fetch(names[0]))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def heal(self, digest: Digest) -> bool:
        """Fetch a damaged blob again and wait for it; False if that can't be done now."""
        names = await self._db.read(lambda s: Releases(s).names_of(digest))
        try:
            for name in names[:1]:
                await self._ingestion.ensure(name, asked_for=True)
        except MoorageError as error:
            _log.error("blob not repaired", filename=names[0], error=str(error))
            return False
        return bool(names)

    async def _fetch(self, filename: str) -> None:
        try:
            await self._ingestion.ensure(filename)
        except MoorageError as error:
            _log.error("blob not repaired", filename=filename, error=str(error))

    async def aclose(self) -> None:
        """Stop what runs; the blob stays recorded as damaged and is fetched when next asked for."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
