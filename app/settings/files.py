"""Files that settings name: their paths, permissions and content.

A key file that others can change, or a secret that others can read, is refused, as ssh does it. The
message names the command that repairs the permissions.
"""

import os
import shlex
import stat
from collections.abc import Collection
from pathlib import Path

MAX_FILE_BYTES = 1 << 20
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH


def not_empty(value: object) -> object:
    """Return value unless it is "": an empty path would mean the working directory.

    Raises:
        ValueError: it is empty.
    """
    if value == "":
        raise ValueError("it is empty")
    return value


def full_path(path: Path) -> Path:
    """Return path made absolute from the working directory.

    Raises:
        ValueError: it begins with "~", which only a shell expands, or holds control characters.
    """
    if not str(path).isprintable():
        raise ValueError("it has a character that is not printable")
    if str(path).startswith("~"):
        raise ValueError('"~" is not expanded here')
    return path.absolute()


def directory(path: Path) -> Path:
    """Return an absolute path at which a directory is or can be made.

    Raises:
        ValueError: the path names something else, or has a "?", which an SQLite URL cannot hold.
    """
    path = full_path(path)
    if "?" in str(path):
        raise ValueError('it has a "?", which the URL of an SQLite database cannot hold')
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    except OSError as error:
        raise ValueError(f"{path} can't be used: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise ValueError(f"{path} is not a directory")
    return path


def trusted_file(path: Path) -> Path:
    """Return the absolute path of a file of 1 byte to 1 MiB that only its owner can change.

    Raises:
        ValueError: the file is absent, unreadable, no file, empty, too big, or others can change
            it; the message then names the chmod command.
    """
    path = full_path(path)
    status = _regular(path)
    if not 0 < status.st_size <= MAX_FILE_BYTES:
        raise ValueError(f"{path} has {status.st_size} bytes; 1 to {MAX_FILE_BYTES} are accepted")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{path} can't be read by the user that Moorage runs as")
    if status.st_mode & _OTHERS_WRITE:
        raise ValueError(f"others can change {path}: run chmod go-w {shlex.quote(str(path))}")
    return path


def read_text(path: Path) -> str:
    """Return the UTF-8 text of a file of at most 1 MiB.

    Raises:
        ValueError: the file is absent, unreadable, no file, too big, or not UTF-8. The message
            names the path and never repeats content.
    """
    path = full_path(path)
    _regular(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{path} has more than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None


def refuse_unless_private(path: Path) -> None:
    """Refuse a file with a secret unless only its owner can read and change it.

    A file of root that a group of this process may only read is accepted, too.

    Raises:
        ValueError: others can read or change it; the message names the chmod command.
    """
    status = _regular(path)
    groups = {os.getegid(), *os.getgroups()}
    if not is_private(status.st_mode) and not (
        os.geteuid() != 0 and is_handed_over(status.st_mode, status.st_uid, status.st_gid, groups)
    ):
        raise ValueError(
            f"it is secret and others can read or change {path}:"
            f" run chmod go-rw {shlex.quote(str(path))}"
        )


def is_private(mode: int) -> bool:
    """Whether only the owner of a file may read and change it."""
    return not mode & (_OTHERS_READ | _OTHERS_WRITE)


def is_handed_over(mode: int, owner: int, group: int, groups: Collection[int]) -> bool:
    """Whether root made a file for a service's group to read: 0440 of root:65532.

    So Kubernetes mounts a Secret in a pod with an fsGroup; a mode without group bits could not be
    read by the pod's user. So does systemd with `LoadCredential=`: an entry of the access list
    is for the service's user, and the mode shows 0440 of root:root.

    Args:
        mode: of the file.
        owner: user id of the file's owner.
        group: group id of the file.
        groups: group ids of the process.
    """
    is_known = group == 0 or group in groups
    return owner == 0 and is_known and is_private(mode & ~stat.S_IRGRP)


def _regular(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a file")
    return status
