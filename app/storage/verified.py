"""Blob files whose bytes are verified before use.

A blob's bytes are hashed when this process opens the file for the first time. After that, the
file's seal (seals.py) shows that the file did not change.
"""

import asyncio
import errno
import os
import stat
from functools import partial
from io import FileIO
from pathlib import Path

from app.core.digest import Digest
from app.core.errors import BlobDamagedError, BlobMissingError, StorageError
from app.storage.blobstore import BlobCondition
from app.storage.durable import storage_errors
from app.storage.reading import hash_file
from app.storage.seals import Seal, Seals
from app.storage.threads import Threads

_VERIFY_ROUNDS = 5


class VerifiedFiles:
    """The files below blobs/, and which of them this process has verified: the base of a store.

    Async methods run in one event loop, the others in any thread.
    """

    def __init__(self, blobs: Path, threads: Threads) -> None:
        self._blobs = blobs
        self._threads = threads
        self._seals = Seals()
        self._hashing: dict[tuple[Digest, Seal], asyncio.Task[bool]] = {}

    def _path(self, digest: Digest) -> Path:
        return self._blobs / digest.hex[:2] / digest.hex

    def _open(self, digest: Digest) -> FileIO:
        shown = f"blob {digest}"
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with storage_errors(f"open {shown}"):
            try:
                descriptor = os.open(self._path(digest), flags)
            except (FileNotFoundError, NotADirectoryError):
                raise BlobMissingError(f"there is no {shown}") from None
            except OSError as error:
                if error.errno != errno.ELOOP:  # a symbolic link, by O_NOFOLLOW
                    raise
            else:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return FileIO(descriptor)
                os.close(descriptor)
        raise BlobDamagedError(f"{shown} is not a file")

    def _condition(self, file: FileIO, digest: Digest, size_bytes: int) -> BlobCondition:
        seal = Seal.of(os.fstat(file.fileno()))
        if seal.size_bytes != size_bytes:
            self._seals.forget(digest)
            return BlobCondition.SHORT
        is_right = self._hash(file.fileno(), digest, seal)
        return BlobCondition.OK if is_right else BlobCondition.DAMAGED

    def _hash(self, descriptor: int, digest: Digest, seal: Seal) -> bool:
        """Hash an open file; keep its seal if the bytes are right and the file did not change."""
        is_right = hash_file(descriptor) == digest.hex
        if not is_right:
            self._seals.forget(digest)
        elif Seal.of(os.fstat(descriptor)) == seal:
            self._seals.put(digest, seal)
        return is_right

    async def _verify(self, file: FileIO, digest: Digest, size_bytes: int) -> Seal:
        """Verify the open file's bytes and return the seal that the file had."""
        shown = f"blob {digest}"
        for _ in range(_VERIFY_ROUNDS):
            with storage_errors(f"open {shown}"):
                seal = Seal.of(os.fstat(file.fileno()))
            if seal.size_bytes != size_bytes:
                raise BlobDamagedError(
                    f"{shown} has {seal.size_bytes} bytes in the place of {size_bytes}"
                )
            if self._seals.holds(digest, seal):
                return seal
            if not await self._hash_once(file, digest, seal):
                raise BlobDamagedError(f"{shown} has the right size and the wrong bytes")
        raise StorageError(f"open {shown}: the file keeps changing")

    async def _hash_once(self, file: FileIO, digest: Digest, seal: Seal) -> bool:
        """Hash a file once for all concurrent openers: one thread reads, the others wait."""
        key = (digest, seal)
        task = self._hashing.get(key)
        if task is None:
            # A descriptor of its own: the first opener may be cancelled and close its file.
            with storage_errors(f"open blob {digest}"):
                descriptor = os.dup(file.fileno())
            task = asyncio.create_task(self._hash_and_close(descriptor, digest, seal))
            self._hashing[key] = task
            task.add_done_callback(partial(self._end_hashing, key))
        return await asyncio.shield(task)

    async def _hash_and_close(self, descriptor: int, digest: Digest, seal: Seal) -> bool:
        try:
            with storage_errors(f"read blob {digest}"):
                return await self._threads.run(partial(self._hash, descriptor, digest, seal))
        finally:
            os.close(descriptor)

    def _end_hashing(self, key: tuple[Digest, Seal], task: asyncio.Task[bool]) -> None:
        self._hashing.pop(key, None)
        if not task.cancelled():
            task.exception()  # mark as retrieved, for the case that every waiter was cancelled
