"""Traces: spans of requests, sent to an OpenTelemetry collector by OTLP over HTTP.

Off, which is the default, `span` returns one shared object and looks at nothing. On, each request
that is not answered from memory gets a trace id, its own or that of its `traceparent` header (W3C
Trace Context). The id is in the request's log lines, in its error line and in what is asked of
upstreams. Only the spans of sampled requests are kept.

A span that ends goes into a bounded queue; a thread encodes what is in the queue and sends it.
Nothing waits for the thread, and no error of the collector reaches a request: spans that can't be
queued or sent are counted. Work that no request began has no spans.

Not here: where spans are; the form of `traceparent`, which is `core/traceparent.py`'s.
"""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from random import Random
from types import TracebackType
from typing import Any, Literal

from app import __version__, logs, metrics
from app.core.errors import MoorageError, SettingsError
from app.core.traceparent import TraceParent

Kind = Literal["internal", "server", "client"]
Value = str | int | float | bool

_QUEUE_SPANS = 8192  # some 10 MiB
_BATCH_SPANS = 512
_FLUSH_S = 1.0
_SEND_S = 5.0  # for one batch, all tries included
_ANSWER_S = 2.0
_PAUSES_S = (0.5, 1.0)  # between tries
_AGAIN = (429, 502, 503, 504)  # OTLP's statuses after which to try again
_TEXT_CHARS = 500
_HEADER = b"traceparent"
_log = logs.get("tracing")
_random = Random()  # noqa: S311 (ids and samples are no secrets)

Headers = Iterable[tuple[bytes, bytes]]
Send = Callable[[list["Span"]], int]


@dataclass(frozen=True, slots=True)
class _Tracer:
    """What exists while tracing is on."""

    share: float
    exporter: "_Exporter"


_tracer: _Tracer | None = None
_parent: ContextVar[TraceParent | None] = ContextVar("trace_parent", default=None)


class _NoSpan:
    """The span of what is not traced: it takes everything and does nothing."""

    __slots__ = ()

    def __enter__(self) -> "_NoSpan":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def set(self, **_attributes: Value) -> None:
        """Drop attributes."""

    def fail(self, _reason: str) -> None:
        """Drop the reason."""


_NO_SPAN = _NoSpan()


class Span:
    """A measured piece of work. Used as a context, once.

    Attributes:
        parent: of the span; "" at the root of a trace that begins here.
        attributes: OpenTelemetry's names.
        error: why the work failed; "" if it did not.
        began_ns: Unix time in nanoseconds.
    """

    __slots__ = ("_place", "attributes", "began_ns", "ended_ns", "error", "kind", "name", "own",
                 "parent")  # fmt: skip

    def __init__(
        self, name: str, kind: Kind, own: TraceParent, parent: str, attributes: dict[str, Value]
    ) -> None:
        self.name = name
        self.kind = kind
        self.own = own
        self.parent = parent
        self.attributes = attributes
        self.error = ""
        self.began_ns = self.ended_ns = 0
        self._place: Token[TraceParent | None] | None = None

    def __enter__(self) -> "Span":
        self._place = _parent.set(self.own)
        self.began_ns = time.time_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._place is not None:
            _parent.reset(self._place)
        if kind is not None:
            self.attributes["error.type"] = kind.__name__
            # The text of other errors may quote anything.
            self.error = str(error)[:_TEXT_CHARS] if isinstance(error, MoorageError) else "failed"
        self.end()

    def set(self, **attributes: Value) -> None:
        """Add attributes; see `span`."""
        self.attributes |= _named(attributes)

    def fail(self, reason: str) -> None:
        """Mark the work as failed."""
        self.error = reason

    def end(self) -> None:
        """Hand the span over to be sent."""
        self.ended_ns = time.time_ns()
        if _tracer is not None:
            _tracer.exporter.put(self)


AnySpan = Span | _NoSpan


def span(name: str, kind: Kind = "internal", **attributes: Value) -> AnySpan:
    """Return a context whose time becomes a span of the request that is being served.

    `span("upstream", http__request__method="GET")`: "__" in a name stands for the dots of
    OpenTelemetry's names, "http.request.method".
    """
    if _tracer is None:
        return _NO_SPAN
    parent = _parent.get()
    if parent is None or not parent.is_sampled:
        return _NO_SPAN
    return Span(name, kind, _child(parent), parent.span_id, _named(attributes))


def is_on() -> bool:
    """Whether requests are traced."""
    return _tracer is not None


def headers() -> dict[str, str]:
    """Return the headers that carry the trace to whom this request asks; {} without a trace."""
    if _tracer is None or (parent := _parent.get()) is None:
        return {}
    return {"traceparent": str(parent)}


def trace_id() -> str:
    """Return the id of the trace of the request that is being served; "" without one."""
    if _tracer is None or (parent := _parent.get()) is None:
        return ""
    return parent.trace_id


