"""A blob store in a folder of the local disk. Linux only.

    blobs/ab/abcd…       blobs (0440), sharded by the first two hex characters
    tmp/                 staged files, see ownership.py
    quarantine/abcd….n   damaged blobs, kept as evidence

The steps of a write are in durable.py, the verification of bytes is in verified.py.
"""

import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path

from app.core.digest import Digest
from app.core.errors import BlobDamagedError, BlobMissingError
from app.storage import durable
from app.storage.blobstore import (
    BlobCondition,
    BlobStore,
    Leftover,
    OpenBlob,
    Reclaim,
    StagedBlob,
    StoredBlob,
    keep_nothing_back,
)
from app.storage.durable import storage_errors, sync_file, sync_folder
from app.storage.freespace import FreeSpace
from app.storage.ownership import StagingArea
from app.storage.private import tighten
from app.storage.reading import LocalOpenBlob
from app.storage.seals import Seal
from app.storage.staging import StagedFile
from app.storage.threads import Threads
from app.storage.verified import VerifiedFiles

_SHARDS = tuple(f"{number:02x}" for number in range(256))
_AMPLE_INODES = 100_000
_BLOB_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)


class LocalBlobStore(VerifiedFiles, BlobStore):
    """Blobs below root, a folder of mode 0700; a missing root is made. Used from one event loop.

    Args:
        root: the store's folder; everything in it is on one file system.
        min_free_fraction: the share of the file system, 0 to 1, that stays free.
        max_threads: the largest number of concurrent disk operations.
        reclaim: is awaited before a blob is stored or adopted: takes it from the garbage.

    Raises:
        StorageError: root can't be made.
    """

    def __init__(
        self,
        root: Path,
        *,
        min_free_fraction: float = 0.05,
        max_threads: int = 16,
        reclaim: Reclaim = keep_nothing_back,
    ) -> None:
        super().__init__(root / "blobs", Threads(max_threads))
        self._quarantine = root / "quarantine"
        self._room = FreeSpace(root, min_free_fraction)
        self._area = StagingArea(root / "tmp")
        self._reclaim = reclaim
        self._synced_shards: set[str] = set()
        with storage_errors("open the blob store"):
            for folder in (root, self._blobs, root / "tmp", self._quarantine):
                durable.make_folder(folder)
            tighten(root)

    def close(self) -> None:
        """Remove this process's staged files and end its threads. Blocks; may be called twice."""
        self._area.close()
        self._threads.close()

    @asynccontextmanager
    async def stage(self, *, size_hint_bytes: int | None = None) -> AsyncIterator[StagedBlob]:
        """Return a context with a new staged blob; see `BlobStore.stage`."""
        staged = StagedFile(self._area, self._room, self._threads, size_hint_bytes)
        try:
            await staged.restart()
            yield staged
        finally:
            if not staged.is_dropped:  # a commit drops it
                await self._threads.run(staged.drop)

    async def commit(
        self, staged: StagedBlob, expected: Digest, *, is_unmarked: bool = False
    ) -> None:
        """Make a sealed staged blob durable; see `BlobStore.commit`."""
        if not isinstance(staged, StagedFile):
            raise TypeError("only a blob staged by this store can be committed")
        if staged.digest != expected:
            raise BlobDamagedError(f"the staged bytes are {staged.digest}, not {expected}")
        if not is_unmarked:
            await self._reclaim(expected)
        await self._threads.run(partial(self._commit, staged))

    async def put(self, data: bytes) -> Digest:
        """Store data durably and return its digest; see `BlobStore.put`."""
        async with self.stage(size_hint_bytes=len(data)) as staged:
            await staged.write(data)
            digest = await staged.seal()
            await self.commit(staged, digest)
        return digest

    async def open(self, digest: Digest, size_bytes: int) -> OpenBlob:
        """Open a blob after its bytes are verified; see `BlobStore.open`."""
        file = await self._threads.run(partial(self._open, digest), discard=FileIO.close)
        try:
            seal = await self._verify(file, digest, size_bytes)
        except BaseException:
            file.close()
            raise
        return LocalOpenBlob(file, seal, digest, self._threads)

    @asynccontextmanager
    async def local_file(self, digest: Digest) -> AsyncIterator[Path]:
        """Return a context with the blob's own file; see `BlobStore.local_file`."""
        (await self._threads.run(partial(self._open, digest), discard=FileIO.close)).close()
        yield self._path(digest)

    async def read(self, digest: Digest, *, max_bytes: int) -> bytes:
        """Return a whole small blob, verified; see `BlobStore.read`."""
        return await self._threads.run(partial(self._read, digest, max_bytes))

    async def check(self, digest: Digest, size_bytes: int, *, deep: bool) -> BlobCondition:
        """Report the condition of one blob; see `BlobStore.check`."""
        return await self._threads.run(partial(self._check, digest, size_bytes, deep))

    async def make_durable(self, digest: Digest) -> None:
        """Sync a blob and its name; see `BlobStore.make_durable`."""
        await self._reclaim(digest)
        await self._threads.run(partial(self._sync, digest))

    def _sync(self, digest: Digest) -> None:
        path = self._path(digest)
        with storage_errors(f"sync blob {digest}"):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise BlobMissingError(f"there is no blob {digest}") from error
            try:
                sync_file(descriptor)
            finally:
                os.close(descriptor)
            sync_folder(path.parent)
            sync_folder(path.parent.parent)

    async def mend(self, digest: Digest) -> bool:
        """Return False: there is one copy of each blob; see `BlobStore.mend`."""
        return False

    async def link(self, digest: Digest, lifetime_s: float) -> str | None:
        """Return None: nobody else serves the files; see `BlobStore.link`."""
        return None

    def note(self) -> str | None:
        """Return None; see `BlobStore.note`."""
        return None

    async def quarantine(self, digest: Digest) -> Path | None:
        """Move a blob to quarantine/<hex>.<n>; see `BlobStore.quarantine`."""
        return await self._threads.run(partial(self._move_aside, digest))

    async def delete(self, digest: Digest) -> None:
        """Remove a blob; see `BlobStore.delete`."""
        await self._threads.run(partial(self._delete, digest))

    def walk(self) -> Iterator[StoredBlob]:
        """Yield every blob, in digest order; see `BlobStore.walk`.

        Raises:
            StorageError: a folder can't be read.
        """
        with storage_errors("walk the blobs"):
            for shard in sorted(self._blobs.iterdir()):
                for path in _blob_files(shard):
                    with suppress(FileNotFoundError):
                        yield _stored_blob(path)

    def leftovers(self) -> Iterator[Leftover]:
        """Yield staged files whose process is dead; see `BlobStore.leftovers`.

        Raises:
            StorageError: the folder tmp can't be read.
        """
        with storage_errors("look for leftovers"):
            yield from self._area.leftovers()

    async def recover(self) -> int:
        """Remove the leftovers of dead processes; see `BlobStore.recover`.

        Raises:
            StorageError: a leftover can't be removed.
        """
        return await self._threads.run(self._recover)

    async def probe(self) -> int:
        """Prove that the store can be written; see `BlobStore.probe`."""
        return await self._threads.run(self._probe)

    # The methods below run in a thread.

    def _commit(self, staged: StagedFile) -> None:
        digest = staged.digest
        try:
            with storage_errors(f"store blob {digest}"):
                before = staged.stat()
                staged.sync()
                self._make_shard(digest.hex[:2])
                durable.publish(
                    staged.path,
                    self._path(digest),
                    partial(self._existing_condition, digest, before.st_size),
                )
                self._seal_published(digest, staged, before)
        finally:
            # The file is a blob now, or may be one: nobody may write to it any more.
            staged.drop()

    def _seal_published(self, digest: Digest, staged: StagedFile, before: os.stat_result) -> None:
        """Remember the seal of a new blob, so that its first reader need not hash it.

        The seal is taken after link and unlink, which both change ctime. One link means that the
        file is the blob, not a second copy beside an existing blob. A changed mtime means that
        somebody else wrote to the file.
        """
        after = staged.stat()
        is_same = (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        if after.st_nlink == 1 and is_same:
            self._seals.put(digest, Seal.of(after))

    def _make_shard(self, name: str) -> None:
        shard = self._blobs / name
        if name not in self._synced_shards or not shard.is_dir():
            durable.make_folder(shard)
            self._synced_shards.add(name)

    def _existing_condition(self, digest: Digest, size_bytes: int) -> BlobCondition:
        """Report the condition of an existing blob; only an OK one stays.

        A blob that can't be read counts as damaged: the new file replaces it.
        """
        try:
            with self._open(digest) as file:
                seal = Seal.of(os.fstat(file.fileno()))
                if not self._seals.holds(digest, seal) or seal.size_bytes != size_bytes:
                    condition = self._condition(file, digest, size_bytes)
                    if condition is not BlobCondition.OK:
                        return condition
                # The file's writer, for instance a restored backup, may not have synced it.
                durable.sync_file(file.fileno())
                return BlobCondition.OK
        except BlobMissingError:
            return BlobCondition.MISSING
        except (BlobDamagedError, OSError):
            return BlobCondition.DAMAGED

    def _check(self, digest: Digest, size_bytes: int, deep: bool) -> BlobCondition:
        try:
            with storage_errors(f"check blob {digest}"), self._open(digest) as file:
                if not deep:
                    is_right = os.fstat(file.fileno()).st_size == size_bytes
                    return BlobCondition.OK if is_right else BlobCondition.SHORT
                # The page cache may still have right bytes after the disk lost them.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                return self._condition(file, digest, size_bytes)
        except BlobMissingError:
            return BlobCondition.MISSING
        except BlobDamagedError:
            return BlobCondition.DAMAGED

    def _read(self, digest: Digest, max_bytes: int) -> bytes:
        shown = f"blob {digest}"
        with storage_errors(f"read {shown}"), self._open(digest) as file:
            content = file.read(max_bytes + 1)
            while len(content) <= max_bytes and (rest := file.read(max_bytes + 1 - len(content))):
                content += rest
        if len(content) > max_bytes:
            raise BlobDamagedError(f"{shown} has more than {max_bytes} bytes")
        if Digest.of(content) != digest:
            raise BlobDamagedError(f"{shown} does not have the digest's bytes")
        return content

    def _move_aside(self, digest: Digest) -> Path | None:
        self._seals.forget(digest)
        with storage_errors(f"quarantine blob {digest}"):
            return durable.move_aside(self._path(digest), self._quarantine)

    def _delete(self, digest: Digest) -> None:
        self._seals.forget(digest)
        with storage_errors(f"delete blob {digest}"):
            # No sync: after a power cut the blob may exist again, and gc removes it again.
            self._path(digest).unlink(missing_ok=True)

    def _recover(self) -> int:
        # Make all shards now, with one sync. Later each new shard would need a sync of its own, up
        # to 10 ms, for which the first request of a shard would wait. Scarce inodes are left for
        # blobs.
        with suppress(OSError):
            if os.statvfs(self._blobs).f_favail > _AMPLE_INODES:
                durable.make_folders(self._blobs, _SHARDS)
                self._synced_shards.update(_SHARDS)
        with storage_errors("remove leftovers"):
            return self._area.recover()

    def _probe(self) -> int:
        with storage_errors("probe the blob store"):
            path = self._area.folder() / f"probe-{os.urandom(8).hex()}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o440)
            try:
                os.write(descriptor, b"probe\n")
                durable.sync_file(descriptor)
            finally:
                os.close(descriptor)
                path.unlink()
            return self._room.require(0)


def _blob_files(shard: Path) -> list[Path]:
    """Return the files of a shard that are named like blobs, sorted."""
    if len(shard.name) != 2 or not shard.is_dir():
        return []
    names = sorted(entry.name for entry in shard.iterdir())
    return [
        shard / name for name in names if _BLOB_NAME.fullmatch(name) and name.startswith(shard.name)
    ]


def _stored_blob(path: Path) -> StoredBlob:
    status = path.lstat()
    stored_at = datetime.fromtimestamp(status.st_mtime, UTC)
    return StoredBlob(Digest(path.name), status.st_size, stored_at)
