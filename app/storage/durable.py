"""The steps that outlive a crash: the one place in storage that calls fsync, link and rename-over.

Each step says what a crash right after it leaves behind, where a crash is a kill -9 or a power
cut. Two facts of Linux file systems carry all of it (fsync(2), rename(2)): a name is durable only
when its folder was synced, and link and rename happen wholly or not at all. The order is that of
FiloSottile/sunlight, internal/durable/path.go, with link in the place of rename so that two writers
never replace each other's file.

Not here: hashing and comparing (verified.py), and who owns a temporary file (ownership.py).
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.core.errors import StorageError, StorageFullError
from app.storage.blobstore import BlobCondition

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

# Each round is lost only if the blob was removed between two system calls of ours.
_LINK_ROUNDS = 8


@contextmanager
def storage_errors(operation: str) -> Iterator[None]:
    """Turn an OSError of the body into the error tree, as "<operation>: <reason>".

    operation names no more of a path than what lies below the store's root: the body
    "store blobs/ab/abcd" on a full disk gives "store blobs/ab/abcd: No space left on device".

    Raises:
        StorageFullError: no space, inode or quota is left.
        StorageError: any other OSError.
    """
    try:
        yield
    except OSError as error:
        kind = StorageFullError if error.errno in _FULL else StorageError
        raise kind(f"{operation}: {error.strerror or type(error).__name__}") from error


def sync_file(descriptor: int) -> None:
    """Put a file's bytes and size on the disk.

    After an error the kernel may have dropped the bytes and marked them clean: a second fsync
    would then report success. The caller gives the file up and never calls this again for it.

    Raises:
        OSError: the bytes are not durable.
    """
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk.

    Raises:
        OSError: they are not durable, or the folder is missing.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder (0700) whose name is durable; missing parents are made likewise.

    A folder that is there already is synced too: whoever made it may have been killed in between.

    Raises:
        OSError: it can't be made or synced.
    """
    if not folder.parent.is_dir():
        make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    # Crash: an empty folder, which a power cut may take back. The next writer makes or syncs it.
    sync_folder(folder.parent)
    # Crash: an empty folder.


def make_folders(parent: Path, names: Iterable[str]) -> None:
    """Make folders (0700) in one that is there; their names are durable, as with make_folder.

    Raises:
        OSError: they can't be made or synced.
    """
    for name in names:
        (parent / name).mkdir(mode=0o700, exist_ok=True)
        # Crash: some of them, which a power cut may take back.
    sync_folder(parent)


def create_once(path: Path, content: bytes) -> None:
    """Make a small private file (0600) durably, unless there is one of that name.

    However many processes try at once, all of them find the content of one of them.

    Raises:
        OSError: it can't be made.
    """
    if path.exists():
        return
    temp = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
        # Crash: a file that nobody looks at.
        with suppress(FileExistsError):
            os.link(temp, path)
        sync_folder(path.parent)
    finally:
        os.close(descriptor)
        temp.unlink(missing_ok=True)


def publish(temp: Path, target: Path, condition: Callable[[], BlobCondition]) -> None:
    """Give a synced file its final name, durably; temp is gone then.

    A file that has the name already stays if condition() says OK, and is replaced if it says
    SHORT or DAMAGED. A reader finds a whole file at target or none, at every moment.

    Raises:
        OSError: a step failed; what is visible at target is what a crash there leaves.
        StorageError: the name keeps being taken and freed by others.
    """
    # First, so that a lack of descriptors is found while nothing has happened.
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _take_name(temp, target.name, folder, condition)
        # Crash: whole bytes under the name, which a power cut may take back; nothing was promised
        # yet. temp, if it is still there, is a leftover of its owner.
        # A name that was there before is synced as well: its writer may not have got that far.
        os.fsync(folder)
        # Crash: a durable blob that no row names (a retry adopts it), and temp as a leftover.
    finally:
        os.close(folder)
    temp.unlink(missing_ok=True)
    # Crash: a durable blob that no row names.


def _take_name(temp: Path, name: str, folder: int, condition: Callable[[], BlobCondition]) -> None:
    """Link temp as name in the open folder, or keep or replace what has that name."""
    for _ in range(_LINK_ROUNDS):
        try:
            os.link(temp, name, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            found = condition()
        else:
            return
        if found is BlobCondition.OK:
            return
        if found is not BlobCondition.MISSING:
            os.replace(temp, name, dst_dir_fd=folder)
            return
    raise StorageError(f"store {name}: the name keeps being taken and freed")


def move_aside(source: Path, folder: Path) -> Path | None:
    """Move source into folder as "<name>.<n>", durably, and return its new path.

    n is the first free number from 0, so that nothing kept earlier is overwritten. Returns None
    if source does not exist.

    Raises:
        OSError: a step failed; source is at one of both places.
    """
    place = _reserve(folder, source.name)
    # Crash: an empty file under place, and source where it was.
    try:
        source.replace(place)
    except OSError as error:
        place.unlink()
        if isinstance(error, FileNotFoundError):
            return None
        raise
    # Crash: a power cut may put source back; whoever moved it finds it damaged again.
    sync_folder(folder)
    sync_folder(source.parent)
    return place


def _reserve(folder: Path, name: str) -> Path:
    """Make an empty file for a rename to land on: rename itself would overwrite silently."""
    number = 0
    while True:
        place = folder / f"{name}.{number}"
        try:
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o440))
        except FileExistsError:
            number += 1
        else:
            return place
