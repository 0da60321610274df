"""Staged files: bytes on their way in, and who owns them.

Below the store's `tmp/` each process has one folder, made when it first stages something:

    tmp/<32 hex>.lock     held with flock(2) for the life of the process
    tmp/<32 hex>/<16 hex> its staged files
    tmp/.new-<32 hex>     a lock file in the making

The kernel drops a flock when the process dies, however it dies, and it counts across containers
that share the file system. So a folder whose lock can be taken belongs to nobody.

Not here: how a staged file becomes a blob (durable.py says in which steps, local.py when).
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

from app.core.digest import Digest
from app.core.errors import StorageError, StorageFullError
from app.storage import durable
from app.storage.blobstore import Leftover, StagedBlob

BUFFER_BYTES = 1 << 20  # one thread hop per MiB costs under 1 % of what hashing it costs

_OWNER = re.compile(r"(\.new-)?[0-9a-f]{32}", re.ASCII)
_CLAIM_ROUNDS = 8
_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.EOPNOTSUPP})

T = TypeVar("T")


class Threads:
    """Runs blocking work in a bounded number of threads of its own.

    The work always runs to its end, and a cancelled caller waits for that end. Otherwise the
    caller would close a descriptor that a thread still writes to, and the next file to get that
    number would receive the bytes.
    """

    def __init__(self, max_threads: int) -> None:
        self._max_threads = max_threads
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    async def run(
        self, work: Callable[[], T], *, discard: Callable[[T], object] | None = None
    ) -> T:
        """Return work(); if the caller was cancelled meanwhile, discard(its result) instead."""
        future = asyncio.get_running_loop().run_in_executor(self._executor(), work)
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is None:
            return future.result()
        if future.exception() is None and discard is not None:
            discard(future.result())
        raise cancelled

    def close(self) -> None:
        """Let the threads end once their work is done."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.shutdown()

    def _executor(self) -> ThreadPoolExecutor:
        """Return this process's pool: threads do not survive a fork."""
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                self._pool = ThreadPoolExecutor(self._max_threads, thread_name_prefix="blobs")
                self._pid = os.getpid()
            return self._pool


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


class StagedFile(StagedBlob):
    """A staged blob in a file of this process's folder; its writer is one task.

    Every restart is a new file: the old one may be a blob already, if a commit failed halfway.
    """

    def __init__(
        self, area: StagingArea, room: FreeSpace, threads: Threads, size_hint_bytes: int | None
    ) -> None:
        self._area = area
        self._room = room
        self._threads = threads
        self._hint = size_hint_bytes or 0
        self._path: Path | None = None
        self._descriptor = -1
        self._reset()

    def _reset(self) -> None:
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._received = 0  # bytes taken by write
        self._written = 0  # of these, bytes in the file
        self._reserved = 0  # bytes of disk that the file has been given
        self._digest: Digest | None = None
        self._is_broken = False

    @property
    def path(self) -> Path:
        """The local file; see `StagedBlob.path`."""
        if self._path is None:
            raise StorageError("use a staged blob: it was committed or dropped")
        return self._path

    @property
    def size_bytes(self) -> int:
        """Bytes written since the last restart."""
        return self._received

    @property
    def digest(self) -> Digest:
        """The digest that seal returned.

        Raises:
            RuntimeError: the blob is not sealed.
        """
        if self._digest is None:
            raise RuntimeError("a staged blob must be sealed first")
        return self._digest

    async def write(self, chunk: bytes) -> None:
        """Append chunk; see `StagedBlob.write`."""
        if self._digest is not None:
            raise RuntimeError("a sealed blob can't be written")
        self._received += len(chunk)
        if not self._buffer and len(chunk) >= BUFFER_BYTES:
            await self._threads.run(partial(self._append, chunk))
            return
        self._buffer += chunk
        if len(self._buffer) >= BUFFER_BYTES:
            full, self._buffer = self._buffer, bytearray()
            await self._threads.run(partial(self._append, full))

    async def restart(self) -> None:
        """Begin again with an empty file; see `StagedBlob.restart`."""
        await self._threads.run(self._create)

    async def seal(self) -> Digest:
        """Write what is buffered and return the digest; see `StagedBlob.seal`."""
        if self._digest is None:
            await self._threads.run(self._finish)
        return self.digest

    def sync(self) -> None:
        """Put the file on the disk; the file is dropped if that fails. Blocks.

        Raises:
            OSError: fsync failed.
        """
        try:
            durable.sync_file(self._descriptor)
        except BaseException:
            self.drop()
            raise

    def stat(self) -> os.stat_result:
        """Return the open file's fstat.

        Raises:
            StorageError: the file was dropped.
            OSError: the file system does not answer.
        """
        self._require_file()
        return os.fstat(self._descriptor)

    def drop(self) -> None:
        """Remove the file, if it is still there. Blocks; may be called twice; never fails.

        A name that can't be removed now is left for recover, once this process is gone: raising
        would hide the error, or the cancellation, that led here.
        """
        descriptor, self._descriptor = self._descriptor, -1
        path, self._path = self._path, None
        if path is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def _require_file(self) -> None:
        if self._descriptor < 0:
            raise StorageError("use a staged blob: it was committed or dropped")

    def _create(self) -> None:
        self.drop()
        self._reset()
        with durable.storage_errors("stage a blob"):
            self._room.require(self._hint)
            self._path = self._area.folder() / secrets.token_hex(8)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            # Read-only for everybody else from the start; this descriptor may write all the same.
            self._descriptor = os.open(self._path, flags, 0o440)
            # Crash: an empty file in a folder that nobody holds.
            self._reserve()

    def _reserve(self) -> None:
        """Take the hinted size from the disk now, so that a full disk shows before the download."""
        if not self._hint:
            return
        try:
            os.posix_fallocate(self._descriptor, 0, self._hint)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
        else:
            self._reserved = self._hint

    def _append(self, content: bytes | bytearray) -> None:
        """Write and hash content: one thread hop for both."""
        self._require_file()
        if self._is_broken:
            raise StorageError("write a staged blob: an earlier write failed")
        self._is_broken = True
        with durable.storage_errors("write a staged blob"):
            beyond = self._written + len(content) - self._reserved
            if beyond > 0:
                self._room.require(min(beyond, len(content)))
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._hash.update(content)
        self._written += len(content)
        self._is_broken = False

    def _finish(self) -> None:
        self._append(self._buffer)
        self._buffer = bytearray()
        with durable.storage_errors("seal a staged blob"):
            if self._reserved > self._written:
                os.ftruncate(self._descriptor, self._written)
        self._digest = Digest(self._hash.hexdigest())
