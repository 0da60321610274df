"""Traces: spans of requests, sent to an OpenTelemetry collector by OTLP over HTTP.

Off, which is the default, `span` returns one shared object and looks at nothing. On, each request
that is not answered from memory gets a trace id, its own or that of its `traceparent` header (W3C
Trace Context). The id is in the request's log lines, in its error line and in what is asked of
upstreams. Only the spans of sampled requests are kept.

A span that ends goes into a bounded queue; a thread makes OpenTelemetry's spans of the queue and
sends them. Nothing waits for the thread, and no error of the collector reaches a request: spans
that can't be queued or sent are counted. Work that no request began has no spans.

Not here: where spans are; the form of `traceparent`, which is `core/traceparent.py`'s.
"""

import math
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
_EXPORT_S = 5.0  # for one batch, all tries included
_TEXT_CHARS = 500
_HEADER = b"traceparent"
_log = logs.get("tracing")
_random = Random()  # noqa: S311 (ids and samples are no secrets)

Headers = Iterable[tuple[bytes, bytes]]
Export = Callable[[list["Span"]], bool]


@dataclass(frozen=True, slots=True)
class _Tracer:
    """What exists while tracing is on."""

    sampler: "_Sampler"
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

    For one process, on its event loop. Made only while tracing is on.
    """

    def begin(self, request_headers: Headers, path: bytes) -> Span | None:
        """Return the span of a request, begun; None for a request that is not sampled."""
        if _tracer is None:
            return None
        for name, value in request_headers:
            if name == _HEADER:
                came = TraceParent.parse(value.decode("ascii", "replace"))
                if came is not None and not came.is_sampled:
                    return None
                if came is not None:
                    return _hit(_child(came), came.span_id, path)
        if not _tracer.sampler.takes():
            return None
        return _hit(_root(is_sampled=True), "", path)


def _hit(own: TraceParent, parent: str, path: bytes) -> Span:
    attributes: dict[str, Value] = {
        "http.request.method": "GET",
        "url.path": path.decode("ascii", "backslashreplace")[:_TEXT_CHARS],
        "http.response.status_code": 200,
        "moorage.hit": True,
    }
    begun = Span("hit", "server", own, parent, attributes)
    begun.began_ns = time.time_ns()
    return begun


def _begun(came: TraceParent | None, *, follows: bool) -> TraceParent:
    if came is not None and follows:
        return _child(came)
    takes = _tracer is not None and _tracer.sampler.takes()
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


class _Sampler:
    """Takes a share of requests at random.

    Counts down to the next request that it takes: a hit pays for one subtraction.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._left = self._gap()

    def takes(self) -> bool:
        """Whether to take the next request."""
        self._left -= 1
        if self._left:
            return False
        self._left = self._gap()
        return True

    def _gap(self) -> int:
        """Return how many requests to look at until one is taken: geometrically distributed."""
        if self._share <= 0:
            return 0  # counts down for ever
        if self._share >= 1:
            return 1
        return 1 + int(math.log(1 - _random.random()) / math.log(1 - self._share))


class _Exporter:
    """The bounded queue of spans that ended, and the thread that sends them."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._queue: deque[Span] = deque()
        self._wake = threading.Event()
        self._ends = threading.Event()
        self._fails = False
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
        self._thread.join(_EXPORT_S)
        if left := len(self._queue):
            metrics.count_spans(left, sent=False)

    def _run(self) -> None:
        while not self._ends.is_set():
            self._wake.wait(_FLUSH_S)
            self._wake.clear()
            while self._queue:
                self._send([self._queue.popleft() for _ in range(self._batch())])
                if self._fails and self._ends.is_set():
                    return

    def _batch(self) -> int:
        return min(len(self._queue), _BATCH_SPANS)

    def _send(self, batch: list[Span]) -> None:
        try:
            is_sent = self._export(batch)
        except Exception:
            # A defect here must cost spans, and not the thread.
            _log.exception("exporting traces broke")
            is_sent = False
        metrics.count_spans(len(batch), sent=is_sent)
        if is_sent == self._fails:
            self._fails = not is_sent
            log = _log.info if is_sent else _log.warning
            log("traces are sent again" if is_sent else "traces are not sent", spans=len(batch))


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
        exporter = _Exporter(_otlp(endpoint, instance))
        _tracer = _Tracer(_Sampler(share), exporter)


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
        _otlp(endpoint, "")


def _otlp(endpoint: str, instance: str) -> Export:
    """Return what sends spans by OTLP over HTTP; it blocks.

    Raises:
        SettingsError: the packages for it are missing.
    """
    try:
        import requests
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import SpanExportResult
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
        from opentelemetry.trace.status import Status, StatusCode
    except ImportError as error:
        raise SettingsError(
            "MOORAGE_OTEL__ENDPOINT is set, and the packages that send traces are missing: "
            "pip install 'moorage[otel]'"
        ) from error
    session = requests.Session()
    session.trust_env = False  # neither proxies from the environment nor ~/.netrc
    sender = OTLPSpanExporter(
        f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_S, session=session
    )
    resource = Resource(
        {
            "service.name": "moorage",
            "service.version": __version__,
            "service.instance.id": instance,
        }
    )
    kinds = {one.name.lower(): one for one in SpanKind}

    def context(trace: str, own: str, *, is_remote: bool) -> SpanContext:
        return SpanContext(int(trace, 16), int(own, 16), is_remote, TraceFlags(1))

    def readable(ended: Span) -> ReadableSpan:
        trace, parent = ended.own.trace_id, None
        if ended.parent:
            parent = context(trace, ended.parent, is_remote=ended.kind == "server")
        failed = Status(StatusCode.ERROR, ended.error) if ended.error else Status(StatusCode.UNSET)
        return ReadableSpan(
            name=ended.name,
            context=context(trace, ended.own.span_id, is_remote=False),
            parent=parent,
            resource=resource,
            attributes=ended.attributes,
            kind=kinds[ended.kind],
            status=failed,
            start_time=ended.began_ns,
            end_time=max(ended.began_ns, ended.ended_ns),
        )

    def export(batch: list[Span]) -> bool:
        outcome: Any = sender.export([readable(one) for one in batch])
        return bool(outcome is SpanExportResult.SUCCESS)

    return export
