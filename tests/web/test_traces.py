"""Traces of requests through a real socket: ids in errors and logs, and spans of hits."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fakes.collector import Collector
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.web.conftest import Log, Put, StartSite
from tests.web.harbour import add_tenant, harbour
from tests.web.wire import Site

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
PATH = "/goproxy/acme/example.com/x/@v"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
async def site(tmp_path: Path, collector: Collector) -> AsyncIterator[Site]:
    with FakeGoproxy([module("example.com/x", "v1.0.0")]) as fake:
        async with harbour(tmp_path, otel={"endpoint": collector.url, "sample": 0}) as running:
            await add_tenant(running.services, "acme", fake)
            yield running


async def test_a_hit_is_a_span_if_its_client_samples_and_else_costs_none(
    site: Site, collector: Collector
) -> None:
    for headers in ({}, {}, SAMPLED):
        assert (await site.ask(f"{PATH}/v1.0.0.info", headers=headers)).status == 200
    await site.application.stop()
    (hit,) = collector.spans
    assert (hit.name, hit.trace, hit.parent) == ("hit", TRACE, "00f067aa0ba902b7")
    assert hit.attributes["url.path"] == f"{PATH}/v1.0.0.info"


@pytest.mark.parametrize("headers", [{}, SAMPLED])
async def test_an_error_line_ends_in_the_trace_that_the_log_names(
    site: Site, log: Log, headers: dict[str, str]
) -> None:
    got = await site.ask(f"{PATH}/v9.9.9.info", headers=headers)
    assert got.status == 404
    trace = got.text.rstrip().removesuffix(")").rpartition("trace ")[2]
    assert trace == TRACE if headers else len(trace) == 32
    assert int(got.header("content-length") or 0) == len(got.body)
    site.application.surfaces.goproxy.decisions.flush()
    assert {line["trace"] for line in log.events("decision")} == {trace}


async def test_a_collector_that_is_gone_breaks_no_request(site: Site, collector: Collector) -> None:
    collector.status = 400
    for _ in range(3):
        assert (await site.ask(f"{PATH}/list", headers=SAMPLED)).status == 200


async def test_the_first_request_for_an_archive_has_its_whole_ingestion_in_its_trace(
    start_site: StartSite, put: Put, collector: Collector
) -> None:
    name, _ = put("go1.99.2")
    mirror = await start_site(otel={"endpoint": collector.url, "sample": 0})
    await mirror.services.releases.reader.refresh()
    assert (await mirror.ask(f"/dl/{name}", headers=SAMPLED)).status == 200
    await mirror.application.stop()
    spans = collector.spans
    assert {one.trace for one in spans} == {TRACE}
    names = {"GET /dl", "single flight", "upstream", "verify", "gpg", "commit", "db write"}
    assert names <= {one.name for one in spans}
    by_id = {one.span: one.name for one in spans}
    assert by_id[next(one.parent for one in spans if one.name == "gpg")] == "verify"
