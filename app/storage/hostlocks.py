"""Turns among the processes of one host, by locks of the operating system.

The lock of a name is one byte of a file; a hash of the name gives the byte's offset. A lock costs
microseconds, a lease costs two commits. A lock ends with its process. Source: fcntl(2), "Open file
description locks"; Linux only. If several hosts share a database: `services/leases.py`.

A turn saves work but guarantees nothing: if the file system has no locks, or two names have the
same byte, the same work may be done twice.
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
from app.storage.private import tighten

_FLOCK = struct.Struct("hhqqi")  # l_type, l_whence, l_start, l_len, l_pid
_HELD_BY_ANOTHER = frozenset({errno.EAGAIN, errno.EACCES})
_POLL_S = 0.004
_POLL_GROWTH = 1.1  # so that a turn is noticed a tenth of its time after its end, at most
_POLL_MAX_S = 0.2


class HostLocks:
    """The turns of one process; used from one event loop. The first `hold` makes the file.

    Within the process a name must not be held twice at once: locks belong to the open file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Wait until no other process holds the name, then hold the name inside the context.

        Raises:
            StorageError: the file can't be made.
        """
        self._open()
        offset, pause_s = _offset_of(name), _POLL_S
        while not self._set_lock(fcntl.F_WRLCK, offset):
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * _POLL_GROWTH, _POLL_MAX_S)
        try:
            yield
        finally:
            self._set_lock(fcntl.F_UNLCK, offset)

    def close(self) -> None:
        """Release every lock; may be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> None:
        if self._descriptor < 0:
            with storage_errors(f"open {self._path.name}"):
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                tighten(self._path)

    def _set_lock(self, kind: int, offset: int) -> bool:
        """Change the lock of one byte; return False if another process holds it."""
        try:
            request = _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0)
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, request)
        except OSError as error:
            return error.errno not in _HELD_BY_ANOTHER
        return True


def _offset_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2
