"""Hashing stored blobs again, a few at a time, to find bit rot before a client reads the blob."""

from datetime import datetime, timedelta
from functools import partial

from app import logs
from app.core.digest import Digest
from app.core.errors import StorageError
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.room import Room
from app.services.clock import Now
from app.services.repair import Repair
from app.storage.blobstore import BlobCondition, BlobStore

_BATCH = 20
_log = logs.get("scrub")


def _mark_checked(digest: Digest, at: datetime, session: Session) -> None:
    Blobs(session).mark_checked(digest, at)


class Scrub:
    """Hashes each blob again within a number of days; 0 days turns scrubbing off."""

    def __init__(
        self, db: Database, store: BlobStore, repair: Repair, now: Now, days: float
    ) -> None:
        self._db = db
        self._store = store
        self._repair = repair
        self._now = now
        self._days = days

    async def step(self) -> int:
        """Check the blobs that are due, at most a batch; return the number of damaged ones."""
        if not self._days:
            return 0
        now = self._now()
        due = now - timedelta(days=self._days)
        damaged = 0
        for blob in await self._db.read(lambda s: Blobs(s).due(due, now, _BATCH)):
            try:
                condition = await self._store.check(blob.digest, blob.size_bytes, deep=True)
            except StorageError as error:  # the disk failed: the bytes may still be right
                _log.error("blob can't be read", digest=blob.digest.hex, error=str(error))
                continue
            if condition is BlobCondition.OK:
                mark = partial(_mark_checked, blob.digest, now)
                await self._db.write(mark, room=Room.BELOW_FLOOR)
                continue
            damaged += 1
            await self._repair.damaged(blob.digest, f"scrub: {condition}")
        return damaged
