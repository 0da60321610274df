"""The decision log and the counts: a line for each request, hits too, and no token in any."""

import base64
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.db.denials import Denial
from app.metrics import hotpath
from app.metrics.meters import meters
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import info_of, module
from tests.web.conftest import Log
from tests.web.harbour import (
    add_rule,
    add_tenant,
    add_token,
    basic,
    bearer,
    harbour,
    proxy_settings,
    settled,
)
from tests.web.wire import Site, serving

NAME = "example.com/x"
X = module(NAME, "v1.0.0")


@dataclass(frozen=True)
class Logged:
    site: Site
    log: Log
    secret: str
    token: str

    async def line(
        self, tail: str, method: str = "GET", tenant: str = "shut", **headers: str
    ) -> dict[str, Any]:
        """Ask, and return the only line that says so."""
        before = len(self.lines())
        await self.site.ask(f"/goproxy/{tenant}{tail}", method, headers)
        [line] = self.lines()[before:]
        return line

    def lines(self) -> list[dict[str, Any]]:
        self.site.application.surfaces.goproxy.decisions.flush()
        return self.log.events("decision")


@pytest.fixture
def fake() -> Iterator[FakeGoproxy]:
    with FakeGoproxy([X]) as upstream:
        upstream.put_query(NAME, "master", info_of("v1.0.0"))
        yield upstream


@pytest.fixture
async def logged(tmp_path: Path, log: Log, fake: FakeGoproxy) -> AsyncIterator[Logged]:
    async with harbour(tmp_path) as site:
        await add_tenant(site.services, "open", fake)
        await add_tenant(site.services, "shut", fake, default=Effect.DENY, open_to_all=False)
        token, secret = await add_token(site.services, "shut")
        yield Logged(site, log, secret, token)


async def test_a_line_tells_who_asked_for_what_and_which_rule_allowed_it(logged: Logged) -> None:
    rule = await add_rule(logged.site.services, "shut", Effect.ALLOW, "example.com")
    headers = bearer(logged.secret)
    for _ in ("cold", "prepared", "prepared"):
        line = await logged.line(f"/{NAME}/@v/v1.0.0.zip", **headers)
        facts = {
            k: line[k]
            for k in ("tenant", "actor", "module", "kind", "version", "decision", "by", "status")
        }
        assert facts == {
            "tenant": "shut",
            "actor": f"token:{logged.token}",
            "module": NAME,
            "kind": "zip",
            "version": "v1.0.0",
            "decision": "allow",
            "by": f"rule {rule}",
            "status": 200,
        }
        assert (line["client"], line["bytes"]) == ("127.0.0.1", len(X.zip))


async def test_a_query_is_told_with_the_version_that_it_resolved_to(logged: Logged) -> None:
    await add_rule(logged.site.services, "shut", Effect.ALLOW, "example.com")
    line = await logged.line(f"/{NAME}/@v/master.info", **bearer(logged.secret))
    assert (line["version"], line["kind"]) == ("v1.0.0", "info")
    assert (await logged.line(f"/{NAME}/@latest", **bearer(logged.secret)))["version"] == "v1.0.0"


async def test_a_denial_tells_rule_and_reason(logged: Logged) -> None:
    headers = bearer(logged.secret)
    line = await logged.line(f"/{NAME}/@v/list", **headers)
    assert (line["decision"], line["by"], line["status"]) == ("deny", "default", 403)
    rule = await add_rule(logged.site.services, "shut", Effect.DENY, NAME, reason="stolen")
    for _ in ("cold", "repeated"):
        line = await logged.line(f"/{NAME}/@v/list", **headers)
        assert (line["decision"], line["by"], line["status"]) == ("deny", f"rule {rule}", 403)
        assert "stolen" in line["reason"]
        assert (line["module"], line["actor"]) == (NAME, f"token:{logged.token}")


async def denied(logged: Logged) -> dict[Denial, int]:
    """Return the denials as they are counted."""
    counter = logged.site.services.shared.denials
    await counter.flush()
    return {denial: count.count for _, denial, count in await counter.denials(OPERATOR)}


