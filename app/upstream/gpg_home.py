"""The private folder of gpg: locked while its process lives, removed by the next one.

The lock is flock(2) on the folder itself; the kernel drops it when the process dies.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.core.errors import StorageError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an OSError of the body into StorageError, which names the last part of the folder."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{folder.name} can't be written for gpg: {error.strerror}") from error


def locked_folder(parent: Path) -> tuple[Path, int]:
    """Return a new folder "gpg-…", and the descriptor that keeps the folder locked.

    The folder gets its name after the lock, so that no other process takes it for abandoned.
    """
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return new.rename(parent / new.name.replace(".new-", "gpg-")), descriptor


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of processes that were killed: the kernel has dropped their locks."""
    for folder in parent.glob("gpg-*"):
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
