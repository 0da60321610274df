"""Reading a blob's file: the open blob, and the hash of a whole file.

verified.py verifies the bytes before it makes a LocalOpenBlob.
"""

import hashlib
import os
from functools import partial
from io import FileIO

from app.core.digest import Digest
from app.core.errors import BlobDamagedError
from app.storage.blobstore import BlobBytes, OpenBlob
from app.storage.durable import storage_errors
from app.storage.seals import Seal
from app.storage.threads import BUFFER_BYTES, Threads


class LocalOpenBlob(OpenBlob):
    """An open, verified file. Used from one event loop."""

    def __init__(self, file: FileIO, seal: Seal, digest: Digest, threads: Threads) -> None:
        self._file = file
        self._seal = seal
        self._digest = digest
        self._threads = threads
        self._readers = 0
        self._is_closed = False
        self._is_nowait_supported = True

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return self._seal.size_bytes

    def cached_descriptor(self, offset: int, length: int) -> int | None:
        """Return the descriptor if the bytes are in the page cache; see `OpenBlob`."""
        # Read the first and the last byte: the kernel reads ahead, so the last page comes last.
        last = offset + max(length, 1) - 1
        for place in (offset, last):
            if self.read_cached(place, 1) is None:
                return None
        return self._file.fileno()

    def read_cached(self, offset: int, length: int) -> BlobBytes | None:
        """Return the bytes if the page cache has them all; see `OpenBlob.read_cached`."""
        self._require_range(offset, length)
        if not self._is_nowait_supported:
            return None
        buffer = bytearray(length)
        try:
            count = os.preadv(self._file.fileno(), [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError:
            # The file system does not support this, or the disk failed; read() will report that.
            self._is_nowait_supported = False
            return None
        return buffer if count == length else None

    async def read(self, offset: int, length: int) -> BlobBytes:
        """Return exactly length bytes at offset; see `OpenBlob.read`."""
        self._require_range(offset, length)
        self._readers += 1
        try:
            return await self._threads.run(partial(self._read, offset, length))
        finally:
            self._readers -= 1
            self._close_when_idle()

    def unchanged(self) -> bool:
        """Report whether the file did not change since the check."""
        if self._is_closed:
            return False
        try:
            return Seal.of(os.fstat(self._file.fileno())) == self._seal
        except OSError:
            return False

    def close(self) -> None:
        """Release the file when no thread reads from it any more; may be called twice."""
        self._is_closed = True
        self._close_when_idle()

    def _close_when_idle(self) -> None:
        # A thread that reads while its file is closed may get the next file of that number.
        if self._is_closed and not self._readers:
            self._file.close()

    def _require_range(self, offset: int, length: int) -> None:
        if self._is_closed:
            raise ValueError("read of a closed blob")
        if offset < 0 or length < 0 or offset + length > self.size_bytes:
            raise ValueError(f"{length} bytes at {offset} are not within {self.size_bytes}")

    def _read(self, offset: int, length: int) -> bytearray:
        buffer = bytearray(length)
        with storage_errors(f"read blob {self._digest}"):
            count = _fill(self._file.fileno(), memoryview(buffer), offset)
        if count < length:
            raise BlobDamagedError(f"blob {self._digest} got shorter while it was read")
        return buffer


def hash_file(descriptor: int) -> str:
    """Return the SHA-256 of an open file's bytes, in hex."""
    running, offset = hashlib.sha256(), 0
    with memoryview(bytearray(BUFFER_BYTES)) as buffer:
        while count := _fill(descriptor, buffer, offset):
            running.update(buffer[:count])
            offset += count
    return running.hexdigest()


def _fill(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Read into buffer from offset until it is full or the file ends; return the count."""
    count = 0
    while count < len(buffer):
        got = os.preadv(descriptor, [buffer[count:]], offset + count)
        if not got:
            break
        count += got
    return count
