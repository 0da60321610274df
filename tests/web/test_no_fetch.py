"""`Disable-Module-Fetch` answers with what the tenant has used, and tells nothing of others."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.core.effect import Effect
from app.core.principal import OPERATOR, Scope
from app.db.usage import ModuleUse, Usage
from app.services.assembly import Services
from app.services.usage import UsageCounter
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.web.api import ok, refused
from tests.web.harbour import (
    add_rule,
    add_tenant,
    add_token,
    bearer,
    cooled,
    harbour,
    settled,
)
from tests.web.wire import Got, Site

NAME = "example.com/x"
ONE, TWO = module(NAME, "v1.0.0"), module(NAME, "v1.1.0")
TOOLCHAIN = "golang.org/toolchain"
NO_FETCH = {"Disable-Module-Fetch": "true"}
TAILS = ("@v/list", "@latest", "@v/master.info", "@v/v1.0.0.info", "@v/v1.0.0.mod", "@v/v1.0.0.zip")


@dataclass(frozen=True)
class Two:
    """Two tenants that share an origin, open to read."""

    site: Site
    fake: FakeGoproxy

    async def ask(self, tenant: str, tail: str, name: str = NAME, **headers: str) -> Got:
        return await self.site.ask(f"/goproxy/{tenant}/{name}/{tail}", headers=headers)

    async def without_fetch(
        self, tenant: str, tail: str, secret: str = "", *, name: str = NAME
    ) -> Got:
        """Ask for what is stored, with nothing prepared in memory."""
        await cooled(self.site.services)
        more = bearer(secret) if secret else {}
        return await self.ask(tenant, tail, name, **NO_FETCH, **more)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    with FakeGoproxy([ONE, TWO]) as fake:
        fake.put_query(NAME, "master", TWO.info)
        async with harbour(tmp_path) as site:
            await add_tenant(site.services, "acme", fake)
            await add_tenant(site.services, "globex", fake)
            yield Two(site, fake)


async def _all_asked(two: Two, tenant: str) -> None:
    for tail in TAILS:
        assert (await two.ask(tenant, tail)).status == 200, tail


@pytest.mark.parametrize("tail", TAILS)
async def test_what_another_tenant_uses_is_answered_like_what_nobody_uses(
    two: Two, tail: str
) -> None:
    nobodys = await two.without_fetch("acme", tail)
    await _all_asked(two, "globex")
    got = await two.without_fetch("acme", tail)
    assert (nobodys.status, got.status) == (404, 404)
    assert got.body == nobodys.body
    fetched = await two.without_fetch("globex", tail)
    assert fetched.status == 200, tail


async def test_a_tenant_that_looked_at_a_version_does_not_learn_who_downloaded_it(two: Two) -> None:
    await two.ask("acme", "@v/v1.0.0.info")
    await two.ask("acme", "@v/v1.0.0.mod")
    await _all_asked(two, "globex")
    assert (await two.without_fetch("acme", "@v/v1.0.0.mod")).status == 200
    assert (await two.without_fetch("acme", "@v/v1.0.0.zip")).status == 404


async def test_without_a_list_of_its_own_a_tenant_gets_the_versions_that_it_used(two: Two) -> None:
    await _all_asked(two, "globex")
    assert (await two.ask("acme", "@v/v1.0.0.mod")).status == 200
    got = await two.without_fetch("acme", "@v/list")
    assert (got.status, got.body) == (200, b"v1.0.0\n")
    assert (await two.without_fetch("globex", "@v/list")).body == b"v1.0.0\nv1.1.0\n"


async def test_a_denial_holds_for_what_was_used(two: Two) -> None:
    await _all_asked(two, "acme")
    await add_rule(two.site.services, "acme", Effect.DENY, NAME, "v1.0.0")
    assert (await two.without_fetch("acme", "@v/v1.0.0.zip")).status == 403
    assert (await two.without_fetch("acme", "@v/list")).body == b"v1.1.0\n"


async def test_a_platform_admin_gets_whatever_is_stored_and_a_tenants_admin_does_not(
    two: Two,
) -> None:
    services = two.site.services
    await _all_asked(two, "globex")
    _, platform = await add_token(services, None, {Scope.ADMIN}, name="platform")
    _, reader = await add_token(services, None, {Scope.READ}, name="reader")
    _, own = await add_token(services, "acme", {Scope.ADMIN}, name="own")
    for secret, status in ((platform, 200), (reader, 404), (own, 404)):
        for tail in TAILS:
            got = await two.without_fetch("acme", tail, secret)
            assert got.status == status, tail
    assert (await two.without_fetch("acme", "@v/v1.0.0.zip")).status == 404


async def test_uses_are_written_once_and_outlive_the_process(two: Two) -> None:
    services = two.site.services
    await _all_asked(two, "acme")
    use = ModuleUse((await _tenant_id(services)), NAME, "v1.0.0", "zip")
    assert not await services.shared.db.read(lambda s: Usage(s).has_use(use))
    await services.shared.usage.flush()
    assert await services.shared.db.read(lambda s: Usage(s).has_use(use))
    another = UsageCounter(services.shared.db, services.shared.now)
    assert await another.was_answered(use)
    assert await another.used_versions(use.tenant_id, NAME) == ["v1.0.0", "v1.1.0"]
    await cooled(services)
    await _all_asked(two, "acme")
    assert not services.shared.usage._uses


async def test_a_tenant_of_the_same_name_has_used_nothing_yet(two: Two) -> None:
    services = two.site.services
    await _all_asked(two, "acme")
    await services.shared.usage.flush()
    use = ModuleUse((await _tenant_id(services)), NAME, "v1.0.0", "zip")
    await services.tenants.tenants.remove("acme", OPERATOR)
    assert not await services.shared.db.read(lambda s: Usage(s).has_use(use))
    await add_tenant(services, "acme", two.fake)
    assert (await two.without_fetch("acme", "@v/v1.0.0.zip")).status == 404


async def _tenant_id(services: Services) -> int:
    policy = await services.shared.policies.current(fresh=True)
    return policy.tenants["acme"].tenant.id


async def test_the_own_log_records_no_version_that_only_another_tenant_uses(two: Two) -> None:
    services = two.site.services
    log = await services.sumdb.logs.create("acme")
    lookup = f"/goproxy/acme/sumdb/{log.name}/lookup/{NAME}@v1.0.0"
    await settled(services)
    await _all_asked(two, "globex")
    assert (await two.site.ask(lookup, headers=NO_FETCH)).status == 404
    assert (await services.sumdb.logs.of("acme")).size == 0  # type: ignore[union-attr]
    await two.ask("acme", "@v/v1.0.0.zip")
    assert (await two.site.ask(lookup, headers=NO_FETCH)).status == 200


@pytest.mark.parametrize("kind", ["info", "mod", "zip"])
async def test_a_toolchain_that_the_tenant_never_used_is_not_fetched(two: Two, kind: str) -> None:
    got = await two.without_fetch("acme", f"@v/v0.0.1-go1.27.1.linux-amd64.{kind}", name=TOOLCHAIN)
    assert got.status == 404
    assert "asked not to fetch" in got.text
    await add_rule(two.site.services, "acme", Effect.DENY, TOOLCHAIN)
    got = await two.without_fetch("acme", f"@v/v0.0.1-go1.27.1.linux-amd64.{kind}", name=TOOLCHAIN)
    assert got.status == 403


async def test_a_tenants_admin_is_not_shown_what_is_stored_for_others(two: Two) -> None:
    services = two.site.services
    await _all_asked(two, "globex")
    _, own = await add_token(services, "acme", {Scope.ADMIN}, name="own")
    path, body = f"/tenants/acme/explain?module={NAME}&version=v1.0.0", {"module": NAME}
    refresh = "/tenants/acme/refresh", {**body, "version": "v1.0.0"}
    assert (await ok(two.site, "GET", path, token=own))["stored"] == []
    assert len((await ok(two.site, "GET", path))["stored"]) == 3
    assert (await refused(two.site, "POST", *refresh, token=own))[0] == 404
    await two.ask("acme", "@v/v1.0.0.mod")
    assert [f["kind"] for f in (await ok(two.site, "GET", path, token=own))["stored"]] == ["mod"]
    compared = await ok(two.site, "POST", *refresh, token=own)
    assert [f["kind"] for f in compared["files"]] == ["mod"]
