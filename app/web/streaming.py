"""Sending a blob: whole chunks, few copies, bounded memory, and never a changed byte.

Chunks that the page cache holds go from there to the socket; others are read in a thread. The
memory of all streams together is bounded: many streams get smaller chunks. Before the last chunk
goes out the file is looked at once more; if it changed meanwhile the connection is cut, so that
nobody takes it for complete.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from app import metrics
from app.core.errors import BlobDamagedError, OverloadedError
from app.storage.blobstore import OpenBlob
from app.web.connection import Connection, connection_of

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CHUNK_BYTES = 1024 * 1024
_FILE_PART_BYTES = 4 * 1024 * 1024
_MIN_CHUNK_BYTES = 64 * 1024
_BUDGET_BYTES = 32 * 1024 * 1024  # in flight, over all streams of the process
_MIN_RATE_BYTES_PER_S = 8 * 1024


class Streams:
    """The streams of one process: how many there are, and how large their chunks may be."""

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self._count = 0

    def enter(self) -> None:
        """Count one more stream.

        Raises:
            OverloadedError: there are max_streams already.
        """
        if self._count >= self._max_streams:
            raise OverloadedError(f"{self._max_streams} downloads are under way; try again")
        self._count += 1
        metrics.set_streams(self._count)

    def leave(self) -> None:
        """Count one stream less."""
        self._count -= 1
        metrics.set_streams(self._count)

    @property
    def chunk_bytes(self) -> int:
        """How much one stream may hold in memory now."""
        share = _BUDGET_BYTES // max(self._count, 1)
        return max(_MIN_CHUNK_BYTES, min(CHUNK_BYTES, share))

    async def send(
        self, blob: OpenBlob, start: int, length: int, scope: Scope, receive: Receive, send: Send
    ) -> int:
        """Send length bytes from start as the response's body; return how many went out.

        A client that went away ends the sending; that is not an error.

        Raises:
            BlobDamagedError: the file changed while it was sent; the connection was cut.
        """
        gone = asyncio.ensure_future(_disconnected(receive))
        connection = connection_of(scope)
        sent = 0
        try:
            while sent < length and not gone.done():
                # A file part needs no memory of ours, whatever its size.
                chunk = _FILE_PART_BYTES if connection is not None else self.chunk_bytes
                size = min(chunk, length - sent)
                if sent + size == length and not blob.unchanged():
                    raise BlobDamagedError("the blob changed while it was sent")
                # The time that the slowest tolerated client needs for one chunk.
                async with asyncio.timeout(10 + size / _MIN_RATE_BYTES_PER_S):
                    sent += await self._send_part(blob, start + sent, size, connection, send)
            if sent == length:
                await send({"type": "http.response.body", "body": b""})
        except (ConnectionError, TimeoutError, BlobDamagedError) as error:
            if connection is not None:
                connection.abort()
                await asyncio.wait([gone], timeout=1)  # so that the server knows that it is over
            if isinstance(error, BlobDamagedError):
                raise
        finally:
            gone.cancel()
            if connection is not None:
                connection.close()
        return sent

    async def _send_part(
        self, blob: OpenBlob, offset: int, size: int, connection: Connection | None, send: Send
    ) -> int:
        """Send a part: from the page cache to the socket if it lies there, else through memory."""
        descriptor = blob.cached_descriptor(offset, size) if connection is not None else None
        if connection is not None and descriptor is not None:
            sent = await connection.send_file(descriptor, offset, size)
            if sent < size:
                raise BlobDamagedError("the blob got shorter while it was sent")
            return sent
        size = min(size, self.chunk_bytes)
        chunk = blob.read_cached(offset, size)
        if chunk is None:
            chunk = await blob.read(offset, size)
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        return size


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
