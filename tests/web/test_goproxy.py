"""The GOPROXY front through a real socket: what goes out, how long it is good, and when it ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

from app.core.digest import Digest
from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.upstream.goproxy import path_of
from app.web import goproxy as web_goproxy
from app.web.goproxycontents import IN_MEMORY_BYTES
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import info_of, module
from tests.nouns import a_tenant, an_owner, an_upstream
from tests.services.bench import WallClock, blob_path, flipped, spoil
from tests.web.harbour import (
    add_route,
    add_rule,
    add_tenant,
    add_token,
    assert_one_line,
    bearer,
    cooled,
    harbour,
    proxy_settings,
    replace_tenant,
    settled,
    streams_of,
)
from tests.web.wire import Got, Site, request, serving, until

NAME = "example.com/x"
X = module(NAME, "v1.0.0")
BIG = module("example.com/big", "v1.0.0", padding_bytes=IN_MEMORY_BYTES + 500_000)
BASE = "/goproxy/acme/example.com/x"
V1 = f"{BASE}/@v/v1.0.0"


@dataclass(frozen=True)
class Front:
    site: Site
    fake: FakeGoproxy

    async def ask(self, tail: str, method: str = "GET", **headers: str) -> Got:
        sent_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.site.ask(f"{BASE}/{tail}", method, sent_headers)


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    with FakeGoproxy([X, BIG]) as fake:
        fake.put_query(NAME, "master", info_of("v1.0.0"))
        async with harbour(tmp_path) as site:
            await add_tenant(site.services, "acme", fake)
            yield Front(site, fake)


FILES = [
    ("@v/list", b"v1.0.0\n", "text/plain; charset=utf-8"),
    ("@latest", X.info, "application/json"),
    ("@v/master.info", info_of("v1.0.0"), "application/json"),
    ("@v/v1.0.0.info", X.info, "application/json"),
    ("@v/v1.0.0.mod", X.mod, "text/plain; charset=utf-8"),
    ("@v/v1.0.0.zip", X.zip, "application/zip"),
]


async def test_a_file_is_the_same_cold_and_prepared(front: Front) -> None:
    for tail, body, kind in FILES:
        cold, prepared = await front.ask(tail), await front.ask(tail)
        for got in (cold, prepared):
            assert (got.status, got.body, got.header("content-type")) == (200, body, kind)
            assert got.header("x-content-type-options") == "nosniff"
        assert cold.header("etag") == prepared.header("etag")
        head = await front.ask(tail, "HEAD")
        assert (head.status, head.lasting) == (200, prepared.lasting)
    assert set(front.fake.hits.values()) == {1}


async def test_what_never_changes_may_be_kept_for_an_hour_and_what_does_for_a_minute(
    front: Front,
) -> None:
    for tail in ("@v/v1.0.0.info", "@v/v1.0.0.mod", "@v/v1.0.0.zip"):
        assert (await front.ask(tail)).header("cache-control") == "public, max-age=3600"
    for tail in ("@v/list", "@latest", "@v/master.info"):
        assert (await front.ask(tail)).header("cache-control") == "public, max-age=60"
    assert (await front.ask("@v/v9.0.0.info")).header("cache-control") == "no-store"


async def test_a_cache_in_front_that_asks_again_hears_of_a_denial(tmp_path: Path) -> None:
    with FakeGoproxy([module("example.com/x", "v1.0.0")]) as fake:
        async with harbour(tmp_path, modules={"max_age_s": 7}) as site:
            await add_tenant(site.services, "open", fake)
            url = "/goproxy/open/example.com/x/@v/v1.0.0.mod"
            first = await site.ask(url)
            assert first.header("cache-control") == "public, max-age=7"
            again = {"If-None-Match": first.header("etag") or ""}
            assert (await site.ask(url, headers=again)).status == 304
            await add_rule(site.services, "open", Effect.DENY, "example.com/x")
            denied = await site.ask(url, headers=again)
            assert (denied.status, denied.header("cache-control")) == (403, "no-store")


async def test_what_needs_a_token_is_for_no_shared_cache(front: Front) -> None:
    services = front.site.services
    await add_tenant(services, "shut", front.fake, open_to_all=False)
    _, secret = await add_token(services, "shut")
    for tail, _, _ in FILES:
        got = await front.site.ask(f"/goproxy/shut/{NAME}/{tail}", headers=bearer(secret))
        assert got.status == 200
        control = got.header("cache-control")
        assert control is not None
        assert control.startswith("private, ")
        assert got.header("vary") == "Authorization"


RANGES = [
    ("bytes=5-", 206),
    ("bytes=0-0", 206),
    ("bytes=-7", 206),
    ("bytes=0-0,-1", 200),
    ("bytes=5-2", 200),
    ("bytes=x-", 200),
    ("lines=0-1", 200),
    ("bytes=999999999-", 416),
    ("bytes=" + "0-0," * 3000 + "1-1", 200),
    ("bytes=" + "9" * 3000 + "-", 200),
]


async def test_F34_one_range_is_honoured_and_no_more(front: Front) -> None:
    await front.ask("@v/v1.0.0.zip")
    for byte_range, status in RANGES:
        got = await front.ask("@v/v1.0.0.zip", Range=byte_range)
        assert got.status == status, byte_range[:40]
        if status == 206:
            assert got.body in X.zip
            assert len(got.body) < len(X.zip)
        assert (got.body == X.zip) is (status == 200)


async def test_F35_validators(front: Front) -> None:
    first = await front.ask("@v/v1.0.0.zip")
    tag = first.header("etag")
    assert tag == f'"{Digest.of(X.zip).hex}"'
    for tags, status in ((tag, 304), (f'"a", {tag}', 304), ("*", 304), ('"wrong"', 200)):
        got = await front.ask("@v/v1.0.0.zip", If_None_Match=tags)
        assert (got.status, got.body) == (status, b"" if status == 304 else X.zip)
    partial = await front.ask("@v/v1.0.0.zip", Range="bytes=5-", If_Range='"wrong"')
    assert (partial.status, partial.body) == (200, X.zip)
    partial = await front.ask("@v/v1.0.0.zip", Range="bytes=5-", If_Range=tag)
    assert (partial.status, partial.body) == (206, X.zip[5:])
    for tail in ("@v/list", "@v/v1.0.0.mod"):
        tag = (await front.ask(tail)).header("etag")
        assert tag is not None
        assert (await front.ask(tail, If_None_Match=tag)).status == 304


async def test_a_large_zip_is_streamed_whole_and_in_parts(front: Front) -> None:
    target = "/goproxy/acme/example.com/big/@v/v1.0.0.zip"
    for _ in range(2):
        assert (await front.site.ask(target)).body == BIG.zip
    middle = await front.site.ask(target, headers={"Range": "bytes=1000000-1200000"})
    assert (middle.status, middle.body) == (206, BIG.zip[1_000_000:1_200_001])
    head = await front.site.ask(target, "HEAD")
    assert head.header("content-length") == str(len(BIG.zip))


async def test_a_stale_list_says_how_old_it_is(front: Front) -> None:
    services = front.site.services
    await front.ask("@v/list")
    await services.shared.db.write(
        lambda s: s.connection().exec_driver_sql(
            "update module_answers set fetched_at = '2026-01-01 00:00:00.000000'"
        )
    )
    front.fake.stop()
    await cooled(services)
    for _ in range(2):
        got = await front.ask("@v/list")
        assert (got.status, got.body) == (200, b"v1.0.0\n")
        age = got.header("age")
        assert age is not None
        assert int(age) > 86400
        assert got.header("warning") == '111 moorage "Revalidation Failed"'
        assert got.header("cache-control") == "public, max-age=0"
    front.fake.start()


async def test_everything_cached_is_served_while_every_upstream_is_down(front: Front) -> None:
    before = {tail: (await front.ask(tail)).body for tail, _, _ in FILES}
    front.fake.stop()
    await cooled(front.site.services)
    for tail, body in before.items():
        got = await front.ask(tail)
        assert (got.status, got.body) == (200, body)
    unknown = await front.ask("@v/v1.5.0.zip")
    assert_one_line(unknown, 503)
    front.fake.start()


STATUSES = [
    ("F47", Fault.status(404), 404),
    ("F47", Fault.status(410), 410),
    ("F48", Fault.status(401, b"go away"), 502),
    ("F48", Fault.status(403), 502),
    ("F49", Fault.status(429, headers={"Retry-After": "3600"}), 503),
    ("F50", Fault.status(500), 503),
    ("F50", Fault.status(503), 503),
    ("F46", Fault.html_200(), 502),
    ("F44", Fault.reset_at_once(), 503),
    ("F40", Fault.truncate(after=3), 502),
    ("F52", Fault.redirect_loop(), 502),
    ("F53", Fault.redirect("http://169.254.169.254/latest/meta-data"), 502),
    ("F58", Fault.partial_206(), 502),
    ("F60", Fault.huge_header(), 502),
]


@pytest.mark.parametrize(
    ("number", "fault", "status"), STATUSES, ids=[f"{n}-{f.kind}-{s}" for n, f, s in STATUSES]
)
async def test_upstreams_trouble_has_its_status_and_one_line(
    front: Front, number: str, fault: Fault, status: int
) -> None:
    for tail in ("@v/list", "@v/v1.0.0.mod", "@v/v1.0.0.zip"):
        front.fake.fault(f"/{NAME}/{tail}", fault, times=None)
        got = await front.ask(tail)
        assert_one_line(got, status)
        assert "go away" not in got.text
        assert "127.0.0.1" not in got.text
        assert "route" in got.text
        if number == "F49":
            assert int(got.header("retry-after") or 0) >= 3500


async def test_a_public_upstream_s_reason_is_the_whole_answer(front: Front) -> None:
    for status, answered in ((404, 404), (410, 410), (403, 502)):
        fault = Fault.status(status, b"not found: why\r\n\tat 10.0.0.7\x07\n")
        front.fake.fault(f"/{NAME}{status}/@v/list", fault, times=None)
        for _ in ("first", "remembered"):
            got = await front.site.ask(f"/goproxy/acme/{NAME}{status}/@v/list")
            assert (got.status, got.body) == (answered, b"not found: why\n\tat (hidden)\n")


async def test_F73_F74_content_that_is_refused_is_502_and_is_not_kept(front: Front) -> None:
    wrong = X.mod + b"\nrequire a.b/c v1.0.0\n"
    front.fake.put_raw(f"/{NAME}/@v/v1.0.0.mod", b"", 404)
    assert (await front.ask("@v/v1.0.0.zip")).status == 200
    front.fake.put_raw(f"/{NAME}/@v/v1.0.0.mod", wrong)
    refused = await front.ask("@v/v1.0.0.mod")
    assert_one_line(refused, 502)
    assert "is not the go.mod in" in refused.text
    assert "first value" not in refused.text  # two files contradict each other, none changed
    front.fake.put_raw(f"/{NAME}/@v/v1.0.0.mod", X.mod)
    assert (await front.ask("@v/v1.0.0.mod")).body == X.mod


async def test_a_client_that_forbids_fetching_changes_nothing_for_the_next(front: Front) -> None:
    for tail, body, _ in FILES:
        refused = await front.ask(tail, Disable_Module_Fetch="true")
        assert_one_line(refused, 404)
        got = await front.ask(tail)
        assert (got.status, got.body) == (200, body), tail
        assert (await front.ask(tail, Disable_Module_Fetch="true")).body == body


async def test_a_404_that_go_repeats_costs_one_look(front: Front) -> None:
    for _ in range(4):
        assert_one_line(await front.ask("@v/v1.5.0.info"), 404)
    assert front.fake.hits == {f"/{NAME}/@v/v1.5.0.info": 1}


async def test_F36_a_client_that_vanishes_leaves_no_stream_and_the_fetch_goes_on(
    front: Front,
) -> None:
    path = f"/{path_of(NAME, 'zip', 'v1.0.0')}"  # type: ignore[arg-type]
    front.fake.fault(path, Fault.stall(after=10))
    async with front.site.calling() as gone, front.site.calling() as stays:
        for caller in (gone, stays):
            await caller.send(request(f"{V1}.zip"))
        await anyio.to_thread.run_sync(
            lambda: front.fake.wait_until(lambda: front.fake.stalled == 1)
        )
        gone.vanish()
        front.fake.release()
        assert (await stays.response()).body == X.zip
    assert front.fake.hits[path] == 1

    async def none_left() -> bool:
        return not streams_of(front.site, "acme")

    await until(none_left)


async def test_F36_a_vanished_reader_gives_its_stream_back(front: Front) -> None:
    target = "/goproxy/acme/example.com/big/@v/v1.0.0.zip"
    await front.site.ask(target, "HEAD")
    async with front.site.calling(socket_bytes=4096) as caller:
        await caller.send(request(target))
        await caller.head()

        async def one() -> bool:
            return streams_of(front.site, "acme") == 1

        await until(one)
        caller.vanish()

        async def none_left() -> bool:
            return not streams_of(front.site, "acme")

        await until(none_left)


async def test_F38_a_cold_herd_is_one_fetch(front: Front) -> None:
    front.fake.latency_s = 0.1
    got = await asyncio.gather(*(front.ask("@v/v1.0.0.zip") for _ in range(150)))
    assert {(one.status, one.body) for one in got} == {(200, X.zip)}
    assert set(front.fake.hits.values()) == {1}


LONG = module("example.com/long", "v1.0.0", go_mod=b"module example.com/long\n// " + b"x" * 99_999)
BLOBS = [
    ("example.com/x/@v/v1.0.0.zip", X.zip),
    ("example.com/big/@v/v1.0.0.zip", BIG.zip),
    ("example.com/long/@v/v1.0.0.mod", LONG.mod),
]


@pytest.mark.parametrize(("path", "data"), BLOBS, ids=["small", "streamed", "long go.mod"])
async def test_F90_a_damaged_blob_is_503_then_whole_again(
    front: Front, path: str, data: bytes
) -> None:
    front.fake.put(LONG)
    target = f"/goproxy/acme/{path}"
    assert (await front.site.ask(target)).body == data
    spoil(blob_path(front.site.services, Digest.of(data)), flipped(data))
    await cooled(front.site.services)
    got = await front.site.ask(target)
    if got.status != 200:
        assert_one_line(got, 503)

    async def healed() -> bool:
        again = await front.site.ask(target)
        assert again.status in (200, 503)
        assert again.status == 503 or again.body == data
        return again.status == 200

    await until(healed)
    assert front.fake.hits[f"/{path}"] == 2


@dataclass
class Clocks:
    """The wall clock and the monotonic one of a site, which only a test moves, both alike."""

    wall: WallClock
    seconds: float = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.wall.advance(seconds=seconds)
        self.seconds += seconds


@pytest.fixture
async def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks(WallClock())
    monkeypatch.setattr(web_goproxy, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.fixture
async def timed_front(tmp_path: Path, clocks: Clocks) -> AsyncIterator[Front]:
    """A front whose clocks are those of the test."""
    with FakeGoproxy([X, BIG]) as fake:
        async with harbour(tmp_path, now=clocks.wall) as site:
            await add_tenant(site.services, "acme", fake)
            yield Front(site, fake)


async def test_a_rule_that_expires_ends_prepared_answers(
    timed_front: Front, clocks: Clocks
) -> None:
    services = timed_front.site.services
    await replace_tenant(services, a_tenant("acme", "", Effect.DENY, anonymous_read=True))
    ends = clocks.wall() + timedelta(seconds=60)
    await add_rule(services, "acme", Effect.ALLOW, "example.com", expires_at=ends)
    tails = ("@v/v1.0.0.zip", "@v/list", "@v/v1.0.0.mod")
    for seconds, status in ((59.9, 200), (0.2, 403)):
        for tail in tails:
            for _ in range(2):
                assert (await timed_front.ask(tail)).status == 200
        clocks.advance(seconds)
        for tail in tails:
            assert (await timed_front.ask(tail)).status == status


async def test_F22_a_token_that_expires_ends_prepared_answers(
    timed_front: Front, clocks: Clocks
) -> None:
    site = timed_front.site
    await add_tenant(site.services, "shut", timed_front.fake, open_to_all=False)
    ends = clocks.wall() + timedelta(seconds=60)
    _, secret = await add_token(site.services, "shut", expires_at=ends)
    target = f"/goproxy/shut/{NAME}/@v/v1.0.0.zip"
    for seconds in (0.0, 59.9):
        clocks.advance(seconds)
        for _ in range(2):
            assert (await site.ask(target, headers=bearer(secret))).status == 200
    clocks.advance(0.2)
    assert_one_line(await site.ask(target, headers=bearer(secret)), 401)


async def test_F26_every_change_is_seen_by_a_second_server_within_a_second(tmp_path: Path) -> None:
    """The poll's interval is a constant that test_policy.py holds below a second."""
    with FakeGoproxy([X]) as fake:
        settings = proxy_settings(tmp_path)
        async with serving(settings) as one, serving(settings) as two:
            await add_tenant(one.services, "acme", fake, open_to_all=False)
            token, secret = await add_token(one.services, "acme")
            target = f"{V1}.zip"

            async def status(expected: int) -> None:
                async def seen() -> bool:
                    got = await two.ask(target, headers=bearer(secret))
                    return got.status == expected

                await until(seen)

            await status(200)
            rule = await add_rule(one.services, "acme", Effect.DENY, "example.com")
            await status(403)
            await one.services.tenants.rules.remove("acme", rule, OPERATOR)
            await status(200)
            await replace_tenant(one.services, a_tenant("acme", "", Effect.ALLOW, enabled=False))
            await status(401)
            await replace_tenant(one.services, a_tenant("acme", "", Effect.ALLOW))
            await status(200)
            await one.services.tenants.tokens.revoke(token)
            await status(401)


