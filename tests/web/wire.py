"""The application behind a real socket, and a client that sends exactly the bytes it is told.

The server runs in the test's own event loop, so that a test can look at the services behind it.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from app import server, sockets
from app.main import Application
from app.services.assembly import Services
from app.services.clock import Monotonic, Now, utc_now
from app.settings import Settings
from app.tls import certificate_of
from app.wiring import build
from tests.installation import migrate, without_a_pause

_SECONDS = 120.0  # nothing here takes this long unless it hangs
_PIECE_BYTES = 65536
_LAST_TURNS = 5


@dataclass(frozen=True)
class Got:
    """A response.

    Attributes:
        headers: with lower-case names, in their order.
        complete: whether the body is as long as its framing says.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    complete: bool = True

    def header(self, name: str) -> str | None:
        """The only value of a header, or None; a header must not come twice."""
        values = [value for known, value in self.headers if known == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def lasting(self) -> dict[str, str]:
        """The headers without those that differ from one response to the next."""
        return {n: v for n, v in self.headers if n not in ("date", "x-request-id")}


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def certificate(self) -> object:
        """Return the serial number of the server's certificate."""
        return self._writer.get_extra_info("peercert")["serialNumber"]

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        with suppress(ConnectionError):
            await self._writer.drain()

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(_SECONDS):
            return await self._reader.read(size)

    async def response(self, method: str = "GET") -> Got:
        """Read one response; the connection can be used again if it was complete."""
        async with asyncio.timeout(_SECONDS):
            status, headers = await self.head()
            if method == "HEAD" or status in (204, 304):
                return Got(status, headers, b"")
            values = dict(headers)
            if values.get("transfer-encoding") == "chunked":
                body, complete = await self._chunks()
            elif "content-length" in values:
                body, complete = await self._exactly(int(values["content-length"]))
            else:
                body, complete = await self._reader.read(), True
        return Got(status, headers, body, complete)

    async def head(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
        assert re.fullmatch(r"HTTP/1\.[01] \d\d\d .*", first), first
        pairs = (line.partition(": ") for line in lines)
        return int(first.split(" ")[1]), tuple((n.lower(), v) for n, _, v in pairs)

    async def _exactly(self, size: int) -> tuple[bytes, bool]:
        try:
            return await self._reader.readexactly(size), True
        except asyncio.IncompleteReadError as error:
            return error.partial, False
        except ConnectionError:
            return b"", False

    async def _chunks(self) -> tuple[bytes, bool]:
        body = b""
        try:
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                body += await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
        except (asyncio.IncompleteReadError, ConnectionError):
            return body, False
        return body, True

    def vanish(self) -> None:
        """Be gone without a word."""
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError, TimeoutError):
            await self._writer.wait_closed()


def request(
    target: str | bytes,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> bytes:
    """Return the bytes of a request; the target goes out as it is."""
    sent_headers = {"Host": "mirror.example", **(headers or {})}
    if body and "transfer-encoding" not in {name.lower() for name in sent_headers}:
        sent_headers["Content-Length"] = str(len(body))
    raw = target if isinstance(target, bytes) else target.encode("latin-1")
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent_headers.items())
    return (
        method.encode() + b" " + raw + b" HTTP/1.1\r\n" + lines.encode("latin-1") + b"\r\n" + body
    )


class SweptServer(server.Server):
    """A server that looks at its connections when a test says so, by a clock of the test's own."""

    now_s = 0.0

    def __init__(self, settings: Settings, application: Application, *, sweeps: bool) -> None:
        super().__init__(
            server._config(application, settings),
            application,
            0,
            sockets.bind_metrics(settings),
        )
        self.is_up = asyncio.Event()
        self._sweeps = sweeps

    async def on_tick(self, counter: int) -> bool:
        self.is_up.set()
        if self._sweeps:
            return await super().on_tick(counter)
        return await uvicorn.Server.on_tick(self, counter)


@dataclass(frozen=True)
class Site:
    """A served application.

    Attributes:
        secret: an admin token.
        server: sweeps by real time, or when `let_pass` is called.
    """

    application: Application
    port: int
    secret: str
    server: SweptServer

    @property
    def services(self) -> Services:
        return self.application.services

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def let_pass(self, seconds: float) -> None:
        """Let seconds pass for the clients that keep a connection waiting, and look at each."""
        self.server.now_s += seconds
        self.server.sweep(self.server.now_s)

    @asynccontextmanager
    async def calling(
        self, *, buffer_bytes: int = 2**16, socket_bytes: int = 0
    ) -> AsyncIterator[Caller]:
        """Open a connection; socket_bytes limits what the kernel takes in for it."""
        sock = socket.socket()
        if socket_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, socket_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        caller = Caller(*await asyncio.open_connection(sock=sock, limit=buffer_bytes))
        try:
            yield caller
        finally:
            await caller.close()

    async def ask(
        self,
        target: str | bytes,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Got:
        """Return the response to one request on a connection of its own."""
        async with self.calling(buffer_bytes=2**22) as caller:
            await caller.send(request(target, method, headers, body))
            return await caller.response(method)

    async def raw(self, data: bytes) -> bytes:
        """Return all that comes back for any bytes, until the server closes."""
        async with self.calling() as caller:
            await caller.send(data)
            answer = b""
            with suppress(ConnectionError):
                while piece := await caller.read(_PIECE_BYTES):
                    answer += piece
            return answer

    async def admin(
        self,
        target: str,
        method: str = "GET",
        *,
        token: str | None = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Got:
        """Ask the admin API; token "" is the valid one, None sends none."""
        sent_headers = dict(headers or {})
        if token is not None:
            sent_headers["Authorization"] = f"Bearer {token or self.secret}"
        if body:
            sent_headers.setdefault("Content-Type", "application/json")
        return await self.ask(target, method, sent_headers, body)


@asynccontextmanager
async def serving(
    settings: Settings,
    *,
    leads: bool = False,
    sweeps: bool = False,
    now: Now = utc_now,
    monotonic: Monotonic | None = None,
) -> AsyncIterator[Site]:
    """Serve an application made of settings on a free port of 127.0.0.1, as the program does.

    Args:
        settings: of the installation.
        leads: whether it polls the index, runs jobs and scrubs in the background. A test that
            does not ask for this has no background pass beside it. No try at an upstream waits.
        sweeps: whether slow clients are cut by real time, instead of by `Site.let_pass`.
        now: the wall clock.
        monotonic: the clock that only grows; without one, the wall clock never parts from it.
    """
    migrate(settings)
    seconds = monotonic or (lambda: now().timestamp())
    with sockets.bind(settings) as sock:
        port = sock.getsockname()[1]
        bound = settings.model_copy(update={"port": port})
        services = build(bound, now=now, pause=without_a_pause, monotonic=seconds)
        certificate = certificate_of(settings.tls)
        application = Application(services, certificate, leads=leads)
        running = SweptServer(bound, application, sweeps=sweeps)
        # Not serve(): it would take over the signals of the process that runs the tests.
        task = asyncio.ensure_future(_served(running, sock))
        up = asyncio.ensure_future(running.is_up.wait())
        try:
            await asyncio.wait([task, up], return_when=asyncio.FIRST_COMPLETED)
            if not running.is_up.is_set():
                await task  # raises why
            _, secret = await application.services.tenants.tokens.create("tests")
            yield Site(application, port, secret, running)
        finally:
            up.cancel()
            running._stop()
            await task
            for _ in range(_LAST_TURNS):
                await asyncio.sleep(0)  # connections that a test left open see the end


async def _served(running: SweptServer, sock: socket.socket) -> None:
    """Serve until the end; a start that fails is no end of the loop, which later tests have too."""
    try:
        await running._serve([sock])
    except SystemExit as error:
        raise RuntimeError("the application did not start") from error


async def until(claim: Any, *, seconds: float = _SECONDS) -> Any:
    """Return the first true value that the async function claim returns."""
    async with asyncio.timeout(seconds):
        while not (value := await claim()):
            await asyncio.sleep(0.05)
        return value
