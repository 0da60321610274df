"""Traces: what is sampled, what is lost, and what it costs to leave them off."""

import sys
import threading
from collections.abc import Iterator

import pytest

from app import logs, tracing
from app.core.errors import SettingsError, UnknownError
from app.metrics.meters import meters
from app.tracing import Hits, Span, _Tracer, otlp
from app.tracing.exporter import BATCH_SPANS, QUEUE_SPANS, Exporter
from app.tracing.otlp import OtlpSender
from tests.fakes.collector import Collector

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = [(b"traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())]
UNSAMPLED = [(b"traceparent", f"00-{TRACE}-00f067aa0ba902b7-00".encode())]


class Sent(list[Span]):
    """What was exported, by a queue without a thread."""

    def put(self, ended: Span) -> None:
        self.append(ended)

    def close(self) -> None:
        pass


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Tracing is on and samples nothing by itself."""
    kept = Sent()
    monkeypatch.setattr(tracing, "_tracer", _Tracer(0, kept))  # type: ignore[arg-type]
    return kept


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch, sent: Sent) -> Sent:
    """Tracing is on and samples everything."""
    monkeypatch.setattr(tracing, "_tracer", _Tracer(1, sent))  # type: ignore[arg-type]
    return sent


def lost() -> float:
    return meters().registry.get_sample_value("moorage_trace_spans_total", {"result": "lost"}) or 0


def test_off_a_span_is_one_shared_object_and_no_context_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracing, "_parent", None)  # a look at it would fail
    assert tracing.span("upstream", url__full="x") is tracing.span("db read")
    with tracing.span("gpg") as span:
        span.set(a=1)
        span.fail("no")
    assert (tracing.headers(), tracing.trace_id(), tracing.is_on()) == ({}, "", False)


def test_work_that_no_request_began_has_no_span(always: Sent) -> None:
    with tracing.span("db read"):
        pass
    assert always == []


def test_a_request_that_is_not_sampled_has_a_trace_id_and_no_spans(sent: Sent) -> None:
    with tracing.request([], "GET") as span, tracing.span("db read") as inner:
        trace = tracing.trace_id()
        assert span is inner
        assert logs.trace_id.get() == trace
        assert tracing.headers()["traceparent"].startswith(f"00-{trace}-")
        assert tracing.headers()["traceparent"].endswith("-00")
    assert sent == []
    assert (tracing.trace_id(), logs.trace_id.get()) == ("", None)


def test_spans_are_below_each_other_and_the_callers_trace_goes_on(sent: Sent) -> None:
    with tracing.request(SAMPLED, "GET", url__path="/x"):
        with tracing.span("a"), tracing.span("b", "client"):
            header = tracing.headers()["traceparent"]
        with tracing.span("c"):
            pass
    b, a, _, root = sent
    assert [one.name for one in sent] == ["b", "a", "c", "GET"]
    assert {one.own.trace_id for one in sent} == {TRACE}
    assert [one.parent for one in sent] == [
        a.own.span_id, root.own.span_id, root.own.span_id, "00f067aa0ba902b7",
    ]  # fmt: skip
    assert header == f"00-{TRACE}-{b.own.span_id}-01"
    assert root.attributes == {"url.path": "/x"}
    assert root.began_ns <= a.began_ns <= a.ended_ns <= root.ended_ns


def test_a_caller_that_does_not_sample_is_followed(always: Sent) -> None:
    with tracing.request(UNSAMPLED, "GET"):
        assert tracing.trace_id() == TRACE
    assert Hits(1).begin(UNSAMPLED, b"/x") is None
    assert always == []


def test_of_a_node_the_trace_id_is_taken_and_not_its_sampling(sent: Sent) -> None:
    with tracing.request(SAMPLED, "POST", follows=False):
        assert tracing.trace_id() == TRACE
    assert sent == []


def test_an_error_is_on_its_span_and_the_text_of_a_foreign_one_is_not(sent: Sent) -> None:
    for error in (UnknownError("no such module"), ValueError("password=hunter2")):
        with pytest.raises(type(error)), tracing.request(SAMPLED, "GET"), tracing.span("a"):
            raise error
    assert [(one.error, one.attributes["error.type"]) for one in sent[::2]] == [
        ("no such module", "UnknownError"),
        ("failed", "ValueError"),
    ]


def test_a_hit_is_one_span(always: Sent) -> None:
    for headers in (SAMPLED, [(b"traceparent", b"nonsense")], [(b"host", b"x")]):
        span = Hits(1).begin(headers, b"/dl/x")
        assert span is not None
        span.end()
    assert [one.own.trace_id == TRACE for one in always] == [True, False, False]
    assert {one.attributes["url.path"] for one in always} == {"/dl/x"}


@pytest.mark.parametrize(("share", "least", "most"), [(0, 0, 0), (1, 20_000, 20_000),
                                                      (0.01, 120, 280), (1e-12, 0, 1)])  # fmt: skip
def test_the_share_of_requests_is_sampled(share: float, least: int, most: int) -> None:
    hits = Hits(share)
    taken = sum(hits.begin([], b"/x") is not None for _ in range(20_000))
    assert least <= taken <= most


@pytest.fixture
def stalled() -> Iterator[tuple[Exporter, threading.Event]]:
    """An exporter whose collector does not answer until the event is set."""
    answers = threading.Event()
    exporter = Exporter(lambda _batch: 0 if answers.wait(60) else 1)
    yield exporter, answers
    answers.set()
    exporter.close()


def test_a_collector_that_stalls_costs_spans_and_no_time(
    stalled: tuple[Exporter, threading.Event], sent: Sent
) -> None:
    exporter, _ = stalled
    with tracing.request(SAMPLED, "GET"):
        pass
    before = lost()
    for _ in range(QUEUE_SPANS + BATCH_SPANS + 100):
        exporter.put(sent[0])
    assert 100 <= lost() - before <= 100 + BATCH_SPANS


def test_a_collector_that_refuses_costs_its_spans_and_an_error_ends_nothing(sent: Sent) -> None:
    outcomes: list[int | Exception] = [BATCH_SPANS, ValueError("broken"), 0]
    done = threading.Event()

    def send(_batch: list[Span]) -> int:
        outcome = outcomes.pop(0)
        if not outcomes:
            done.set()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with tracing.request(SAMPLED, "GET"):
        pass
    exporter, before = Exporter(send), lost()
    for _ in range(3 * BATCH_SPANS):
        exporter.put(sent[0])
    assert done.wait(60)
    exporter.close()
    assert lost() - before == 2 * BATCH_SPANS


def test_what_waits_is_sent_at_the_end_and_names_the_process() -> None:
    with Collector() as collector:
        tracing.start(collector.url, 1, "here/1")
        try:
            with tracing.request([], "GET", http__response__status_code=200) as span:
                span.fail("status 500")
        finally:
            tracing.stop()
        (one,) = collector.spans
    assert (one.name, one.kind, one.status, one.parent) == ("GET", 2, 2, "")
    assert one.attributes == {"http.response.status_code": 200}
    assert one.resource["service.instance.id"] == "here/1"
    assert tracing.is_on() is False


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (503, 3)])
def test_a_batch_is_tried_again_where_the_collector_says_so(
    monkeypatch: pytest.MonkeyPatch, sent: Sent, status: int, tries: int
) -> None:
    monkeypatch.setattr(otlp, "_PAUSES_S", (0.0, 0.0))
    with tracing.request(SAMPLED, "GET"):
        pass
    with Collector() as collector:
        collector.status = status
        send = OtlpSender(collector.url, "").send
        assert (send(list(sent)), collector.requests) == (1, tries)
    assert send(list(sent)) == 1  # gone


def test_the_collector_gets_opentelemetrys_own_headers(
    monkeypatch: pytest.MonkeyPatch, sent: Sent
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-all=1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-token=secret")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with tracing.request(SAMPLED, "GET"), tracing.span("a", n=1, f=0.5, s="x", b=True):
        pass
    with Collector() as collector:
        assert OtlpSender(collector.url, "").send(list(sent)) == 0
        assert collector.headers["x-token"] == "secret"
        assert collector.spans[0].attributes == {"n": 1, "f": 0.5, "s": "x", "b": True}


def test_missing_packages_stop_the_start_with_the_line_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "app.tracing.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.util.re", None)
    with pytest.raises(SettingsError, match=r"pip install 'moorage\[otel\]'"):
        tracing.require("http://127.0.0.1:1")
    tracing.require("")
