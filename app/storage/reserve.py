"""A reserve of disk space for the few writes that must succeed on a full disk.

The reserve is a file that occupies its space. On a full disk its space is given back in steps, so
that what is written next fits. When the disk has room again, the file grows to its full size.

Not here: which writes may use the reserve (`app/db/room.py`).
"""

import os
from contextlib import suppress
from pathlib import Path

from app.core.errors import StorageFullError
from app.storage.durable import storage_errors
from app.storage.freespace import FreeSpace

MAX_BYTES = 4 * 1024 * 1024
"""Some thousand revocations: each takes about 1 KiB of the database, and its log is used again."""
_SHARE = 16  # of a small disk, one part in so many
STEP_BYTES = 256 * 1024
"""Given back at once: more than the largest change to tenants needs."""


class Reserve:
    """The floor of a database's disk, and the reserve beside the database. Safe from threads.

    Several processes may use one file: each step is one system call.

    Args:
        path: of the reserve's file.
        space: of the same file system.
    """

    def __init__(self, path: Path, space: FreeSpace) -> None:
        self._path = path
        self._space = space

    def open(self) -> None:
        """Prepare for opening the database, which takes some space of its own; blocks.

        SQLite makes the file of its shared memory when it opens a database.
        """
        with suppress(OSError):
            status = os.statvfs(self._path.parent)
            if status.f_bavail * status.f_frsize < STEP_BYTES:
                self.let_go()
        # Without room for the reserve the program starts nevertheless, and says so in /readyz.
        with suppress(OSError, StorageFullError):
            self._keep()

    def require(self, size_bytes: int) -> None:
        """Return if size_bytes more fit above the floor; then the reserve is whole again. Blocks.

        Raises:
            StorageFullError: the bytes do not fit.
            StorageError: the file system does not answer.
        """
        with storage_errors("look for free space"):
            self._space.require(size_bytes)
            with suppress(StorageFullError):
                self._keep()

    def has_share(self) -> bool:
        """Return whether more than half of the reserve is left. Blocks."""
        return self._size() * 2 > self._whole()

    def let_go(self) -> bool:
        """Give a step of the reserve back to the disk; return False if nothing is left. Blocks."""
        try:
            size = self._size()
            if size:
                os.truncate(self._path, (size - 1) // STEP_BYTES * STEP_BYTES)
        except OSError:
            return False
        return size > 0

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _whole(self) -> int:
        status = os.statvfs(self._path.parent)
        return min(MAX_BYTES, status.f_blocks * status.f_frsize // _SHARE)

    def _keep(self) -> None:
        """Make the reserve whole, if the disk has room for that above the floor.

        Raises:
            StorageFullError: the disk has no room for the reserve.
            OSError: the file can't be made.
        """
        whole, size = self._whole(), self._size()
        if size >= whole:
            return
        self._space.require(whole - size)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, whole)
        finally:
            os.close(descriptor)
