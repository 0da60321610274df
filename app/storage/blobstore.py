"""The BlobStore protocol: what every store guarantees.

A blob is immutable bytes under the SHA-256 of those bytes. A store does not know names: services
decide who may read a blob, by the row that names it. Implementations are `local.py` and `s3.py`;
each must pass the suite `tests/contracts/blobstore.py`.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeAlias

from app.core.digest import Digest

BlobBytes: TypeAlias = bytes | bytearray | memoryview
"""The result of a read: the caller owns the buffer, the store never writes to it again."""


Reclaim: TypeAlias = Callable[[Digest], Awaitable[None]]
"""Takes a blob from the garbage before its bytes are stored again; see `services/garbage.py`."""


async def keep_nothing_back(_digest: Digest) -> None:
    """Do nothing: for a store without a collector of garbage."""


class BlobCondition(StrEnum):
    """The result of checking one blob."""

    OK = "ok"
    MISSING = "missing"
    SHORT = "short"  # the size differs from the recorded size
    DAMAGED = "damaged"  # the size is right, the bytes are wrong


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One blob in the store, unverified.

    Attributes:
        size_bytes: length in bytes.
        stored_at: when it was stored, UTC.
    """

    digest: Digest
    size_bytes: int
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class Leftover:
    """A staged file whose process is dead."""

    path: Path
    size_bytes: int


