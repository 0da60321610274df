"""Sending a blob of a real store: the last look at the file, before the last chunk goes out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.core.digest import Digest
from app.core.errors import BlobDamagedError, OverloadedError
from app.storage.local import LocalBlobStore
from app.web.streaming import CHUNK_BYTES, Message, Streams

pytestmark = pytest.mark.on_disk

CHUNKS = bytes(range(256)) * (CHUNK_BYTES // 256) * 3


@dataclass
class Client:
    """One client of the ASGI protocol; it does `during` when the first chunk has come.

    Attributes:
        chunks: what came, with whether more is to come.
    """

    path: Path
    chunks: list[tuple[bytes, bool]] = field(default_factory=list)
    is_changing: bool = True

    async def send(self, message: Message) -> None:
        self.chunks.append((bytes(message["body"]), message["more_body"]))
        if self.is_changing and len(self.chunks) == 1:
            change(self.path)

    async def receive(self) -> Message:
        await asyncio.Event().wait()  # it stays
        return {"type": "http.disconnect"}


def change(path: Path) -> None:
    """Change a byte that was sent already; the size stays."""
    path.chmod(0o640)
    with path.open("r+b") as file:
        file.write(b"X")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalBlobStore]:
    made = LocalBlobStore(tmp_path / "store", min_free_fraction=0.0)
    yield made
    made.close()


@dataclass
class Stored:
    store: LocalBlobStore
    data: bytes
    root: Path

    @property
    def path(self) -> Path:
        digest = Digest.of(self.data).hex
        return self.root / "store" / "blobs" / digest[:2] / digest


@pytest.fixture(params=[CHUNKS, CHUNKS + b"and a little more"], ids=["whole chunks", "odd"])
async def stored(request: pytest.FixtureRequest, store: LocalBlobStore, tmp_path: Path) -> Stored:
    await store.put(request.param)
    return Stored(store, request.param, tmp_path)


async def sent(stored: Stored, client: Client) -> int:
    blob = await stored.store.open(Digest.of(stored.data), len(stored.data))
    try:
        return await Streams(1).send(
            blob, 0, len(stored.data), {"type": "http"}, client.receive, client.send
        )
    finally:
        blob.close()


async def test_a_blob_that_stays_is_sent_whole(stored: Stored) -> None:
    client = Client(stored.path, is_changing=False)
    assert await sent(stored, client) == len(stored.data)
    assert b"".join(chunk for chunk, _ in client.chunks) == stored.data
    assert [more for _, more in client.chunks] == [True] * (len(client.chunks) - 1) + [False]


async def test_F90_a_blob_that_changes_behind_what_was_sent_is_never_complete(
    stored: Stored,
) -> None:
    """All that is still to be read is right; only the look at the file tells the change."""
    client = Client(stored.path)
    with pytest.raises(BlobDamagedError, match="changed while it was sent"):
        await sent(stored, client)
    assert client.chunks
    assert all(more for _, more in client.chunks)
    assert sum(len(chunk) for chunk, _ in client.chunks) < len(stored.data)


async def test_F90_a_blob_that_changed_since_it_was_opened_is_not_begun(
    store: LocalBlobStore, tmp_path: Path
) -> None:
    await store.put(b"small")
    stored = Stored(store, b"small", tmp_path)
    client = Client(stored.path)
    blob = await store.open(Digest.of(b"small"), 5)
    change(stored.path)
    with pytest.raises(BlobDamagedError):
        await Streams(1).send(blob, 0, 5, {"type": "http"}, client.receive, client.send)
    blob.close()
    assert client.chunks == []


async def test_many_streams_get_smaller_chunks_and_no_more_than_the_limit() -> None:
    streams, sizes = Streams(600, wait_s=0), []
    async with AsyncExitStack() as turns:
        for number in range(600):
            await turns.enter_async_context(streams.turn(f"10.0.0.{number}"))
            sizes.append(streams.chunk_bytes)
        assert sizes[0] == CHUNK_BYTES
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] == 64 * 1024
        with pytest.raises(OverloadedError, match="600 downloads"):
            async with streams.turn("10.0.1.1"):
                pass
    assert streams.chunk_bytes == CHUNK_BYTES


async def test_one_address_leaves_turns_for_others() -> None:
    streams = Streams(4, wait_s=0)
    async with streams.turn("10.0.0.1"), streams.turn("10.0.0.1"):
        with pytest.raises(OverloadedError):
            async with streams.turn("10.0.0.1"):
                pass
        async with streams.turn("10.0.0.2"):
            pass
