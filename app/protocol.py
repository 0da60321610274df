"""HTTP/1.1 below ASGI: prepared answers in one write, malformed requests, clients that stall.

uvicorn's protocol has no time limits and takes any Host. What a head must look like is in
`web/guard.py`; limits on sizes that need no connection are there too. A connection has no timers of
its own: `HttpProtocol.sweep` is called for each about once per second, so that a request that
arrives and is answered at once costs nothing more. Sources: RFC 9112, tcp(7) for TCP_INFO.

uvicorn promises nothing about the attributes used here. tests/test_protocol.py lists them, and
pyproject.toml keeps uvicorn below its next minor version.
"""

import contextlib
import fcntl
import os
import socket
import struct
import sys
import termios
from enum import StrEnum
from typing import Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.core.errors import BadInputError
from app.settings.sections import Limits
from app.web.connection import CONNECTION, Connection
from app.web.guard import FRAMING, announces_body, head_fault, is_host
from app.web.responses import Header, plain

_HEAD_MAX_BYTES = 512 * 1024  # uvloop reads up to 256 KiB at once, body included
_PIPELINE_MAX = 4096
_ONE_WRITE_MAX_BYTES = 64 * 1024
_BODY_MIN_BYTES_PER_S = 1024
_LINGER_S = 2
_MALFORMED = "this is no valid HTTP/1.1 request"
_BODILESS: Final = frozenset({b"GET", b"HEAD", b"TRACE"})
_BYTES_ACKED: Final = slice(120, 128)  # tcpi_bytes_acked of Linux's struct tcp_info, since 4.2
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: what was not sent is dropped at the close


class Stage(StrEnum):
    """What a connection waits for its client to do."""

    HEAD = "head"
    BODY = "body"
    TAKE = "take"  # the bytes that were sent
    LEAVE = "leave"  # after a refusal


class _Dropped(list[Header]):
    """Takes the fields of trailers, which must not become headers (RFC 9110, section 6.5.1)."""

    def append(self, _field: Header) -> None:
        pass


