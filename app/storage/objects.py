"""Small named objects and files outside the database: log heads, the audit head, backups.

`LocalObjects` keeps them in a folder, `S3Objects` in a bucket. Both must pass the suite
`tests/contracts/objects.py`. Content-addressed bytes are `blobstore.py`.

Every method blocks: call it from a thread. A key is relative, its elements are separated by "/":
"logs/sum.example.head". An element has 1 to 250 characters of a-z, A-Z, 0-9 and "._-+@=,%~", and
does not begin with ".".
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from app.core.errors import BadInputError, ConflictError, StorageError
from app.storage import durable
from app.storage.durable import storage_errors
from app.storage.s3client import S3Client

MAX_SMALL_BYTES = 16 << 20
"""The largest object that `get` returns."""

_ELEMENT = re.compile(r"[A-Za-z0-9_+@=,%~-][A-Za-z0-9._+@=,%~-]{0,249}", re.ASCII)
_LOCK = ".lock"
_PIECE_BYTES = 1 << 20


class _Any(Enum):
    ANY = "any"


ANY: Final = _Any.ANY
"""The expected version of a put that overwrites whatever is there."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A small object.

    Attributes:
        data: all bytes.
        version: of these bytes; opaque. `put` takes it as the expected one.
    """

    data: bytes
    version: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object without its bytes.

    Attributes:
        stored_at: when it was written last, UTC.
    """

    key: str
    size_bytes: int
    stored_at: datetime


class ObjectStore(Protocol):
    """Named objects. Every method is safe under concurrent use, across processes too.

    Every method raises BadInputError for a key that is none, and StorageError if the store can't
    be used now.
    """

    def get(self, key: str) -> StoredObject | None:
        """Return an object; None if there is none.

        Raises:
            StorageError: it has more than MAX_SMALL_BYTES.
        """
        ...

    def put(self, key: str, data: bytes, *, expected: str | _Any | None) -> str:
        """Write an object durably; return its version.

        Args:
            key: of the object.
            data: all bytes.
            expected: the version that the caller read; None if there must be no object; ANY
                overwrites.

        Raises:
            ConflictError: another version is there. Nothing was written, or, where the store's
                answer was lost, perhaps these bytes, which another put has replaced since.
            StorageError: the object may be written or not. Whoever compares must read again.
        """
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Write a file's bytes as an object, over any earlier one, durably."""
        ...

    def get_file(self, key: str, path: Path) -> bool:
        """Write an object's bytes to path, a new or an old file; return False without an object.

        The file is not synced. It holds fewer bytes if the store cut them: the caller verifies.
        """
        ...

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects below a prefix, "" or whole elements with a "/" at the end.

        The order is that of the keys' elements or of the keys.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...


