"""An S3 bucket below one prefix: the only file that knows obstore.

Every method blocks and is called from a thread. obstore's async API is not used: it aborts the
process at the end of short `asyncio.run` processes. An error's text names neither bucket nor key.

An e_tag is a version and nothing else: with multipart uploads or encryption it is no digest.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.core.errors import ConflictError, SettingsError, StorageError

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import S3Store

_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 3
_PIECE_BYTES = 1 << 19  # a piece may be longer by what one read of the socket gives
_CONNECT = timedelta(seconds=3)
_SMALL = timedelta(seconds=10)  # a whole request about one small object
_SILENCE = timedelta(seconds=20)  # between two pieces of a large one
_LARGE = timedelta(minutes=15)
_RETRIES = 2
_STATUS = re.compile(r"status code: (\d{3})")


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where a bucket is, and who may use it.

    Attributes:
        bucket: its name.
        prefix: of all keys, without slashes at its ends; "" for none.
        endpoint: "https://s3.example:9000"; None for AWS.
        region: "us-east-1"; None for the environment's.
        access_key: None for the ambient identity (environment, instance, service account).
        secret_key: belongs to access_key.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class S3Object:
    """What the store says about one object.

    Attributes:
        key: below the prefix.
        version: changes with each write.
    """

    key: str
    size_bytes: int
    version: str
    stored_at: datetime


def _no_obstacle() -> None:
    """Say that the bucket may be used."""


class S3Client:
    """The objects of one bucket below one prefix. Safe from several threads; not across a fork.

    Args:
        place: of the bucket.
        obstacle: returns why the bucket must not be used now, else None; asked by every method,
            which then raises StorageError and sends nothing.

    Raises:
        SettingsError: the package obstore is missing, or refuses a setting.
    """

    def __init__(self, place: S3Place, obstacle: Callable[[], str | None] = _no_obstacle) -> None:
        self._obstacle = obstacle
        self._prefix = f"{place.prefix}/" if place.prefix else ""
        self._small = _store(place, _SMALL, _RETRIES)
        # A conditional put is never repeated: the second one would be refused for the first one's
        # success.
        self._once = _store(place, _SMALL, 0)
        self._large = _store(place, _LARGE, _RETRIES)

    def head(self, key: str) -> S3Object | None:
        """Return what the store says about an object; None if there is none.

        Raises:
            StorageError: the store does not answer, or refuses.
        """
        import obstore

        with self._asking("look for an object"):
            try:
                meta = obstore.head(self._small, self._prefix + key)
            except FileNotFoundError:
                return None
        return self._object(meta)

    def get(self, key: str) -> tuple[S3Object, Iterator[bytes]] | None:
        """Return an object and its bytes in pieces of less than 1 MiB; None if there is none.

        The pieces may end early without an error. The caller counts and hashes them.

        Raises:
            StorageError: the store does not answer, or refuses; also while the pieces come.
        """
        import obstore

        with self._asking("read an object"):
            try:
                result = obstore.get(self._large, self._prefix + key)
            except FileNotFoundError:
                return None
            meta = self._object(result.meta)
            pieces = iter(result.stream(min_chunk_size=_PIECE_BYTES))
        return meta, _pieces(pieces)

    def put(self, key: str, data: bytes) -> str:
        """Write a small object whole, over any earlier one; return its version.

        Raises:
            StorageError: the store does not answer, or refuses.
        """
        return self._put(self._small, key, data, "overwrite")

    def put_if(self, key: str, data: bytes, *, version: str | None) -> str:
        """Write a small object if the current one has this version; None if there must be none.

        Raises:
            ConflictError: the store says that it has another version.
            NotImplementedError: the store does not know such a condition.
            StorageError: the store does not answer: the object may be written or not.
        """
        return self._put(self._once, key, data, "create" if version is None else {"e_tag": version})

    def _put(self, store: "S3Store", key: str, data: bytes, mode: "PutMode") -> str:
        import obstore

        with self._asking("write an object", is_conditional=mode != "overwrite"):
            result = obstore.put(store, self._prefix + key, data, mode=mode, use_multipart=False)
        return result["e_tag"] or ""

    def put_file(self, key: str, path: Path) -> str:
        """Write a file's bytes as an object, in parts if large; return its version.

        The object has all of the bytes or is not there. Each part carries its SHA-256.

        Raises:
            StorageError: the file can't be read; the store does not answer, or refuses.
        """
        import obstore

        with self._asking("write an object"):
            result = obstore.put(
                self._large,
                self._prefix + key,
                path,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
        return result["e_tag"] or ""

    def walk(self, prefix: str) -> Iterator[S3Object]:
        """Yield all objects below a prefix that ends at a "/", or all, in the order of their keys.

        Raises:
            StorageError: the store does not answer, or refuses.
        """
        import obstore

        with self._asking("list objects"):
            for page in obstore.list(self._large, (self._prefix + prefix).rstrip("/") or None):
                for meta in page:
                    yield self._object(meta)

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none.

        Raises:
            StorageError: the store does not answer, or refuses.
        """
        import obstore

        with self._asking("remove an object"):
            try:
                obstore.delete(self._small, self._prefix + key)
            except FileNotFoundError:
                return

    def link(self, key: str, lifetime_s: float) -> str:
        """Return a URL by which anybody can read an object for so many seconds; asks nobody.

        Raises:
            StorageError: the identity can't be had.
        """
        import obstore

        with self._asking("sign a link"):
            return obstore.sign(
                self._small, "GET", self._prefix + key, timedelta(seconds=lifetime_s)
            )

    def _object(self, meta: Any) -> S3Object:
        return S3Object(
            meta["path"].removeprefix(self._prefix),
            meta["size"],
            f"{meta['e_tag'] or ''}{meta['version'] or ''}" or str(meta["last_modified"]),
            meta["last_modified"],
        )

    @contextmanager
    def _asking(self, operation: str, *, is_conditional: bool = False) -> Iterator[None]:
        """Return a context for requests; see `_errors`.

        Raises:
            StorageError: the bucket must not be used now.
        """
        obstacle = self._obstacle()
        if obstacle is not None:
            raise StorageError(f"{operation} in S3: {obstacle}")
        with _errors(operation, is_conditional=is_conditional):
            yield


