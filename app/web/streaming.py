"""Sending a blob: whole chunks, few copies, bounded memory, and never a changed byte.

Chunks that the page cache holds go from there to the socket; others are read in a thread. The
memory of all streams together is bounded: many streams get smaller chunks. Before the last chunk
goes out, and after everything before it has arrived, the file is looked at once more; if it changed
meanwhile the connection is cut, so that nobody takes it for complete.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from app import metrics
from app.core.errors import BlobDamagedError, OverloadedError, StorageError
from app.services.slots import FairSemaphore
from app.storage.blobstore import OpenBlob
from app.web.connection import Connection, connection_of

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

CHUNK_BYTES = 1024 * 1024
_FILE_PART_BYTES = 4 * 1024 * 1024
_SECURED_CHUNK_BYTES = 256 * 1024  # TLS reads, encrypts and copies: its pieces fit into L2
_MIN_CHUNK_BYTES = 64 * 1024
_BUDGET_BYTES = 32 * 1024 * 1024  # in flight, over all streams of the process
_MIN_RATE_BYTES_PER_S = 8 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """What of a blob is still to be sent: length bytes from offset."""

    offset: int
    length: int


class Streams:
    """The streams of one process: how many there are, and how large their chunks may be.

    Args:
        max_streams: at once.
        wait_s: seconds that a stream waits for its turn.
    """

    def __init__(self, max_streams: int, wait_s: float = 90.0) -> None:
        self._max_streams = max_streams
        self._wait_s = wait_s
        self._turns = FairSemaphore(max_streams)
        self._count = 0

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """Return a context for one stream; wait for a turn.

        Args:
            who: the tenant or the address that shares the turns with all others.

        Raises:
            OverloadedError: no turn came within wait_s.
        """
        try:
            await self._turns.acquire(who, self._wait_s)
        except TimeoutError as error:
            raise OverloadedError(
                f"{self._max_streams} downloads are under way; try again"
            ) from error
        self._count += 1
        metrics.set_streams(self._count)
        try:
            yield
        finally:
            self._turns.release(who)
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
            StorageError: the disk answered with an error; the connection was cut.
        """
        gone = asyncio.ensure_future(_disconnected(receive))
        connection = connection_of(scope)
        sent = 0
        try:
            while sent < length and not gone.done():
                part = Part(start + sent, length - sent)
                sent += await self._send_part(blob, part, connection, send)
        except (ConnectionError, TimeoutError, StorageError) as error:
            if connection is not None:
                connection.abort()
                await asyncio.wait([gone], timeout=1)  # so that the server knows that it is over
            if isinstance(error, StorageError):
                raise
        finally:
            gone.cancel()
            if connection is not None:
                connection.close()
        return sent

    async def _send_part(
        self, blob: OpenBlob, left: Part, connection: Connection | None, send: Send
    ) -> int:
        """Send the next part of what is left; return how long it was.

        The last part goes through memory, so that the file can be looked at between reading it and
        sending it.
        """
        end = self.chunk_bytes
        if connection is not None and connection.is_secured:
            end = min(end, _SECURED_CHUNK_BYTES)
        if connection is not None and left.length > end and connection.takes_files():
            size = min(_FILE_PART_BYTES, left.length - end)
            descriptor = blob.cached_descriptor(left.offset, size)
            if descriptor is not None:
                async with _patience(size):
                    sent = await connection.send_file(descriptor, left.offset, size)
                if sent < size:
                    raise BlobDamagedError("the blob got shorter while it was sent")
                return sent
        return await _send_copy(blob, left, min(end, left.length), connection, send)


async def _send_copy(
    blob: OpenBlob, left: Part, size: int, connection: Connection | None, send: Send
) -> int:
    """Send a part through memory."""
    chunk = blob.read_cached(left.offset, size)
    if chunk is None:
        chunk = await blob.read(left.offset, size)
    is_last = size == left.length
    if is_last and connection is not None:
        # The file must stay unchanged until the kernel has sent its bytes: sendfile reads it late.
        async with _patience(_FILE_PART_BYTES):
            await connection.acknowledged()
    if is_last and not blob.unchanged():
        raise BlobDamagedError("the blob changed while it was sent")
    async with _patience(size):
        await send({"type": "http.response.body", "body": chunk, "more_body": not is_last})
    return size


def _patience(size: int) -> asyncio.Timeout:
    """Return the time that the slowest tolerated client needs for so many bytes."""
    return asyncio.timeout(10 + size / _MIN_RATE_BYTES_PER_S)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
