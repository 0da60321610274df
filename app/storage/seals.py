"""Seals: by what a file is known to be the one whose bytes were found right.

A seal can't see a disk that changes bytes by itself: that is for a deep check. Nor can it see a
change within the file system's clock tick (up to 10 ms) after the hashing, which takes a writer
with root's rights.
"""

import os
from dataclasses import dataclass
from threading import Lock

from cachetools import LRUCache

from app.core.digest import Digest

_MAX_SEALS = 1 << 16  # about 20 MiB at most; a forgotten seal costs one more hashing


@dataclass(frozen=True, slots=True)
class Seal:
    """What fstat says of a file: as long as it stays the same, so do the bytes.

    Every write, truncation, link and unlink moves ctime, which no program can set back.
    """

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Seal":
        """Return the seal of an fstat result."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Seals:
    """The seal under which each digest's bytes were last found right. Safe from threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seals: LRUCache[Digest, Seal] = LRUCache(_MAX_SEALS)

    def holds(self, digest: Digest, seal: Seal) -> bool:
        """Report whether the digest's bytes were last found right under this very seal."""
        with self._lock:
            return self._seals.get(digest) == seal

    def put(self, digest: Digest, seal: Seal) -> None:
        """Keep what a file was found right under; an earlier seal of the digest is replaced."""
        with self._lock:
            self._seals[digest] = seal

    def forget(self, digest: Digest) -> None:
        """Have the next opening hash the file again."""
        with self._lock:
            self._seals.pop(digest, None)
