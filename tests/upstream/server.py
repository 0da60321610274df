"""A raw loopback server: each connection plays a script, byte by byte.

A play is an async function of a `Connection`; connection number n gets play n, later ones the last
play. When a play returns, its connection is closed.

    async with serving(answer(b"cut", declared=10), answer(b"complete")) as server:
        ... server.url("/x") ... server.requests[0].headers["accept"]
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Connection:
    def __init__(self, reader, writer, requests: list[Request]) -> None:
        self._reader = reader
        self._writer = writer
        self._requests = requests

    async def request(self) -> Request:
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(method, target, headers, body)
        self._requests.append(request)
        return request

    async def until(self, end: bytes) -> bytes:
        """Return the bytes up to end, however many."""
        got = b""
        while not got.endswith(end):
            got += await self._reader.readexactly(1)
        return got

    async def read(self) -> bytes:
        return await self._reader.read(4096)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def stall(self) -> None:
        """Say nothing more until the client goes away."""
        while await self._reader.read(4096):
            pass

    async def reset(self) -> None:
        """Close with RST instead of FIN, once the client had a moment to read what was sent."""
        await asyncio.sleep(0.02)
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self._writer.transport.abort()


Play = Callable[[Connection], Awaitable[None]]


@dataclass
class Server:
    port: int
    scheme: str = "http"
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    ended: int = 0

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.origin(host)}{path}"

    def origin(self, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}"

    async def until_ended(self, connections: int) -> None:
        """Wait until that many connections are over; the test's own timeout is the limit."""
        while self.ended < connections:
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(*plays: Play, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(0, "https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        number, server.connections = server.connections, server.connections + 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await plays[min(number, len(plays) - 1)](
                    Connection(reader, writer, server.requests)
                )
        finally:
            server.ended += 1
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def head(status: int, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", *lines, "", ""]).encode("latin-1")


def answer(body: bytes = b"", *lines: str, status: int = 200, declared: int | None = None) -> Play:
    """Answer every request of the connection; a wrong declared length closes it afterwards."""
    length = len(body) if declared is None else declared

    async def play(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(head(status, f"Content-Length: {length}", *lines) + body)
            if declared is not None:
                return

    return play


def raw(*parts: bytes, then: str = "close") -> Play:
    """Answer one request with these bytes, each in its own segment; then close, stall or reset."""

    async def play(connection: Connection) -> None:
        await connection.request()
        for part in parts:
            await connection.send(part)
            await asyncio.sleep(0.005)
        if then == "stall":
            await connection.stall()
        elif then == "reset":
            await connection.reset()

    return play


def redirect(location: str, status: int = 302) -> Play:
    return answer(b"moved", f"Location: {location}", status=status)