async def test_a_denial_is_counted_from_memory_too_with_the_last_request(logged: Logged) -> None:
    headers = bearer(logged.secret)
    lines = [await logged.line(f"/{NAME}/@v/v1.0.0.info", **headers) for _ in range(3)]
    counter = logged.site.services.shared.denials
    await counter.flush()
    [(day, denial, count)] = await counter.denials(OPERATOR)
    assert denial == Denial("shut", logged.token, NAME, "default")
    assert (count.count, count.last_request) == (3, lines[-1]["request_id"])
    assert day == count.last_at.date()
    rule = await add_rule(logged.site.services, "shut", Effect.DENY, NAME)
    await logged.line(f"/{NAME}/@v/list", "HEAD", **headers)
    assert await denied(logged) == {
        denial: 3,
        Denial("shut", logged.token, NAME, f"rule {rule}"): 1,
    }


async def test_a_denied_lookup_is_counted_under_its_module(logged: Logged) -> None:
    rule = await add_rule(logged.site.services, "open", Effect.DENY, NAME)
    services = logged.site.services
    log_name = (await services.sumdb.logs.create("open")).name
    await settled(services)
    line = await logged.line(f"/sumdb/{log_name}/lookup/{NAME}@v1.0.0", tenant="open")
    assert (line["status"], line["kind"], line["module"]) == (403, "lookup", NAME)
    assert await denied(logged) == {Denial("open", "", NAME, f"rule {rule}"): 1}


async def test_strangers_are_counted_without_what_they_ask_for(logged: Logged) -> None:
    """Else they could use up the rows of a tenant, or make rows of tenants that there are not."""
    _, foreign = await add_token(logged.site.services, "open")
    for headers in ({}, bearer("mrg_unknown"), bearer(foreign)):
        for tail in (f"/{NAME}/@v/list", "/a.example/@v/list", "/nonsense"):
            line = await logged.line(tail, **headers)
            assert (line["decision"], line["status"]) == (
                "deny",
                403 if foreign in str(headers) else 401,
            )
        await logged.line(f"/{NAME}/@v/list", tenant="nobody", **headers)
    assert await denied(logged) == {Denial("shut", rule="token"): 9}


async def test_what_is_refused_for_other_reasons_is_no_denial(
    logged: Logged, fake: FakeGoproxy
) -> None:
    fake.fault(f"/{NAME}/@v/v1.0.0.mod", Fault.status(500), times=None)
    for tail in ("/a.b/../b/@v/list", f"/{NAME}/@v/v1.9.9.mod", f"/{NAME}/@v/v1.0.0.mod"):
        assert (await logged.line(tail, tenant="open"))["status"] >= 400
    await logged.line(f"/{NAME}/@v/v1.0.0.info", tenant="open")
    assert await denied(logged) == {}


STRANGERS: list[tuple[str, str, str, str, int, str]] = [
    ("none", "GET", "shut", f"/{NAME}/@v/list", 401, "deny"),
    ("bad", "GET", "shut", f"/{NAME}/@v/list", 401, "deny"),
    ("none", "GET", "nobody", "/", 401, "deny"),
    ("none", "POST", "open", f"/{NAME}/@v/list", 405, "allow"),
    ("none", "GET", "open", "/a.b/../b/@v/list", 400, "allow"),
    ("none", "GET", "open", f"/{NAME}/@v/v1.9.9.mod", 404, "allow"),
    ("none", "GET", "open", "/", 200, "allow"),
    ("none", "HEAD", "open", f"/{NAME}/@v/v1.0.0.zip", 200, "allow"),
]


async def test_every_request_has_its_line(logged: Logged) -> None:
    for who, method, tenant, tail, status, decision in STRANGERS:
        headers = {"Authorization": "Basic !!!"} if who == "bad" else {}
        line = await logged.line(tail, method, tenant, **headers)
        assert (line["status"], line["decision"]) == (status, decision), tail
        assert status < 400 or status == 405 or line["reason"]


