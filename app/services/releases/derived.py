"""Files that are derived from archives: made once, stored as blobs, recorded with the archive.

Tree and sums are made at ingestion, by `judging`. `step` makes up for archives that came in without
them: before this program could derive, or while the disk was full. A crash leaves at most blobs
without a row, which the next attempt adopts.
"""

import asyncio
from collections.abc import Iterator

from app import logs
from app.core.derived import Derived, DerivedFile
from app.core.digest import Digest
from app.core.errors import BadInputError, MoorageError, StorageError, StorageFullError
from app.core.gorelease import ReleaseFileKind
from app.core.releasefile import FileRecord
from app.core.tree import render_tree
from app.db.derived import DerivedTable
from app.db.engine import Database, Session
from app.db.generation import RELEASES, bump_generation
from app.db.releases import ReleaseTable
from app.services.clock import Now
from app.services.releases.derive import TARRED_SUFFIX, Contents, read_contents
from app.storage.blobstore import BlobStore

_log = logs.get("derived")


class DerivedFiles:
    """Makes and records the files that are derived from archives."""

    def __init__(self, db: Database, store: BlobStore, now: Now) -> None:
        self._db = db
        self._store = store
        self._now = now
        self._failed: set[Digest] = set()

    async def store(self, contents: Contents) -> Derived:
        """Make the tree and the sums of an archive durable blobs; no row names them yet.

        Raises:
            BadInputError: a path of the tree is both a file and a folder.
            StorageError: they can't be stored.
        """
        async with self._store.stage() as staged:
            pieces = render_tree(contents.tree)
            while (piece := await asyncio.to_thread(_next, pieces)) is not None:
                await staged.write(piece)
            digest = await staged.seal()
            await self._store.commit(staged, digest)
            listed = DerivedFile(digest, staged.size_bytes)
        sums = contents.sums.sums
        chunks = DerivedFile(await self._store.put(sums), len(sums))
        return Derived(listed, chunks, tar_sha256=contents.tar_sha256)

    async def missing(self) -> list[FileRecord]:
        """Return the served archives of which not everything is derived, by filename."""
        records = await self._db.read(lambda s: ReleaseTable(s).all())
        return sorted(filter(_lacks_derived, records), key=lambda r: r.file.filename)

    async def make(self, record: FileRecord) -> Derived:
        """Derive tree and sums of a stored archive, and record them.

        Raises:
            BadInputError: the file can't be read as an archive.
            StorageError: the archive is damaged, or they can't be stored.
        """
        async with self._store.local_file(record.sha256) as path:
            contents = await asyncio.to_thread(read_contents, record.file, path)
        derived = await self.store(contents)

        def work(session: Session) -> None:
            table = DerivedTable(session)
            table.record(record.sha256, record.file.size_bytes, derived, self._now())
            bump_generation(session, [RELEASES])

        await self._db.write(work)
        _log.info("derived", filename=record.file.filename, tree=derived.tree.sha256.hex)
        return derived

    async def step(self) -> None:
        """Derive what is missing; an archive that fails is tried again by the next leader.

        Raises:
            StorageFullError: the disk is full; the next step tries again.
        """
        for record in await self.missing():
            if record.sha256 in self._failed:
                continue
            try:
                await self.make(record)
            except StorageFullError:
                raise
            except (BadInputError, StorageError) as error:
                self._failed.add(record.sha256)
                _log.warning("not derived", filename=record.file.filename, error=str(error))


async def stored_or_none(
    derived: DerivedFiles, filename: str, contents: Contents
) -> Derived | None:
    """Return what `DerivedFiles.store` returns; None if that fails, which is made up for later."""
    try:
        return await derived.store(contents)
    except MoorageError as error:
        _log.warning("not derived", filename=filename, error=str(error))
        return None


def _lacks_derived(record: FileRecord) -> bool:
    is_archive = record.file.kind is ReleaseFileKind.ARCHIVE
    if not is_archive or not record.served or record.damaged:
        return False
    derived = record.derived
    is_tarred = record.file.suffix == TARRED_SUFFIX
    return derived is None or (is_tarred and derived.tar_sha256 is None)


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)
