"""Hashing one blob again, and taking back the mark of damage where the bytes are right.

A mark can outlive its cause: a blob folder that was mounted late, or files that were put back from
a backup. So whoever finds a marked blob looks at its bytes before fetching them again.
"""

from app import logs
from app.core.digest import Digest
from app.db.audit import AuditLog
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.room import Room
from app.services.clock import Now
from app.services.flight import Flight
from app.storage.blobstore import BlobCondition, BlobStore

_log = logs.get("repair")


class Wholeness:
    """Checks blobs, each once for all concurrent callers."""

    def __init__(self, db: Database, store: BlobStore, now: Now) -> None:
        self._db = db
        self._store = store
        self._now = now
        self._checks: Flight[Digest, BlobCondition] = Flight()

    async def check(self, digest: Digest, size_bytes: int, why: str) -> BlobCondition:
        """Return the condition of a blob, all bytes hashed; a whole blob loses its mark.

        Args:
            digest: of the blob.
            size_bytes: the recorded size.
            why: who looks, for the audit row of a mark that is taken back.

        Raises:
            StorageError: the blob can't be read now.
        """
        return await self._checks.do(digest, lambda: self._check(digest, size_bytes, why))

    async def _check(self, digest: Digest, size_bytes: int, why: str) -> BlobCondition:
        condition = await self._store.check(digest, size_bytes, deep=True)
        if condition is BlobCondition.OK and await self._db.read(
            lambda s: Blobs(s).is_damaged(digest)
        ):
            # Whoever put the bytes back may not have synced them, and the row promises that.
            await self._store.make_durable(digest)
            await self._take_mark_back(digest, why)
        return condition

    async def _take_mark_back(self, digest: Digest, why: str) -> None:
        at = self._now()

        def work(session: Session) -> bool:
            if not Blobs(session).mark_whole(digest, at):
                return False
            AuditLog(session).append(at, "system", "blob.whole", f"sha256:{digest}", why)
            bump_generation(session)
            return True

        if await self._db.write(work, room=Room.BELOW_FLOOR):
            _log.info("blob is whole again", digest=digest.hex, why=why)
