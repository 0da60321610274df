"""Answers that change: how long they are good, what happens when upstream fails, who asks."""

import asyncio
from pathlib import Path

import anyio
import pytest

from app.core.errors import (
    GoneError,
    MoorageError,
    OverloadedError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
    UpstreamUnavailableError,
)
from app.core.principal import OPERATOR
from app.db.generation import current_generation
from app.services.modules.answers import MAX_ABSENT_S, Absences, Query
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import info_of, module
from tests.services.bench import Stopwatch, audited
from tests.services.modules.bench import INFO, LATEST, LIST, Bench, process

NAME = "example.com/x"
LIST_PATH = f"/{NAME}/@v/list"
V1, V2 = module(NAME, "v1.0.0"), module(NAME, "v1.1.0")
TTL_S = 300

QUESTIONS = [
    (LIST, "", "@v/list", b"v1.0.0\n"),
    (LATEST, "", "@latest", V1.info),
    (INFO, "master", "@v/master.info", info_of("v1.0.0")),
]
each_question = pytest.mark.parametrize(
    ("kind", "query", "tail", "body"), QUESTIONS, ids=["list", "latest", "query"]
)


@pytest.fixture
async def one(bench: Bench, fake: FakeGoproxy) -> Bench:
    fake.put(V1)
    fake.put_query(NAME, "master", info_of("v1.0.0"))
    await bench.tenant("acme", fake)
    return bench


async def refreshed(bench: Bench) -> None:
    """Wait for what runs in the background."""
    await asyncio.gather(*bench.answers._refreshing)


@each_question
async def test_within_its_ttl_an_answer_is_asked_for_once(
    one: Bench, fake: FakeGoproxy, kind: str, query: str, tail: str, body: bytes
) -> None:
    answer = await one.ask(kind, NAME, query)
    assert (answer.body, answer.fresh_s, answer.stale_s) == (body, TTL_S, 0)
    one.clock.advance(seconds=TTL_S - 1)
    assert (await one.ask(kind, NAME, query)).fresh_s == 1
    assert fake.hits[f"/{NAME}/{tail}"] == 1


@each_question
async def test_past_its_ttl_it_is_given_once_more_while_upstream_is_asked(
    one: Bench, fake: FakeGoproxy, kind: str, query: str, tail: str, body: bytes
) -> None:
    await one.ask(kind, NAME, query)
    fake.fault(f"/{NAME}/{tail}", Fault.delay_headers_until_released())
    one.clock.advance(seconds=TTL_S)
    answers = await asyncio.gather(*(one.ask(kind, NAME, query) for _ in range(20)))
    assert {(f.body, f.fresh_s, f.stale_s) for f in answers} == {(body, 0.0, 0)}
    await anyio.to_thread.run_sync(lambda: fake.wait_until(lambda: fake.stalled == 1))
    fake.release()
    await refreshed(one)
    assert fake.hits[f"/{NAME}/{tail}"] == 2
    assert (await one.ask(kind, NAME, query)).fresh_s == TTL_S


async def test_the_background_brings_the_new_versions_in(one: Bench, fake: FakeGoproxy) -> None:
    await one.ask(LIST, NAME)
    fake.put(V2)
    one.clock.advance(seconds=TTL_S)
    assert (await one.ask(LIST, NAME)).body == b"v1.0.0\n"
    await refreshed(one)
    assert (await one.ask(LIST, NAME)).body == b"v1.0.0\nv1.1.0\n"


async def test_twice_past_its_ttl_it_is_asked_for_first(one: Bench, fake: FakeGoproxy) -> None:
    await one.ask(LIST, NAME)
    fake.put(V2)
    one.clock.advance(seconds=2 * TTL_S)
    assert (await one.ask(LIST, NAME)).body == b"v1.0.0\nv1.1.0\n"


async def test_a_routes_own_ttl_counts(bench: Bench, fake: FakeGoproxy) -> None:
    fake.put(V1)
    await bench.tenant("acme", fake, ttl_s=10)
    assert (await bench.ask(LIST, NAME)).fresh_s == 10
    bench.clock.advance(seconds=20)
    await bench.ask(LIST, NAME)
    assert fake.hits[LIST_PATH] == 2


FAILURES = [
    Fault.status(500),
    Fault.status(503),
    Fault.status(429, headers={"Retry-After": "3600"}),
    Fault.status(401),
    Fault.status(403),
    Fault.html_200(),
    Fault.reset_at_once(),
    Fault.truncate(after=2),
]


@pytest.mark.parametrize("fault", FAILURES, ids=lambda f: f.kind)
async def test_if_upstream_fails_the_old_answer_is_given_with_its_age(
    one: Bench, fake: FakeGoproxy, fault: Fault
) -> None:
    await one.ask(LIST, NAME)
    fake.fault(LIST_PATH, fault, times=None)
    one.clock.advance(days=30)
    answer = await one.ask(LIST, NAME)
    assert (answer.body, answer.fresh_s, answer.stale_s) == (b"v1.0.0\n", 0.0, 30 * 86400)
    fake.clear_faults()
    assert (await one.ask(LIST, NAME)).stale_s == 0


