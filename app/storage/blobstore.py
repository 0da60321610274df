"""The BlobStore protocol: what every store promises, and nothing about how.

A blob is immutable bytes under the SHA-256 of those bytes. A store never learns names: who may
read which blob is decided above, by the row that names it. Implementations: `local.py`; the suite
that each must pass is `tests/contracts/blobstore.py`.
"""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeAlias

from app.core.digest import Digest

BlobBytes: TypeAlias = bytes | bytearray | memoryview
"""What a read returns: the caller owns it, and it is never written again by the store."""


class BlobCondition(StrEnum):
    """What a check of one blob found."""

    OK = "ok"
    MISSING = "missing"
    SHORT = "short"  # the size differs from the recorded one
    DAMAGED = "damaged"  # the size is right and the bytes are not


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One blob as found in the store, unverified.

    Attributes:
        size_bytes: length in bytes.
        stored_at: when it was stored, UTC.
    """

    digest: Digest
    size_bytes: int
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class Leftover:
    """A staged file that no live process owns: what a crash left."""

    path: Path
    size_bytes: int


class StagedBlob(Protocol):
    """Bytes on their way in: private to their writer until `BlobStore.commit`."""

    @property
    def path(self) -> Path:
        """The local file, for gpg and for reading the archive.

        Whole once sealed; valid until commit, restart or the end of the stage. A child process
        of the same user can read it.
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
            StorageError: the file system refused otherwise.
        """
        ...

    async def restart(self) -> None:
        """Forget everything written, also after seal or a failed write: a download begins again.

        Raises:
            StorageFullError: the size hint no longer fits above the free-space floor.
            StorageError: the store can't be written.
        """
        ...

    async def seal(self) -> Digest:
        """Return the digest of everything written; no write may follow, but restart may.

        Raises:
            StorageFullError: the last bytes didn't fit.
            StorageError: the file system refused, now or at an earlier write.
        """
        ...


class OpenBlob(Protocol):
    """A blob open for reading, whose bytes were found to be its digest's."""

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        ...

    def read_cached(self, offset: int, length: int) -> BlobBytes | None:
        """Return exactly length bytes at offset without waiting for a disk, or None.

        None says nothing about the bytes: `read` has them, or the error.
        """
        ...

    def cached_descriptor(self, offset: int, length: int) -> int | None:
        """Return a descriptor to send these bytes from, likely without waiting for a disk.

        None where there is no such file, or its bytes would have to be fetched first.
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
        """Report whether the file is still the one that was checked (identity, size, times)."""
        ...

    def close(self) -> None:
        """Release the file; may be called twice."""
        ...


class BlobStore(Protocol):
    """Content-addressed bytes. Every method is safe under concurrent use, across processes too.

    What the store can't know is whether a row still needs a blob: delete and quarantine against a
    put of the same digest is for the caller to put in order.
    """

    def stage(
        self, *, size_hint_bytes: int | None = None
    ) -> AbstractAsyncContextManager[StagedBlob]:
        """Return a context with a new staged blob; leaving it removes what was not committed.

        Raises:
            StorageFullError: size_hint_bytes doesn't fit above the free-space floor.
            StorageError: the store can't be written.
        """
        ...

    async def commit(self, staged: StagedBlob, expected: Digest) -> None:
        """Make a sealed staged blob durable under its digest; returns only when it is.

        Idempotent: a blob that is already there stays, unless it is short or damaged, in which
        case the new one takes its place.

        Raises:
            BlobDamagedError: the sealed digest is not expected; nothing was done.
            StorageFullError: no space or inode is left for the name.
            StorageError: fsync or link failed. No row may name the blob then. Its bytes, if they
                became visible at all, are whole: a retry adopts them, else gc removes them.
        """
        ...

    async def put(self, data: bytes) -> Digest:
        """Store data durably (stage, write, seal, commit) and return its digest."""
        ...

    async def open(self, digest: Digest, size_bytes: int) -> OpenBlob:
        """Open a blob for reading, its bytes known to be right.

        The bytes are hashed when this process meets the file for the first time and again
        whenever its inode, size, mtime or ctime changed.

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
        """Report the condition of one blob; deep re-hashes its bytes as the disk has them.

        Raises:
            StorageError: the disk answered with an error.
        """
        ...

    async def make_durable(self, digest: Digest) -> None:
        """Sync a blob whose writer may have been killed before it did; for adopting an orphan.

        Raises:
            BlobMissingError: no such blob.
            StorageError: the disk answered with an error.
        """
        ...

    async def quarantine(self, digest: Digest) -> Path | None:
        """Move a blob out of reach, keeping its bytes as evidence; None if there was none."""
        ...

    async def delete(self, digest: Digest) -> None:
        """Remove a blob; nothing happens if there is none."""
        ...

    def walk(self) -> Iterator[StoredBlob]:
        """Yield every blob in the store, in digest order. Blocks: call it from a thread."""
        ...

    def leftovers(self) -> Iterator[Leftover]:
        """Yield staged files whose process is gone. Blocks: call it from a thread."""
        ...

    async def recover(self) -> int:
        """Remove the leftovers of dead processes; return how many there were. Idempotent."""
        ...

    def close(self) -> None:
        """Release threads and locks; nothing may be called after."""
        ...

    async def probe(self) -> int:
        """Prove that the store can be written; return its free space in bytes.

        Raises:
            StorageFullError: free space is under the floor.
            StorageError: a write failed.
        """
        ...