async def test_F19_a_denied_module_is_denied_in_every_spelling(front: Front) -> None:
    await add_rule(
        front.site.services, "acme", Effect.DENY, "example.com/Evil", reason="CVE-2026-1"
    )
    for path in ("!evil", "%21evil", "evil", "!evil/sub", "evil/v2", "!e!v!i!l", "e!vil"):
        got = await front.site.ask(f"/goproxy/acme/example.com/{path}/@v/list")
        assert_one_line(got, 403)
    for path in ("Evil", "EVIL", "%45vil", "!!evil"):
        assert (await front.site.ask(f"/goproxy/acme/example.com/{path}/@v/list")).status == 400
    assert not front.fake.asked_for("evil")


async def test_F19_an_owned_prefix_is_closed_and_asked_nowhere_in_every_spelling(
    front: Front,
) -> None:
    services = front.site.services
    await add_tenant(services, "globex")
    await services.tenants.ownership.put(an_owner("example.com/corp-inc", "globex"), OPERATOR)
    await settled(services)
    for path in ("corp-inc/a", "!corp-!inc/a", "!c!o!r!p-inc", "corp-!inc/v2"):
        for tail in ("@v/list", "@latest", "@v/v1.0.0.info", "@v/main.info", "@v/v1.0.0.zip"):
            got = await front.site.ask(f"/goproxy/acme/example.com/{path}/{tail}")
            if got.status != 400:  # a version that does not fit the path
                assert_one_line(got, 403)
    assert not front.fake.asked_for("corp-inc")