async def test_F25_F102_no_line_holds_a_token_or_breaks(logged: Logged) -> None:
    secret = logged.secret
    encoded = base64.b64encode(f"ci:{secret}".encode()).decode()
    for headers in (bearer(secret), basic(secret), {"Authorization": f"token {secret}x"}):
        for tail in (
            f"/{NAME}/@v/list",
            f"/{NAME}/@v/list?token={secret}",
            "/%0d%0aevil",
            "/\x1b[31m",
        ):
            await logged.site.ask(f"/goproxy/shut{tail}", headers=headers)
    lines = logged.lines()
    assert len(lines) >= 9
    for shown in (secret, encoded, "\x1b"):
        assert shown not in logged.log.text


async def test_downloads_are_counted_for_hits_too_and_survive_a_restart(tmp_path: Path) -> None:
    settings = proxy_settings(tmp_path)
    with FakeGoproxy([X]) as fake:
        async with serving(settings) as site:
            await add_tenant(site.services, "shut", fake, open_to_all=False)
            token, secret = await add_token(site.services, "shut")
            headers = bearer(secret)
            for tail in ("@v/list", "@v/v1.0.0.info", "@v/v1.0.0.mod", "@v/v1.9.9.zip"):
                await site.ask(f"/goproxy/shut/{NAME}/{tail}", headers=headers)
            for _ in range(5):
                await site.ask(f"/goproxy/shut/{NAME}/@v/v1.0.0.zip", headers=headers)
            for method, more in (("HEAD", {}), ("GET", {"If-None-Match": "*"})):
                await site.ask(f"/goproxy/shut/{NAME}/@v/v1.0.0.zip", method, {**headers, **more})
            await site.ask(f"/goproxy/shut/{NAME}/@v/v1.0.0.zip")
        fake.stop()
        async with serving(settings) as site:
            for _ in range(2):
                await site.ask(f"/goproxy/shut/{NAME}/@v/v1.0.0.zip", headers=headers)
            await site.services.shared.usage.flush()
            [(what, count)] = await site.services.shared.usage.downloads(OPERATOR)
            [used] = [t for t in await site.services.tenants.tokens.page() if t.id == token]
    assert (what.tenant, what.token, what.module, what.version) == ("shut", token, NAME, "v1.0.0")
    assert count == 7
    assert used.last_used_on == what.day


@pytest.mark.parametrize("tail", ["@v/list", "@latest", "@v/master.info"])
async def test_F48_a_failed_ask_is_logged_under_the_request_id_as_the_502_promises(
    logged: Logged, fake: FakeGoproxy, tail: str
) -> None:
    fake.fault(f"/{NAME}/{tail}", Fault.status(401, b"their own words"), times=None)
    got = await logged.site.ask(f"/goproxy/open/{NAME}/{tail}")
    assert got.status == 502
    [line] = logged.log.events("upstream failed")
    assert line["request_id"] == got.header("x-request-id")
    assert line["error"].startswith(f"{fake.url}/{NAME}/{tail} answered 401")


async def test_what_is_absent_upstream_is_no_failure(logged: Logged) -> None:
    assert (await logged.site.ask("/goproxy/open/example.com/no/@v/list")).status == 404
    assert logged.log.events("upstream failed") == []


async def test_requests_are_counted_by_existing_tenants_alone(logged: Logged) -> None:
    def counts() -> dict[tuple[str, str], float]:
        hotpath.flush()
        families = meters().registry.collect()
        return {
            (sample.labels["tenant"], sample.labels["outcome"]): sample.value
            for family in families
            for sample in family.samples
            if sample.name == "moorage_tenant_requests_total"
        }

    before = counts()
    for tail, tenant in (
        (f"/{NAME}/@v/v1.0.0.info", "open"),
        (f"/{NAME}/@v/v1.0.0.info", "open"),  # from memory
        (f"/{NAME}/@v/v9.9.9.info", "open"),  # upstream has none
        (f"/{NAME}/@v/v1.0.0.info", "shut"),  # no token
        (f"/{NAME}/@v/v1.0.0.info", "nobody"),
    ):
        await logged.site.ask(f"/goproxy/{tenant}{tail}")
    grown = {key: n - before.get(key, 0) for key, n in counts().items() if n > before.get(key, 0)}
    assert grown == {("open", "allowed"): 3, ("shut", "denied"): 1}
