"""Staged files: bytes that are hashed while they are written.

Not here: which process owns a staged file (ownership.py), how a staged file becomes a blob (the
steps in durable.py, called by local.py).
"""

import asyncio
import errno
import hashlib
import os
import secrets
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

from app.core.digest import Digest
from app.core.errors import StorageError
from app.storage import durable
from app.storage.blobstore import StagedBlob
from app.storage.freespace import FreeSpace
from app.storage.ownership import StagingArea
from app.storage.threads import BUFFER_BYTES, Threads

_PIECE_BYTES = BUFFER_BYTES // 2  # one is written and hashed while the next one comes
_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


class StagedFile(StagedBlob):
    """A staged blob in a file of this process's folder; one task writes it.

    Every restart makes a new file: after a failed commit the old file may already be a blob. The
    file is made together with its first bytes, unless its size is known: then its room is reserved
    at once.
    """

    def __init__(
        self, area: StagingArea, room: FreeSpace, threads: Threads, size_hint_bytes: int | None
    ) -> None:
        self._area = area
        self._room = room
        self._threads = threads
        self._hint = size_hint_bytes or 0
        self._path: Path | None = None
        self._descriptor = -1
        self._is_new = False  # the next bytes make the file
        self._is_dropped = True  # there is no file, and no thread may be about to make one
        # A thread must not drop the file while another thread writes or syncs: the descriptor's
        # number may soon be another file's.
        self._using = threading.RLock()
        self._appending: asyncio.Task[None] | None = None
        self._reset()

    def _reset(self) -> None:
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._received = 0  # bytes passed to write
        self._written = 0  # bytes of these that are in the file
        self._reserved = 0  # bytes of disk reserved for the file
        self._digest: Digest | None = None
        self._is_broken = False

    @property
    def path(self) -> Path:
        """The local file; see `StagedBlob.path`."""
        if self._path is None:
            raise StorageError("use a staged blob: it was committed or dropped")
        return self._path

    @property
    def size_bytes(self) -> int:
        """Bytes written since the last restart."""
        return self._received

    @property
    def digest(self) -> Digest:
        """The digest that seal returned.

        Raises:
            RuntimeError: the blob is not sealed.
        """
        if self._digest is None:
            raise RuntimeError("a staged blob must be sealed first")
        return self._digest

    async def write(self, chunk: bytes) -> None:
        """Append chunk; see `StagedBlob.write`."""
        if self._digest is not None:
            raise RuntimeError("a sealed blob can't be written")
        self._received += len(chunk)
        if not self._buffer and len(chunk) >= _PIECE_BYTES:
            await self._begin_append(chunk)
            return
        self._buffer += chunk
        if len(self._buffer) >= _PIECE_BYTES:
            full, self._buffer = self._buffer, bytearray()
            await self._begin_append(full)

    async def _begin_append(self, content: bytes | bytearray) -> None:
        """Have content written and hashed after what came before, and wait for that only."""
        await self._settle()
        self._is_dropped = False
        appending = asyncio.ensure_future(self._threads.run(partial(self._append, content)))
        appending.add_done_callback(_retrieve_error)
        self._appending = appending

    async def _settle(self) -> None:
        """Wait until everything is written.

        Raises:
            StorageError: it can't be.
        """
        appending, self._appending = self._appending, None
        if appending is not None:
            await appending

    async def restart(self) -> None:
        """Begin again with an empty file; see `StagedBlob.restart`."""
        with suppress(StorageError):
            await self._settle()
        if self._hint or not self._is_dropped:
            await self._threads.run(self._begin)
        else:
            self._begin()

    async def seal(self) -> Digest:
        """Write what is buffered and return the digest; see `StagedBlob.seal`."""
        if self._digest is None:
            await self._settle()
            self._is_dropped = False
            await self._threads.run(self._finish)
        return self.digest

    async def flush(self) -> None:
        """Write the sealed bytes through to the disk; see `StagedBlob.flush`."""
        await self._threads.run(self._flush)

    def _flush(self) -> None:
        with durable.storage_errors("sync a staged blob"):
            self.sync()

    def sync(self) -> None:
        """Make the file's bytes durable; drop the file if that fails. Blocks.

        Raises:
            OSError: fsync failed.
        """
        with self._using:
            self._require_file()
            try:
                durable.sync_file(self._descriptor)
            except BaseException:
                self.drop()
                raise

    def stat(self) -> os.stat_result:
        """Return the open file's fstat.

        Raises:
            StorageError: the file was dropped.
            OSError: the file system does not answer.
        """
        self._require_file()
        return os.fstat(self._descriptor)

    @property
    def is_dropped(self) -> bool:
        """Whether there is no file to remove and no descriptor to close, nor will be."""
        return self._is_dropped

    def drop(self) -> None:
        """Remove the file, if it still exists. Blocks; may be called twice; never fails.

        An error here would hide the error or cancellation before it. So a file that can't be
        removed stays, and `recover` removes it after the end of this process.
        """
        with self._using:
            self._is_new, self._is_dropped = False, True
            descriptor, self._descriptor = self._descriptor, -1
            path, self._path = self._path, None
            if path is not None:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)

    def _require_file(self) -> None:
        if self._is_new:
            self._create()
        if self._descriptor < 0:
            raise StorageError("use a staged blob: it was committed or dropped")

    def _begin(self) -> None:
        self.drop()
        self._reset()
        self._is_new = True
        if self._hint:
            self._create()

    def _create(self) -> None:
        self._is_new, self._is_dropped = False, False
        with durable.storage_errors("stage a blob"):
            self._room.require(self._hint)
            self._path = self._area.folder() / secrets.token_hex(8)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            # Mode 0440 from the start: only this descriptor can write.
            self._descriptor = os.open(self._path, flags, 0o440)
            # Crash: an empty file in a folder that nobody holds.
            self._reserve()

    def _reserve(self) -> None:
        """Reserve the hinted size on the disk, so that a full disk fails before the download."""
        if not self._hint:
            return
        try:
            os.posix_fallocate(self._descriptor, 0, self._hint)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
        else:
            self._reserved = self._hint

    def _append(self, content: bytes | bytearray) -> None:
        """Write and hash content: one thread hop for both."""
        with self._using:
            self._write_and_hash(content)

    def _write_and_hash(self, content: bytes | bytearray) -> None:
        self._require_file()
        if self._is_broken:
            raise StorageError("write a staged blob: an earlier write failed")
        self._is_broken = True
        with durable.storage_errors("write a staged blob"):
            beyond = self._written + len(content) - self._reserved
            if beyond > 0:
                self._room.require(min(beyond, len(content)))
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._hash.update(content)
        self._written += len(content)
        self._is_broken = False

    def _finish(self) -> None:
        self._append(self._buffer)
        self._buffer = bytearray()
        with durable.storage_errors("seal a staged blob"):
            if self._reserved > self._written:
                os.ftruncate(self._descriptor, self._written)
        self._digest = Digest(self._hash.hexdigest())


def _retrieve_error(task: asyncio.Task[None]) -> None:
    """Retrieve the error of an append that nobody waits for any more: asyncio would log it."""
    if not task.cancelled():
        task.exception()
