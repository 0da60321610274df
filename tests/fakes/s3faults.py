"""A proxy in front of an S3 store that answers wrongly on purpose.

It passes headers as they are, so that signatures stay valid. A client gets one connection per
request.
"""

import http.client
import threading
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "te", "upgrade"})
_PIECE_BYTES = 1 << 16


class S3Fault(StrEnum):
    """What one answer does wrong."""

    BUSY = "busy"  # 503 SlowDown; the store is not asked
    SHORT = "short"  # half of the body, with a Content-Length that fits
    CUT = "cut"  # half of the body, then the connection ends
    FLIPPED = "flipped"  # one byte is another
    LOST = "lost"  # the store did it, and the answer does not come
    LIE = "lie"  # 200 for a write that never reaches the store
    SLOW = "slow"  # as it should be, after `release()` or `slow_s`


class S3FaultProxy:
    """The proxy; use it as a context manager.

    Args:
        endpoint: of the real store.
        port: 0 takes a free one.
        slow_s: how long a slow answer waits at most.
        choose: returns the fault of a request by its method and path, where `fault` named none.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        port: int = 0,
        slow_s: float = 60.0,
        choose: Callable[[str, str], S3Fault | None] = lambda _method, _path: None,
    ) -> None:
        self._real = urlsplit(endpoint).netloc
        self.slow_s = slow_s
        self.choose = choose
        self.count = 0
        self.released = threading.Event()
        self._next: dict[str, deque[S3Fault]] = {}
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def endpoint(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def fault(self, method: str, *faults: S3Fault) -> None:
        """Spoil the next answers to a method, each by one fault."""
        with self._lock:
            self._next.setdefault(method, deque()).extend(faults)

    def release(self) -> None:
        """Let all slow answers go, and later ones too."""
        self.released.set()

    def take(self, method: str, path: str) -> S3Fault | None:
        """Return the fault of the request that came just now."""
        with self._lock:
            self.count += 1
            waiting = self._next.get(method)
            return waiting.popleft() if waiting else self.choose(method, path)

    def ask(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return status, headers and body of the real store's answer."""
        connection = http.client.HTTPConnection(self._real, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    owner: S3FaultProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        """Pass a request on, or spoil its answer."""
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.owner.take(self.command, self.path)
        if fault is S3Fault.BUSY:
            self._reply(503, [], b"<Error><Code>SlowDown</Code></Error>")
            return
        if fault is S3Fault.LIE:
            self._reply(200, [("ETag", '"0123456789abcdef0123456789abcdef"')], b"")
            return
        if fault is S3Fault.SLOW:
            self.owner.released.wait(self.owner.slow_s)
        headers = [
            (name, value) for name, value in self.headers.items() if name.lower() not in _HOP
        ]
        status, answer_headers, answer = self.owner.ask(self.command, self.path, headers, body)
        if fault is S3Fault.LOST:
            return
        if fault is S3Fault.SHORT:
            answer = answer[: len(answer) // 2]
            answer_headers = [h for h in answer_headers if h[0].lower() != "content-length"]
        if fault is S3Fault.FLIPPED and answer:
            middle = len(answer) // 2
            answer = answer[:middle] + bytes([answer[middle] ^ 1]) + answer[middle + 1 :]
        self._reply(status, answer_headers, answer, is_cut=fault is S3Fault.CUT)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _reply(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, is_cut: bool = False
    ) -> None:
        self.send_response_only(status)
        has_length = False
        for name, value in headers:
            if name.lower() not in _HOP:
                has_length = has_length or name.lower() == "content-length"
                self.send_header(name, value)
        if not has_length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        end = len(body) // 2 if is_cut else len(body)
        for start in range(0, end, _PIECE_BYTES):
            self.wfile.write(body[start : min(start + _PIECE_BYTES, end)])
