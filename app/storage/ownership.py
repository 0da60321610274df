"""Which process a staged file belongs to, and what dead processes left behind.

Below the store's `tmp/` each process has one folder, made when it first stages something:

    tmp/<32 hex>.lock     held with flock(2) for the life of the process
    tmp/<32 hex>/<16 hex> its staged files
    tmp/.new-<32 hex>     a lock file in the making

The kernel drops a flock when the process dies, however it dies, and it counts across containers
that share the file system. So a folder whose lock can be taken belongs to nobody.
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
    """This process's folder, and the lock that keeps it."""

    pid: int
    folder: Path
    lock: Path
    descriptor: int


class StagingArea:
    """The folder `tmp/` of a store: this process's part of it, and what dead processes left.

    Safe from several threads. Two areas over one folder are two owners, also in one process.
    """

    def __init__(self, tmp: Path) -> None:
        self._tmp = tmp
        self._lock = Lock()
        self._claim: _Claim | None = None

    def folder(self) -> Path:
        """Return this process's own folder, made at the first call.

        Raises:
            OSError: it can't be made.
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
        """Remove this process's folder and give up its lock; what can't be removed is left."""
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
            with _nobody_holds(self._lock_of(owner)) as is_dead:
                found = list(_files_below(self._tmp / owner)) if is_dead else []
            yield from found

    def recover(self) -> int:
        """Remove what dead processes left; return how many staged files there were.

        The files go first, then their folder, then its lock: killed anywhere in between, it
        leaves something that the next call finds in the same way.

        Raises:
            OSError: something can't be removed.
        """
        count = 0
        for owner in self._owners():
            lock = self._lock_of(owner)
            with _nobody_holds(lock) as is_dead:
                if is_dead:
                    count += self._remove(owner)
                    lock.unlink(missing_ok=True)
        return count

    def _remove(self, owner: str) -> int:
        folder = self._tmp / owner
        if not folder.is_dir():
            return 0
        count = sum(1 for _ in _files_below(folder))
        with suppress(FileNotFoundError):  # somebody else recovers at the same time
            shutil.rmtree(folder)
        return count

    def _owners(self) -> list[str]:
        """Return every name that a lock or a folder bears, a ".new-" one included."""
        names = {path.name.removesuffix(".lock") for path in self._tmp.iterdir()}
        return sorted(name for name in names if _OWNER.fullmatch(name))

    def _lock_of(self, owner: str) -> Path:
        return self._tmp / (owner if owner.startswith(".new-") else f"{owner}.lock")

    def _make_claim(self) -> _Claim:
        for _ in range(_CLAIM_ROUNDS - 1):
            # Somebody who recovers may take a ".new-" lock before we do; then another name is due.
            with suppress(BlockingIOError, FileNotFoundError):
                return self._claim_as(secrets.token_hex(16))
        return self._claim_as(secrets.token_hex(16))

    def _claim_as(self, name: str) -> _Claim:
        new, lock, folder = self._tmp / f".new-{name}", self._tmp / f"{name}.lock", self._tmp / name
        # Not for writing: an open writer would keep an operator from remounting read-only.
        descriptor = os.open(new, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Crash: a ".new-" file without an owner, which recover removes.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Only a lock that is held gets the final name, so there is no moment in which
            # somebody who recovers could take this process for dead.
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
    """Report whether a claim is this process's, and nobody emptied tmp/ by hand."""
    return claim.pid == os.getpid() and claim.folder.is_dir()


@contextmanager
def _nobody_holds(lock: Path) -> Iterator[bool]:
    """Yield True, holding the lock ourselves, if its owner is dead; a missing lock is a dead one's.

    An owner has its lock before its folder and removes its folder before its lock.
    """
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        yield _is_taken(descriptor)
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _files_below(folder: Path) -> Iterator[Leftover]:
    """Yield the files of a folder, sorted; nothing if it is missing or goes meanwhile."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(folder.iterdir()):
            with suppress(FileNotFoundError):
                yield Leftover(path, path.lstat().st_size)
