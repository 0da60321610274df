"""Sending a blob: whole chunks, few copies, bounded memory, and never a changed byte.

Chunks that the page cache holds are read without a thread hop. The memory of all streams together
is bounded: many streams get smaller chunks. Before the last chunk goes out the file is looked at
once more; if it changed meanwhile the connection is cut, so that nobody takes it for complete.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from app import metrics
from app.core.errors import BlobDamagedError, OverloadedError
from app.storage.blobstore import OpenBlob

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CHUNK_BYTES = 1024 * 1024
_MIN_CHUNK_BYTES = 64 * 1024
_BUDGET_BYTES = 32 * 1024 * 1024  # in flight, over all streams of the process
_MIN_RATE_BYTES_PER_S = 8 * 1024
ABORT = "moorage.abort"  # ASGI extension: {"call": function that cuts the connection}


class ClientTooSlowError(Exception):
    """The client takes less than 8 KiB/s; its connection is cut."""


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
        sent = 0
        try:
            while sent < length and not gone.done():
                size = min(self.chunk_bytes, length - sent)
                chunk = blob.read_cached(start + sent, size)
                if chunk is None:
                    chunk = await blob.read(start + sent, size)
                last = sent + size == length
                if last and not blob.unchanged():
                    raise BlobDamagedError("the blob changed while it was sent")
                # The time that the slowest tolerated client needs for one chunk.
                async with asyncio.timeout(10 + size / _MIN_RATE_BYTES_PER_S):
                    await send({"type": "http.response.body", "body": chunk, "more_body": not last})
                sent += size
        except (TimeoutError, BlobDamagedError) as error:
            _abort(scope)
            if isinstance(error, BlobDamagedError):
                raise
        finally:
            gone.cancel()
        return sent


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _abort(scope: Scope) -> None:
    """Cut the connection at once; without our protocol class the server closes it politely."""
    extension = scope.get("extensions", {}).get(ABORT)
    if extension is not None:
        extension["call"]()
