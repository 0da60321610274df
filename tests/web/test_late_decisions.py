"""A decision holds when the answer goes out: what changes while upstream takes its time counts."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pytest

from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.services.assembly import Services
from app.services.clock import utc_now
from app.web.decisions import DecisionRecord
from app.web.goproxy import PreparedAnswer
from app.web.responses import plain
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
    cooled,
    harbour,
    replace_tenant,
    settled,
    streams_of,
)
from tests.web.held import held_opening
from tests.web.wire import Got, Site

NAME = "example.com/x"
X = module(NAME, "v1.0.0")
BIG = module("example.com/big", "v1.0.0", padding_bytes=1_500_000)


@dataclass(frozen=True)
class Slow:
    """A tenant whose upstream holds back its answers until it is released."""

    site: Site
    fake: FakeGoproxy
    token: str
    secret: str

    async def ask_while(self, path: str, change: Callable[[Services], Awaitable[object]]) -> Got:
        """Return the answer for a path, of which something changed once upstream was asked."""
        target = f"/goproxy/acme/{path}"
        self.fake.fault(f"/{path}", Fault.delay_headers_until_released())
        asking = asyncio.ensure_future(self.site.ask(target, headers=bearer(self.secret)))
        await anyio.to_thread.run_sync(self.fake.wait_until, lambda: self.fake.stalled == 1)
        await change(self.site.services)
        await settled(self.site.services)
        self.fake.release()
        return await asking


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[Slow]:
    with FakeGoproxy([X, BIG]) as fake:
        async with harbour(tmp_path) as site:
            await add_tenant(site.services, "acme", fake, open_to_all=False)
            token, secret = await add_token(site.services, "acme")
            yield Slow(site, fake, token, secret)


async def _deny(services: Services) -> None:
    await add_rule(services, "acme", Effect.DENY, "example.com", reason="stolen release")


async def _switch_off(services: Services) -> None:
    draft = a_tenant("acme", "", Effect.ALLOW, enabled=False)
    await replace_tenant(services, draft)


async def _remove(services: Services) -> None:
    await services.tenants.tenants.remove("acme", OPERATOR)


CHANGES = {"a denial": (_deny, 403), "switched off": (_switch_off, 401), "removed": (_remove, 401)}
PATHS = [
    f"{NAME}/@v/v1.0.0.zip",
    "example.com/big/@v/v1.0.0.zip",
    f"{NAME}/@v/v1.0.0.mod",
    f"{NAME}/@v/list",
    f"{NAME}/@latest",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", CHANGES)
async def test_what_is_forbidden_meanwhile_does_not_go_out(
    slow: Slow, name: str, path: str
) -> None:
    change, status = CHANGES[name]
    got = await slow.ask_while(path, change)
    assert_one_line(got, status)


@pytest.mark.parametrize("path", PATHS)
async def test_a_token_that_is_revoked_meanwhile_gets_nothing(slow: Slow, path: str) -> None:
    got = await slow.ask_while(path, lambda s: s.tenants.tokens.revoke(slow.token))
    assert_one_line(got, 401)


@pytest.mark.parametrize("path", PATHS[:3])
async def test_a_change_that_forbids_nothing_costs_no_second_fetch(slow: Slow, path: str) -> None:
    got = await slow.ask_while(path, cooled)
    assert got.status == 200
    assert slow.fake.hits[f"/{path}"] == 1
    assert not streams_of(slow.site, "acme")


def _descriptors(content: bytes) -> int:
    """Count this process's open descriptors of a blob."""
    name, count = hashlib.sha256(content).hexdigest(), 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{entry}").endswith(name)
        except FileNotFoundError:  # the descriptor of listdir itself
            continue
    return count


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
async def test_an_error_between_the_decision_and_the_answer_closes_the_blob(slow: Slow) -> None:
    services, path = slow.site.services, "/goproxy/acme/example.com/big/@v/v1.0.0.zip"
    ends = utc_now() + timedelta(days=1)  # the answer ends with the token, so the clock is read
    _, secret = await add_token(services, "acme", name="ends", expires_at=ends)
    assert (await slow.site.ask(path, headers=bearer(secret))).status == 200
    await cooled(services)

    def broken() -> datetime:
        raise ArithmeticError("the clock is broken")

    goproxy = slow.site.application.surfaces.goproxy
    goproxy._now = broken
    headers = [(name.lower().encode(), value.encode()) for name, value in bearer(secret).items()]
    scope = {"method": "GET", "raw_path": path.encode(), "headers": headers}

    async def never(*_: object) -> None:
        raise AssertionError("nothing is sent")

    with pytest.raises(ArithmeticError):
        await goproxy(scope, never, never)
    assert _descriptors(BIG.zip) == 0


BIG_PATH = "/goproxy/acme/example.com/big/@v/v1.0.0.zip"
OPENING: dict[str, tuple[Callable[[Slow], Awaitable[object]], int]] = {
    "nothing": (lambda _: asyncio.sleep(0), 200),
    "what forbids nothing": (lambda slow: cooled(slow.site.services), 200),
    "another tenant": (lambda slow: add_tenant(slow.site.services, "globex"), 200),
    "a revoked token": (lambda slow: slow.site.services.tenants.tokens.revoke(slow.token), 401),
    "a denial": (lambda slow: _deny(slow.site.services), 403),
    "switched off": (lambda slow: _switch_off(slow.site.services), 401),
}


@pytest.mark.parametrize("name", OPENING)
async def test_a_prepared_zip_is_judged_again_once_its_bytes_are_known_to_be_right(
    slow: Slow, name: str
) -> None:
    change, status = OPENING[name]
    headers = bearer(slow.secret)
    assert (await slow.site.ask(BIG_PATH, headers=headers)).status == 200
    with held_opening(slow.site) as held:
        asking = asyncio.ensure_future(slow.site.ask(BIG_PATH, headers=headers))
        await held.opening.wait()
        await change(slow)
        await settled(slow.site.services)
        held.released.set()
        got = await asking
    if status == 200:
        assert got.body == BIG.zip
    else:
        assert_one_line(got, status)
    assert held.opened == (2 if name == "what forbids nothing" else 1)
    assert _descriptors(BIG.zip) == 0


@pytest.mark.parametrize("left_s", [0.0, 3600.0])
async def test_a_decision_ends_with_a_rule_or_a_token_although_nothing_was_changed(
    slow: Slow, left_s: float
) -> None:
    goproxy = slow.site.application.surfaces.goproxy
    record = DecisionRecord.of_path(BIG_PATH.encode(), "request")
    prepared = PreparedAnswer(
        answer=plain(200, "x"),
        until=0.0,
        record=record,
        tenant="acme",
        concerned=("acme",),
        ends=time.monotonic() + left_s,
        generation=goproxy._policies.generation,
    )
    assert goproxy._holds(prepared) is (left_s > 0)
