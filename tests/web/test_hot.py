"""Prepared answers: right for as long as nothing changed, gone within the polling time after."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from app.core.digest import Digest
from app.core.errors import DatabaseBusyError
from app.core.releasefile import FileState
from app.db.engine import Session
from app.db.generation import bump_generation
from app.db.releases import IngestionOutcome, ReleaseTable
from app.services.assembly import Services
from app.services.generation import POLL_S
from app.web.hotcache import HotCache
from app.web.responses import LISTING, TEXT, Answer, body_answer
from tests.fakes.godev import FakeGodev
from tests.installation import running
from tests.web.conftest import Put, StartSite
from tests.web.wire import Site, request, until

pytestmark = pytest.mark.on_disk

ALL = "/dl/?mode=json&include=all"
EXTRAS = ("", ".sha256", ".sha256sum", ".asc", ".tree", ".chunks")


@pytest.fixture
async def start_other() -> AsyncIterator[object]:
    """Return a function that starts the services of another process on the same data."""

    async with AsyncExitStack() as stack:

        async def start(site: Site) -> Services:
            return await stack.enter_async_context(running(site.services.shared.settings))

        yield start


def test_an_answer_is_valid_until_a_change_concerns_it() -> None:
    changed = {b"x": 1, b"y": 1}
    cache = HotCache[Answer](lambda a: len(a.body), lambda a: changed[a.body])
    answers = {body: body_answer(body, TEXT, LISTING) for body in changed}
    assert cache.get(b"x") is None
    for body, answer in answers.items():
        cache.put(body, 1, answer)
    changed[b"x"] = 2
    assert (cache.get(b"x"), cache.get(b"y")) == (None, answers[b"y"])
    assert len(cache._answers) == 1  # what is not valid is not kept
    cache.put(b"x", 2, answers[b"x"])
    assert cache.get(b"x") is answers[b"x"]


def test_an_answer_that_was_prepared_before_a_change_is_not_kept() -> None:
    cache = HotCache[Answer](lambda a: len(a.body), lambda _: 2)
    cache.put(b"/dl/", 1, body_answer(b"x", TEXT, LISTING))
    assert cache.get(b"/dl/") is None


async def test_what_another_process_changes_is_seen_within_the_polling_time(
    start_site: StartSite, start_other, put: Put
) -> None:
    name, data = put()
    site = await start_site(releases={"select": {"on_demand": False}})
    other = await start_other(site)
    await other.releases.reader.refresh()

    async def listed() -> bool:
        return name in (await site.ask(ALL)).text

    assert json.loads((await site.ask(ALL)).body) == []
    assert (await site.ask(f"/dl/{name}")).status in (403, 404)
    await other.releases.ingestion.ensure(name, forced=True)
    await until(listed)
    assert (await site.ask(f"/dl/{name}")).body == data
    assert POLL_S <= 1  # a revoked token must stop working within a second


async def test_a_file_that_another_process_quarantines_is_gone_from_every_answer(
    start_site: StartSite, start_other, put: Put
) -> None:
    name, data = put()
    site = await start_site(releases={"retry_failed_s": 3600})
    targets = [f"/dl/{name}", f"/go/{name}", f"/dl/{name}.sha256", f"/dl/{Digest.of(data)}"]
    for target in targets:
        assert (await site.ask(target)).status == 200
    other = await start_other(site)
    outcome = IngestionOutcome(FileState.QUARANTINED, "withdrawn by hand", other.shared.now())

    def work(session: Session) -> None:
        ReleaseTable(session).settle(name, outcome)
        bump_generation(session)

    await other.shared.db.write(work)

    async def unlisted() -> bool:
        return name not in (await site.ask(ALL)).text

    await until(unlisted)
    assert name not in (await site.ask("/dl/SHA256SUMS")).text
    assert "withdrawn by hand" in (await site.ask("/dl/")).text


async def out_of_reach(*_: object) -> None:
    raise DatabaseBusyError("the database is out of reach")


async def test_a_hit_asks_no_database(
    start_site: StartSite, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cached content is served though the database is gone (invariant 8)."""
    name, data = put(extra_bytes=300_000)
    site = await start_site()
    targets = [f"/dl/{name}{extra}" for extra in EXTRAS]
    targets += ["/dl/", ALL, "/dl/?mode=json", "/dl/SHA256SUMS", f"/go/{Digest.of(data)}"]
    for target in targets:
        await site.ask(target)
    await site.services.shared.watch.poll()
    before = [await site.ask(target) for target in targets]
    assert before[0].body == data
    monkeypatch.setattr(site.services.shared.db, "_run", out_of_reach)
    for target, right in zip(targets, before, strict=True):
        for method in ("GET", "HEAD"):
            got = await site.ask(target, method)
            assert (got.status, got.lasting) == (200, right.lasting)
            assert method == "HEAD" or got.body == right.body
        part = await site.ask(target, headers={"Range": "bytes=0-4"})
        assert part.body in (right.body, right.body[:5])
        tag = {"If-None-Match": right.header("etag") or ""}
        assert (await site.ask(target, headers=tag)).status == 304
    assert (await site.ask("/healthz")).status == 200


async def test_a_hit_and_a_miss_are_counted_apart(start_site: StartSite, put: Put) -> None:
    name, _ = put()
    site = await start_site()
    target = f"/dl/{name}.sha256"
    await site.ask(target)
    await site.services.shared.watch.poll()
    await site.ask(target)
    await site.ask(target)

    async def count(result: str) -> float:
        lines = (await site.ask("/metrics")).text.splitlines()
        samples = [
            x for x in lines if x.startswith(f'moorage_hot_cache_total{{result="{result}"}}')
        ]
        return float(samples[0].split()[-1])

    hits, misses = await count("hit"), await count("miss")
    for _ in range(10):
        await site.ask(target)
    assert (await count("hit"), await count("miss")) == (hits + 10, misses)
    await site.ask("/dl/nothing")
    assert (await count("hit"), await count("miss")) == (hits + 10, misses + 1)


async def test_a_prepared_answer_is_the_same_as_the_one_that_was_not(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, _ = put()
    site = await start_site()
    for target in (f"/dl/{name}.sha256", f"/dl/{name}.asc", "/dl/SHA256SUMS", "/dl/", ALL):
        await site.ask(target)
        await site.services.shared.watch.poll()
        await site.ask(target)
        async with site.calling() as caller:
            await caller.send(request(target))
            instant = await caller.response()
            # Any condition, or the wish to close, takes the ordinary way.
            await caller.send(request(target, headers={"If-None-Match": '"x"'}))
            ordinary = await caller.response()
            await caller.send(request(target, headers={"Connection": "close"}))
            closing = await caller.response()
        assert instant.status == ordinary.status == closing.status == 200
        assert instant.body == ordinary.body == closing.body
        assert instant.lasting == ordinary.lasting
        assert instant.header("date")
        assert instant.header("x-request-id") is None
        assert closing.header("connection") == "close"


async def test_pipelined_requests_are_all_answered_however_slowly_they_are_read(
    start_site: StartSite, put: Put
) -> None:
    put()
    site = await start_site()
    await site.ask(ALL)
    await site.services.shared.watch.poll()
    right = await site.ask(ALL)
    count = 3000
    async with site.calling(socket_bytes=4096) as caller:
        await caller.send(request(ALL) * count)
        for _ in range(count):
            assert (await caller.response()).body == right.body
