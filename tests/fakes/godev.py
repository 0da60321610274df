"""An imitation of go.dev and dl.google.com on one loopback port, in a thread of its own.

A raw HTTP/1.1 server on sockets, because faults need control of each byte. The answers follow
golang.org/x/website/internal/dl; what is wrong about them on purpose is in `faults.py`, and
`python -m tests.fakes.godev --help` starts it by hand. Left out: TLS, Range requests, HTTP/2.

    with FakeGodev(files={"go1.99.1.linux-amd64.tar.gz": go_archive()}) as fake:
        fake.fault("/go/go1.99.1.linux-amd64.tar.gz", Fault.truncate(after=1000), times=1)
        ...  # point the code under test at fake.index_url and fake.files_url
        assert fake.hits["/go/go1.99.1.linux-amd64.tar.gz"] == 2

`FakeServer` knows nothing of Go: a fake of another upstream only has to override `answer`.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import mmap
import re
import socket
import struct
import sys
import termios
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from tests.fakes.faults import HTML, Ending, Fault, Framing, Pace, Reply, Rope, rope, split

_PIECE_BYTES = 256 * 1024

# The patterns of x/website's internal/dl: what is redirected, and what gets the "go get" page.
_FILE = re.compile(r"go[0-9a-z.]+\.[0-9a-z.-]+\.(?:tar\.gz|tar\.gz\.asc|pkg|msi|zip)")
_GO_GET = re.compile(r"go[0-9a-z.]+\.[0-9a-z.-]+")
_NAME = re.compile(r"(go\d[0-9a-z.]*?)\.(?:src|([a-z0-9]+)-([a-z0-9]+))\.(tar\.gz|zip|msi|pkg)")
_VERSION = re.compile(r"go(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:(beta|rc)(\d+))?")
_NO_SUCH_KEY = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchKey</Code>"
    b"<Message>The specified key does not exist.</Message></Error>"
)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it came: the raw target ("/dl/?mode=json"), header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

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


class _Journal:
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


class _Wire:
    """One connection, non-blocking; nothing is buffered on the way out."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._unread = bytearray()
        self.body_bytes = 0  # sent in the exchange under way
        # A head and a small body are two packets: without this the second waits for an ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The kernel would take 4 MB for each client that does not read.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE_BYTES)

    async def read_head(self) -> bytes | None:
        """Return the next request's head without its blank line; None if the client is done."""
        while (end := self._unread.find(b"\r\n\r\n")) < 0:
            if not await self._read_more():
                return None
        head = bytes(self._unread[:end])
        del self._unread[: end + 4]
        return head

    async def skip(self, size: int) -> None:
        """Drop a request's body: with unread bytes, close() would send a RST instead of a FIN."""
        while len(self._unread) < size and await self._read_more():
            pass
        del self._unread[:size]

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
                view = view[send(self._sock, view[:_PIECE_BYTES]) :]
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


