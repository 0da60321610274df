"""Turns among the processes of one host, by locks of the operating system.

A name's lock is one byte of a file, at the place that a hash of the name gives. It costs
microseconds where a lease costs two commits, and ends with its process. Source: fcntl(2), "Open
file description locks"; Linux only. Where several hosts share a database, see `services/leases.py`.

A turn is economy, not safety: where the file system has no locks, or two names share a byte, a
thing may be done twice.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.storage.durable import storage_errors

_FLOCK = struct.Struct("hhqqi")  # l_type, l_whence, l_start, l_len, l_pid
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})
_POLL_S = 0.01
_POLL_MAX_S = 0.2


class HostLocks:
    """The turns of one process; used from one event loop. The file is made when first needed.

    Within the process a name must not be held twice at once: locks belong to the open file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Wait until no other process holds the name, and hold it inside the context.

        Raises:
            StorageError: the file can't be made.
        """
        self._open()
        place, pause_s = _place(name), _POLL_S
        while not self._set(fcntl.F_WRLCK, place):
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _POLL_MAX_S)
        try:
            yield
        finally:
            self._set(fcntl.F_UNLCK, place)

    def close(self) -> None:
        """Let go of everything; may be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> None:
        if self._descriptor < 0:
            with storage_errors(f"open {self._path.name}"):
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _set(self, kind: int, place: int) -> bool:
        """Change the lock of one byte; False where another process holds it."""
        try:
            wanted = _FLOCK.pack(kind, os.SEEK_SET, place, 1, 0)
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            return error.errno not in _TAKEN
        return True


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2
