"""HTTP/1.1 below ASGI: prepared answers in one write, malformed requests, clients that stall.

uvicorn's protocol has no time limits and takes any Host. A connection has no timers of its own: the
server calls `HttpProtocol.sweep` for each connection about once per second, so that an ordinary
request costs no timer. Source: RFC 9112.

Not here: the rules for a head, and the limits on its size (`web/guard.py`); sockets
(`transport.py`).

uvicorn promises nothing about the attributes used here. tests/test_protocol.py lists them, and
pyproject.toml keeps uvicorn below its next minor version.
"""

import re
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.core.errors import BadInputError
from app.settings.sections.limits import Limits
from app.transport import Intake, UploadTransport, half_close, reset, sending
from app.web.connection import CONNECTION, Connection
from app.web.connections import Connections, is_health
from app.web.guard import FRAMING, announces_body, head_fault, is_host
from app.web.plainhead import PlainHead
from app.web.responses import Header, plain

_HEAD_MAX_BYTES = 512 * 1024  # uvloop reads up to 256 KiB at once, body included
_PIPELINE_MAX = 4096
_ONE_WRITE_MAX_BYTES = 64 * 1024
_BODY_MIN_BYTES_PER_S = 1024
_LINGER_S = 2
_RETRY_AFTER = b"5"
_MALFORMED = "this is no valid HTTP/1.1 request"
_BODILESS: Final = frozenset({b"GET", b"HEAD", b"TRACE"})
_REPEATED_MAX_BYTES = 2048  # of a head, kept for each connection
_TARGET = re.compile(rb"/[!-~]*")  # visible ASCII


class ConnectionStage(StrEnum):
    """The step of the client that a connection waits for."""

    HEAD = "head"  # the client sends a head
    BODY = "body"  # the client sends a body
    TAKE = "take"  # the client acknowledges the bytes that were sent
    LEAVE = "leave"  # the client closes after a refusal
    OVER = "over"  # the client has reset the connection


class _TrailerFields(list[Header]):
    """Drops the fields of trailers, which must not become headers (RFC 9110, section 6.5.1)."""

    def append(self, _field: Header) -> None:
        pass


class _Repeated(NamedTuple):
    """What follows the target in a whole plain request: a client repeats it with each request."""

    end: bytes
    head: PlainHead


