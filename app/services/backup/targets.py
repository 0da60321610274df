"""Where a restore puts blobs: into a data directory, or into S3.

A blob that is there already counts by its bytes, not by its name and size: an earlier restore may
have ended by a power cut, and a bucket that survived may be damaged. Every method blocks, and is
called from several threads.
"""

from pathlib import Path
from threading import Lock
from typing import Protocol

from app.core.backup import blob_key
from app.core.digest import Digest
from app.services.backup.place import hash_of
from app.storage import durable
from app.storage.durable import storage_errors
from app.storage.objects import ObjectStore


class BlobTarget(Protocol):
    """The blobs of the new installation."""

    def has(self, digest: Digest, size_bytes: int, temp: Path) -> bool:
        """Whether the blob is there, whole.

        Args:
            digest: of the blob.
            size_bytes: that it should have.
            temp: a file that may be written meanwhile; it is removed.

        Raises:
            StorageError: the target can't be read.
        """
        ...

    def put(self, digest: Digest, path: Path) -> None:
        """Take a file over whose bytes were verified; the file may be gone afterwards.

        Raises:
            StorageError: the target can't be written.
        """
        ...


class LocalTarget(BlobTarget):
    """The folder `blobs/` of a data directory. The caller syncs the file system at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, digest: Digest, size_bytes: int, temp: Path) -> bool:
        """Whether the file is there, whole; see `BlobTarget.has`."""
        path = self._folder / blob_key(digest)
        with storage_errors(f"look for blob {digest}"):
            is_there = path.exists() and path.stat().st_size == size_bytes
        return is_there and hash_of(path) == digest

    def put(self, digest: Digest, path: Path) -> None:
        """Move a verified file to its place; see `BlobTarget.put`."""
        target = self._folder / blob_key(digest)
        with storage_errors(f"store blob {digest}"):
            durable.make_folder(target.parent)
            path.chmod(0o440)
            path.replace(target)


class ObjectTarget(BlobTarget):
    """Objects "ab/abcd…", as `storage/s3.py` has them.

    Args:
        objects: those of the store's blobs.
        copied: a file that gets one line for each blob once it is stored. What it names and the
            store lists in the right size needs no reading by a restore that goes on.
    """

    def __init__(self, objects: ObjectStore, copied: Path) -> None:
        self._objects = objects
        self._copied = copied
        self._writing = Lock()
        with storage_errors("read what was restored"):
            lines = copied.read_text("ascii", "replace").splitlines() if copied.exists() else []
        self._done = frozenset(lines)
        self._sizes = {info.key: info.size_bytes for info in objects.walk()}

    def has(self, digest: Digest, size_bytes: int, temp: Path) -> bool:
        """Whether the object is there, whole; see `BlobTarget.has`."""
        if self._sizes.get(_key(digest)) != size_bytes:
            return False
        if digest.hex in self._done:
            return True
        is_whole = self._objects.get_file(_key(digest), temp) and hash_of(temp) == digest
        with storage_errors("remove a copy"):
            temp.unlink(missing_ok=True)
        return is_whole

    def put(self, digest: Digest, path: Path) -> None:
        """Upload a verified file, and see whether all of it arrived; see `BlobTarget.put`."""
        self._objects.put_file(_key(digest), path)
        # Crash: an object without its line, which the next restore reads.
        with self._writing, storage_errors("note what was restored"), self._copied.open("a") as f:
            f.write(f"{digest.hex}\n")


def _key(digest: Digest) -> str:
    return f"{digest.hex[:2]}/{digest.hex}"