class WireApplication(Protocol):
    """What a connection needs of the application, beyond ASGI."""

    @property
    def limits(self) -> Limits:
        """How long clients may take."""

    def instant(self, url: bytes, headers: list[Header], client: str) -> bytes | None:
        """Return the prepared answer to a plain GET, or None if there is none.

        Args:
            url: the target as the client wrote it: b"/dl/go1.27.1.src.tar.gz".
            headers: of the request; names in lower case.
            client: the address of the other end, "" if unknown.

        Returns:
            Everything after status line and Date: headers, an empty line, the body. After None
            the request goes through ASGI.
        """


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, with three additions. `protocol_for` makes it usable.

    A plain GET whose answer lies prepared is answered right here, in one write, without a task and
    without ASGI. A malformed request is refused, after those before it were answered, and nothing
    behind it is looked at. And the application can cut a connection that stopped taking bytes.
    """

    _application: WireApplication
    _answered = False
    _head_bytes = 0  # since the last head, or the last piece of a body
    _body_bytes = 0  # of all requests
    _heads = 0
    _whole_head: Any = None  # scope of the last request whose head is complete
    _is_in_body = False
    _plain_framing: list[Header] | None = None
    _fault = ""
    _refusal = b""
    _is_refused = False
    _seen: tuple[Any, ...] = ()
    _since_s = 0.0

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that grows without end is refused, since nothing else limits it."""
        if self._refusal:
            return
        self._head_bytes += len(data)
        if self._head_bytes > _HEAD_MAX_BYTES:
            self._refuse(431, "the head of the request is too big")
            return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Answer at once if that can be done, else hand the request to the application.

        Raises:
            BadInputError: the head is malformed; raised through the parser, which then stops.
        """
        self._head_bytes, self._whole_head = 0, self.scope
        self._heads += 1
        framing = [field for field in self.headers if field[0] in FRAMING]
        # A client sends the same Host again and again; only the first needs a closer look.
        is_plain = framing == self._plain_framing or self._is_plain(framing)
        self._answered = is_plain and self._answer_instantly()
        if not self._answered:
            self._hand_over(framing)
        self._is_in_body = True

    def _is_plain(self, framing: list[Header]) -> bool:
        if [name for name, _ in framing] != [b"host"] or not is_host(framing[0][1]):
            return False
        self._plain_framing = framing
        return True

    def _hand_over(self, framing: list[Header]) -> None:
        method = self.parser.get_method()
        self._fault = head_fault(method, self.parser.get_http_version(), framing)
        if not self._fault and not self.url.isascii():
            self._fault = "the target of the request has bytes that must be escaped"
        if not self._fault and len(self.pipeline) >= _PIPELINE_MAX:
            self._fault = f"more than {_PIPELINE_MAX} requests wait on this connection"
        if self._fault:
            raise BadInputError(self._fault)
        super().on_headers_complete()
        # What follows an upgrade is not parsed, and a body where none belongs may be a request.
        if self.parser.should_upgrade() or (method in _BODILESS and announces_body(framing)):
            self.cycle.keep_alive = False
        # The cycle's task runs later, so it finds this in its scope.
        connection = Connection(self.transport, self.cycle)
        self.scope["extensions"] = {CONNECTION: {"connection": connection}}
        self.headers = _Dropped()

    def _answer_instantly(self) -> bool:
        is_idle = self.cycle is None or self.cycle.response_complete
        # Bytes that the client has not taken yet would pile up; the ordinary way waits for them.
        if not is_idle or self.flow.write_paused or not self.parser.should_keep_alive():
            return False
        if self.parser.get_method() != b"GET" or self.parser.get_http_version() != "1.1":
            return False
        client = self.client[0] if self.client else ""
        rest = self._application.instant(self.url, self.headers, client)
        if rest is None:
            return False
        parts = [b"HTTP/1.1 200 OK\r\n"]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        if len(rest) > _ONE_WRITE_MAX_BYTES:
            # Joined, each client would have a copy; so all of them share the bytes of the cache.
            self.transport.write(b"".join(parts))
            self.transport.write(rest)
        else:
            self.transport.write(b"".join((*parts, rest)))
        super().on_response_complete()
        return True

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        # Chunk extensions and trailers count as a head, for they can be endless too.
        self._head_bytes = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._head_bytes, self._is_in_body = 0, False
        if not self._answered:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or tell the refusal that waited for its turn."""
        super().on_response_complete()
        if self._refusal and not self.pipeline:
            self._send_refusal()

    def send_400_response(self, _msg: str) -> None:
        """Refuse what the parser did not take."""
        self._refuse(400, self._fault or _MALFORMED)

    def _refuse(self, status: int, line: str) -> None:
        """Take no more bytes, and end the connection with this as the last response."""
        answer = plain(status, line, (b"connection", b"close"))
        fields = (*self.server_state.default_headers, *answer.headers)
        head = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        self._refusal = STATUS_LINE[status] + head + b"\r\n" + answer.body
        if self._is_in_body and not self._is_idle():
            self._abandon()
        if self._is_idle():
            self._send_refusal()

    def _abandon(self) -> None:
        """Let the application see the client gone whose body will not come, unless it answers."""
        if self.pipeline:
            self.pipeline.popleft()  # the last one that came, not yet begun
        elif not self.cycle.response_started:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _send_refusal(self) -> None:
        """Write the refusal and half-close; closed with bytes unread, a reset could overtake it."""
        if self.transport.is_closing() or self._is_refused:
            return
        self._is_refused = True
        self._unset_keepalive_if_required()
        self.transport.write(self._refusal)
        self.transport.write_eof()

    def _is_idle(self) -> bool:
        """Whether every request so far has its response, or will have none."""
        cycle = self.cycle
        is_over = cycle is None or cycle.response_complete or cycle.disconnected
        return is_over and not self.pipeline

    def shutdown(self) -> None:
        """End soon: nobody sweeps any more, so a refused client is not waited for."""
        if self._is_refused:
            self.transport.close()
        super().shutdown()

    def sweep(self, now_s: float) -> None:
        """Cut the connection if its client has kept it waiting for longer than the limits.

        The limits are `header_s` for a whole head, `body_s` for each so many KiB of a body, and
        `send_s` for any byte that the client acknowledges. now_s is the time of a clock that only
        grows, the same clock in every call.
        """
        seen = self._awaited()
        if seen != self._seen:
            self._seen, self._since_s = seen, now_s
        elif seen and now_s - self._since_s >= _patience_s(seen[0], self._application.limits):
            self._give_up(seen[0])

    def _awaited(self) -> tuple[Any, ...]:
        """Return the stage and how far the client got in it; () if nothing is awaited of it."""
        if self._is_refused:
            return (Stage.LEAVE,)
        is_idle = self._is_idle()
        queued = self.transport.get_write_buffer_size()
        if queued or not is_idle:
            in_kernel, acknowledged = _sending(self.transport)
            if queued or in_kernel:
                return Stage.TAKE, queued, in_kernel, acknowledged
        has_begun = self.cycle is not None and self.cycle.response_started and not is_idle
        if self._is_in_body and not self.pipeline and not has_begun and not self.flow.read_paused:
            steps = self._body_bytes // (self._application.limits.body_s * _BODY_MIN_BYTES_PER_S)
            return Stage.BODY, self._heads, steps
        # Between requests uvicorn's timer runs, unless bytes came: a part of a head, or newlines.
        is_quiet = self.timeout_keep_alive_task is None
        if is_idle and (is_quiet or self.scope is not self._whole_head):
            return Stage.HEAD, self._heads
        return ()

    def _give_up(self, stage: Stage) -> None:
        if stage in (Stage.TAKE, Stage.LEAVE):
            _reset(self.transport)
        elif stage is Stage.HEAD and self.scope is not self._whole_head:
            self._refuse(408, "the head of the request took too long")
        elif stage is Stage.BODY and not self._is_idle():
            self._refuse(408, "the body of the request took too long")
        else:
            self.transport.close()


def protocol_for(application: WireApplication) -> type[HttpProtocol]:
    """Return the class of connections that ask this application; uvicorn makes its instances."""

    class _Connected(HttpProtocol):
        _application = application

    return _Connected


def _patience_s(stage: Stage, limits: Limits) -> int:
    if stage is Stage.HEAD:
        return limits.header_s
    if stage is Stage.BODY:
        return limits.body_s
    return limits.send_s if stage is Stage.TAKE else _LINGER_S


def _sending(transport: Any) -> tuple[int, int]:
    """Return how many bytes the kernel still holds for the client, and how many it acknowledged.

    Where the kernel tells neither, both are 0. Counted is what the client's side took, whichever
    way it was sent: files go past the transport.
    """
    sock = transport.get_extra_info("socket")
    try:
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.stop)
    except (OSError, AttributeError):
        return 0, 0
    return int.from_bytes(queued, sys.byteorder), int.from_bytes(info[_BYTES_ACKED], sys.byteorder)


def _reset(transport: Any) -> None:
    """Cut the connection at once, for everyone who holds a descriptor of it.

    Streams send through a duplicate and wait on it; the shutdown wakes them.
    """
    with contextlib.suppress(OSError):
        copy = os.dup(transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=copy) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.shutdown(socket.SHUT_RDWR)
    transport.abort()