class WireApplication(Protocol):
    """What a connection needs of the application, beyond ASGI."""

    @property
    def limits(self) -> Limits:
        """Seconds that clients may take, and other limits."""

    @property
    def connections(self) -> Connections:
        """The connections of the process."""

    def plain_head(self, headers: list[Header], peer: str) -> PlainHead | None:
        """Return what `instant` needs of the headers of plain GETs; None: they are refused.

        Args:
            headers: of the request; names in lower case.
            peer: the address of the other end, "" if unknown.
        """

    def instant(self, url: bytes, head: PlainHead) -> bytes | None:
        """Return the prepared answer to a plain GET, or None if there is none.

        Args:
            url: the target as the client wrote it: b"/dl/go1.27.1.src.tar.gz".
            head: of the request, and of any other with the same headers on the same connection.

        Returns:
            Everything after status line and Date: headers, an empty line, the body. After None
            the request goes through ASGI.
        """


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, with five additions. `protocol_for` makes it usable.

    1. A plain GET with a prepared answer is answered here, in one write, without a task and without
       ASGI; and without the parser, if all but the target is as in the request before.
    2. A malformed request is refused after the answers to the requests before it. Nothing after it
       is parsed.
    3. `sweep` ends a connection whose client stalls. The application can cut a connection, too.
    4. A connection beyond the limits on connections gets one answer: about health, or a refusal.
    5. A response that begins before the body of its request has come is the connection's last, and
       reaches a client that still sends.
    """

    _application: WireApplication
    _answered = False
    _head_bytes = 0  # received since the last complete head, or the last piece of a body
    _body_bytes = 0  # of all requests of the connection
    _heads = 0  # complete heads so far
    _whole_head: Any = None  # scope of the last request with a complete head
    _is_in_body = False
    _keeps_alive = False  # whether the connection may go on once the body has come
    _bytes = b""  # while they are parsed
    _repeated: _Repeated | None = None  # how the last request went on that was answered at once
    _answered_s = float("-inf")  # when the last request was answered without the parser
    _excess: tuple[int, str] | None = None  # the refusal of a connection beyond the limits
    _fault_status, _fault = 400, ""
    _refusal = b""
    _is_leaving = False  # nothing more is sent; what the client still sends is dropped
    _progress: tuple[Any, ...] = ()  # at the last sweep; see _client_progress
    _since_s = 0.0  # when _progress changed last
    _intake: Intake | None = None  # while the client has bytes to take
    _running: Any = None  # the cycle of the request that began last; `cycle` is the newest one's

    def connection_made(self, transport: Any) -> None:
        """Begin a connection, counted by its address."""
        super().connection_made(transport)
        self._excess = self._application.connections.open(self._address)
        if self._excess is not None:
            self._application.connections.add_extra(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection, and tell the request that runs: uvicorn tells the newest one alone."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        if self._excess is None:
            self._application.connections.close(self._address)
        self._application.connections.drop_extra(self)
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Begin a request; those behind it wait in the pipeline."""
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def cut(self) -> None:
        """Close the connection at once."""
        reset(self.transport)

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def data_received(self, data: bytes) -> None:
        """Take bytes. A head without end is refused here; neither uvicorn nor llhttp limits it."""
        if self._refusal or self._is_leaving:
            return
        if self._repeated is not None and self._answer_repeated(data, self._repeated):
            return
        self._head_bytes += len(data)
        if self._head_bytes > _HEAD_MAX_BYTES:
            self._refuse(431, "the head of the request is too big")
            return
        self._bytes = data
        super().data_received(data)
        self._bytes = b""

    def _answer_repeated(self, data: bytes, repeated: _Repeated) -> bool:
        """Send the prepared answer to a request that only asks for something else than the last.

        All but its target was parsed and checked with the last one, and the parser never sees it:
        most of what a small answer costs here is the parser's calls into Python.
        """
        if not data.startswith(b"GET ") or not data.endswith(repeated.end):
            return False
        # Else the parser is in the middle of a request.
        if self.scope is not self._whole_head:
            return False
        url = data[4 : -len(repeated.end)]
        if _TARGET.fullmatch(url) is None or not self._is_free():
            return False
        answer = self._application.instant(url, repeated.head)
        if answer is None:
            return False
        self._heads += 1
        self._write_instantly(answer)
        if self.timeout_keep_alive_task is None:
            super().on_response_complete()
        else:  # a timer less, and a new one, for each answer would cost a sixth of it
            self._answered_s = self.loop.time()
        return True

    def on_headers_complete(self) -> None:
        """Send the prepared answer, or hand the request to the application.

        Raises:
            BadInputError: the head is malformed. The parser passes the error on and stops.
        """
        self._head_bytes, self._whole_head = 0, self.scope
        self._heads += 1
        if self._excess is not None:
            self._check_excess(self._excess)
        framing = [field for field in self.headers if field[0] in FRAMING]
        self._answered = _is_plain(framing) and self._answer_instantly()
        if not self._answered:
            self._hand_over(framing)
        self._is_in_body = True

    def _check_excess(self, refusal: tuple[int, str]) -> None:
        """Let a connection beyond the limits ask for health, and nothing else.

        A refused connection stays until its client has read the refusal, and counts that long.

        Raises:
            BadInputError: the request asks for something else.
        """
        if not is_health(self.url):
            self._fault_status, self._fault = refusal
            raise BadInputError(self._fault)
        self._application.connections.drop_extra(self)

    def _hand_over(self, framing: list[Header]) -> None:
        method = self.parser.get_method()
        self._fault = head_fault(method, self.parser.get_http_version(), framing)
        if not self._fault and not self.url.isascii():
            self._fault = "the target of the request has bytes that must be escaped"
        if not self._fault and len(self.pipeline) >= _PIPELINE_MAX:
            self._fault = f"more than {_PIPELINE_MAX} requests wait on this connection"
        if self._fault:
            raise BadInputError(self._fault)
        # A prepared answer before it, in the same read, has started the timer of keep-alive.
        self._unset_keepalive_if_required()
        super().on_headers_complete()
        # The parser stops at an upgrade, and the body of a GET may be a smuggled request: no
        # further request is taken from this connection.
        has_body = announces_body(framing)
        is_last = self._excess is not None or self.parser.should_upgrade()
        if is_last or (method in _BODILESS and has_body):
            self.cycle.keep_alive = False
        if has_body:
            self._await_body()
        # The task of the cycle runs later and reads this scope.
        connection = Connection(self.transport, self.cycle)
        self.scope["extensions"] = {CONNECTION: {"connection": connection}}
        self.headers = _TrailerFields()

    def _await_body(self) -> None:
        """Have a response that begins before the body has come end the connection.

        What is left of the body would have to be read to find the next request (RFC 9112, 9.3),
        and a client that got no 100 (Continue) may never send the body (RFC 9110, 10.1.1).
        """
        cycle: Any = self.cycle
        self._keeps_alive, cycle.keep_alive = cycle.keep_alive, False
        cycle.transport = UploadTransport(self.transport, lambda: not cycle.more_body, self._linger)

    def _linger(self) -> None:
        """Half-close the connection, and drop what the client still sends."""
        self._is_leaving = True
        self.flow.resume_reading()
        half_close(self.transport)

    def _is_free(self) -> bool:
        """Whether an answer can go out at once."""
        is_idle = self.cycle is None or self.cycle.response_complete
        # Behind bytes that the client has not taken, answers would pile up. ASGI waits instead.
        return is_idle and not self.flow.write_paused

    def _answer_instantly(self) -> bool:
        if not self._is_free() or not self.parser.should_keep_alive():
            return False
        if self.parser.get_method() != b"GET" or self.parser.get_http_version() != "1.1":
            return False
        head = self._application.plain_head(self.headers, self._address)
        answer = self._application.instant(self.url, head) if head is not None else None
        if head is None or answer is None:
            return False
        end = self._bytes.removeprefix(b"GET " + self.url)
        # Else it came in pieces, or others came with it.
        is_alone = end is not self._bytes and end.find(b"\r\n\r\n") == len(end) - 4
        if is_alone and len(end) <= _REPEATED_MAX_BYTES and self._excess is None:
            self._repeated = _Repeated(end, head)
        self._write_instantly(answer)
        super().on_response_complete()
        return True

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if its client has asked for nothing for so long."""
        left_s = self._answered_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0 and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                left_s, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def _write_instantly(self, answer: bytes) -> None:
        parts = [b"HTTP/1.1 200 OK\r\n"]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        if len(answer) > _ONE_WRITE_MAX_BYTES:
            # All clients share the bytes of the cache; a join would copy them. Two writes would
            # send the short piece in a packet of its own, for 40 % of the answer's CPU.
            self.transport.writelines((b"".join(parts), answer))
        else:
            self.transport.write(b"".join((*parts, answer)))

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        # The count starts again: chunk extensions and trailers count as a head.
        self._head_bytes = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._head_bytes, self._is_in_body = 0, False
        if self._answered:
            return
        if self._keeps_alive and not self.cycle.response_started:
            self.cycle.keep_alive = True
        self._keeps_alive = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or send the refusal that waited for its turn."""
        is_last = not self.pipeline  # before the next request leaves the pipeline and begins
        super().on_response_complete()
        if self._is_leaving:
            self._unset_keepalive_if_required()  # `sweep` ends the connection
        elif self._refusal and is_last:
            self._send_refusal()

    def send_400_response(self, _msg: str) -> None:
        """Refuse a request that the parser rejects."""
        self._refuse(self._fault_status, self._fault or _MALFORMED)

    def _refuse(self, status: int, line: str) -> None:
        """Take no more bytes, and send a refusal as the last response of the connection."""
        retry = ((b"retry-after", _RETRY_AFTER),) if status in (429, 503) else ()
        answer = plain(status, line, (b"connection", b"close"), *retry)
        fields = (*self.server_state.default_headers, *answer.headers)
        head = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        self._refusal = STATUS_LINE[status] + head + b"\r\n" + answer.body
        if self._is_in_body and not self._is_idle():
            self._abandon()
        if self._is_idle():
            self._send_refusal()

    def _abandon(self) -> None:
        """End the request whose body will not come: for the application its client is gone.

        A request whose response has begun is left alone.
        """
        if self.pipeline:
            self.pipeline.popleft()  # the newest request; its task has not begun
        elif not self.cycle.response_started:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _send_refusal(self) -> None:
        """Write the refusal and half-close the connection.

        A full close with unread bytes would send a reset, which could overtake the refusal.
        """
        if self.transport.is_closing() or self._is_leaving:
            return
        self._is_leaving = True
        self._unset_keepalive_if_required()
        self.transport.write(self._refusal)
        half_close(self.transport)

    def _is_idle(self) -> bool:
        """Whether no request waits for its response."""
        cycle = self.cycle
        is_over = cycle is None or cycle.response_complete or cycle.disconnected
        return is_over and not self.pipeline

    def shutdown(self) -> None:
        """End soon. No sweep will end a half-closed connection any more: it is closed at once."""
        if self._is_leaving:
            self.transport.close()
        super().shutdown()

    def sweep(self, now_s: float, taking: int) -> bool:
        """Cut the connection if its client stalls for longer than the limits.

        A whole head must come within `header_s` seconds. A body must bring 1 KiB for each second,
        counted over `body_s` seconds. Within `send_s` seconds the client must take 8 KiB for each,
        or everything that is left of the answer; less if many take at once: see `Intake`. Nobody
        waits for a client that has reset the connection while nothing was read from it.

        Args:
            now_s: the time of a clock that only grows, the same clock in every call.
            taking: how many connections of the process wait until their clients take bytes.

        Returns:
            Whether this connection waits until its client takes bytes.
        """
        progress = self._client_progress(taking)
        if progress != self._progress:
            self._progress, self._since_s = progress, now_s
        elif progress and now_s - self._since_s >= _patience_s(
            progress[0], self._application.limits
        ):
            self._give_up(progress[0])
        return progress[:1] == (ConnectionStage.TAKE,)

    def _client_progress(self, taking: int) -> tuple[Any, ...]:
        """Return the stage and the client's progress in it; () if the client need do nothing.

        Equal values in two sweeps mean that the client did not do enough in between.
        """
        if self._is_leaving:
            return (ConnectionStage.LEAVE,)
        is_idle = self._is_idle()
        queued = self.transport.get_write_buffer_size()
        if queued or not is_idle:
            in_kernel, acknowledged, is_over = sending(self.transport)
            if is_over:
                return (ConnectionStage.OVER,)
            if queued or in_kernel:
                left = queued + in_kernel if is_idle else None
                if self._intake is None or self._progress[:1] != (ConnectionStage.TAKE,):
                    self._intake = Intake(self._application.limits.send_s)
                return ConnectionStage.TAKE, self._intake.spans(
                    acknowledged or -queued, left, taking
                )
        has_begun = self.cycle is not None and self.cycle.response_started and not is_idle
        if self._is_in_body and not self.pipeline and not has_begun and not self.flow.read_paused:
            steps = self._body_bytes // (self._application.limits.body_s * _BODY_MIN_BYTES_PER_S)
            return ConnectionStage.BODY, self._heads, steps
        # Between requests uvicorn's timer runs. It stops at any byte: of a head, or a newline.
        has_no_timer = self.timeout_keep_alive_task is None
        if is_idle and (has_no_timer or self.scope is not self._whole_head):
            return ConnectionStage.HEAD, self._heads
        return ()

    def _give_up(self, stage: ConnectionStage) -> None:
        if stage in (ConnectionStage.TAKE, ConnectionStage.LEAVE, ConnectionStage.OVER):
            reset(self.transport)
        elif stage is ConnectionStage.HEAD and self.scope is not self._whole_head:
            self._refuse(408, "the head of the request took too long")
        elif stage is ConnectionStage.BODY and not self._is_idle():
            self._refuse(408, "the body of the request took too long")
        else:
            self.transport.close()


def protocol_for(application: WireApplication) -> type[HttpProtocol]:
    """Return the class of connections that ask this application; uvicorn makes its instances."""

    class _ApplicationProtocol(HttpProtocol):
        _application = application

    return _ApplicationProtocol


def _is_plain(framing: list[Header]) -> bool:
    return [name for name, _ in framing] == [b"host"] and is_host(framing[0][1])


def _patience_s(stage: ConnectionStage, limits: Limits) -> int:
    if stage is ConnectionStage.HEAD:
        return limits.header_s
    if stage is ConnectionStage.BODY:
        return limits.body_s
    if stage is ConnectionStage.OVER:
        return 0
    return limits.send_s if stage is ConnectionStage.TAKE else _LINGER_S
