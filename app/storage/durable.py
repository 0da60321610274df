"""The steps that survive a crash: only this file of storage calls fsync, link and rename-over.

The comment after a step says what a crash at that point leaves behind; a crash is a kill -9 or a
power cut. The steps rely on two facts about Linux file systems (fsync(2), rename(2)): a name is
durable only after a sync of its folder, and link and rename are atomic. The order is that of
FiloSottile/sunlight, internal/durable/path.go, but with link instead of rename, so that two writers
never replace each other's file.

Not here: hashing and comparing (verified.py), which process owns a temporary file (ownership.py).
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.core.errors import StorageError, StorageFullError
from app.storage.blobstore import BlobCondition

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

# A round fails only if another process removes the blob between two system calls of this one.
_LINK_ROUNDS = 8

_PIECE_BYTES = 1 << 20


@contextmanager
def storage_errors(operation: str) -> Iterator[None]:
    """Turn an OSError of the body into the error tree, as "<operation>: <reason>".

    A path in operation begins below the store's root: "store blobs/ab/abcd" on a full disk gives
    "store blobs/ab/abcd: No space left on device".

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
    """Make a file's bytes and size durable.

    After an error the kernel may have dropped the bytes and marked them clean: a second fsync would
    report success. So after an error the caller must drop the file and not sync it again.

    Raises:
        OSError: the bytes are not durable.
    """
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: the names are not durable, or the folder is missing.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder (0700) whose name is durable; missing parents are made in the same way.

    An existing folder is synced too: its maker may have been killed before the sync.

    Raises:
        OSError: the folder can't be made or synced.
    """
    if not folder.parent.is_dir():
        make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    # Crash: an empty folder; a power cut may undo it. The next writer makes or syncs it.
    sync_folder(folder.parent)
    # Crash: an empty folder.


def make_folders(parent: Path, names: Iterable[str]) -> None:
    """Make those folders (0700) that an existing folder lacks; all their names are durable then.

    Raises:
        OSError: a folder can't be made or synced.
    """
    existing = {folder.name for folder in parent.iterdir()}
    for name in names:
        if name not in existing:
            (parent / name).mkdir(mode=0o700, exist_ok=True)
        # Crash: some of the folders; a power cut may undo them.
    sync_folder(parent)


def create_once(path: Path, content: bytes) -> None:
    """Make a small private file (0600) durably; an existing file of that name stays.

    If several processes call this at once, one content wins, and all of them read that content.

    Raises:
        OSError: the file can't be made.
    """
    if path.exists():
        return
    temp = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
        # Crash: a temporary file that nobody reads.
        with suppress(FileExistsError):
            os.link(temp, path)
        sync_folder(path.parent)
    finally:
        os.close(descriptor)
        temp.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Make or replace a small private file (0600) durably; readers find the old or the new one.

    Raises:
        OSError: the file can't be written; the old one stays.
    """
    temp = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # Crash: a temporary file that nobody reads; the old file stays.
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def copy_file(source: Path, target: Path) -> None:
    """Make or replace a private file (0600) durably by a copy; readers find the old or the new one.

    Raises:
        OSError: the file can't be read or written; the old one stays.
    """
    temp = target.with_name(f".{target.name[:100]}.{os.urandom(8).hex()}")
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with source.open("rb") as original, os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(original, copy, _PIECE_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
        # Crash: a temporary file that nobody reads; the old file stays.
        temp.replace(target)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def publish(temp: Path, target: Path, condition: Callable[[], BlobCondition]) -> None:
    """Give a synced file its final name, durably; temp does not exist afterwards.

    An existing file of that name stays if condition() says OK; the new file replaces it if
    condition() says SHORT or DAMAGED. At every moment a reader finds a complete file at target, or
    none.

    Raises:
        OSError: a step failed; target is as a crash at that point would leave it.
        StorageError: other processes keep making and removing the name.
    """
    # Open the folder first: a lack of descriptors must fail before anything has changed.
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _take_name(temp, target.name, folder, condition)
        # Crash: complete bytes under the name; a power cut may undo the name, which no row has yet.
        # temp may still exist, as a leftover of its owner.
        # Sync also a name that existed before: its writer may have been killed before the sync.
        os.fsync(folder)
        # Crash: a durable blob that no row names (a retry adopts it), and temp as a leftover.
    finally:
        os.close(folder)
    temp.unlink(missing_ok=True)
    # Crash: a durable blob that no row names.


def _take_name(temp: Path, name: str, folder: int, condition: Callable[[], BlobCondition]) -> None:
    """Link temp as name in the open folder, or keep or replace the file of that name."""
    for _ in range(_LINK_ROUNDS):
        try:
            os.link(temp, name, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            existing = condition()
        else:
            return
        if existing is BlobCondition.OK:
            return
        if existing is not BlobCondition.MISSING:
            os.replace(temp, name, dst_dir_fd=folder)
            return
    raise StorageError(f"store {name}: the name keeps being taken and freed")


def move_aside(source: Path, folder: Path, name: str | None = None) -> Path | None:
    """Move source into folder as "<name>.<n>", durably, and return its new path.

    Without a name, it keeps its own.

    n is the first free number from 0 on, so that no earlier evidence is overwritten. Returns None
    if source does not exist.

    Raises:
        OSError: a step failed; the file is at source or in folder.
    """
    place = _reserve(folder, name or source.name)
    # Crash: an empty file at place; source is unchanged.
    try:
        source.replace(place)
    except OSError as error:
        place.unlink()
        if isinstance(error, FileNotFoundError):
            return None
        raise
    # Crash: a power cut may move the file back to source; the next check finds the damage again.
    sync_folder(folder)
    sync_folder(source.parent)
    return place


def _reserve(folder: Path, name: str) -> Path:
    """Make an empty file with a free name, as target of a rename, which overwrites silently."""
    number = 0
    while True:
        place = folder / f"{name}.{number}"
        try:
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o440))
        except FileExistsError:
            number += 1
        else:
            return place
