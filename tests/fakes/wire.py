"""One connection of a fake server, byte by byte, and the record of what went over it."""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it came: the raw target ("/dl/?mode=json"), header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @classmethod
    def parse(cls, head: bytes) -> "RecordedRequest":
        """Return the request of a head without its blank line; ValueError if it is not one."""
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            known = headers.get(name.lower())
            headers[name.lower()] = value.strip() if known is None else f"{known}, {value.strip()}"
        return cls(method, target, headers)

    @property
    def path(self) -> str:
        """The target without its query, not decoded."""
        return self.target.partition("?")[0]


class Journal:
    """What happened so far; the server's thread writes it, any thread reads it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.hits: Counter[str] = Counter()
        self.bytes_sent: Counter[str] = Counter()
        self.requests: list[RecordedRequest] = []
        self.stalled = 0

    def note_request(self, request: RecordedRequest) -> None:
        with self.changed:
            self.requests.append(request)
            self.hits[request.path] += 1
            self.changed.notify_all()

    def send_body(self, path: str, sock: socket.socket, view: memoryview) -> int:
        """Send and count in one step, so that a client that has the bytes sees the count."""
        with self.changed:
            count = sock.send(view)
            self.bytes_sent[path] += count
            self.changed.notify_all()
            return count

    @contextlib.contextmanager
    def stall(self) -> Iterator[None]:
        with self.changed:
            self.stalled += 1
            self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                self.stalled -= 1
                self.changed.notify_all()


class Wire:
    """One connection, non-blocking; nothing is buffered on the way out."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._unread = bytearray()
        self.body_bytes = 0  # sent in the exchange under way
        # A head and a small body are two packets: without this the second waits for an ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The kernel would take 4 MB for each client that does not read.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE_BYTES)

    async def read_head(self) -> bytes | None:
        """Return the next request's head without its blank line; None if the client is done."""
        while (end := self._unread.find(b"\r\n\r\n")) < 0:
            if not await self._read_more():
                return None
        head = bytes(self._unread[:end])
        del self._unread[: end + 4]
        return head

    async def read_body(self, size: int) -> bytes:
        """Return a request's body: with unread bytes, close() would send a RST instead of a FIN."""
        while len(self._unread) < size and await self._read_more():
            pass
        body = bytes(self._unread[:size])
        del self._unread[:size]
        return body

    async def _read_more(self) -> bool:
        more = await self._loop.sock_recv(self._sock, 65536)
        self._unread += more
        return bool(more)

    async def send(
        self,
        content: bytes | memoryview,
        send: Callable[[socket.socket, memoryview], int] = socket.socket.send,
    ) -> int:
        """Send all of content by `send`, letting other connections run between pieces."""
        view = memoryview(content)
        while view:
            try:
                view = view[send(self._sock, view[:PIECE_BYTES]) :]
                await asyncio.sleep(0)
            except BlockingIOError:
                await self._writable()
        return len(content)

    async def _writable(self) -> None:
        future = self._loop.create_future()
        self._loop.add_writer(self._sock, _wake, future)
        try:
            await future
        finally:
            self._loop.remove_writer(self._sock)

    async def wait_for(self, released: asyncio.Event) -> None:
        """Wait; ConnectionAbortedError if the client goes away (or speaks) before that."""
        readable = self._loop.create_future()
        self._loop.add_reader(self._sock, _wake, readable)
        waiting = self._loop.create_task(released.wait())
        try:
            await asyncio.wait((readable, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._loop.remove_reader(self._sock)
            waiting.cancel()
        if not released.is_set():
            raise ConnectionAbortedError("the client left a stalled answer")

    async def reset(self) -> None:
        """Make close() send a RST, after what was sent has arrived: a RST discards the rest."""
        for _ in range(200):
            queued = fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4))
            if not any(queued):
                break
            await asyncio.sleep(0.01)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