def _pieces(pieces: Iterator[Any]) -> Iterator[bytes]:
    with _errors("read an object"):
        for piece in pieces:
            yield bytes(piece)


def _store(place: S3Place, limit: timedelta, retries: int) -> "S3Store":
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError as error:
        raise SettingsError(
            "storage in S3 needs the package obstore: install moorage[s3]"
        ) from error

    more: dict[str, Any] = {
        "endpoint": place.endpoint,
        "region": place.region,
        "access_key_id": place.access_key,
        "secret_access_key": place.secret_key,
    }
    try:
        return S3Store(
            place.bucket,
            checksum_algorithm="SHA256",
            # One DELETE for each object: not every server knows the request for many.
            disable_bulk_delete=True,
            client_options={
                "allow_http": (place.endpoint or "").startswith("http://"),
                "connect_timeout": _CONNECT,
                "read_timeout": min(_SILENCE, limit),
                "timeout": limit,
            },
            retry_config={
                "max_retries": retries,
                "retry_timeout": _SMALL,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=1),
                    "base": 2,
                },
            },
            **{name: value for name, value in more.items() if value is not None},
        )
    except (BaseError, ValueError) as error:
        raise SettingsError("MOORAGE_STORAGE__URL or MOORAGE_STORAGE__S3 is not usable") from error


@contextmanager
def _errors(operation: str, *, is_conditional: bool = False) -> Iterator[None]:
    """Turn obstore's errors into the error tree, as "<operation> in S3: <reason>".

    Args:
        operation: without the key.
        is_conditional: raise NotImplementedError if the store does not know conditions.
    """
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
    )

    try:
        yield
    except (AlreadyExistsError, PreconditionError) as error:
        raise ConflictError(f"{operation} in S3: it was changed meanwhile") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StorageError(
            f"{operation} in S3: access denied; see the credential and the bucket's policy"
        ) from error
    except (BaseError, OSError, ValueError) as error:
        status = _STATUS.search(str(error))
        if is_conditional and status is not None and status[1] == "501":
            raise NotImplementedError(operation) from error
        reason = "no answer" if status is None else f"status {status[1]}"
        raise StorageError(f"{operation} in S3: {reason}") from error
