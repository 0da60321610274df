"""Which process a staged file belongs to, and what dead processes left behind.

Below the store's `tmp/` each process has one folder; its first staged file makes the folder:

    tmp/<32 hex>.lock     locked with flock(2) during the life of the process
    tmp/<32 hex>/<16 hex> the staged files of the process
    tmp/.new-<32 hex>     a lock file that does not have its final name yet

The kernel drops a flock whenever the process ends, and a flock works across containers that share
the file system. So if the lock of a folder can be taken, the folder's process is dead.
"""

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from app.storage.blobstore import Leftover

_OWNER = re.compile(r"(\.new-)?[0-9a-f]{32}", re.ASCII)
_CLAIM_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class _Claim:
    """This process's folder, and the lock that marks the folder as owned."""

    pid: int
    folder: Path
    lock: Path
    descriptor: int


class StagingArea:
    """The folder `tmp/` of a store: this process's folder, and the folders of dead processes.

    Safe from several threads. Two areas over one `tmp/` are two owners, also in one process.
    """

    def __init__(self, tmp: Path) -> None:
        self._tmp = tmp
        self._lock = Lock()
        self._claim: _Claim | None = None

    def folder(self) -> Path:
        """Return this process's own folder; the first call makes it.

        Raises:
            OSError: the folder can't be made.
        """
        with self._lock:
            claim = self._claim
            if claim is not None and not _is_usable(claim):
                # After a fork, closing our copy leaves the parent's lock as it is.
                os.close(claim.descriptor)
                claim = self._claim = None
            if claim is None:
                claim = self._claim = self._make_claim()
            return claim.folder

    def close(self) -> None:
        """Remove this process's folder and release its lock; errors of removal are ignored."""
        with self._lock:
            claim, self._claim = self._claim, None
        if claim is None:
            return
        if claim.pid == os.getpid():
            shutil.rmtree(claim.folder, ignore_errors=True)
            with suppress(OSError):
                claim.lock.unlink(missing_ok=True)
        os.close(claim.descriptor)

    def leftovers(self) -> Iterator[Leftover]:
        """Yield the staged files of dead processes, sorted by path.

        Raises:
            OSError: tmp/ can't be read.
        """
        for owner in self._owners():
            with _locked_if_dead(self._lock_of(owner)) as is_dead:
                files = list(_files_below(self._tmp / owner)) if is_dead else []
            yield from files

    def recover(self) -> int:
        """Remove the folders and locks of dead processes; return the number of staged files.

        The order is files, folder, lock. If the process is killed between two steps, the next call
        finds the rest in the same way.

        Raises:
            OSError: a file, folder or lock can't be removed.
        """
        count = 0
        for owner in self._owners():
            lock = self._lock_of(owner)
            with _locked_if_dead(lock) as is_dead:
                if is_dead:
                    count += self._remove(owner)
                    lock.unlink(missing_ok=True)
        return count

    def _remove(self, owner: str) -> int:
        folder = self._tmp / owner
        if not folder.is_dir():
            return 0
        count = sum(1 for _ in _files_below(folder))
        with suppress(FileNotFoundError):  # another process recovers at the same time
            shutil.rmtree(folder)
        return count

    def _owners(self) -> list[str]:
        """Return the names of all locks and folders, also those that begin with ".new-"."""
        names = {path.name.removesuffix(".lock") for path in self._tmp.iterdir()}
        return sorted(name for name in names if _OWNER.fullmatch(name))

    def _lock_of(self, owner: str) -> Path:
        return self._tmp / (owner if owner.startswith(".new-") else f"{owner}.lock")

    def _make_claim(self) -> _Claim:
        for _ in range(_CLAIM_ROUNDS - 1):
            # A process that recovers may take the ".new-" lock first; then try another name.
            with suppress(BlockingIOError, FileNotFoundError):
                return self._claim_as(secrets.token_hex(16))
        return self._claim_as(secrets.token_hex(16))

    def _claim_as(self, name: str) -> _Claim:
        new, lock, folder = self._tmp / f".new-{name}", self._tmp / f"{name}.lock", self._tmp / name
        # Open read-only: an open writer would prevent an operator from remounting read-only.
        descriptor = os.open(new, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Crash: a ".new-" file without an owner, which recover removes.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Lock first, then give the final name: at no moment can a process that recovers
            # find the final name unlocked, and take this process for dead.
            new.rename(lock)
            # Crash: a lock that can be taken.
            folder.mkdir(mode=0o700)
        except BaseException:
            for path in (new, lock):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return _Claim(os.getpid(), folder, lock, descriptor)


def _is_usable(claim: _Claim) -> bool:
    """Report whether a claim belongs to this process and its folder still exists.

    False after a fork, and after somebody emptied tmp/ by hand.
    """
    return claim.pid == os.getpid() and claim.folder.is_dir()


@contextmanager
def _locked_if_dead(lock: Path) -> Iterator[bool]:
    """Yield True if the owner of the lock is dead; then this process holds the lock in the context.

    A missing lock means a dead owner: an owner makes its lock before its folder, and removes its
    folder before its lock.
    """
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _files_below(folder: Path) -> Iterator[Leftover]:
    """Yield the files of a folder, sorted; missing files and folders are ignored."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(folder.iterdir()):
            with suppress(FileNotFoundError):
                yield Leftover(path, path.lstat().st_size)