class request:
    """A context for serving one request, while tracing is on: its trace and its root span.

    Args:
        request_headers: names in lower case.
        name: of the span.
        follows: whether a caller that samples its trace has this request sampled, too.
        attributes: see `span`.
    """

    def __init__(
        self, request_headers: Headers, name: str, *, follows: bool = True, **attributes: Value
    ) -> None:
        came = _came_with(request_headers)
        own = _begun(came, follows=follows)
        self._span = None
        if own.is_sampled:
            parent = "" if came is None else came.span_id
            self._span = Span(name, "server", own, parent, _named(attributes))
        self._own = own
        self._places: tuple[Token[str | None], Token[TraceParent | None]] | None = None

    def __enter__(self) -> AnySpan:
        self._places = logs.trace_id.set(self._own.trace_id), _parent.set(self._own)
        return _NO_SPAN if self._span is None else self._span.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._span is not None:
            self._span.__exit__(kind, error, trace)
        if self._places is not None:
            logs.trace_id.reset(self._places[0])
            _parent.reset(self._places[1])


class Hits:
    """The traces of requests that are answered from memory: one span each, if they are sampled.

    For one process, on its event loop. Made only while tracing is on. A hit takes some 15 µs, so
    that each call here counts.

    Args:
        share: of hits that are sampled, 0 to 1.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._left = _gap(share)

    def begin(self, request_headers: Headers, path: bytes) -> Span | None:
        """Return the span of a request, begun; None for a request that is not sampled."""
        for name, value in request_headers:
            if name == _HEADER:
                came = TraceParent.parse(value.decode("ascii", "replace"))
                if came is not None:
                    return _hit(_child(came), came.span_id, path) if came.is_sampled else None
        self._left -= 1
        if self._left:
            return None
        self._left = _gap(self._share)
        return _hit(_root(is_sampled=True), "", path)


def _hit(own: TraceParent, parent: str, path: bytes) -> Span:
    url_path = path.decode("ascii", "backslashreplace")[:_TEXT_CHARS]
    begun = Span("hit", "server", own, parent, {"url.path": url_path})
    begun.began_ns = time.time_ns()
    return begun


def _begun(came: TraceParent | None, *, follows: bool) -> TraceParent:
    if came is not None and follows:
        return _child(came)
    takes = _tracer is not None and _random.random() < _tracer.share
    own = _root(is_sampled=takes)
    return own if came is None else replace(own, trace_id=came.trace_id)


def _came_with(request_headers: Headers) -> TraceParent | None:
    """Return where a request comes from; a malformed header is as good as none."""
    for name, value in request_headers:
        if name == _HEADER:
            return TraceParent.parse(value.decode("ascii", "replace"))
    return None


def _root(*, is_sampled: bool) -> TraceParent:
    return TraceParent(f"{_random.getrandbits(128) or 1:032x}", _span_id(), is_sampled)


def _child(of: TraceParent) -> TraceParent:
    return TraceParent(of.trace_id, _span_id(), of.is_sampled)


def _span_id() -> str:
    return f"{_random.getrandbits(64) or 1:016x}"


def _named(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {name.replace("__", "."): value for name, value in attributes.items()}


def _gap(share: float) -> int:
    """Return how many requests to count until one is sampled: geometrically distributed.

    0 for a share of 0: whoever counts down from there never comes to 0.
    """
    if share <= 0:
        return 0
    if share >= 1:
        return 1
    return 1 + int(math.log(1 - _random.random()) / math.log(1 - share))


class _Exporter:
    """The bounded queue of spans that ended, and the thread that sends them.

    Args:
        send: sends a batch; returns how many of its spans were lost.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._queue: deque[Span] = deque()
        self._wake = threading.Event()
        self._ends = threading.Event()
        self._loses = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, ended: Span) -> None:
        """Take a span, from any thread; drop it where the queue is full."""
        if len(self._queue) >= _QUEUE_SPANS:
            metrics.count_spans(1, sent=False)
            return
        self._queue.append(ended)
        if len(self._queue) >= _BATCH_SPANS:
            self._wake.set()

    def close(self) -> None:
        """Send what waits, for as long as one batch may take, and end the thread."""
        self._ends.set()
        self._wake.set()
        self._thread.join(_SEND_S)
        if left := len(self._queue):
            metrics.count_spans(left, sent=False)

    def _run(self) -> None:
        while not self._ends.is_set():
            self._wake.wait(_FLUSH_S)
            self._wake.clear()
            while self._queue:
                size = min(len(self._queue), _BATCH_SPANS)
                self._send_counted([self._queue.popleft() for _ in range(size)])
                if self._loses and self._ends.is_set():
                    return

    def _send_counted(self, batch: list[Span]) -> None:
        try:
            lost = self._send(batch)
        except Exception:
            # A defect here must cost spans, and not the thread.
            _log.exception("sending traces broke")
            lost = len(batch)
        metrics.count_spans(lost, sent=False)
        metrics.count_spans(len(batch) - lost, sent=True)
        if self._loses != bool(lost):
            self._loses = bool(lost)
            if lost:
                _log.warning("traces are not sent", lost=lost)
            else:
                _log.info("traces are sent again")


