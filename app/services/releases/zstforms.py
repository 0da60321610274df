"""The zstd forms of archives: made by the leader in the background, one after the other.

No request waits for one: where it is not made yet, clients take the archive. A crash leaves a
staged file or a blob without a row, never a row without its bytes.
"""

import asyncio
from pathlib import Path

from app import logs
from app.core.chunks import PieceSums, sum_pieces
from app.core.derived import DerivedFile, Zst
from app.core.digest import Digest
from app.core.errors import BadInputError, StorageError, StorageFullError
from app.core.goversion import sort_key
from app.core.releasefile import FileRecord
from app.db.derived import DerivedTable
from app.db.engine import Database, Session
from app.db.generation import RELEASES, bump_generation
from app.db.releases import ReleaseTable
from app.db.room import Room
from app.services.clock import Now
from app.services.releases.recompress import Recompressor
from app.storage.blobstore import BlobStore

_SUFFIX = "tar.gz"  # a zip has no tar inside
_log = logs.get("zst")


class ZstForms:
    """Makes and records zstd forms; without a recompressor, none."""

    def __init__(
        self, db: Database, store: BlobStore, recompressor: Recompressor | None, now: Now
    ) -> None:
        self._db = db
        self._store = store
        self._recompressor = recompressor
        self._now = now
        self._failed: set[Digest] = set()

    async def missing(self) -> list[FileRecord]:
        """Return the served archives that lack their zstd form, the newest release first."""
        records = await self._db.read(lambda s: ReleaseTable(s).all())
        lacking = [r for r in records if _lacks_zst(r) and r.sha256 not in self._failed]
        return sorted(lacking, key=lambda r: sort_key(r.file.version), reverse=True)

    async def step(self) -> None:
        """Make what is missing; an archive that fails is tried again by the next leader.

        Raises:
            StorageFullError: the disk is full; the next step tries again.
        """
        if self._recompressor is None:
            return
        while missing := await self.missing():
            record = missing[0]  # asked anew each time: a newer release may have come in
            try:
                await self.make(record)
            except StorageFullError:
                raise
            except (BadInputError, StorageError) as error:
                self._failed.add(record.sha256)
                _log.warning("no zstd form", filename=record.file.filename, error=str(error))

    async def make(self, record: FileRecord) -> Zst:
        """Make the zstd form of a stored archive, and record it.

        Raises:
            BadInputError: the archive can't be read.
            StorageError: it is damaged, or the form can't be made or stored.
        """
        if self._recompressor is None:
            raise StorageError("zstd forms are not made here (MOORAGE_RELEASES__ZSTD__ENABLED)")
        async with self._store.stage(size_hint_bytes=record.file.size_bytes) as staged:
            async with self._store.local_file(record.sha256) as path:
                sums = await self._recompressor.run(path, staged.write)
            digest = await staged.seal()
            if (sums.archive, sums.zst) != (record.sha256, digest):
                raise StorageError(f"the stored {record.file.filename} was read damaged")
            pieces = await asyncio.to_thread(_sum_file, staged.path)
            await self._store.commit(staged, digest)
            size_bytes = staged.size_bytes
        chunks = await self._store.put(pieces.sums)
        zst = Zst(digest, size_bytes, DerivedFile(chunks, len(pieces.sums)))
        at = self._now()

        def work(session: Session) -> None:
            if DerivedTable(session).record_zst(record.sha256, zst, at):
                bump_generation(session, [RELEASES])

        await self._db.write(work)
        _log.info("zstd form made", filename=record.file.filename, bytes=size_bytes)
        return zst

    async def heal(self, record: FileRecord) -> None:
        """Make a damaged form anew; where none are made any more, offer none.

        Raises:
            MoorageError: see `make`.
        """
        if self._recompressor is not None:
            await self.make(record)
            return

        def work(session: Session) -> None:
            DerivedTable(session).drop_zst(record.sha256)
            bump_generation(session, [RELEASES])

        await self._db.write(work, room=Room.BELOW_FLOOR)


def _lacks_zst(record: FileRecord) -> bool:
    is_fit = record.served and not record.damaged and record.file.suffix == _SUFFIX
    return is_fit and record.derived is not None and record.derived.zst is None


def _sum_file(path: Path) -> PieceSums:
    try:
        with path.open("rb") as stream:
            return sum_pieces(stream)
    except OSError as error:
        raise StorageError(f"a staged file can't be read back: {error.strerror}") from error
