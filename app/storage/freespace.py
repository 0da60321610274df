"""Whether the disk has room: checked before every write."""

import os
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import StorageFullError

_WAY_OUT = "free some space, or lower MOORAGE_STORAGE__MIN_FREE_PERCENT"


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """The file system's room above a floor, which stays free for the database and the logs.

    Attributes:
        root: any folder in the file system.
        min_free_fraction: the floor as a share of the file system's size, 0 to 1.
    """

    root: Path
    min_free_fraction: float

    def require(self, size_bytes: int) -> int:
        """Return the number of free bytes, after checking that size_bytes more fit.

        Raises:
            StorageFullError: size_bytes do not fit above the floor, or no inode is free.
            OSError: the file system does not answer.
        """
        status = os.statvfs(self.root)
        free, floor = self._free_and_floor(status)
        if free - size_bytes < floor:
            more = f", and {size_bytes} more do not fit" if size_bytes else ""
            raise StorageFullError(
                f"the server's disk is full: {free} bytes are free, the floor is {floor}{more}; "
                f"{_WAY_OUT}"
            )
        # f_files is 0 where inodes are not counted (btrfs).
        if status.f_files and not status.f_favail:
            raise StorageFullError("the server's disk has no free inode; remove some files there")
        return free

    def missing(self, size_bytes: int) -> int:
        """Return how many bytes must be removed before `require` lets size_bytes in; 0 for none.

        Raises:
            OSError: the file system does not answer.
        """
        status = os.statvfs(self.root)
        free, floor = self._free_and_floor(status)
        lacks_inode = bool(status.f_files and not status.f_favail)
        return max(floor + size_bytes - free, int(lacks_inode))

    def _free_and_floor(self, status: os.statvfs_result) -> tuple[int, int]:
        free = status.f_bavail * status.f_frsize
        return free, int(status.f_blocks * status.f_frsize * self.min_free_fraction)
