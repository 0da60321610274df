"""The local cache of a store whose blobs are elsewhere: whole verified blobs, evicted by last use.

    blobs/ab/abcd…       as in local.py
    used/ab/abcd…        empty; its mtime is the last use, where that is later than the fill
    .evict.lock          held by the process that evicts

Several processes of one host share the folder. Whoever has a blob open holds a shared flock(2) on
the blob's file; an eviction needs an exclusive one.
"""

import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

from cachetools import LRUCache

from app.core.digest import Digest
from app.core.errors import BlobMissingError, StorageError
from app.storage import durable
from app.storage.blobstore import StagedBlob
from app.storage.durable import storage_errors
from app.storage.local import LocalBlobStore

_OPEN_ROUNDS = 4
_USE_S = 600.0  # a use is noted once in so many seconds
_LOW_WATER = 0.9  # an eviction goes down to this share of the budget


@dataclass(frozen=True, slots=True, order=True)
class _Cached:
    """A cached blob; older uses sort first."""

    used_at_s: float
    hex_digest: str
    size_bytes: int


class BlobCache(LocalBlobStore):
    """A local store whose blobs may be evicted, unless somebody has them open.

    Args:
        root: the cache's folder.
        min_free_fraction: the share of the file system, 0 to 1, that stays free.
    """

    def __init__(self, root: Path, *, min_free_fraction: float = 0.05) -> None:
        super().__init__(root, min_free_fraction=min_free_fraction)
        self._used = root / "used"
        self._evicting = root / ".evict.lock"
        self._noted: LRUCache[Digest, float] = LRUCache(1 << 16)
        with storage_errors("open the cache"):
            durable.make_folder(self._used)

    @asynccontextmanager
    async def local_file(self, digest: Digest) -> AsyncIterator[Path]:
        """Return a context with the blob's own file, which nobody evicts meanwhile."""
        file = await self._threads.run(partial(self._open, digest), discard=FileIO.close)
        with file:
            yield self._path(digest)

    async def evict(self, budget_bytes: int) -> int:
        """Remove the blobs used least recently until the rest fits; return the bytes removed.

        Nothing happens while another process evicts. A blob that is open stays.

        Args:
            budget_bytes: what the cache may hold.

        Raises:
            StorageError: the folder can't be read.
        """
        return await self._threads.run(partial(self._evict, budget_bytes))

    async def make_room(self, size_bytes: int, spare_bytes: int) -> int:
        """Remove the blobs used least recently until the disk takes more; return the bytes removed.

        Nothing is removed where others fill the disk so far that the whole cache would not be
        enough: what is cached goes on being served.

        Args:
            size_bytes: what is to be stored.
            spare_bytes: remove as much, if that is more: the next ones need room, too.

        Raises:
            StorageError: the folder can't be read.
        """
        return await self._threads.run(partial(self._make_room, size_bytes, spare_bytes))

    async def keep_evidence(self, staged: StagedBlob, digest: Digest) -> Path:
        """Move a sealed staged file into quarantine/, as bytes that were found for a digest.

        Raises:
            StorageError: the file can't be moved.
        """
        await staged.flush()
        return await self._threads.run(partial(self._keep_evidence, staged, digest))

    def _keep_evidence(self, staged: StagedBlob, digest: Digest) -> Path:
        with storage_errors(f"quarantine blob {digest}"):
            evidence = durable.move_aside(staged.path, self._quarantine, digest.hex)
        if evidence is None:
            raise StorageError(f"quarantine blob {digest}: the staged file is gone")
        return evidence

    def _open(self, digest: Digest) -> FileIO:
        for _ in range(_OPEN_ROUNDS):
            file = super()._open(digest)
            try:
                with storage_errors(f"open blob {digest}"):
                    fcntl.flock(file.fileno(), fcntl.LOCK_SH)
                    if os.fstat(file.fileno()).st_nlink:
                        self._note_use(digest)
                        return file
            except BaseException:
                file.close()
                raise
            file.close()  # it was evicted between open and flock
        raise BlobMissingError(f"there is no blob {digest}")

    def _note_use(self, digest: Digest) -> None:
        now = time.monotonic()
        before = self._noted.get(digest)
        self._noted[digest] = now if before is None or now - before >= _USE_S else before
        if self._noted[digest] != now:
            return
        mark = self._used / digest.hex[:2] / digest.hex
        with suppress(OSError):  # a full disk: the blob only looks older than it is
            mark.parent.mkdir(mode=0o700, exist_ok=True)
            mark.touch(mode=0o600)

    def _evict(self, budget_bytes: int) -> int:
        with storage_errors("evict from the cache"), self._only_evictor() as is_mine:
            cached = sorted(self._cached()) if is_mine else []
            total = sum(blob.size_bytes for blob in cached)
            if total <= budget_bytes:
                return 0
            return self._remove(cached, total - int(budget_bytes * _LOW_WATER))

    def _make_room(self, size_bytes: int, spare_bytes: int) -> int:
        with storage_errors("evict from the cache"), self._only_evictor() as is_mine:
            missing = self._room.missing(size_bytes)
            cached = sorted(self._cached()) if is_mine and missing else []
            if sum(blob.size_bytes for blob in cached) < missing:
                return 0
            return self._remove(cached, max(missing, spare_bytes))

    def _remove(self, cached: list[_Cached], size_bytes: int) -> int:
        """Evict one after the other until so many bytes are removed, or all; return how many."""
        removed = 0
        for blob in cached:
            if removed >= size_bytes:
                break
            if self._evict_one(Digest(blob.hex_digest)):
                removed += blob.size_bytes
        return removed

    def _cached(self) -> Iterator[_Cached]:
        uses = {
            entry.name: entry.stat().st_mtime
            for folder in os.scandir(self._used)
            for entry in os.scandir(folder)
        }
        for shard in os.scandir(self._blobs):
            for entry in os.scandir(shard):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    used_at_s = max(uses.get(entry.name, 0.0), status.st_mtime)
                    yield _Cached(used_at_s, entry.name, status.st_size)

    def _evict_one(self, digest: Digest) -> bool:
        try:
            file = super()._open(digest)
        except BlobMissingError:
            return True
        with file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._delete(digest)
            # Crash: a mark of use without a blob, which the next use or eviction takes over.
            with suppress(OSError):
                (self._used / digest.hex[:2] / digest.hex).unlink(missing_ok=True)
        return True

    @contextmanager
    def _only_evictor(self) -> Iterator[bool]:
        descriptor = os.open(self._evicting, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)