class LocalObjects(ObjectStore):
    """Objects as files (0600) below a folder (0700); a missing folder is made.

    Raises:
        StorageError: the folder can't be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage_errors("make a folder of objects"):
            durable.make_folder(folder)

    def get(self, key: str) -> StoredObject | None:
        """Return an object; its version is its SHA-256; see `ObjectStore.get`."""
        path = self._path(key)
        with storage_errors(f"read {key}"):
            try:
                with path.open("rb") as file:
                    data = file.read(MAX_SMALL_BYTES + 1)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._folder.stat()  # a folder that is not mounted has no absent objects
                return None
        _require_small(key, len(data))
        return StoredObject(data, hashlib.sha256(data).hexdigest())

    def put(self, key: str, data: bytes, *, expected: str | _Any | None) -> str:
        """Write an object under a lock of the folder; see `ObjectStore.put`."""
        path = self._path(key)
        with storage_errors(f"write {key}"), self._lock():
            if expected is not ANY:
                _require_version(key, self.get(key), expected)
            durable.make_folder(path.parent)
            durable.replace_file(path, data)
        return hashlib.sha256(data).hexdigest()

    def put_file(self, key: str, path: Path) -> None:
        """Copy a file; see `ObjectStore.put_file`."""
        target = self._path(key)
        with storage_errors(f"write {key}"), self._lock():
            durable.make_folder(target.parent)
            durable.copy_file(path, target)

    def get_file(self, key: str, path: Path) -> bool:
        """Copy an object into a file; see `ObjectStore.get_file`."""
        with storage_errors(f"read {key}"):
            try:
                source = self._path(key).open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return False
            with source, path.open("wb") as target:
                while piece := source.read(_PIECE_BYTES):
                    target.write(piece)
        return True

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the files below a folder; see `ObjectStore.walk`."""
        start = self._path(prefix.rstrip("/")) if prefix else self._folder
        with storage_errors(f"list {prefix or 'objects'}"):
            yield from self._below(start)

    def _below(self, folder: Path) -> Iterator[ObjectInfo]:
        entries: list[Path] = []
        with suppress(FileNotFoundError, NotADirectoryError):
            entries = sorted(folder.iterdir())
        for entry in entries:
            if entry.name.startswith("."):  # locks and files that are being written
                continue
            if entry.is_dir():
                yield from self._below(entry)
                continue
            with suppress(FileNotFoundError):
                status = entry.lstat()
                yield ObjectInfo(
                    entry.relative_to(self._folder).as_posix(),
                    status.st_size,
                    datetime.fromtimestamp(status.st_mtime, UTC),
                )

    def delete(self, key: str) -> None:
        """Remove a file durably; its folder stays; see `ObjectStore.delete`."""
        path = self._path(key)
        with (
            storage_errors(f"remove {key}"),
            self._lock(),
            suppress(FileNotFoundError, NotADirectoryError),
        ):
            path.unlink()
            durable.sync_folder(path.parent)

    def _path(self, key: str) -> Path:
        return self._folder / _checked(key)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Return a context that holds a lock between processes; a kill releases the lock too."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._folder / _LOCK, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class S3Objects(ObjectStore):
    """Objects in a bucket, below a prefix of their own.

    Two puts that expect the same version: one is refused, if the server compares versions. Some
    servers do not. There, a put that comes between the other's look and its put is overwritten, so
    the caller needs a fence of its own.

    Args:
        client: of the bucket.
        prefix: whole elements, without a "/" at the end.
    """

    def __init__(self, client: S3Client, prefix: str) -> None:
        self._client = client
        self._prefix = f"{_checked(prefix)}/"

    def get(self, key: str) -> StoredObject | None:
        """Return an object; see `ObjectStore.get`."""
        answer = self._client.get(self._key(key))
        if answer is None:
            return None
        meta, pieces = answer
        _require_small(key, meta.size_bytes)
        data = b"".join(pieces)
        _require_whole(key, len(data), meta.size_bytes)
        return StoredObject(data, meta.version)

    def put(self, key: str, data: bytes, *, expected: str | _Any | None) -> str:
        """Write an object; see `ObjectStore.put`."""
        if expected is ANY:
            return self._client.put(self._key(key), data)
        # Look first: some servers ignore the condition, and some refuse to know it.
        _require_version(key, self.get(key), expected)
        with suppress(NotImplementedError):
            try:
                return self._put_if(key, data, expected, expected)
            except ConflictError:
                _require_version(key, self.get(key), expected)
            # It still has that version: the server compares without quotes, as Ceph 16 does.
            bare = None if expected is None else expected.strip('"')
            return self._put_if(key, data, expected, bare)
        return self._client.put(self._key(key), data)

    def _put_if(self, key: str, data: bytes, expected: str | None, condition: str | None) -> str:
        """Write an object on a condition; where the answer is lost, look what became of it.

        Ceph 16 answers a lost race by 500.
        """
        try:
            return self._client.put_if(self._key(key), data, version=condition)
        except StorageError:
            current = self.get(key)
            if current is not None and current.data == data:
                return current.version
            _require_version(key, current, expected)
            raise

    def put_file(self, key: str, path: Path) -> None:
        """Upload a file, in parts if large; see `ObjectStore.put_file`."""
        size_bytes = path.stat().st_size
        self._client.put_file(self._key(key), path)
        meta = self._client.head(self._key(key))
        _require_whole(key, -1 if meta is None else meta.size_bytes, size_bytes)

    def get_file(self, key: str, path: Path) -> bool:
        """Download an object; see `ObjectStore.get_file`."""
        answer = self._client.get(self._key(key))
        if answer is None:
            return False
        with storage_errors(f"copy {key}"), path.open("wb") as file:
            for piece in answer[1]:
                file.write(piece)
        return True

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield objects in the order of their keys; see `ObjectStore.walk`."""
        below = f"{_checked(prefix.rstrip('/'))}/" if prefix else ""
        for meta in self._client.walk(self._prefix + below):
            key = meta.key.removeprefix(self._prefix)
            yield ObjectInfo(key, meta.size_bytes, meta.stored_at)

    def delete(self, key: str) -> None:
        """Remove an object; see `ObjectStore.delete`."""
        self._client.delete(self._key(key))

    def _key(self, key: str) -> str:
        return self._prefix + _checked(key)


def _checked(key: str) -> str:
    """Return a key that is one.

    Raises:
        BadInputError: an element is empty, begins with "." or has a character that is not allowed.
    """
    if not all(_ELEMENT.fullmatch(element) for element in key.split("/")):
        raise BadInputError(f"{key[:100]!a} is not the key of an object")
    return key


def _require_version(key: str, current: StoredObject | None, expected: str | None) -> None:
    version = None if current is None else current.version
    if version != expected:
        raise ConflictError(f"write {key}: it was changed meanwhile")


def _require_small(key: str, size_bytes: int) -> None:
    if size_bytes > MAX_SMALL_BYTES:
        raise StorageError(f"read {key}: it has more than {MAX_SMALL_BYTES} bytes")


def _require_whole(key: str, size_bytes: int, expected_bytes: int) -> None:
    if size_bytes != expected_bytes:
        raise StorageError(f"{key} was cut: it has not the {expected_bytes} bytes that it should")
