"""Traces: spans of requests, sent to an OpenTelemetry collector by OTLP over HTTP.

Off, which is the default, `span` returns one shared object and looks at nothing. On, each request
that is not answered from memory gets a trace id, its own or that of its `traceparent` header (W3C
Trace Context). The id is in the request's log lines, in its error line and in what is asked of
upstreams. Only the spans of sampled requests are kept.

A span that ends goes into a queue (`exporter.py`), from which a thread sends it (`otlp.py`). Work
that no request began has no spans.

Not here: where spans are; the form of `traceparent` (`app/core/traceparent.py`).
"""

import math
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from random import Random
from types import TracebackType
from typing import Literal

from app import logs
from app.core.errors import MoorageError, SettingsError
from app.core.traceparent import TraceParent
from app.tracing.exporter import Exporter, Send

Kind = Literal["internal", "server", "client"]
Value = str | int | float | bool

_TEXT_CHARS = 500
_HEADER = b"traceparent"
_random = Random()  # noqa: S311 (ids and samples are no secrets)

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class _Tracer:
    """What exists while tracing is on."""

    share: float
    exporter: Exporter


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
        exporter = Exporter(_sender(endpoint, instance))
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
    """Return what sends spans; it blocks.

    Raises:
        SettingsError: the packages for it are missing.
    """
    try:
        from app.tracing.otlp import OtlpSender
    except ImportError as error:
        raise SettingsError(
            "MOORAGE_OTEL__ENDPOINT is set, and the packages that send traces are missing: "
            "pip install 'moorage[otel]'"
        ) from error
    return OtlpSender(endpoint, instance).send
