"""Whether the disk has room: asked before anything is written."""

import os
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import StorageFullError


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """The file system's room above a floor that is kept for the database and the logs.

    Attributes:
        root: any folder in the file system.
        min_free_fraction: the floor as a share of the file system's size, 0 to 1.
    """

    root: Path
    min_free_fraction: float

    def require(self, size_bytes: int) -> int:
        """Return the free bytes, of which size_bytes can be used.

        Raises:
            StorageFullError: they do not fit above the floor, or no inode is free.
            OSError: the file system does not answer.
        """
        found = os.statvfs(self.root)
        free = found.f_bavail * found.f_frsize
        floor = int(found.f_blocks * found.f_frsize * self.min_free_fraction)
        if free - size_bytes < floor:
            raise StorageFullError(
                f"the disk has {free} bytes free: {size_bytes} more would pass the floor of {floor}"
            )
        # f_files is 0 where inodes are not counted (btrfs).
        if found.f_files and not found.f_favail:
            raise StorageFullError("the disk has no free inode")
        return free
