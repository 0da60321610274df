"""A blob store in S3 with a local cache. The cache is never the only copy.

    <prefix>/blobs/ab/abcd…     blobs, sharded as in local.py
    <prefix>/probe              a few bytes, to see whether the store can be written

Staging and reading are those of the cache: a hit there asks S3 for nothing. `commit` uploads before
it returns. A miss fetches the whole blob into the cache and verifies it there; bytes that were not
verified are never served. No request lists objects, and nothing relies on conditional puts: two
that upload one digest upload the same bytes.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from cachetools import LRUCache

from app import logs
from app.core.digest import Digest
from app.core.errors import BlobDamagedError, BlobMissingError, StorageError, StorageFullError
from app.storage.blobstore import (
    BlobCondition,
    BlobStore,
    Leftover,
    OpenBlob,
    Reclaim,
    StagedBlob,
    StoredBlob,
    keep_nothing_back,
)
from app.storage.cache import BlobCache
from app.storage.s3client import S3Client, S3Object
from app.storage.staging import StagedFile
from app.storage.threads import Threads

_MAX_THREADS = 32
_PROBE_S = 10.0
_ROUNDS = 3  # an eviction may take a blob between its fill and its opening
_READS = 2  # of an object, before anybody says that it is damaged
_LOOK_FRACTION = 1 / 32  # of the budget: after so many new bytes the cache is looked at
_NAME = re.compile(r"blobs/[0-9a-f]{2}/([0-9a-f]{64})", re.ASCII)
_log = logs.get("s3")

T = TypeVar("T")


class S3BlobStore(BlobStore):
    """Blobs in a bucket, with a cache on the local disk. Used from one event loop.

    Args:
        client: of the bucket.
        cache: this host's; its processes may share it.
        cache_bytes: what the cache may hold; a little more between two looks.
        reclaim: is awaited before a blob is stored or adopted: takes it from the garbage.
    """

    def __init__(
        self,
        client: S3Client,
        cache: BlobCache,
        cache_bytes: int,
        reclaim: Reclaim = keep_nothing_back,
    ) -> None:
        self._client = client
        self._cache = cache
        self._cache_bytes = cache_bytes
        self._reclaim = reclaim
        self._threads = Threads(_MAX_THREADS)
        self._fills: dict[Digest, asyncio.Task[None]] = {}
        self._uploads: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()
        # The version of an object that this process has uploaded or verified.
        self._known: LRUCache[Digest, str] = LRUCache(1 << 16)
        # The version that this process has found damaged.
        self._bad: LRUCache[Digest, str] = LRUCache(1 << 10)
        self._filled_bytes = 0
        self._trouble: str | None = None
        self._probed_at = -_PROBE_S

    def close(self) -> None:
        """End all threads. Blocks; may be called twice."""
        for task in self._fills.values():
            task.cancel()
        self._threads.close()
        self._cache.close()

    def note(self) -> str | None:
        """Return why S3 could not be used last time, or None; see `BlobStore.note`."""
        return self._trouble

    @asynccontextmanager
    async def stage(self, *, size_hint_bytes: int | None = None) -> AsyncIterator[StagedBlob]:
        """Return a context with a new staged blob on the local disk; see `BlobStore.stage`."""
        async with AsyncExitStack() as stack:
            try:
                stage = self._cache.stage(size_hint_bytes=size_hint_bytes)
                staged = await stack.enter_async_context(stage)
            except StorageFullError:  # the disk may have other users than the cache
                spare = max(2 * (size_hint_bytes or 0), int(self._cache_bytes * _LOOK_FRACTION))
                await self._cache.make_room(size_hint_bytes or 0, spare)
                stage = self._cache.stage(size_hint_bytes=size_hint_bytes)
                staged = await stack.enter_async_context(stage)
            yield staged

    async def commit(
        self, staged: StagedBlob, expected: Digest, *, is_unmarked: bool = False
    ) -> None:
        """Upload a sealed staged blob, then move it into the cache; see `BlobStore.commit`."""
        if not isinstance(staged, StagedFile):
            raise TypeError("only a blob staged by this store can be committed")
        if staged.digest != expected:
            raise BlobDamagedError(f"the staged bytes are {staged.digest}, not {expected}")
        size_bytes = staged.size_bytes
        if not is_unmarked:
            await self._reclaim(expected)
        await self._upload(expected, staged.path, size_bytes)
        # Crash: an object that no row names; a retry uploads it again, or gc removes it.
        try:
            await self._cache.commit(staged, expected)
        except StorageError as error:  # the object is there: the next reader fetches it
            _log.warning("blob not cached", digest=expected.hex, error=str(error))
        await self._count(size_bytes)

    async def put(self, data: bytes) -> Digest:
        """Store data durably and return its digest; see `BlobStore.put`."""
        async with self.stage(size_hint_bytes=len(data)) as staged:
            await staged.write(data)
            digest = await staged.seal()
            await self.commit(staged, digest)
        return digest

    async def open(self, digest: Digest, size_bytes: int) -> OpenBlob:
        """Open the cached blob; fetch the blob first if it is not cached or not whole there."""
        for _ in range(_ROUNDS - 1):
            with suppress(BlobMissingError, BlobDamagedError):
                return await self._cache.open(digest, size_bytes)
            await self._fill(digest, size_bytes)
        return await self._cache.open(digest, size_bytes)

    @asynccontextmanager
    async def local_file(self, digest: Digest) -> AsyncIterator[Path]:
        """Return a context with the cached file; see `BlobStore.local_file`."""
        async with AsyncExitStack() as stack:
            try:
                path = await stack.enter_async_context(self._cache.local_file(digest))
            except BlobMissingError:
                await self._fill(digest, None)
                path = await stack.enter_async_context(self._cache.local_file(digest))
            yield path

    async def read(self, digest: Digest, *, max_bytes: int) -> bytes:
        """Return a whole small blob, verified; see `BlobStore.read`."""
        with suppress(BlobMissingError, BlobDamagedError):
            return await self._cache.read(digest, max_bytes=max_bytes)
        await self._fill(digest, None, max_bytes=max_bytes)
        return await self._cache.read(digest, max_bytes=max_bytes)

    async def check(self, digest: Digest, size_bytes: int, *, deep: bool) -> BlobCondition:
        """Report the condition of the object in S3; deep hashes the cached file too.

        A bad cached file is dropped. An object counts as bad if it was bad each time that it was
        read: the way from S3 may cut or spoil an answer.
        """
        if not deep:
            meta = await self._ask(partial(self._client.head, _key(digest)))
            if meta is None:
                return BlobCondition.MISSING
            return BlobCondition.OK if meta.size_bytes == size_bytes else BlobCondition.SHORT
        if await self._cache.check(digest, size_bytes, deep=True) is not BlobCondition.OK:
            await self._cache.delete(digest)
        condition = BlobCondition.MISSING
        for _ in range(_READS):
            condition = await self._condition(digest, size_bytes)
            if condition is BlobCondition.OK:
                break
        return condition

    async def _condition(self, digest: Digest, size_bytes: int) -> BlobCondition:
        meta, sha256 = await self._ask(partial(_hash_object, self._client, digest))
        if meta is None:
            return BlobCondition.MISSING
        if meta.size_bytes == size_bytes and sha256 == digest.hex:
            self._known[digest] = meta.version
            return BlobCondition.OK
        self._bad[digest] = meta.version
        is_short = meta.size_bytes != size_bytes
        return BlobCondition.SHORT if is_short else BlobCondition.DAMAGED

    async def mend(self, digest: Digest) -> bool:
        """Upload the cached blob, if there is a whole one; see `BlobStore.mend`."""
        try:
            async with self._cache.local_file(digest) as path:
                size_bytes = (await asyncio.to_thread(path.stat)).st_size
                (await self._cache.open(digest, size_bytes)).close()  # it is verified
                self._known.pop(digest, None)
                await self._upload(digest, path, size_bytes)
        except (BlobMissingError, BlobDamagedError, FileNotFoundError):
            return False
        _log.warning("blob restored from the cache", digest=digest.hex)
        return True

    async def make_durable(self, digest: Digest) -> None:
        """Return if the object is there: S3 keeps what it has; see `BlobStore.make_durable`."""
        await self._reclaim(digest)
        if await self._ask(partial(self._client.head, _key(digest))) is None:
            raise BlobMissingError(f"there is no blob {digest}")

    async def quarantine(self, digest: Digest) -> Path | None:
        """Move an object into quarantine/ on the local disk; see `BlobStore.quarantine`.

        An object that was written anew since this process found it damaged stays: another replica
        has healed it.
        """
        await self._cache.delete(digest)
        async with self._cache.stage() as staged:
            meta = await self._fetch(digest, staged)
            if meta is None or self._bad.pop(digest, meta.version) != meta.version:
                return None
            await staged.seal()
            evidence = await self._cache.keep_evidence(staged, digest)
        await self._ask(partial(self._client.delete, _key(digest)))
        return evidence

    async def delete(self, digest: Digest) -> None:
        """Remove the object and the cached blob; see `BlobStore.delete`."""
        self._known.pop(digest, None)
        await self._ask(partial(self._client.delete, _key(digest)))
        await self._cache.delete(digest)

    def walk(self) -> Iterator[StoredBlob]:
        """Yield every object that is named like a blob; see `BlobStore.walk`."""
        for meta in self._client.walk("blobs/"):
            name = _NAME.fullmatch(meta.key)
            if name is not None:
                yield StoredBlob(Digest(name[1]), meta.size_bytes, meta.stored_at)

    def leftovers(self) -> Iterator[Leftover]:
        """Yield staged files whose process is dead; see `BlobStore.leftovers`."""
        return self._cache.leftovers()

    async def recover(self) -> int:
        """Remove the leftovers of dead processes and shrink the cache; see `BlobStore.recover`."""
        removed = await self._cache.recover()
        await self._cache.evict(self._cache_bytes)
        return removed

    async def probe(self) -> int:
        """Prove that the cache can be written; return its free space; see `BlobStore.probe`.

        S3 is tried too. Without S3 the cached blobs are served, so that is no error but a note.
        """
        now = time.monotonic()
        if now - self._probed_at >= _PROBE_S:  # whoever looks at readiness may look often
            self._probed_at = now
            with suppress(StorageError):
                await self._ask(partial(self._client.put, "probe", b"probe\n"))
        return await self._cache.probe()

    async def link(self, digest: Digest, lifetime_s: float) -> str | None:
        """Return a presigned URL of the object; see `BlobStore.link`."""
        return await self._ask(partial(self._client.link, _key(digest), lifetime_s))

    async def _ask(self, call: Callable[[], T]) -> T:
        """Return call() from a thread; remember whether S3 could be used."""
        try:
            result = await self._threads.run(call)
        except (BlobMissingError, BlobDamagedError):
            raise
        except StorageError as error:
            self._trouble = str(error)
            raise
        self._trouble = None
        return result

    async def _fill(
        self, digest: Digest, size_bytes: int | None, *, max_bytes: int | None = None
    ) -> None:
        """Fetch a blob into the cache; callers of one digest share the work.

        Raises:
            BlobMissingError: S3 has no such object.
            BlobDamagedError: the object has other bytes, or not the expected size.
            StorageError: S3 does not answer, or the answer was cut.
        """
        task = self._fills.get(digest)
        if task is None:
            task = asyncio.create_task(self._fill_now(digest, size_bytes, max_bytes))
            self._fills[digest] = task
            task.add_done_callback(partial(self._end_fill, digest))
        await asyncio.shield(task)

    def _end_fill(self, digest: Digest, task: asyncio.Task[None]) -> None:
        self._fills.pop(digest, None)
        if not task.cancelled():
            task.exception()  # mark as retrieved, for the case that every waiter was cancelled

    async def _fill_now(
        self, digest: Digest, size_bytes: int | None, max_bytes: int | None
    ) -> None:
        async with self.stage(size_hint_bytes=size_bytes) as staged:
            meta = await self._fetch(digest, staged, size_bytes=size_bytes, max_bytes=max_bytes)
            if meta is None:
                raise BlobMissingError(f"there is no blob {digest}")
            if await staged.seal() != digest:
                self._bad[digest] = meta.version
                raise BlobDamagedError(f"blob {digest} has the right size and the wrong bytes")
            self._known[digest] = meta.version
            await self._cache.commit(staged, digest)
        await self._count(meta.size_bytes)

    async def _fetch(
        self,
        digest: Digest,
        staged: StagedBlob,
        *,
        size_bytes: int | None = None,
        max_bytes: int | None = None,
    ) -> S3Object | None:
        """Write an object's bytes, unverified, into a staged blob; return None without an object.

        Raises:
            BlobDamagedError: the object has not the expected size.
            StorageError: S3 does not answer, or the answer was cut.
        """
        answer = await self._ask(partial(self._client.get, _key(digest)))
        if answer is None:
            return None
        meta, pieces = answer
        if size_bytes is not None and meta.size_bytes != size_bytes:
            self._bad[digest] = meta.version
            raise BlobDamagedError(
                f"blob {digest} has {meta.size_bytes} bytes in the place of {size_bytes}"
            )
        if max_bytes is not None and meta.size_bytes > max_bytes:
            raise BlobDamagedError(f"blob {digest} has more than {max_bytes} bytes")
        while (piece := await self._ask(partial(next, pieces, b""))) != b"":
            await staged.write(piece)
        if staged.size_bytes != meta.size_bytes:
            raise StorageError(f"the answer of S3 for blob {digest} was cut; try again")
        return meta

    async def _count(self, size_bytes: int) -> None:
        """Count new bytes in the cache, and look at the whole cache now and then."""
        self._filled_bytes += size_bytes
        if self._filled_bytes < self._cache_bytes * _LOOK_FRACTION:
            return
        self._filled_bytes = 0
        with suppress(StorageError):
            await self._cache.evict(self._cache_bytes)

    async def _upload(self, digest: Digest, path: Path, size_bytes: int) -> None:
        """Upload a file, unless this process knows that the object is there and whole.

        Raises:
            StorageError: S3 does not answer, or did not keep all bytes.
        """
        # One after the other: whoever comes second only looks.
        async with self._uploads.setdefault(digest, asyncio.Lock()):
            known = self._known.get(digest)
            call = partial(_upload, self._client, digest, path, size_bytes, known)
            self._known[digest] = await self._ask(call)


# The functions below run in a thread.


def _upload(
    client: S3Client, digest: Digest, path: Path, size_bytes: int, known: str | None
) -> str:
    """Return the object's version; upload the file unless that is the known one."""
    key = _key(digest)
    if known is not None:
        meta = client.head(key)
        if meta is not None and (meta.version, meta.size_bytes) == (known, size_bytes):
            return known
    client.put_file(key, path)
    meta = client.head(key)
    if meta is None or meta.size_bytes != size_bytes:
        raise StorageError(f"S3 did not keep all bytes of blob {digest}; try again")
    return meta.version


def _hash_object(client: S3Client, digest: Digest) -> tuple[S3Object | None, str]:
    """Return what S3 says about an object and the SHA-256 of its bytes, in hex."""
    answer = client.get(_key(digest))
    if answer is None:
        return None, ""
    meta, pieces = answer
    running, count = hashlib.sha256(), 0
    for piece in pieces:
        running.update(piece)
        count += len(piece)
    if count != meta.size_bytes:
        raise StorageError(f"the answer of S3 for blob {digest} was cut; try again")
    return meta, running.hexdigest()


def _key(digest: Digest) -> str:
    return f"blobs/{digest.hex[:2]}/{digest.hex}"
