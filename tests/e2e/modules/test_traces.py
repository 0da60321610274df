"""One command of the real go is one trace, through proxy, upstream and database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import Served, serving
from tests.e2e.warm import Warm
from tests.fakes.collector import Collector, ReceivedSpan
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.fakes.tls import TlsFront

MODULE = "example.com/traced"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
JOB = f"00-{TRACE}-00f067aa0ba902b7-01"
NEEDED = {
    "GET /goproxy", "authorize", "single flight", "upstream", "verify", "db read", "db write",
}  # fmt: skip


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def traced(warm: Warm, tmp_path: Path, collector: Collector) -> Iterator[Served]:
    """A server that samples nothing by itself."""
    with (
        FakeGoproxy([module(MODULE, "v1.0.0", {"big.txt": "x" * 200_000})]) as fake,
        serving(warm, tmp_path, fake, otel__endpoint=collector.url, otel__sample=0) as served,
    ):
        yield served


def test_one_go_mod_download_is_one_connected_trace_through_proxy_upstream_and_database(
    traced: Served, collector: Collector, make_go: MakeGo, tmp_path: Path
) -> None:
    with TlsFront(traced.server.port) as tls:
        script = tmp_path / "traceparent"
        script.write_text(f"#!/bin/sh\nprintf '%s\\n\\ntraceparent: {JOB}\\n\\n' {tls.url}\n")
        script.chmod(0o755)
        go = make_go(f"{tls.url}/goproxy/default", SSL_CERT_FILE=tls.ca_file, GOAUTH=str(script))
        assert go.run("mod", "download", f"{MODULE}@v1.0.0").code == 0
        refused = go.run("mod", "download", f"{MODULE}@v9.9.9")
    asked: list[list[str]] = []

    def is_whole(seen: list[ReceivedSpan]) -> bool:
        """Whether what ran on behind the answers (a fetch ahead, say) has told its spans, too."""
        asked[:] = [str(one.headers["traceparent"]).split("-") for one in traced.fake.requests]
        ids = {one.span for one in seen}
        is_connected = {one.parent for one in seen} <= ids | {"00f067aa0ba902b7"}
        is_told = {span for _, _, span, _ in asked} <= ids
        return is_connected and is_told and _names(seen) >= {*NEEDED, "commit"}

    spans = collector.wait_for(is_whole)
    assert {one.trace for one in spans} == {TRACE}
    known = {one.span for one in spans} | {"00f067aa0ba902b7"}
    assert {one.parent for one in spans} <= known  # connected: every parent is there
    roots = [one for one in spans if one.parent == "00f067aa0ba902b7"]
    assert {one.name for one in roots} == {"GET /goproxy"}
    zips = [one for one in roots if str(one.attributes["url.path"]).endswith(".zip")]
    assert _names(_below(zips[0], spans)) >= NEEDED
    # The upstream gets the id of its span of the same trace.
    asking = {one.span for one in spans if one.name == "upstream"}
    assert {trace for _, trace, _, _ in asked} == {TRACE}
    assert {span for _, _, span, _ in asked} <= asking
    # What go shows and what the log says lead to the same trace.
    assert refused.code != 0
    assert f"(trace {TRACE})" in refused.err
    lines = traced.asked(MODULE)
    assert {line["trace"] for line in lines} == {TRACE}
    assert spans[0].resource["service.name"] == "moorage"


def _names(spans: list[ReceivedSpan]) -> set[str]:
    return {one.name for one in spans}


def _below(root: ReceivedSpan, spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    """Return a span and all that are below it."""
    below = [root]
    for one in below:
        below += [child for child in spans if child.parent == one.span]
    return below
