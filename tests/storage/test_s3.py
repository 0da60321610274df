"""S3BlobStore: the contract, its cache, and an S3 that answers wrongly."""

import asyncio
import os
from contextlib import nullcontext
from dataclasses import replace

import pytest

from app.core.digest import Digest
from app.core.errors import BlobDamagedError, BlobMissingError, StorageError, StorageFullError
from app.storage.blobstore import BlobCondition
from app.storage.cache import BlobCache
from app.storage.freespace import FreeSpace
from app.storage.s3 import S3BlobStore
from app.storage.s3client import S3Client
from tests.contracts.blobstore import ABC, LARGE, BlobStoreContract, read_whole
from tests.fakes.s3faults import S3Fault, S3FaultProxy
from tests.storage.test_local import FileTamper, blob_path

BUDGET = 1 << 30


class ObjectTamper:
    """Changes objects behind the store's back; those of the cache alike."""

    def __init__(self, client: S3Client, root) -> None:
        self._client, self._root, self._cache = client, root, FileTamper(root)

    def flip(self, digest: Digest) -> None:
        content = bytearray(self.content(digest))
        content[len(content) // 2] ^= 1
        self._client.put(key(digest), bytes(content))
        self._cache.flip(digest)

    def truncate(self, digest: Digest, size_bytes: int) -> None:
        self._client.put(key(digest), self.content(digest)[:size_bytes])
        self._cache.truncate(digest, size_bytes)

    def remove(self, digest: Digest) -> None:
        self._client.delete(key(digest))
        self._cache.remove(digest)

    def content(self, digest: Digest) -> bytes:
        _, pieces = self._client.get(key(digest))
        return b"".join(pieces)


def key(digest: Digest) -> str:
    return f"blobs/{digest.hex[:2]}/{digest.hex}"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def client_place(s3):
    return s3.place("moorage")


@pytest.fixture
def client(client_place):
    return S3Client(client_place)


@pytest.fixture
def make(client, tmp_path):
    """Return a function that makes a replica's store over the same bucket."""
    made = []

    def replica(name="cache", cache_bytes=BUDGET, client=client):
        cache = BlobCache(tmp_path / name, min_free_fraction=0.0)
        made.append(S3BlobStore(client, cache, cache_bytes))
        return made[-1]

    yield replica
    for store in made:
        store.close()


@pytest.fixture
def store(make):
    return make()


@pytest.fixture
def tamper(client, root):
    return ObjectTamper(client, root)


@pytest.fixture
def asked(client, monkeypatch):
    """Return a list that gets the name of every method by which S3 is asked."""
    calls = []

    def spied(name, real):
        def spy(self, *args, **options):
            calls.append(name)
            return real(self, *args, **options)

        return spy

    for name in ("head", "get", "put", "put_if", "put_file", "walk", "delete"):
        monkeypatch.setattr(S3Client, name, spied(name, getattr(S3Client, name)))
    return calls


class TestContract(BlobStoreContract):
    pass


async def test_a_hit_in_the_cache_asks_s3_for_nothing(store, asked):
    digest = await store.put(LARGE)
    asked.clear()
    assert await read_whole(store, digest, len(LARGE)) == LARGE
    assert await store.read(digest, max_bytes=len(LARGE)) == LARGE
    async with store.local_file(digest) as path:
        assert path.read_bytes() == LARGE
    assert asked == []


async def test_no_request_path_lists_or_deletes(make, asked):
    one, two = make("one"), make("two")
    digest = await one.put(LARGE)
    await read_whole(two, digest, len(LARGE))
    await one.put(LARGE)
    await two.probe()
    assert not {"walk", "delete"} & set(asked)


async def test_a_miss_on_another_replica_is_one_fetch_for_all_that_wait(make, asked):
    one, two = make("one"), make("two")
    digest = await one.put(LARGE)
    asked.clear()
    blobs = await asyncio.gather(*(two.open(digest, len(LARGE)) for _ in range(20)))
    for blob in blobs:
        blob.close()
    assert asked == ["get"]
    async with make("three").local_file(digest) as path:
        assert path.read_bytes() == LARGE


async def test_a_blob_is_uploaded_before_commit_returns_and_once(make, client, asked):
    one = make("one")
    await one.put(b"abc")
    assert client.head(key(ABC)).size_bytes == 3
    asked.clear()
    await one.put(b"abc")
    assert "put_file" not in asked


async def test_F90_a_damaged_cache_is_healed_from_s3_without_a_word(store, root):
    await store.put(b"abc")
    for spoil in (FileTamper(root).flip, lambda d: FileTamper(root).truncate(d, 1)):
        spoil(ABC)
        assert await read_whole(store, ABC, 3) == b"abc"
        spoil(ABC)
        assert await store.read(ABC, max_bytes=9) == b"abc"
    FileTamper(root).flip(ABC)
    assert await store.check(ABC, 3, deep=True) is BlobCondition.OK
    assert await read_whole(store, ABC, 3) == b"abc"


@pytest.mark.parametrize("content", [b"", b"ab", b"abd", b"abcd", b"<html>no</html>", None])
async def test_F90_a_bad_object_is_never_served_and_mended_from_a_whole_cache(
    make, client, content
):
    one, two = make("one"), make("two")
    await one.put(b"abc")
    if content is None:
        client.delete(key(ABC))
    else:
        client.put(key(ABC), content)
    kind = BlobMissingError if content is None else BlobDamagedError
    with pytest.raises(kind):
        await two.open(ABC, 3)
    with pytest.raises(kind):
        await two.read(ABC, max_bytes=100)
    assert await two.check(ABC, 3, deep=True) is not BlobCondition.OK
    assert not await two.mend(ABC)
    assert await one.check(ABC, 3, deep=True) is not BlobCondition.OK
    assert await one.mend(ABC)
    assert await read_whole(two, ABC, 3) == b"abc"
    assert await two.check(ABC, 3, deep=True) is BlobCondition.OK


async def test_a_replica_does_not_take_away_what_another_has_healed(make, client):
    one, two = make("one"), make("two")
    await one.put(b"abc")
    client.put(key(ABC), b"abd")
    assert await two.check(ABC, 3, deep=True) is BlobCondition.DAMAGED
    assert await one.mend(ABC)
    assert await two.quarantine(ABC) is None
    assert await read_whole(two, ABC, 3) == b"abc"


async def test_eviction_takes_the_least_used_and_never_one_that_is_open(make, root):
    contents = [bytes([number]) * 1000 for number in range(10)]
    store = make(cache_bytes=10_000_000)
    digests = [await store.put(content) for content in contents]
    for age, digest in enumerate(digests):
        path = blob_path(root, digest)
        os.utime(path, (1000 + age, 1000 + age))
    held = await store.open(digests[0], 1000)
    (await store.open(digests[1], 1000)).close()  # used now
    store.close()
    small = make(cache_bytes=5000)
    await small.recover()
    left = [number for number, d in enumerate(digests) if blob_path(root, d).exists()]
    assert left == [0, 1, 8, 9]
    assert held.unchanged()
    held.close()
    for content, digest in zip(contents, digests, strict=True):
        assert await read_whole(small, digest, 1000) == content
    assert sum(path.stat().st_size for path in (root / "blobs").rglob("*") if path.is_file()) < 5500


@pytest.mark.parametrize(("taken_by_others", "left"), [(4000, [5, 6, 7]), (9500, list(range(8)))])
async def test_what_is_cached_is_let_go_only_where_that_makes_room(
    make, root, monkeypatch, taken_by_others, left
):
    contents = [bytes([number]) * 1000 for number in range(8)]
    store = make(cache_bytes=160_000)  # a 32nd of it is let go at least
    digests = [await store.put(content) for content in contents]
    for age, digest in enumerate(digests):
        os.utime(blob_path(root, digest), (1000 + age, 1000 + age))

    def free_and_floor(*_):
        cached = sum(1000 for digest in digests if blob_path(root, digest).exists())
        return 12_000 - taken_by_others - cached, 1000

    monkeypatch.setattr(FreeSpace, "_free_and_floor", free_and_floor)
    with pytest.raises(StorageFullError) if len(left) == len(digests) else nullcontext():
        async with store.stage(size_hint_bytes=2000):
            pass
    assert [n for n, digest in enumerate(digests) if blob_path(root, digest).exists()] == left


async def test_without_s3_cached_blobs_are_served_and_others_are_refused(make, s3, asked):
    one, two = make("one"), make("two")
    kept, other = await one.put(b"abc"), await two.put(b"other")
    place = s3.place()
    down = S3Client(type(place)("gone", "", "http://127.0.0.1:1", "us-east-1", "a", "b"))
    alone = make("one", client=down)
    assert await read_whole(alone, kept, 3) == b"abc"
    with pytest.raises(StorageError) as refused:
        await alone.open(other, 5)
    assert not isinstance(refused.value, BlobMissingError | BlobDamagedError)
    with pytest.raises(StorageError):
        await alone.put(b"new")
    assert await alone.probe() > 0
    assert "no answer" in alone.note()
    assert one.note() is None


@pytest.fixture
def faulty(s3, client_place):
    with S3FaultProxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def through(client_place, faulty):
    """Return a client of the same bucket whose answers can be spoilt."""
    return S3Client(replace(client_place, endpoint=faulty.endpoint))


MANY = [S3Fault.BUSY] * 3  # as often as the client tries


async def test_S3_that_is_busy_now_and_then_is_asked_again(make, through, faulty):
    store = make("one", client=through)
    faulty.fault("PUT", S3Fault.BUSY)
    faulty.fault("HEAD", S3Fault.BUSY)
    digest = await store.put(LARGE)
    faulty.fault("GET", S3Fault.BUSY)
    assert await read_whole(make("two", client=through), digest, len(LARGE)) == LARGE


@pytest.mark.parametrize("method", ["PUT", "HEAD"])
async def test_a_commit_that_S3_refuses_is_an_error_and_works_later(make, through, faulty, method):
    store = make("one", client=through)
    faulty.fault(method, *MANY)
    with pytest.raises(StorageError):
        await store.put(b"abc")
    assert "503" in store.note()
    assert await store.put(b"abc") == ABC
    assert await read_whole(make("two"), ABC, 3) == b"abc"


@pytest.mark.parametrize("fault", [S3Fault.LIE, S3Fault.LOST])
async def test_a_write_that_S3_lost_is_never_acknowledged(make, through, faulty, fault):
    store = make("one", client=through)
    faulty.fault("PUT", fault)
    try:
        await store.put(b"abc")
    except StorageError:
        assert await store.put(b"abc") == ABC
    assert await read_whole(make("two"), ABC, 3) == b"abc"


@pytest.mark.parametrize("fault", [S3Fault.SHORT, S3Fault.CUT, S3Fault.FLIPPED])
@pytest.mark.parametrize("content", [b"abc", LARGE], ids=["small", "large"])
async def test_a_spoilt_answer_is_never_served_and_no_damage(make, through, faulty, fault, content):
    digest = await make("one").put(content)
    two = make("two", client=through)
    faulty.fault("GET", *[fault] * 3)
    for _ in range(4):
        try:
            assert await read_whole(two, digest, len(content)) == content
        except StorageError:
            continue
    assert await read_whole(two, digest, len(content)) == content
    faulty.fault("GET", fault)
    assert await two.check(digest, len(content), deep=True) is BlobCondition.OK


async def test_a_slow_answer_keeps_no_cached_blob_waiting(make, through, faulty):
    one, two = make("one", client=through), make("two")
    slow, quick = await two.put(LARGE), await one.put(b"abc")
    faulty.fault("GET", S3Fault.SLOW)
    fetching = [asyncio.create_task(one.open(slow, len(LARGE))) for _ in range(40)]
    assert await read_whole(one, quick, 3) == b"abc"
    assert not any(task.done() for task in fetching)
    faulty.release()
    for blob in await asyncio.gather(*fetching):
        blob.close()


async def test_a_link_is_of_one_object_and_ends(store):
    await store.put(b"abc")
    link = await store.link(ABC, 60)
    assert ABC.hex in link
    assert "X-Amz-Expires=60" in link
    assert "secret" not in link