@each_question
async def test_every_answer_outlives_its_upstream(
    one: Bench, fake: FakeGoproxy, kind: str, query: str, tail: str, body: bytes
) -> None:
    await one.ask(kind, NAME, query)
    fake.stop()
    one.clock.advance(days=1)
    answer = await one.ask(kind, NAME, query)
    assert (answer.body, answer.stale_s) == (body, 86400)


async def test_a_refresh_that_fails_in_the_background_breaks_nothing(
    one: Bench, fake: FakeGoproxy
) -> None:
    await one.ask(LIST, NAME)
    fake.stop()
    one.clock.advance(seconds=TTL_S)
    assert (await one.ask(LIST, NAME)).body == b"v1.0.0\n"
    await refreshed(one)


@pytest.mark.parametrize("fault", FAILURES, ids=lambda f: f.kind)
async def test_F46_F48_F50_without_an_old_answer_the_failure_is_told(
    one: Bench, fake: FakeGoproxy, fault: Fault
) -> None:
    fake.fault(LIST_PATH, fault, times=None)
    with pytest.raises(UpstreamError) as caught:
        await one.ask(LIST, NAME)
    assert "127.0.0.1" not in str(caught.value)
    assert await one.count("module_answers") == 0


@each_question
async def test_F46_a_web_page_is_no_answer_and_is_not_kept(
    one: Bench, fake: FakeGoproxy, kind: str, query: str, tail: str, body: bytes
) -> None:
    fake.fault(f"/{NAME}/{tail}", Fault.html_200())
    with pytest.raises(UpstreamContentError):
        await one.ask(kind, NAME, query)
    assert (await one.ask(kind, NAME, query)).body == body


@pytest.mark.parametrize(("status", "error"), [(404, UnknownError), (410, GoneError)])
async def test_F47_an_absence_is_remembered_for_a_minute_at_most(
    bench: Bench, fake: FakeGoproxy, status: int, error: type[MoorageError]
) -> None:
    fake.not_found_status = status
    await bench.tenant("acme", fake, ttl_s=100_000)
    for _ in range(5):
        with pytest.raises(UnknownError) as caught:
            await bench.ask(LIST, NAME)
        assert type(caught.value) is error
    assert fake.hits[LIST_PATH] == 1
    fake.put(V1)
    bench.seconds.seconds += 59
    with pytest.raises(error):
        await bench.ask(LIST, NAME)
    bench.seconds.seconds += 2
    assert (await bench.ask(LIST, NAME)).body == b"v1.0.0\n"
    assert await bench.count("module_answers") == 1


def test_F47_no_setting_remembers_an_absence_for_longer() -> None:
    clock = Stopwatch()
    absences = Absences(clock, seconds=86400)
    absences.remember((1, NAME, "list"), UpstreamAbsentError("gone", origin="", status=404))
    clock.seconds += MAX_ABSENT_S + 1
    absences.check((1, NAME, "list"), NAME)


async def test_what_upstream_has_no_more_is_absent_and_forgotten(
    one: Bench, fake: FakeGoproxy
) -> None:
    await one.ask(LIST, NAME)
    fake.set_list(NAME, None)
    one.clock.advance(days=1)
    with pytest.raises(UnknownError):
        await one.ask(LIST, NAME)
    assert await one.count("module_answers") == 0


async def test_F38_many_questions_at_once_are_one(one: Bench, fake: FakeGoproxy) -> None:
    fake.latency_s = 0.05
    answers = await asyncio.gather(*(one.ask(LIST, NAME) for _ in range(200)))
    assert {f.body for f in answers} == {b"v1.0.0\n"}
    assert fake.hits[LIST_PATH] == 1


async def test_F37_the_first_asker_who_goes_away_cancels_nothing(
    one: Bench, fake: FakeGoproxy
) -> None:
    fake.fault(LIST_PATH, Fault.delay_headers_until_released())
    first = asyncio.ensure_future(one.ask(LIST, NAME))
    await anyio.to_thread.run_sync(lambda: fake.wait_until(lambda: fake.stalled == 1))
    others = [asyncio.ensure_future(one.ask(LIST, NAME)) for _ in range(3)]
    while sum(one.answers._queue._waiters.values()) < 4:
        await asyncio.sleep(0)
    first.cancel()
    fake.release()
    assert {f.body for f in await asyncio.gather(*others)} == {b"v1.0.0\n"}
    assert fake.hits[LIST_PATH] == 1


async def test_two_processes_ask_one_question_once(tmp_path: Path, fake: FakeGoproxy) -> None:
    fake.put(V1)
    fake.latency_s = 0.1
    async with process(tmp_path) as one, process(tmp_path, owner="two/2/2") as two:
        await one.tenant("acme", fake)
        answers = await asyncio.gather(*(b.ask(LIST, NAME) for b in (one, two) for _ in range(25)))
        assert {f.body for f in answers} == {b"v1.0.0\n"}
        assert fake.hits[LIST_PATH] == 1