def start(endpoint: str, share: float, instance: str) -> None:
    """Begin to trace in this process; without an endpoint, do nothing.

    Args:
        endpoint: base URL of the collector, "http://otel-collector:4318"; "" traces nothing.
        share: of requests that are sampled, 0 to 1; those that come with a sampled or an unsampled
            `traceparent` follow it.
        instance: names this process: "host/pid".

    Raises:
        SettingsError: the packages of the extra "otel" are missing.
    """
    global _tracer  # noqa: PLW0603 (set up once for the process, as logs are)
    if endpoint:
        stop()
        exporter = _Exporter(_sender(endpoint, instance))
        _tracer = _Tracer(share, exporter)


def stop() -> None:
    """Send what waits, and trace nothing more."""
    global _tracer
    if _tracer is not None:
        exporter, _tracer = _tracer.exporter, None
        exporter.close()


def require(endpoint: str) -> None:
    """Return if traces can be sent to an endpoint, or if there is none.

    Raises:
        SettingsError: the packages of the extra "otel" are missing.
    """
    if endpoint:
        _sender(endpoint, "")


def _sender(endpoint: str, instance: str) -> Send:
    """Return what sends spans by OTLP over HTTP; it blocks.

    The SDK's own encoder takes 16 µs for a span, five times as long as this one; at 1 % of all
    hits, that alone would be 1 % of the server's CPU.

    Raises:
        SettingsError: the packages for it are missing.
    """
    try:
        import requests
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
            ExportTraceServiceResponse,
        )
        from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
        from opentelemetry.proto.trace.v1.trace_pb2 import Status
        from opentelemetry.util.re import parse_env_headers
    except ImportError as error:
        raise SettingsError(
            "MOORAGE_OTEL__ENDPOINT is set, and the packages that send traces are missing: "
            "pip install 'moorage[otel]'"
        ) from error
    kinds = {
        "internal": ProtoSpan.SPAN_KIND_INTERNAL,
        "server": ProtoSpan.SPAN_KIND_SERVER,
        "client": ProtoSpan.SPAN_KIND_CLIENT,
    }
    session = requests.Session()
    session.trust_env = False  # neither proxies from the environment nor ~/.netrc
    session.headers.update(parse_env_headers(_variable("HEADERS"), liberal=True))
    session.headers["Content-Type"] = "application/x-protobuf"
    session.verify = _variable("CERTIFICATE") or True
    if certificate := _variable("CLIENT_CERTIFICATE"):
        session.cert = (certificate, _variable("CLIENT_KEY"))

    def encoded(batch: list[Span]) -> bytes:
        request = ExportTraceServiceRequest()
        of_service = request.resource_spans.add()
        _encode(
            of_service.resource.attributes,
            {
                "service.name": "moorage",
                "service.version": __version__,
                "service.instance.id": instance,
            },
        )
        scope = of_service.scope_spans.add()
        scope.scope.name = __name__
        for ended in batch:
            made = scope.spans.add(
                trace_id=bytes.fromhex(ended.own.trace_id),
                span_id=bytes.fromhex(ended.own.span_id),
                parent_span_id=bytes.fromhex(ended.parent),
                name=ended.name,
                kind=kinds[ended.kind],
                start_time_unix_nano=ended.began_ns,
                end_time_unix_nano=max(ended.began_ns, ended.ended_ns),
            )
            _encode(made.attributes, ended.attributes)
            if ended.error:
                made.status.code = Status.STATUS_CODE_ERROR
                made.status.message = ended.error
        body: bytes = request.SerializeToString()
        return body

    def send(batch: list[Span]) -> int:
        body, ends_s = encoded(batch), time.monotonic() + _SEND_S
        for pause_s in (*_PAUSES_S, None):
            is_over = pause_s is None or time.monotonic() + pause_s >= ends_s
            try:
                answer = session.post(
                    f"{endpoint}/v1/traces", body, timeout=_ANSWER_S, allow_redirects=False
                )
            except requests.RequestException:
                if is_over:
                    return len(batch)
            else:
                if answer.status_code == 200:
                    taken = ExportTraceServiceResponse.FromString(answer.content)
                    return min(len(batch), int(taken.partial_success.rejected_spans))
                if is_over or answer.status_code not in _AGAIN:
                    return len(batch)
            time.sleep(pause_s or 0.0)
        return len(batch)

    return send


def _variable(name: str) -> str:
    """Return one of OpenTelemetry's own variables: its value for traces, else that for all."""
    everything = os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")
    return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "") or everything


def _encode(target: Any, attributes: Mapping[str, Value]) -> None:
    """Add attributes to a list of OpenTelemetry's KeyValue."""
    for key, value in attributes.items():
        made = target.add(key=key).value
        if isinstance(value, bool):
            made.bool_value = value
        elif isinstance(value, str):
            made.string_value = value
        elif isinstance(value, int):
            made.int_value = value
        else:
            made.double_value = value
