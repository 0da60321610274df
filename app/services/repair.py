"""Healing damaged blobs: out of reach at once, fetched again when next asked for, or right away.

What a blob is to whom, and where to get it again, is the owners' business: release files'
(`releases/healing.py`) and modules' (`modules/healing.py`).
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from app import logs, metrics
from app.core.digest import Digest
from app.core.errors import MoorageError
from app.db.audit import AuditLog
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.services.clock import Now
from app.services.flight import Flight
from app.storage.blobstore import BlobCondition, BlobStore

_log = logs.get("repair")


class BlobOwner(Protocol):
    """Somebody whose rows name blobs."""

    def names_of(self, session: Session, digest: Digest) -> list[str]:
        """Return the names of what a blob is the bytes of; none if it is nothing of this owner."""
        ...

    async def fetch_again(self, digest: Digest, *, forced: bool) -> None:
        """Bring the bytes in once more.

        Args:
            digest: of a blob that is recorded as damaged.
            forced: an admin wants it now, whatever failed a moment ago.

        Raises:
            MoorageError: they can't be had now.
        """
        ...


class Repair:
    """Takes damaged blobs out of reach and has them fetched again."""

    def __init__(
        self, db: Database, store: BlobStore, owners: Sequence[BlobOwner], now: Now
    ) -> None:
        self._db = db
        self._store = store
        self._owners = owners
        self._now = now
        self._running: set[asyncio.Task[bool]] = set()
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
            names = self.names_of(session, digest)
            if Blobs(session).mark_damaged(digest):
                AuditLog(session).append(at, "system", "blob.damage", f"sha256:{digest}", why)
                bump_generation(session)
            return names

        names = await self._db.write(work)
        metrics.count_blob_damaged()
        _log.error("blob damaged", digest=digest.hex, why=why, files=names)
        if fetch and names:
            task = asyncio.ensure_future(self._fetch(digest))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def names_of(self, session: Session, digest: Digest) -> list[str]:
        """Return the names of everything whose bytes a blob is."""
        return [name for owner in self._owners for name in owner.names_of(session, digest)]

    async def heal(self, digest: Digest) -> bool:
        """Fetch a damaged blob again and wait for it; False if that can't be done now."""
        return await self._fetch(digest, forced=True)

    async def _fetch(self, digest: Digest, *, forced: bool = False) -> bool:
        for owner in self._owners:
            names = await self._db.read(partial(owner.names_of, digest=digest))
            if not names:
                continue
            try:
                await owner.fetch_again(digest, forced=forced)
            except MoorageError as error:
                _log.error("blob not repaired", name=names[0], error=str(error))
                continue
            return True
        return False

    async def aclose(self) -> None:
        """Stop what runs; the blob stays recorded as damaged and is fetched when next asked for."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
