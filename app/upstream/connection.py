"""One HTTP/1.1 connection to an upstream: requests in turn, and their answers.

Follows RFC 9112. llhttp, by way of httptools, parses; what it leaves open is decided here: an
answer with a length in two forms is malformed, and an answer without a length ends with the
connection. Bytes that come when no answer is expected cost the connection: otherwise they would be
read as the beginning of the next answer, which may be another tenant's.

Not here: opening, TLS and reuse of connections (`wire`), the limits of a body (`body`).
"""

import asyncio
import re
import select
from collections import deque
from collections.abc import AsyncIterator
from typing import cast

import httptools

from app.core.errors import UpstreamTimeoutError, UpstreamUnavailableError
from app.upstream.address import Url
from app.upstream.attempt import FailedAttempt, content_error
from app.upstream.breaker import Verdict

MAX_HEAD_BYTES = 64 * 1024
_HELD_BYTES = 512 * 1024
"""Bytes of a body that wait for their reader; then the socket is not read."""

_HEAD_END = re.compile(rb"\n\r?\n")
_VERSIONS = ("1.0", "1.1")
_SWITCHING_PROTOCOLS = 101


class Connection(asyncio.Protocol):
    """A connection; one exchange at a time: `ask`, then `chunks` to the end."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self._is_lost = False
        self._reset()

    def _reset(self) -> None:
        self._parser: httptools.HttpResponseParser | None = None
        self._is_head_request = False
        self._head = bytearray()  # as long as it is incomplete
        self._after_head_bytes: int | None = None
        self._last = b""  # the last bytes of the answer
        self._status = 0
        self._headers: dict[str, str] = {}
        self._has_head = False
        self._chunks: deque[bytes] = deque()
        self._held_bytes = 0
        self._body_bytes = 0
        self._trouble = ""  # what is wrong with the answer: of these words only a limit is shown
        self._is_complete = False
        self._keeps_open = False  # after a complete answer, by what it says
        self._is_spoiled = False  # there were bytes that belong to no answer

    # What a caller does

    async def ask(self, url: Url, request: bytes, read_s: float) -> tuple[int, dict[str, str]]:
        """Send a request and return the status and headers of its answer.

        Args:
            url: for errors.
            request: head and body.
            read_s: seconds in which the next bytes must come.

        Returns:
            The status, and the headers by lower-case names; repeated ones are joined by ", ".

        Raises:
            FailedAttempt: no answer, or a malformed one.
        """
        self._reset()
        self._parser = httptools.HttpResponseParser(self)
        self._is_head_request = request.startswith(b"HEAD ")
        if self._transport is None or self._is_lost:
            raise _gone(url, "closed the connection, or does not speak HTTP")
        self._transport.write(request)
        while not self._has_head:
            self._raise_trouble(url)
            await self._wait(url, read_s)
        return self._status, self._headers

    async def chunks(self, url: Url, read_s: float) -> AsyncIterator[bytes]:
        """Yield the body of the answer as it comes.

        Raises:
            FailedAttempt: the body is cut short or malformed, or stops coming.
        """
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._held_bytes -= len(chunk)
                if self._is_paused and self._held_bytes < _HELD_BYTES:
                    self._resume()
                yield chunk
            if self._is_complete:
                return
            self._raise_trouble(url)
            await self._wait(url, read_s)

    @property
    def is_reusable(self) -> bool:
        """Whether the answer is complete, nothing came after it, and the upstream keeps open."""
        if self._is_lost or self._is_spoiled or not self._keeps_open:
            return False
        if "transfer-encoding" in self._headers:
            return self._last == b"0\r\n\r\n"
        return self._after_head_bytes == self._body_bytes

    @property
    def is_quiet(self) -> bool:
        """Whether the connection stands, and the system has no bytes of it either."""
        if self._is_lost or self._is_spoiled or self._transport is None:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return not poll.poll(0)

    def abort(self) -> None:
        """Close at once; may be called twice."""
        self._is_spoiled = True
        if self._transport is not None:
            self._transport.abort()

    @property
    def transport(self) -> asyncio.Transport:
        """The transport.

        Raises:
            ConnectionAbortedError: there is none.
        """
        if self._transport is None:
            raise ConnectionAbortedError("not connected")
        return self._transport

    def take_transport(self, transport: asyncio.BaseTransport) -> None:
        """Go on over another transport: that of TLS."""
        self._transport = cast(asyncio.Transport, transport)

    def _raise_trouble(self, url: Url) -> None:
        if self._trouble == _TOO_LONG:
            raise FailedAttempt(content_error(url, _TOO_LONG))
        if not self._trouble and not self._is_lost:
            return
        if not self._has_head:
            raise _gone(url, "closed the connection, or does not speak HTTP")
        if self._trouble == _RESET:
            raise _gone(url, _RESET)
        short = content_error(url, "ended before its body was complete")
        raise FailedAttempt(short, Verdict.FAILURE, again=True)

    async def _wait(self, url: Url, read_s: float) -> None:
        """Wait until something comes, or the connection ends."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(read_s):
                await self._waiter
        except TimeoutError as error:
            silent = UpstreamTimeoutError(f"{url.shown} went silent", origin=url.origin)
            raise FailedAttempt(silent, Verdict.FAILURE) from error
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _resume(self) -> None:
        self._is_paused = False
        if self._transport is not None and not self._is_lost:
            self._transport.resume_reading()

    # What the event loop does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.take_transport(transport)

    def data_received(self, data: bytes) -> None:
        """Parse the next bytes of an answer; bytes of no answer cost the connection."""
        if self._parser is None or self._is_complete or self._trouble:
            self.abort()
            return
        self._last = (self._last + data[-5:])[-5:]
        if self._after_head_bytes is not None:
            self._after_head_bytes += len(data)
        elif not self._scan(data):
            self._trouble = _TOO_LONG
            self._wake()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # Malformed: the answer, or what comes after a complete one.
            self._is_spoiled = True
            if not self._is_complete:
                self._trouble = "sent what is no HTTP"
        if self._held_bytes >= _HELD_BYTES and not self._is_paused and not self._is_complete:
            self._is_paused = True
            if self._transport is not None:
                self._transport.pause_reading()
        self._wake()

    def _scan(self, data: bytes) -> bool:
        """Look for the end of the head; return False if the head is too long."""
        start = max(0, len(self._head) - 2)
        self._head += data
        end = _HEAD_END.search(self._head, start)
        if (end.end() if end else len(self._head)) > MAX_HEAD_BYTES:
            return False
        if end:
            self._after_head_bytes = len(self._head) - end.end()
            self._head.clear()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """End the answer: an answer without a length is complete now."""
        self._is_lost = True
        if self._has_head and not self._is_complete and not self._trouble:
            if error is not None:
                self._trouble = _RESET
            elif self._ends_with_connection():
                self._is_complete = True
        self._wake()

    def _ends_with_connection(self) -> bool:
        return "content-length" not in self._headers and "transfer-encoding" not in self._headers

    # What the parser finds

    def on_message_begin(self) -> None:
        """Note that another answer begins."""
        if self._is_complete:
            self._is_spoiled = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        if self._has_head:  # a trailer, or of an answer that nobody asked for
            return
        key, text = name.decode("iso-8859-1").lower(), value.decode("iso-8859-1").strip()
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """Judge a complete head."""
        if self._has_head or self._parser is None:
            return
        self._status = self._parser.get_status_code()
        coding = self._headers.get("transfer-encoding", "chunked").lower()
        has_both = {"transfer-encoding", "content-length"} <= self._headers.keys()
        is_known = self._parser.get_http_version() in _VERSIONS
        if coding != "chunked" or has_both or not is_known or self._status == _SWITCHING_PROTOCOLS:
            self._trouble = "sent what is no HTTP"
        elif self._status >= 200:
            self._has_head = True
            self._is_complete = self._is_spoiled = self._is_head_request

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if self._has_head and not self._is_complete:
            self._chunks.append(body)
            self._held_bytes += len(body)
            self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        """Note the end of the answer; an interim answer, such as 100 Continue, is passed over."""
        if self._has_head and self._parser is not None:
            self._is_complete = True
            self._keeps_open = self._parser.should_keep_alive()
        else:
            self._is_spoiled = True
            self._headers.clear()


_TOO_LONG = f"sent a header of more than {MAX_HEAD_BYTES} bytes"
_RESET = "broke the connection in the middle of its body"


def _gone(url: Url, message: str) -> FailedAttempt:
    gone = UpstreamUnavailableError(f"{url.shown} {message}", origin=url.origin)
    return FailedAttempt(gone, Verdict.FAILURE, again=True)
