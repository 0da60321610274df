"""Limits of the GOPROXY front: 429 and 503 with Retry-After, each for whom it concerns alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from app.core.effect import Effect
from app.core.tenant import TenantLimits
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.nouns import a_tenant
from tests.web.harbour import (
    add_rule,
    add_tenant,
    add_token,
    assert_one_line,
    bearer,
    harbour,
    replace_tenant,
    settled,
    streams_of,
)
from tests.web.wire import Site, request, until

X = module("example.com/x", "v1.0.0")
BIG = module("example.com/big", "v1.0.0", padding_bytes=6_000_000)
BASE = "/goproxy/acme/example.com/x"


@asynccontextmanager
async def limited(
    folder: Path, *, network: dict[str, Any] | None = None, **limits: Any
) -> AsyncIterator[tuple[Site, FakeGoproxy]]:
    with FakeGoproxy([X, BIG]) as fake:
        async with harbour(folder, limits=limits, network=network or {}) as site:
            for tenant in ("acme", "globex"):
                await add_tenant(site.services, tenant, fake)
            yield site, fake


async def test_a_tenant_that_asks_too_fast_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with limited(tmp_path, tenant_rate=5) as (site, _):
        paths = [f"{BASE}/m{n}/@v/list" for n in range(30)]
        got = await asyncio.gather(*(site.ask(path) for path in paths))
        refused = [one for one in got if one.status == 429]
        assert 5 <= len(refused) <= 10
        assert_one_line(refused[0], 429)
        assert "tenant acme" in refused[0].text
        other = await site.ask("/goproxy/globex/example.com/x/@v/list")
        assert other.status == 200


async def test_prepared_answers_are_not_limited(tmp_path: Path) -> None:
    async with limited(tmp_path, tenant_rate=1) as (site, _):
        got = [await site.ask(f"{BASE}/@v/v1.0.0.mod") for _ in range(50)]
        assert {one.status for one in got} == {200}


async def test_a_404_that_go_repeats_at_once_is_charged_once(tmp_path: Path) -> None:
    async with limited(tmp_path, tenant_rate=1) as (site, _):
        for n in range(4):  # the burst of four seconds
            for _ in range(2):
                assert (await site.ask(f"{BASE}/m{n}/@v/list")).status == 404
        assert (await site.ask(f"{BASE}/m9/@v/list")).status == 429


async def test_a_tenants_own_limits_take_the_place_of_the_settings(tmp_path: Path) -> None:
    async with limited(tmp_path, tenant_rate=1) as (site, _):
        draft = a_tenant(
            "acme", "", Effect.ALLOW, anonymous_read=True, limits=TenantLimits(rate=1000)
        )
        await replace_tenant(site.services, draft)
        await settled(site.services)
        got = await asyncio.gather(*(site.ask(f"{BASE}/m{n}/@v/list") for n in range(30)))
        assert {one.status for one in got} == {404}


async def test_F27_wrong_tokens_are_limited_by_address_and_the_right_one_is_not(
    tmp_path: Path,
) -> None:
    async with limited(tmp_path, bad_tokens=10) as (site, _):
        await add_tenant(site.services, "shut", open_to_all=False)
        _, secret = await add_token(site.services, "shut")
        gone, revoked = await add_token(site.services, "shut", name="gone")
        await site.services.tenants.tokens.revoke(gone)
        await settled(site.services)
        statuses = []
        for n in range(30):
            got = await site.ask(f"/goproxy/shut/a.b/m{n}/@v/list", headers=bearer(revoked))
            statuses.append(got.status)
            assert_one_line(got, got.status)
        assert statuses[:10] == [401] * 10
        assert statuses[12:] == [429] * 18
        good = await site.ask("/goproxy/shut/", headers=bearer(secret))
        assert good.status == 200
        assert (await site.ask("/goproxy/shut/")).status == 401  # no token is no wrong one


@pytest.mark.parametrize("header", ["Basic !", "Digest x", "Basic YWI="])
async def test_F27_what_is_no_token_at_all_counts_as_a_wrong_one(
    tmp_path: Path, header: str
) -> None:
    async with limited(tmp_path, bad_tokens=10) as (site, _):
        await add_tenant(site.services, "shut", open_to_all=False)
        await settled(site.services)
        headers = {"Authorization": header}
        asked = [
            await site.ask(f"/goproxy/shut/a.b/m{n}/@v/list", headers=headers) for n in range(30)
        ]
        assert [one.status for one in asked[:10]] == [401] * 10
        assert [one.status for one in asked[12:]] == [429] * 18


def from_address(address: str) -> dict[str, str]:
    """Return the header by which a gateway says who asks."""
    return {"X-Forwarded-For": address}


BIG_ZIP = "/goproxy/{}/example.com/big/@v/v1.0.0.zip"


async def test_slow_clients_leave_others_their_turn_and_give_it_back_when_they_are_cut(
    tmp_path: Path,
) -> None:
    network = {"gateways": ["127.0.0.1/32"]}
    async with limited(tmp_path, network=network, tenant_streams=4) as (site, _):
        for tenant in ("acme", "globex"):
            assert (await site.ask(BIG_ZIP.format(tenant), "HEAD")).status == 200
        async with AsyncExitStack() as sockets:
            slow = [
                await sockets.enter_async_context(site.calling(socket_bytes=4096)) for _ in range(6)
            ]
            for caller in slow:
                await caller.send(request(BIG_ZIP.format("acme"), headers=from_address("10.0.0.1")))
            for caller in slow[:2]:
                assert (await caller.head())[0] == 200
            assert streams_of(site, "acme") == 2  # half of them for one address; four wait
            other = from_address("10.0.0.2")
            assert (await site.ask(BIG_ZIP.format("acme"), headers=other)).body == BIG.zip
            same = from_address("10.0.0.1")
            assert (await site.ask(BIG_ZIP.format("globex"), headers=same)).body == BIG.zip
            assert (await site.ask(f"{BASE}/@v/v1.0.0.mod", headers=same)).status == 200
            site.let_pass(0)
            site.let_pass(60)
            for caller in slow[2:4]:
                assert (await caller.head())[0] == 200
            for caller in slow:
                caller.vanish()
        assert (await site.ask(BIG_ZIP.format("acme"), headers=same)).body == BIG.zip


async def test_a_download_whose_turn_does_not_come_is_told_to_come_back(tmp_path: Path) -> None:
    async with limited(tmp_path, tenant_streams=1, stream_wait_s=1) as (site, _):
        assert (await site.ask(BIG_ZIP.format("acme"), "HEAD")).status == 200
        app = site.application.surfaces.goproxy
        app._admission._defaults = replace(app._admission._defaults, stream_wait_s=0.0)
        async with site.calling(socket_bytes=4096) as one:
            await one.send(request(BIG_ZIP.format("acme")))
            assert (await one.head())[0] == 200
            refused = await site.ask(BIG_ZIP.format("acme"))
            assert_one_line(refused, 429)
            assert "as many downloads under way as it may" in refused.text
            tag = (await site.ask(BIG_ZIP.format("acme"), "HEAD")).header("etag") or ""
            fresh = await site.ask(BIG_ZIP.format("acme"), headers={"If-None-Match": tag})
            assert fresh.status == 304
            one.vanish()


async def test_what_is_forbidden_while_a_download_waits_for_its_turn_does_not_go_out(
    tmp_path: Path,
) -> None:
    async with limited(tmp_path, tenant_streams=1) as (site, _):
        assert (await site.ask(BIG_ZIP.format("acme"), "HEAD")).status == 200
        async with site.calling(socket_bytes=4096) as one, site.calling() as two:
            await one.send(request(BIG_ZIP.format("acme")))
            assert (await one.head())[0] == 200
            await two.send(request(BIG_ZIP.format("acme")))
            turns = site.application.surfaces.goproxy._admission._streams["acme", 1]

            async def waits() -> bool:
                return bool(turns._waiting)

            await until(waits)
            await add_rule(site.services, "acme", Effect.DENY, "example.com/big", reason="stolen")
            one.vanish()
            assert_one_line(await two.response(), 403)


async def test_F39_a_crowd_at_one_file_beyond_the_waiters_is_told_to_come_back(
    tmp_path: Path,
) -> None:
    async with limited(tmp_path, waiters_per_key=10) as (site, fake):
        fake.fault("/example.com/x/@v/v1.0.0.info", Fault.delay_headers_until_released())
        asked = [asyncio.ensure_future(site.ask(f"{BASE}/@v/v1.0.0.info")) for _ in range(15)]
        await anyio.to_thread.run_sync(lambda: fake.wait_until(lambda: fake.stalled == 1))
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert_one_line(done.pop().result(), 503)
        while sum(task.done() for task in asked) < 5:
            await asyncio.sleep(0.01)
        fake.release()
        statuses = sorted(one.status for one in await asyncio.gather(*asked))
        assert statuses == [200] * 10 + [503] * 5


async def test_F39_files_beyond_the_queue_are_told_to_come_back_and_hits_are_served(
    tmp_path: Path,
) -> None:
    async with limited(tmp_path, cold_queue=5) as (site, fake):
        assert (await site.ask(f"{BASE}/@v/v1.0.0.mod")).status == 200
        # The .info is fetched ahead: once it is answered, its place is free again.
        assert (await site.ask(f"{BASE}/@v/v1.0.0.info")).status == 200
        for n in range(5):
            fake.fault(f"/example.com/x/@v/v1.{n}.1.info", Fault.delay_headers_until_released())
        asked = [asyncio.ensure_future(site.ask(f"{BASE}/@v/v1.{n}.1.info")) for n in range(5)]
        await anyio.to_thread.run_sync(lambda: fake.wait_until(lambda: fake.stalled == 5))
        assert_one_line(await site.ask(f"{BASE}/@v/v1.9.1.info"), 503)
        assert (await site.ask(f"{BASE}/@v/v1.0.0.mod")).body == X.mod
        fake.release()
        assert {one.status for one in await asyncio.gather(*asked)} == {404}


async def test_hundreds_of_cold_files_at_once_are_all_answered(tmp_path: Path) -> None:
    """`go` gives up at the first 429 or 503, so how many wait is no reason to refuse one."""
    async with limited(tmp_path, cold_wait_s=3600) as (site, fake):
        body = b"module example.com/many\n"
        for n in range(200):
            fake.put_raw(f"/example.com/many/@v/v1.{n}.0.mod", body)
        target = "/goproxy/acme/example.com/many/@v/v1.{}.0.mod"
        got = await asyncio.gather(*(site.ask(target.format(n)) for n in range(200)))
        assert {(one.status, one.body) for one in got} == {(200, body)}


async def test_tenants_whose_upstreams_hang_leave_others_their_turn(tmp_path: Path) -> None:
    async with limited(tmp_path) as (site, fake):
        await add_tenant(site.services, "initech", fake)
        paths = [f"example.com/x/@v/v1.{n}.1.info" for n in range(150)]
        for path in paths:
            fake.fault(f"/{path}", Fault.delay_headers_until_released(), times=None)
        asked = [
            asyncio.ensure_future(site.ask(f"/goproxy/{tenant}/{path}"))
            for tenant in ("acme", "globex")
            for path in paths
        ]
        await anyio.to_thread.run_sync(lambda: fake.wait_until(lambda: fake.stalled >= 8))
        for n in range(10):
            fake.put(module("example.com/cold", f"v1.{n}.0"))
            got = await site.ask(f"/goproxy/initech/example.com/cold/@v/v1.{n}.0.mod")
            assert got.status == 200
        for task in asked:
            task.cancel()
        fake.clear_faults()
        fake.release()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_no_limit_answers_500(tmp_path: Path) -> None:
    limits = {
        "tenant_rate": 1,
        "tenant_streams": 1,
        "tenant_cold": 1,
        "waiters_per_key": 1,
        "cold_queue": 1,
        "bad_tokens": 1,
    }
    async with limited(tmp_path, **limits) as (site, _):
        targets = [f"{BASE}/@v/v1.0.{n % 3}.{kind}" for n in range(20) for kind in ("info", "zip")]
        got = await asyncio.gather(
            *(site.ask(t, headers={"Authorization": "Bearer x"}) for t in targets)
        )
        assert {one.status for one in got} <= {200, 401, 404, 429, 503}