async def test_a_denial_beats_what_is_stored_and_prepared(front: Front) -> None:
    for _ in range(2):
        assert (await front.ask("@v/v1.0.0.zip")).status == 200
    await add_rule(front.site.services, None, Effect.DENY, NAME, "v1.0.0", reason="stolen release")
    got = await front.ask("@v/v1.0.0.zip")
    assert_one_line(got, 403)
    assert "stolen release" in got.text
    assert (await front.ask("@v/list")).body == b""


async def test_the_root_says_what_it_is(front: Front) -> None:
    for target in ("/goproxy/acme", "/goproxy/acme/"):
        got = await front.site.ask(target)
        assert got.status == 200
        assert "tenant acme" in got.text
        assert (await front.site.ask(target, "HEAD")).status == 200


async def test_a_module_of_no_route_is_denied_with_whom_to_ask(front: Front) -> None:
    await add_tenant(front.site.services, "bare")
    got = await front.site.ask(f"/goproxy/bare/{NAME}/@v/list")
    assert_one_line(got, 403)
    assert "an admin can add one" in got.text


async def test_the_infos_of_a_prepared_query_follow_the_rules_of_now(front: Front) -> None:
    for _ in range(2):
        assert json.loads((await front.ask("@v/master.info")).body)["Version"] == "v1.0.0"
    await add_rule(front.site.services, "acme", Effect.DENY, NAME, "v1.0.0")
    assert_one_line(await front.ask("@v/master.info"), 403)