async def test_a_forced_refresh_asks_upstream_and_drops_what_is_prepared(
    one: Bench, fake: FakeGoproxy
) -> None:
    await one.ask(LIST, NAME)
    with pytest.raises(UnknownError):
        await one.ask(INFO, NAME, "v1.1.0")
    fake.put(V2)
    before = await one.services.shared.db.read(current_generation)
    await one.refresh.forget("acme", NAME, OPERATOR)
    assert (await one.ask(LIST, NAME)).body == b"v1.0.0\nv1.1.0\n"
    assert (await one.ask(INFO, NAME, "v1.1.0")).body == V2.info
    assert await one.services.shared.db.read(current_generation) > before
    [row] = await audited(one.services, "module.refresh")
    assert row.object == f"module:acme/{NAME}"


async def test_a_forced_refresh_while_upstream_is_down_loses_nothing(
    one: Bench, fake: FakeGoproxy
) -> None:
    await one.ask(LIST, NAME)
    fake.stop()
    await one.refresh.forget("acme", NAME, OPERATOR)
    answer = await one.ask(LIST, NAME)
    assert (answer.body, answer.fresh_s) == (b"v1.0.0\n", 0.0)
    assert answer.stale_s >= 2 * TTL_S


async def test_a_server_that_shuts_down_asks_nothing_new_and_gives_what_it_has(
    one: Bench, fake: FakeGoproxy
) -> None:
    await one.ask(LIST, NAME)
    one.answers.begin_drain()
    one.clock.advance(days=1)
    assert (await one.ask(LIST, NAME)).stale_s == 86400
    with pytest.raises(OverloadedError):
        await one.ask(LATEST, NAME)
    assert fake.hits == {LIST_PATH: 1}


async def test_F50_a_failure_that_passes_is_not_noticed(one: Bench, fake: FakeGoproxy) -> None:
    fake.fault(LIST_PATH, Fault.status(500), times=3)
    assert (await one.ask(LIST, NAME)).body == b"v1.0.0\n"


WAITS = [("2", None), ("3600", 3600), ("Wed, 25 Nov 2099 00:00:00 GMT", 1), ("soon", 1), ("", 1)]


@pytest.mark.parametrize(("value", "least"), WAITS)
async def test_F49_a_long_wait_is_passed_on_and_a_short_one_waited(
    one: Bench, fake: FakeGoproxy, value: str, least: int | None
) -> None:
    fake.fault(
        LIST_PATH, Fault.status(429, headers={"Retry-After": value}), times=None if least else 1
    )
    if least is None:
        assert (await one.ask(LIST, NAME)).body == b"v1.0.0\n"
        return
    with pytest.raises(UpstreamUnavailableError) as caught:
        await one.ask(LIST, NAME)
    assert caught.value.retry_after_s >= least


@pytest.mark.parametrize("is_down", [False, True], ids=["upstream answers", "upstream is down"])
async def test_an_answer_of_a_clock_that_was_ahead_is_asked_for_anew(
    one: Bench, fake: FakeGoproxy, is_down: bool
) -> None:
    one.clock.advance(days=1)
    await one.ask(LIST, NAME)
    one.clock.advance(days=-1)
    fake.put(V2)
    if is_down:
        fake.stop()
    listed = await one.ask(LIST, NAME)
    versions = b"v1.0.0\n" if is_down else b"v1.0.0\nv1.1.0\n"
    assert (listed.body, bool(listed.stale_s)) == (versions, is_down)
    assert listed.fresh_s == (0.0 if is_down else TTL_S)


@pytest.mark.parametrize("query", [LIST, "=master"])
async def test_what_another_process_recorded_as_absent_is_absent_and_no_empty_answer(
    one: Bench, fake: FakeGoproxy, query: str
) -> None:
    """A process that waits for its turn meets the absence that a faster one has recorded."""
    caller = await one.asking()
    route = caller.of_tenant.routes[0]
    upstream = route.upstreams[0]
    source = one.upstreams.open(route, upstream, caller.policy, caller.of_tenant.tenant)
    question = Query(upstream.origin_id, "example.com/elsewhere", query)
    await one.answers.record_absence(question, 404)
    with pytest.raises(UpstreamAbsentError):
        await one.answers._ask_in_turn(question, None, source)
    assert not fake.asked_for("elsewhere")


async def test_too_much_to_do_here_is_no_absence(one: Bench, fake: FakeGoproxy) -> None:
    caller = await one.asking()
    route = caller.of_tenant.routes[0]
    upstream = route.upstreams[0]
    source = one.upstreams.open(route, upstream, caller.policy, caller.of_tenant.tenant)
    question = Query(upstream.origin_id, "example.com/elsewhere", LIST)
    await one.answers.record_absence(question, 404)
    one.clock.advance(days=1)
    one.answers.begin_drain()
    with pytest.raises(OverloadedError):
        await one.answers.get(question, route, source)
