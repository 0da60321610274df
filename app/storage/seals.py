"""Seals: what identifies a file whose bytes were verified.

A seal does not show two changes. The disk itself may change bytes: a deep check finds that. A
writer may change the file within the file system's clock tick (up to 10 ms) after the hashing: that
needs root's rights.
"""

import os
from dataclasses import dataclass
from threading import Lock

from cachetools import LRUCache

from app.core.digest import Digest

_MAX_SEALS = 1 << 16  # about 20 MiB at most; without its seal a file is hashed once more


@dataclass(frozen=True, slots=True)
class Seal:
    """The fstat fields of a file; while they stay the same, the bytes stay the same.

    Every write, truncation, link and unlink changes ctime, which no program can set back.
    """

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Seal":
        """Return the seal of an fstat result."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


class Seals:
    """For each digest, the seal of the file whose bytes were last verified. Safe from threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seals: LRUCache[Digest, Seal] = LRUCache(_MAX_SEALS)

    def holds(self, digest: Digest, seal: Seal) -> bool:
        """Report whether the file with this seal is the one whose bytes were last verified."""
        with self._lock:
            return self._seals.get(digest) == seal

    def put(self, digest: Digest, seal: Seal) -> None:
        """Remember the seal of a verified file; it replaces an earlier seal of the digest."""
        with self._lock:
            self._seals[digest] = seal

    def forget(self, digest: Digest) -> None:
        """Forget the digest's seal, so that the next `open` hashes the file again."""
        with self._lock:
            self._seals.pop(digest, None)