class StagedBlob(Protocol):
    """Bytes that are being written: private to their writer until `BlobStore.commit`."""

    @property
    def path(self) -> Path:
        """The local file, for gpg and for reading the archive.

        The file is complete after `seal`, and valid until commit, restart or the end of the stage.
        A child process of the same user can read it.
        """
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes written since the last restart."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Append chunk.

        Raises:
            StorageFullError: no space or inode is left.
            StorageError: the file system refused for another reason.
        """
        ...

    async def restart(self) -> None:
        """Begin again with no bytes, also after seal or a failed write.

        Raises:
            StorageFullError: the size hint does not fit above the free-space floor any more.
            StorageError: the store can't be written.
        """
        ...

    async def seal(self) -> Digest:
        """Return the digest of everything written. After seal only restart or commit may follow.

        Raises:
            StorageFullError: the last bytes didn't fit.
            StorageError: this write or an earlier one failed.
        """
        ...

    async def flush(self) -> None:
        """Write sealed bytes through to the disk; a later commit has less to do.

        For a large blob, beside the check of its content. Durable is only what was committed.

        Raises:
            StorageError: the disk refused; the bytes are dropped, and can't be committed.
        """
        ...


class OpenBlob(Protocol):
    """A blob open for reading; its bytes were verified against its digest."""

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        ...

    def read_cached(self, offset: int, length: int) -> BlobBytes | None:
        """Return exactly length bytes at offset without waiting for a disk, or None.

        After None, call `read`: it returns the bytes or raises the error.
        """
        ...

    def cached_descriptor(self, offset: int, length: int) -> int | None:
        """Return a descriptor to send these bytes from, likely without waiting for a disk.

        None if the store has no local file, or the bytes are not in the page cache.
        """
        ...

    async def read(self, offset: int, length: int) -> BlobBytes:
        """Return exactly length bytes at offset (offset + length <= size_bytes).

        Raises:
            BlobDamagedError: the file got shorter.
            StorageError: the disk answered with an error.
        """
        ...

    def unchanged(self) -> bool:
        """Report whether the file is the same as when it was checked (identity, size, times)."""
        ...

    def close(self) -> None:
        """Release the file; may be called twice."""
        ...


class BlobStore(Protocol):
    """Content-addressed bytes. Every method is safe under concurrent use, across processes too.

    The store does not know whether a row needs a blob. If a delete or quarantine can meet a put of
    the same digest, the caller must put them in order: `commit` and `make_durable` first await a
    `Reclaim`, by which a put waits for the collector of garbage.
    """

    def stage(
        self, *, size_hint_bytes: int | None = None
    ) -> AbstractAsyncContextManager[StagedBlob]:
        """Return a context with a new staged blob; at its end an uncommitted blob is removed.

        Raises:
            StorageFullError: size_hint_bytes doesn't fit above the free-space floor.
            StorageError: the store can't be written.
        """
        ...

    async def commit(
        self, staged: StagedBlob, expected: Digest, *, is_unmarked: bool = False
    ) -> None:
        """Make a sealed staged blob durable under its digest; return when the blob is durable.

        Idempotent: an existing blob stays, unless it is short or damaged; then the new blob
        replaces it.

        Args:
            staged: sealed.
            expected: its digest.
            is_unmarked: the caller saw a moment ago, in a transaction of its own, that no mark of
                garbage collection stands against the blob; else the store asks.

        Raises:
            BlobDamagedError: the sealed digest is not `expected`; nothing was done.
            StorageFullError: no space or inode is left for the name.
            StorageError: fsync or link failed. No row may name the blob then. If the blob is
                visible, its bytes are complete: a retry adopts it, or gc removes it.
        """
        ...

    async def put(self, data: bytes) -> Digest:
        """Store data durably (stage, write, seal, commit) and return its digest."""
        ...

    async def open(self, digest: Digest, size_bytes: int) -> OpenBlob:
        """Open a blob for reading, after its bytes are verified.

        The bytes are hashed when this process opens the file for the first time, and again after a
        change of inode, size, mtime or ctime.

        Raises:
            BlobMissingError: no such blob.
            BlobDamagedError: wrong size or wrong bytes.
            StorageError: the disk answered with an error.
        """
        ...

    def local_file(self, digest: Digest) -> AbstractAsyncContextManager[Path]:
        """Return a context with a local, read-only file of the blob's bytes, unverified.

        Raises:
            BlobMissingError: no such blob.
        """
        ...

    async def read(self, digest: Digest, *, max_bytes: int) -> bytes:
        """Return a whole small blob, verified.

        Raises:
            BlobMissingError: no such blob.
            BlobDamagedError: the bytes are not the digest's, or exceed max_bytes.
        """
        ...

    async def check(self, digest: Digest, size_bytes: int, *, deep: bool) -> BlobCondition:
        """Report the condition of one blob; deep reads all its bytes from the disk and hashes them.

        Raises:
            StorageError: the disk answered with an error.
        """
        ...

    async def make_durable(self, digest: Digest) -> None:
        """Sync a blob whose writer may have been killed before the sync; for adopting an orphan.

        Raises:
            BlobMissingError: no such blob.
            StorageError: the disk answered with an error.
        """
        ...

    async def mend(self, digest: Digest) -> bool:
        """Restore a bad or missing blob from a whole copy that the store itself has.

        Returns:
            False if the store has no such copy, as one with a single place never has.

        Raises:
            StorageError: the store can't be written.
        """
        ...

    async def link(self, digest: Digest, lifetime_s: float) -> str | None:
        """Return a URL by which anybody can read the bytes for so many seconds; None for no such.

        Raises:
            StorageError: the store can't make one now.
        """
        ...

    def note(self) -> str | None:
        """Return what an operator has to look at although blobs are served, on one line."""
        ...

    async def quarantine(self, digest: Digest) -> Path | None:
        """Move a blob out of reach and keep its bytes as evidence; None if the blob is missing."""
        ...

    async def delete(self, digest: Digest) -> None:
        """Remove a blob; nothing happens if the blob is missing."""
        ...

    def walk(self) -> Iterator[StoredBlob]:
        """Yield every blob in the store, in digest order. Blocks: call it from a thread."""
        ...

    def leftovers(self) -> Iterator[Leftover]:
        """Yield staged files whose process is dead. Blocks: call it from a thread."""
        ...

    async def recover(self) -> int:
        """Remove the leftovers of dead processes and return their number. Idempotent."""
        ...

    def close(self) -> None:
        """Release threads and locks; no other call may follow."""
        ...

    async def probe(self) -> int:
        """Prove that the store can be written; return its free space in bytes.

        Raises:
            StorageFullError: free space is under the floor.
            StorageError: a write failed.
        """
        ...
