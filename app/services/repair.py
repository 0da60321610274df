"""Healing damaged blobs: quarantine at once; fetch again now, or at the next request.

The owners of a blob know its names and where to fetch it: release files (`releases/healing.py`) and
modules (`modules/healing.py`).
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
from app.db.room import Room
from app.services.clock import Now
from app.services.flight import Flight
from app.services.wholeness import Wholeness
from app.storage.blobstore import BlobCondition, BlobStore

_log = logs.get("repair")


class BlobOwner(Protocol):
    """A group of services whose rows name blobs."""

    def names_of(self, session: Session, digest: Digest) -> list[str]:
        """Return the names of this owner's files that have the digest; may be empty."""
        ...

    async def fetch_again(self, digest: Digest, *, forced: bool) -> None:
        """Fetch the bytes again.

        Args:
            digest: of a blob that is recorded as damaged.
            forced: True for an admin: ignore remembered failures.

        Raises:
            MoorageError: the bytes can't be fetched now.
        """
        ...


class Repair:
    """Quarantines damaged blobs and fetches them again."""

    def __init__(
        self, db: Database, store: BlobStore, owners: Sequence[BlobOwner], now: Now
    ) -> None:
        self._db = db
        self._store = store
        self._owners = owners
        self._now = now
        self._running: set[asyncio.Task[str | None]] = set()
        self._wholeness = Wholeness(db, store, now)
        self._suspicions: Flight[Digest, bool] = Flight()

    async def suspect(
        self, digest: Digest, size_bytes: int, why: str, *, fetch: bool = True
    ) -> bool:
        """Check a blob again; if it is damaged, call `damaged` and return True.

        If it is whole, or another process has stored it anew since, it is not damaged; a mark of
        earlier damage is taken back.

        Concurrent calls for one blob share one check: a late call must not quarantine a blob that
        was healed meanwhile. A file that was only touched (linked, new mode) is not damaged.
        """

        async def check() -> bool:
            seen = await self._db.read(lambda s: Blobs(s).checked_at(digest))
            condition = await self._wholeness.check(digest, size_bytes, why)
            if condition is BlobCondition.OK:
                return False
            if await self._db.read(lambda s: Blobs(s).checked_at(digest)) != seen:
                # Another process has healed it since: its bytes must not be taken for the bad ones.
                _log.info("blob healed elsewhere", digest=digest.hex, why=why)
                return False
            await self.damaged(digest, f"{why}: {condition}", fetch=fetch)
            return True

        return await self._suspicions.do(digest, check)

    async def damaged(self, digest: Digest, why: str, *, fetch: bool = True) -> None:
        """Quarantine the blob, record it, and fetch it again in the background.

        Nothing of that, if the store has a whole copy and restores the blob from it.

        Args:
            digest: of the blob whose bytes are wrong or missing.
            why: the result of the check, for log and audit.
            fetch: start to fetch now.
        """
        if await self._store.mend(digest):
            _log.warning("blob mended", digest=digest.hex, why=why)
            return
        await self._store.quarantine(digest)
        at = self._now()

        def work(session: Session) -> list[str]:
            names = self.names_of(session, digest)
            if Blobs(session).mark_damaged(digest):
                AuditLog(session).append(at, "system", "blob.damage", f"sha256:{digest}", why)
                bump_generation(session)
            return names

        names = await self._db.write(work, room=Room.BELOW_FLOOR)
        metrics.count_blob_damaged()
        _log.error("blob damaged", digest=digest.hex, why=why, files=names)
        if fetch and names:
            task = asyncio.ensure_future(self._fetch(digest))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def names_of(self, session: Session, digest: Digest) -> list[str]:
        """Return the names of all files that have the digest."""
        return [name for owner in self._owners for name in owner.names_of(session, digest)]

    async def heal(self, digest: Digest) -> str | None:
        """Fetch a damaged blob again and wait for it; return None, or why that failed."""
        return await self._fetch(digest, forced=True)

    async def _fetch(self, digest: Digest, *, forced: bool = False) -> str | None:
        trouble = "no file has it"
        for owner in self._owners:
            names = await self._db.read(partial(owner.names_of, digest=digest))
            if not names:
                continue
            try:
                await owner.fetch_again(digest, forced=forced)
            except MoorageError as error:
                _log.error("blob not repaired", name=names[0], error=str(error))
                trouble = str(error)
                continue
            return None
        return trouble

    async def aclose(self) -> None:
        """Cancel running repairs; the next request for such a blob fetches it."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
