"""Files and folders that only this user may read, whatever the umask says."""

import os
import stat
from contextlib import suppress
from pathlib import Path


def tighten(path: Path) -> None:
    """Take the rights of group and others away from a file or folder that this user owns.

    A missing one is left alone, and so is one of another user, for instance of an administrator who
    runs a command as root.

    Raises:
        OSError: the rights can't be changed.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    private = stat.S_IMODE(status.st_mode) & 0o700
    if stat.S_IMODE(status.st_mode) != private and status.st_uid == os.geteuid():
        path.chmod(private)


def make_private_file(path: Path) -> None:
    """Make an empty file (0600) unless it exists; an existing one is tightened.

    A folder that is missing, or a disk that is full, is left to whoever opens the file.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        tighten(path)
