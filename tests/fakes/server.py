"""A raw HTTP/1.1 server on one loopback port, in a thread of its own, with fault switches.

It works on sockets, because faults need control of each byte; what can be wrong on purpose is in
`faults.py`. It knows nothing of Go: a fake of an upstream overrides `answer`, as `godev.py` does.
Left out: TLS, Range requests, HTTP/2.
"""

import asyncio
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from tests.fakes.faults import Ending, Fault, Framing, Pace, Reply, Rope, split
from tests.fakes.wire import PIECE_BYTES, Journal, RecordedRequest, Wire


class FakeServer:
    """A raw HTTP/1.1 server on 127.0.0.1 with fault switches; `answer` says what it serves.

    Use it as a context manager from sync and async tests alike. An error inside the fake itself
    is raised when the context ends. `stop()` and `start()` imitate an outage on the same port.

    Args:
        port: 0 takes a free one.
        pace: limit for each connection.
        log: called after each exchange with the request, the status and the body bytes sent.
    """

    methods: tuple[str, ...] = ("GET", "HEAD")

    def __init__(
        self,
        *,
        port: int = 0,
        pace: Pace | None = None,
        log: Callable[[RecordedRequest, int, int], None] | None = None,
    ) -> None:
        self._port, self._pace, self._log = port, pace, log
        self._journal = Journal()
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

    def wait_until(self, claim: Callable[[], bool], timeout_s: float = 120.0) -> None:
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
                wire = Wire(sock)
                while (head := await wire.read_head()) is not None:
                    if not await self._exchange(wire, RecordedRequest.parse(head)):
                        break
            except OSError:
                pass  # clients may leave at any time
            except Exception as error:  # a bug of the fake: `__exit__` raises it
                self._errors.append(error)

    async def _exchange(self, wire: Wire, request: RecordedRequest) -> bool:
        """Answer one request; return whether the connection stays open."""
        body = await wire.read_body(int(request.headers.get("content-length", "0")))
        request = replace(request, body=body)
        self._journal.note_request(request)
        if request.method in self.methods:
            reply = self.answer(request)
        else:
            reply = Reply(405, {"Allow": ", ".join(self.methods)})
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

    async def _send(self, wire: Wire, request: RecordedRequest, reply: Reply) -> bool:
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

    async def _send_body(self, wire: Wire, path: str, reply: Reply) -> None:
        if reply.stall_after is None:
            await self._send_rope(wire, path, reply, reply.body)
        else:
            first, rest = split(reply.body, reply.stall_after)
            await self._send_rope(wire, path, reply, first)
            await self._stall(wire)
            await self._send_rope(wire, path, reply, rest)
        if reply.framing is Framing.CHUNKED and reply.ending is Ending.COMPLETE:
            await wire.send(b"0\r\n\r\n")

    async def _send_rope(self, wire: Wire, path: str, reply: Reply, body: Rope) -> None:
        def send(sock: socket.socket, view: memoryview) -> int:
            count = self._journal.send_body(path, sock, view)
            wire.body_bytes += count
            return count

        pace = reply.pace or self._pace
        due = self._loop.time()
        for piece in _pieces(body, pace.step_bytes if pace else PIECE_BYTES):
            if pace:
                await asyncio.sleep(due - self._loop.time())
                due += pace.interval_s
            if reply.framing is Framing.CHUNKED:
                await wire.send(b"%x\r\n" % len(piece))
            await wire.send(piece, send)
            if reply.framing is Framing.CHUNKED:
                await wire.send(b"\r\n")

    async def _stall(self, wire: Wire) -> None:
        with self._journal.stall():
            await wire.wait_for(self._released)


def _pieces(body: Rope, step: int) -> Iterator[memoryview]:
    for view in body:
        for start in range(0, len(view), step):
            yield view[start : start + step]
