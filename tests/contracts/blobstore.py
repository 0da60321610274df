"""The suite that every BlobStore must pass.

A test module subclasses `BlobStoreContract` and provides two fixtures: `store`, an empty store
that refuses nothing for lack of space, and `tamper`, which damages what is stored behind the
store's back.
"""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.digest import Digest
from app.core.errors import BlobDamagedError, BlobMissingError
from app.storage.blobstore import BlobCondition, BlobStore

EMPTY = Digest("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
# FIPS 180-4 examples, csrc.nist.gov, SHA256.pdf: one block.
ABC = Digest("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
ABSENT = Digest("0" * 64)
# Longer than any buffer, and no multiple of one.
LARGE = bytes(range(256)) * 4096 * 3 + b"tail"


class Tamper(Protocol):
    """Damages stored blobs in ways that a store must notice."""

    def flip(self, digest: Digest) -> None:
        """Change one byte, keeping the size."""

    def truncate(self, digest: Digest, size_bytes: int) -> None:
        """Cut the blob to size_bytes."""

    def remove(self, digest: Digest) -> None:
        """Delete the blob's bytes."""


async def read_whole(store: BlobStore, digest: Digest, size_bytes: int) -> bytes:
    blob = await store.open(digest, size_bytes)
    try:
        return bytes(await blob.read(0, size_bytes))
    finally:
        blob.close()


async def stage_and_commit(store: BlobStore, chunks: list[bytes]) -> Digest:
    async with store.stage() as staged:
        for chunk in chunks:
            await staged.write(chunk)
        digest = await staged.seal()
        await store.commit(staged, digest)
    return digest


class BlobStoreContract:
    """Subclass it, and provide the fixtures `store` and `tamper`."""

    @pytest.mark.parametrize(
        ("data", "digest"), [(b"", EMPTY), (b"abc", ABC), (LARGE, Digest.of(LARGE))]
    )
    async def test_put_returns_the_sha256_and_open_reads_the_bytes_back(self, store, data, digest):
        assert await store.put(data) == digest
        assert await read_whole(store, digest, len(data)) == data

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cuts=st.lists(st.integers(0, len(LARGE)), max_size=12))
    async def test_any_chunking_gives_the_same_blob(self, store, cuts):
        edges = [0, *sorted(cuts), len(LARGE)]
        chunks = [LARGE[start:end] for start, end in pairwise(edges)]
        assert await stage_and_commit(store, chunks) == Digest.of(LARGE)
        assert await read_whole(store, Digest.of(LARGE), len(LARGE)) == LARGE

    async def test_a_flushed_blob_is_a_blob_only_once_it_is_committed(self, store):
        async with store.stage() as staged:
            await staged.write(LARGE)
            digest = await staged.seal()
            await staged.flush()
            assert await store.check(digest, len(LARGE), deep=False) is BlobCondition.MISSING
            await store.commit(staged, digest)
        assert await store.check(digest, len(LARGE), deep=True) is BlobCondition.OK

    @pytest.mark.parametrize("hint", [None, 0, 1, 3, 4096, 3 << 20])
    async def test_a_wrong_size_hint_changes_nothing(self, store, hint):
        async with store.stage(size_hint_bytes=hint) as staged:
            await staged.write(b"a")
            await staged.write(b"bc")
            assert staged.size_bytes == 3
            assert await staged.seal() == ABC
            assert staged.path.read_bytes() == b"abc"
            await store.commit(staged, ABC)
        assert await store.check(ABC, 3, deep=True) is BlobCondition.OK

    async def test_a_staged_blob_is_invisible_until_commit(self, store):
        async with store.stage() as staged:
            await staged.write(b"abc")
            assert await staged.seal() == ABC
            assert list(store.walk()) == []
            with pytest.raises(BlobMissingError):
                await store.open(ABC, 3)
        assert list(store.walk()) == []
        assert await store.check(ABC, 3, deep=True) is BlobCondition.MISSING

    async def test_restart_forgets_what_was_written(self, store):
        async with store.stage(size_hint_bytes=3) as staged:
            await staged.write(LARGE)
            await staged.restart()
            assert staged.size_bytes == 0
            await staged.write(b"abc")
            assert await staged.seal() == ABC
            assert staged.path.read_bytes() == b"abc"

    async def test_restart_after_seal_begins_again(self, store):
        async with store.stage() as staged:
            await staged.write(b"not this")
            await staged.seal()
            await staged.restart()
            await staged.write(b"abc")
            await store.commit(staged, await staged.seal())
        assert await read_whole(store, ABC, 3) == b"abc"

    async def test_restart_after_commit_leaves_the_blob_alone(self, store):
        async with store.stage() as staged:
            await staged.write(b"abc")
            await store.commit(staged, await staged.seal())
            await staged.restart()
            await staged.write(b"something else")
            await staged.seal()
        assert await read_whole(store, ABC, 3) == b"abc"

    async def test_seal_twice_returns_the_same_digest(self, store):
        async with store.stage() as staged:
            await staged.write(b"abc")
            assert await staged.seal() == await staged.seal() == ABC

    async def test_a_write_after_seal_is_a_programming_error(self, store):
        async with store.stage() as staged:
            await staged.seal()
            with pytest.raises(RuntimeError):
                await staged.write(b"late")

    async def test_a_commit_before_seal_is_a_programming_error(self, store):
        async with store.stage() as staged:
            with pytest.raises(RuntimeError):
                await store.commit(staged, EMPTY)

    async def test_commit_refuses_bytes_that_are_not_the_expected_ones(self, store):
        async with store.stage() as staged:
            await staged.write(b"abd")
            await staged.seal()
            with pytest.raises(BlobDamagedError, match=ABC.hex):
                await store.commit(staged, ABC)
        assert list(store.walk()) == []

    async def test_a_blob_that_is_there_already_stays(self, store):
        await store.put(b"abc")
        [before] = store.walk()
        assert await store.put(b"abc") == ABC
        assert list(store.walk()) == [before]

    async def test_an_open_blob_reads_any_range(self, store):
        blob = await store.open(await store.put(LARGE), len(LARGE))
        for offset, length in [(0, 0), (0, 1), (5, 1 << 20), (len(LARGE) - 4, 4), (len(LARGE), 0)]:
            expected = LARGE[offset : offset + length]
            assert bytes(await blob.read(offset, length)) == expected
            assert blob.read_cached(offset, length) in (expected, None)
        assert blob.size_bytes == len(LARGE)
        blob.close()
        blob.close()

    @pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (0, 4), (3, 1), (4, 0)])
    async def test_a_range_outside_the_blob_is_a_programming_error(self, store, offset, length):
        blob = await store.open(await store.put(b"abc"), 3)
        with pytest.raises(ValueError):
            await blob.read(offset, length)
        with pytest.raises(ValueError):
            blob.read_cached(offset, length)
        blob.close()

    async def test_an_open_blob_outlives_its_deletion_and_reports_it(self, store):
        blob = await store.open(await store.put(b"abc"), 3)
        assert blob.unchanged()
        await store.delete(ABC)
        assert bytes(await blob.read(0, 3)) == b"abc"
        assert not blob.unchanged()
        blob.close()

    async def test_a_closed_blob_is_not_unchanged(self, store):
        blob = await store.open(await store.put(b"abc"), 3)
        blob.close()
        assert not blob.unchanged()

    async def test_local_file_is_the_blob_as_a_file(self, store):
        await store.put(b"abc")
        async with store.local_file(ABC) as path:
            assert isinstance(path, Path)
            assert path.read_bytes() == b"abc"

    async def test_what_is_absent_is_missing_to_every_method(self, store):
        with pytest.raises(BlobMissingError):
            await store.open(ABSENT, 0)
        with pytest.raises(BlobMissingError):
            await store.read(ABSENT, max_bytes=9)
        with pytest.raises(BlobMissingError):
            async with store.local_file(ABSENT):
                pass
        assert await store.check(ABSENT, 0, deep=False) is BlobCondition.MISSING
        assert await store.quarantine(ABSENT) is None
        await store.delete(ABSENT)

    @pytest.mark.parametrize("max_bytes", [3, 4])
    async def test_read_returns_a_blob_of_up_to_max_bytes(self, store, max_bytes):
        await store.put(b"abc")
        assert await store.read(ABC, max_bytes=max_bytes) == b"abc"

    async def test_read_refuses_a_blob_over_max_bytes(self, store):
        await store.put(b"abc")
        with pytest.raises(BlobDamagedError):
            await store.read(ABC, max_bytes=2)

    async def test_walk_yields_every_blob_in_digest_order(self, store):
        digests = [await store.put(b"%d" % number) for number in range(20)]
        blobs = list(store.walk())
        assert [blob.digest for blob in blobs] == sorted(digests)
        assert {blob.size_bytes for blob in blobs} == {1, 2}
        assert all(blob.stored_at.utcoffset() is not None for blob in blobs)

    async def test_check_reports_a_healthy_blob_and_a_wrong_size(self, store):
        await store.put(b"abc")
        for deep in (False, True):
            assert await store.check(ABC, 3, deep=deep) is BlobCondition.OK
            assert await store.check(ABC, 4, deep=deep) is BlobCondition.SHORT

    async def test_open_refuses_another_size_than_recorded(self, store):
        await store.put(b"abc")
        with pytest.raises(BlobDamagedError, match="3 bytes"):
            await store.open(ABC, 4)

    async def test_F90_a_flipped_byte_is_never_served(self, store, tamper):
        await store.put(b"abc")
        assert await read_whole(store, ABC, 3) == b"abc"
        tamper.flip(ABC)
        with pytest.raises(BlobDamagedError):
            await store.open(ABC, 3)
        with pytest.raises(BlobDamagedError):
            await store.read(ABC, max_bytes=9)
        assert await store.check(ABC, 3, deep=False) is BlobCondition.OK
        assert await store.check(ABC, 3, deep=True) is BlobCondition.DAMAGED

    async def test_F90_a_truncated_blob_is_never_served(self, store, tamper):
        digest = await store.put(LARGE)
        blob = await store.open(digest, len(LARGE))
        tamper.truncate(digest, 5)
        assert not blob.unchanged()
        with pytest.raises(BlobDamagedError):
            await blob.read(0, len(LARGE))
        blob.close()
        with pytest.raises(BlobDamagedError):
            await store.open(digest, len(LARGE))
        assert await store.check(digest, len(LARGE), deep=False) is BlobCondition.SHORT
        assert await store.check(digest, len(LARGE), deep=True) is BlobCondition.SHORT

    async def test_F90_a_deleted_blob_is_missing(self, store, tamper):
        await store.put(b"abc")
        tamper.remove(ABC)
        with pytest.raises(BlobMissingError):
            await store.open(ABC, 3)
        assert await store.check(ABC, 3, deep=True) is BlobCondition.MISSING

    @pytest.mark.parametrize("damage", ["flip", "truncate to 0", "truncate", "remove"])
    @pytest.mark.parametrize("aside", [True, False])
    async def test_F90_put_heals_a_damaged_blob(self, store, tamper, damage, aside):
        await store.put(b"abc")
        if damage == "flip":
            tamper.flip(ABC)
        elif damage == "remove":
            tamper.remove(ABC)
        else:
            tamper.truncate(ABC, 0 if damage.endswith("0") else 2)
        if aside:
            await store.quarantine(ABC)
        assert await store.put(b"abc") == ABC
        assert await store.check(ABC, 3, deep=True) is BlobCondition.OK
        assert await read_whole(store, ABC, 3) == b"abc"

    async def test_quarantine_puts_a_blob_out_of_reach_and_keeps_its_bytes(self, store, tamper):
        await store.put(b"abc")
        tamper.flip(ABC)
        first = await store.quarantine(ABC)
        assert await store.check(ABC, 3, deep=False) is BlobCondition.MISSING
        assert list(store.walk()) == []
        await store.put(b"abc")
        second = await store.quarantine(ABC)
        assert first != second
        assert first.read_bytes() != b"abc"
        assert second.read_bytes() == b"abc"

    async def test_concurrent_puts_of_the_same_bytes_make_one_blob(self, store):
        digests = await asyncio.gather(*(store.put(LARGE) for _ in range(50)))
        assert set(digests) == {Digest.of(LARGE)}
        assert [blob.digest for blob in store.walk()] == [Digest.of(LARGE)]
        assert await store.check(Digest.of(LARGE), len(LARGE), deep=True) is BlobCondition.OK
        assert list(store.leftovers()) == []

    async def test_concurrent_puts_of_different_bytes_make_every_blob(self, store):
        contents = [b"%d" % number * 1000 for number in range(50)]
        digests = await asyncio.gather(*map(store.put, contents))
        assert digests == [Digest.of(content) for content in contents]
        for digest, content in zip(digests, contents, strict=True):
            assert await read_whole(store, digest, len(content)) == content

    async def test_concurrent_opens_of_one_blob_all_succeed(self, store):
        digest = await store.put(LARGE)
        blobs = await asyncio.gather(*(store.open(digest, len(LARGE)) for _ in range(50)))
        for blob in blobs:
            assert bytes(await blob.read(len(LARGE) - 4, 4)) == b"tail"
            blob.close()

    async def test_leaving_a_stage_by_an_error_removes_the_bytes(self, store):
        with pytest.raises(ZeroDivisionError):
            async with store.stage() as staged:
                await staged.write(LARGE)
                await staged.seal()
                path = staged.path
                raise ZeroDivisionError
        assert not path.exists()

    async def test_recover_spares_what_a_live_process_has_staged(self, store):
        async with store.stage() as staged:
            await staged.write(LARGE)
            assert await store.recover() == 0
            assert await staged.seal() == Digest.of(LARGE)
            await store.commit(staged, Digest.of(LARGE))
        assert await store.recover() == 0

    async def test_probe_returns_the_free_bytes(self, store):
        assert await store.probe() > 0
        assert list(store.walk()) == []