class FakeServer:
    """A raw HTTP/1.1 server on 127.0.0.1 with fault switches; `answer` says what it serves.

    Use it as a context manager from sync and async tests alike. An error inside the fake itself
    is raised when the context ends. `stop()` and `start()` imitate an outage on the same port.

    Args:
        port: 0 takes a free one.
        pace: limit for each connection.
        log: called after each exchange with the request, the status and the body bytes sent.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        pace: Pace | None = None,
        log: Callable[[RecordedRequest, int, int], None] | None = None,
    ) -> None:
        self._port, self._pace, self._log = port, pace, log
        self._journal = _Journal()
        self._faults: dict[str, deque[tuple[Fault, int | None]]] = {}
        self._errors: list[Exception] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._released: asyncio.Event

    def answer(self, request: RecordedRequest) -> Reply:
        """Return the right answer; called in the server's thread."""
        raise NotImplementedError

    @property
    def base_url(self) -> str:
        """Scheme, host and port, without a slash at the end; known once started."""
        if not self._port:
            raise RuntimeError("the fake has no port before it is started")
        return f"http://127.0.0.1:{self._port}"

    @property
    def hits(self) -> Counter[str]:
        """Requests by path without query: a copy."""
        with self._journal.changed:
            return self._journal.hits.copy()

    @property
    def bytes_sent(self) -> Counter[str]:
        """Body bytes by path, as handed to the kernel, without heads and chunk sizes: a copy."""
        with self._journal.changed:
            return self._journal.bytes_sent.copy()

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request in the order of arrival: a copy."""
        with self._journal.changed:
            return self._journal.requests.copy()

    @property
    def stalled(self) -> int:
        """Answers that wait for `release()` right now."""
        return self._journal.stalled

    def forget(self) -> None:
        """Empty hits, bytes_sent and requests."""
        with self._journal.changed:
            for record in (self._journal.hits, self._journal.bytes_sent, self._journal.requests):
                record.clear()

    def wait_until(self, claim: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Block until the claim about this fake holds: `wait_until(lambda: fake.stalled == 3)`.

        In async code call it by `anyio.to_thread.run_sync`.

        Raises:
            TimeoutError: it never held.
        """
        with self._journal.changed:
            if not self._journal.changed.wait_for(claim, timeout_s):
                raise TimeoutError(f"not seen within {timeout_s} s; hits: {self._journal.hits}")

    def fault(self, path: str, fault: Fault, *, times: int | None = 1) -> None:
        """Spoil the next answers of a path without query; None stands for all of them.

        Faults of one path queue up, each request takes one: HEAD and GET alike.
        """
        with self._journal.changed:
            self._faults.setdefault(path, deque()).append((fault, times))

    def clear_faults(self) -> None:
        """Forget every fault that is not used up; answers under way stay as they are."""
        with self._journal.changed:
            self._faults.clear()

    def release(self) -> None:
        """Let every answer go on that is stalled now; later ones stall anew."""
        if self._thread:
            self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    def start(self) -> None:
        """Listen, on the port of the last time if there was one; no effect when started."""
        if self._thread:
            return
        listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        listener.setblocking(False)
        self._port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(listener, ready), name=type(self).__name__, daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Cut every connection and refuse new ones; returns when the thread is gone."""
        if self._thread:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._errors and error is None:
            raise self._errors[0]

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        # Leaving the runner cancels the connections' tasks, which close their sockets.
        with listener, asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve(listener, ready))

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping, self._released = asyncio.Event(), asyncio.Event()
        accepting = self._loop.create_task(self._accept(listener))
        ready.set()
        await self._stopping.wait()
        accepting.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = await self._loop.sock_accept(listener)
            except OSError:  # out of descriptors: clients wait in the backlog
                await asyncio.sleep(0.05)
                continue
            task = self._loop.create_task(self._converse(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _converse(self, sock: socket.socket) -> None:
        with sock:
            try:
                wire = _Wire(sock)
                while (head := await wire.read_head()) is not None:
                    if not await self._exchange(wire, RecordedRequest.parse(head)):
                        break
            except OSError:
                pass  # clients may leave at any time
            except Exception as error:  # a bug of the fake: `__exit__` raises it
                self._errors.append(error)

    async def _exchange(self, wire: _Wire, request: RecordedRequest) -> bool:
        """Answer one request; return whether the connection stays open."""
        await wire.skip(int(request.headers.get("content-length", "0")))
        self._journal.note_request(request)
        if request.method in ("GET", "HEAD"):
            reply = self.answer(request)
        else:
            reply = Reply(405, {"Allow": "GET, HEAD"})
        if fault := self._next_fault(request.path):
            reply = fault.spoil(reply, request.target)
        wire.body_bytes = 0
        try:
            return await self._send(wire, request, reply)
        finally:
            if self._log:
                self._log(request, reply.status, wire.body_bytes)

    def _next_fault(self, path: str) -> Fault | None:
        with self._journal.changed:
            queue = self._faults.get(path)
            if not queue:
                return None
            fault, times = queue[0]
            if times is not None:
                queue.popleft()
                if times > 1:
                    queue.appendleft((fault, times - 1))
            return fault

    async def _send(self, wire: _Wire, request: RecordedRequest, reply: Reply) -> bool:
        close = request.headers.get("connection", "").lower() == "close"
        if reply.hold_head:
            await self._stall(wire)
        if not reply.silent:
            await wire.send(reply.head(close=close))
            if request.method != "HEAD":
                await self._send_body(wire, request.path, reply)
        if reply.ending is Ending.RESET:
            await wire.reset()
        ended = reply.ending is not Ending.COMPLETE or reply.framing is Framing.CLOSE
        return not (ended or close)

    async def _send_body(self, wire: _Wire, path: str, reply: Reply) -> None:
        if reply.stall_after is None:
            await self._send_rope(wire, path, reply, reply.body)
        else:
            first, rest = split(reply.body, reply.stall_after)
            await self._send_rope(wire, path, reply, first)
            await self._stall(wire)
            await self._send_rope(wire, path, reply, rest)
        if reply.framing is Framing.CHUNKED and reply.ending is Ending.COMPLETE:
            await wire.send(b"0\r\n\r\n")

    async def _send_rope(self, wire: _Wire, path: str, reply: Reply, body: Rope) -> None:
        def send(sock: socket.socket, view: memoryview) -> int:
            count = self._journal.send_body(path, sock, view)
            wire.body_bytes += count
            return count

        pace = reply.pace or self._pace
        due = self._loop.time()
        for piece in _pieces(body, pace.step_bytes if pace else _PIECE_BYTES):
            if pace:
                await asyncio.sleep(due - self._loop.time())
                due += pace.interval_s
            if reply.framing is Framing.CHUNKED:
                await wire.send(b"%x\r\n" % len(piece))
            await wire.send(piece, send)
            if reply.framing is Framing.CHUNKED:
                await wire.send(b"\r\n")

    async def _stall(self, wire: _Wire) -> None:
        with self._journal.stall():
            await wire.wait_for(self._released)


def _pieces(body: Rope, step: int) -> Iterator[memoryview]:
    for view in body:
        for start in range(0, len(view), step):
            yield view[start : start + step]


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the index; content None means listed but absent."""

    entry: Mapping[str, Any]
    stable: bool
    content: bytes | mmap.mmap | None