async def test_F24_nothing_is_prepared_for_a_request_that_was_refused(front: Front) -> None:
    app = front.site.application.surfaces.goproxy
    for tail in ("@v/v9.9.9.info", "@v/x.zip", "@v/v1.0.0.tar"):
        assert (await front.ask(tail)).status >= 400
    assert len(app._hot._answers) == 0


async def test_a_slow_upstream_delays_neither_hits_nor_other_routes(front: Front) -> None:
    with FakeGoproxy([module("slow.example/y", "v1.0.0")]) as slow:
        await add_route(front.site.services, "acme", "slow.example", an_upstream(slow.url))
        await settled(front.site.services)
        await front.ask("@v/v1.0.0.mod")
        targets = [f"/goproxy/acme/slow.example/y/m{n}/@v/list" for n in range(20)]
        for n in range(20):
            slow.fault(f"/slow.example/y/m{n}/@v/list", Fault.delay_headers_until_released())
        stuck = [asyncio.ensure_future(front.site.ask(t)) for t in targets]
        await anyio.to_thread.run_sync(lambda: slow.wait_until(lambda: slow.stalled == 8))
        assert (await front.ask("@v/v1.0.0.mod")).body == X.mod  # a hit
        assert (await front.ask("@v/v1.0.0.zip")).body == X.zip  # a miss of another route
        assert not any(task.done() for task in stuck)
        slow.stop()
        assert {one.status for one in await asyncio.gather(*stuck)} <= {404, 503}
