"""Limits of the admin API: requests with one token and from one address, and wrong tokens."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import RateLimitedError
from app.web.admin.context import Operator
from app.web.limits import AdminRates, WrongTokens
from tests.services.bench import Stopwatch
from tests.web.harbour import add_tenant, bearer, harbour
from tests.web.wire import Got, Site

GATEWAY = {"gateways": ["127.0.0.1/32"]}


def assert_limited(got: Got) -> None:
    assert (got.status, got.header("content-type")) == (429, "application/problem+json")
    assert int(got.header("retry-after") or "") >= 1
    assert json.loads(got.body)["status"] == 429


async def asked(site: Site, count: int, **more: Any) -> list[Got]:
    return await asyncio.gather(*(site.admin("/api/v1/tenants", **more) for _ in range(count)))


async def test_one_token_is_limited_and_another_is_not(tmp_path: Path) -> None:
    async with harbour(tmp_path, limits={"admin_token_rate": 1}) as site:
        answers = [got for got in await asked(site, 12) if got.status != 200]
        assert 6 <= len(answers) <= 8  # the burst of four seconds
        for got in answers:
            assert_limited(got)
            assert "this token" in got.text
        _, other = await site.services.tenants.tokens.create("other")
        assert (await site.admin("/api/v1/tenants", token=other)).status == 200


async def test_one_address_is_limited_whatever_it_sends_and_health_is_not(tmp_path: Path) -> None:
    async with harbour(tmp_path, limits={"admin_address_rate": 1}, network=GATEWAY) as site:
        first = {"X-Forwarded-For": "10.0.0.1"}
        answers = await asked(site, 12, token=None, headers=first)
        assert sum(got.status == 401 for got in answers) <= 6
        for target in ("/api/v1/tenants", "/docs", "/nothing"):
            got = await site.admin(target, headers=first)
            assert_limited(got)
            assert "this address" in got.text
        for target in ("/healthz", "/readyz", "/version", "/metrics"):
            assert (await site.ask(target, headers=first)).status == 200
        other = {"X-Forwarded-For": "10.0.0.2"}
        assert (await site.admin("/api/v1/tenants", headers=other)).status == 200


async def test_wrong_tokens_count_at_the_proxy_and_at_the_admin_api_together(
    tmp_path: Path,
) -> None:
    async with harbour(tmp_path, limits={"bad_tokens": 6}) as site:
        await add_tenant(site.services, "shut", open_to_all=False)
        wrong = bearer("moor_wrong")
        for _ in range(3):
            assert (await site.ask("/goproxy/shut/a.b/m/@v/list", headers=wrong)).status in (401,)
        statuses = [(await site.admin("/api/v1/tenants", token="wrong")).status for _ in range(9)]
        assert statuses[-1] == 429
        assert statuses.count(401) <= 6
        assert_limited(await site.admin("/api/v1/tenants", token="wrong"))
        assert (await site.admin("/api/v1/tenants")).status == 200
        assert (await site.admin("/api/v1/tenants", token=None)).status == 401


async def test_the_operator_of_this_process_has_no_limit(tmp_path: Path) -> None:
    limits = {"admin_address_rate": 1, "admin_token_rate": 1}
    async with harbour(tmp_path, limits=limits) as site:
        operator, admin = Operator(), site.application.surfaces.admin

        async def signing(scope: Any, receive: Any, send: Any) -> None:
            await admin(operator.sign(scope), receive, send)

        site.application.surfaces.admin = signing
        assert {got.status for got in await asked(site, 30, token=None)} == {200}


def test_rates_come_back_with_time() -> None:
    clock = Stopwatch()
    rates, wrong = AdminRates(1, 2, clock), WrongTokens(60, clock)
    for count, times in (
        (lambda: rates.count_token("a"), 4),
        (lambda: rates.count_address("2001:db8::1"), 8),
        (lambda: wrong.count("10.0.0.1"), 60),
    ):
        for _ in range(times):
            count()
        with pytest.raises(RateLimitedError):
            count()
        clock.seconds += 1
        count()
    rates.count_address("2001:db8:0:1::1")


async def test_bodies_are_taken_from_the_memory_budget_whoever_sends_them(tmp_path: Path) -> None:
    mebibyte = 1024 * 1024
    async with harbour(tmp_path, limits={"memory_bytes": mebibyte}) as site:
        memory = site.services.modules.memory
        for size_bytes, status in ((700_000, 503), (200_000, 422)):
            got = await site.admin("/api/v1/tenants", "POST", token=None, body=b" " * size_bytes)
            assert (got.status, got.header("content-type")) == (status, "application/problem+json")
            assert memory.left_bytes == mebibyte