class FakeGodev(FakeServer):
    """go.dev at /dl/ and dl.google.com at /go/.

    Args:
        files: archives by file name, as bytes or a path; see `put_file` for more than that.
        index: a raw index body, served instead of the one made from the files.
        **options: those of `FakeServer`.
    """

    def __init__(
        self,
        files: Mapping[str, bytes | Path] | None = None,
        index: bytes | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._lock = threading.Lock()
        self._files: dict[str, _File] = {}
        self._signatures: dict[str, bytes] = {}
        self._index = index
        for name, content in (files or {}).items():
            self.put_file(name, content)

    @property
    def index_url(self) -> str:
        """The URL of go.dev's index: base + "/dl/"."""
        return f"{self.base_url}/dl/"

    @property
    def files_url(self) -> str:
        """The URL of dl.google.com's folder: base + "/go/"."""
        return f"{self.base_url}/go/"

    def put_file(
        self,
        name: str,
        content: bytes | Path,
        *,
        signature: bytes | None = None,
        kind: str | None = None,
        os: str | None = None,
        arch: str | None = None,
        version: str | None = None,
        stable: bool | None = None,
        sha256: str | None = None,
        size: int | None = None,
    ) -> str:
        """Serve a file and list it; return the SHA-256 in hex that the index states.

        What is None follows from the name ("go1.99.1.linux-amd64.tar.gz") and the content; sha256
        and size may lie. A name known already is replaced, its signature too.

        Raises:
            ValueError: the name tells no version, and none is given.
        """
        told = _entry_of_name(name)
        given = {"os": os, "arch": arch, "version": version, "kind": kind}
        entry = told | {key: value for key, value in given.items() if value is not None}
        if not entry["version"]:
            raise ValueError(f"the version of {name!r} can't be told from its name")
        stored = _map(content) if isinstance(content, Path) else content
        entry["sha256"] = hashlib.sha256(stored).hexdigest() if sha256 is None else sha256
        entry["size"] = len(stored) if size is None else size
        if stable is None:
            stable = not re.search("beta|rc", entry["version"])
        self._store(name, _File(entry, stable, stored), signature)
        return str(entry["sha256"])

    def set_signature(self, name: str, signature: bytes | None) -> None:
        """Serve any bytes as `name`.asc, or 404 for None; name is the archive's."""
        with self._lock:
            self._signatures.pop(name, None)
            if signature is not None:
                self._signatures[name] = signature

    def set_index(self, raw: bytes | None) -> None:
        """Serve this body as the index, whatever the query; None goes back to the made one."""
        with self._lock:
            self._index = raw

    def remove(self, name: str) -> None:
        """Take a file and its signature away, from the index too."""
        with self._lock:
            del self._files[name]
            self._signatures.pop(name, None)

    def from_directory(self, folder: Path) -> Self:
        """Add what a folder holds, and return self.

        The folder has index.json in the schema of go.dev's ?mode=json&include=all, the archives,
        and NAME.asc for the signed ones. Hashes are the index's; an archive that is not in the
        folder is listed and answers 404.

        Raises:
            OSError: no index.json, or a file is unreadable.
            ValueError: index.json has another schema.
        """
        index = folder / "index.json"
        try:
            releases = json.loads(index.read_bytes())
            files = [(entry, item["stable"]) for item in releases for entry in item["files"]]
            names = [str(entry["filename"]) for entry, _ in files]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{index} is not an index of releases: {error!r}") from error
        for name, (entry, stable) in zip(names, files, strict=True):
            archive, signature = folder / name, folder / f"{name}.asc"
            content = _map(archive) if archive.exists() else None
            signed = signature.read_bytes() if signature.exists() else None
            self._store(name, _File(entry, stable, content), signed)
        return self

    def _store(self, name: str, file: _File, signature: bytes | None) -> None:
        with self._lock:
            self._files[name] = file
            self._signatures.pop(name, None)
            if signature is not None:
                self._signatures[name] = signature

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for file in self._files.values():
            if isinstance(file.content, mmap.mmap):
                with contextlib.suppress(BufferError):  # someone still looks at it
                    file.content.close()

    def answer(self, request: RecordedRequest) -> Reply:
        """Return what go.dev (below /dl/) or dl.google.com (below /go/) answers."""
        path, _, query = request.target.partition("?")
        if path == "/dl/":
            return self._listing(parse_qs(query))
        if path.startswith("/dl/"):
            return self._landing(path.removeprefix("/dl/"))
        if path.startswith("/go/"):
            return self._stored(path.removeprefix("/go/"))
        return Reply(404, {"Content-Type": "text/plain; charset=utf-8"}, rope(b"not found\n"))

    def _listing(self, query: Mapping[str, list[str]]) -> Reply:
        if query.get("mode") != ["json"]:
            return _page()
        with self._lock:
            raw = self._index
            if raw is None:
                raw = _index_of(self._files.values(), everything=query.get("include") == ["all"])
        return Reply(200, {"Content-Type": "application/json"}, rope(raw))

    def _landing(self, name: str) -> Reply:
        if _FILE.fullmatch(name):
            return Reply(302, {"Location": f"{self.files_url}{name}"})
        # The trap: .sha256 and .zip.asc are answered with a page about "go get".
        return _page() if _GO_GET.fullmatch(name) else _page(404)

    def _stored(self, name: str) -> Reply:
        with self._lock:
            if name.endswith(".asc") and (name[:-4] in self._signatures):
                return _bytes_reply(self._signatures[name[:-4]], "application/pgp-signature")
            if name.endswith(".sha256") and (name[:-7] in self._files):
                return _bytes_reply(self._files[name[:-7]].entry["sha256"].encode(), "text/plain")
            file = self._files.get(name)
        if file is None or file.content is None:
            return Reply(404, {"Content-Type": "application/xml"}, rope(_NO_SUCH_KEY))
        return _bytes_reply(file.content, "application/octet-stream")


def _map(path: Path) -> bytes | mmap.mmap:
    """Return the file's content without reading it; an empty file can't be mapped."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _page(status: int = 200) -> Reply:
    return Reply(status, {"Content-Type": "text/html; charset=utf-8"}, rope(HTML))


def _bytes_reply(content: bytes | mmap.mmap, kind: str) -> Reply:
    return Reply(200, {"Content-Type": kind}, rope(memoryview(content)))


def _entry_of_name(name: str) -> dict[str, Any]:
    """Return what a file name tells of its index entry; "" where it tells nothing."""
    match = _NAME.fullmatch(name)
    version, goos, goarch, suffix = match.groups("") if match else ("", "", "", "")
    kind = "installer" if suffix in ("msi", "pkg") else "archive" if goos else "source"
    return {"filename": name, "os": goos, "arch": goarch, "version": version, "kind": kind}


def _order(version: str) -> tuple[int, int, int, int]:
    """Return a sort key: go1.21rc2 < go1.21.0 < go1.21.1; what is no Go version comes first."""
    match = _VERSION.fullmatch(version)
    if not match:
        return (-1, 0, 0, 0)
    major, minor, patch, stage, number = match.groups()
    rank = {"beta": 0, "rc": 1, None: 2}[stage]
    return (int(major), int(minor or 0), rank, int(number or patch or 0))


def _index_of(files: Iterable[_File], *, everything: bool) -> bytes:
    """Return the index; unless everything, the newest stable patch of the two newest minors."""
    releases: dict[str, dict[str, Any]] = {}
    for file in files:
        release = {"version": file.entry["version"], "stable": file.stable, "files": []}
        releases.setdefault(file.entry["version"], release)["files"].append(file.entry)
    listed = sorted(releases.values(), key=lambda item: _order(item["version"]), reverse=True)
    for release in listed:
        release["files"].sort(key=lambda e: (e["os"], e["arch"], e["kind"], e["filename"]))
    if not everything:
        newest: dict[tuple[int, ...], dict[str, Any]] = {}
        for release in listed:
            if release["stable"]:
                newest.setdefault(_order(release["version"])[:2], release)
        listed = list(newest.values())[:2]
    return json.dumps(listed, indent=1).encode()


if __name__ == "__main__":
    from tests.fakes.__main__ import main

    sys.exit(main())
