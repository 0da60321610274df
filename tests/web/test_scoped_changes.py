"""A change ends the prepared answers of those whom it concerns, and of nobody else."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.core.tenant import TenantSettings
from app.db.generation import RELEASES, bump_generation
from app.services.assembly import Services
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import info_of, module
from tests.installation import running
from tests.nouns import a_credential, a_route, a_rule, a_tenant, an_owner
from tests.web.api import ok
from tests.web.harbour import add_tenant, add_token, bearer, harbour, replace_tenant, settled
from tests.web.wire import Site

X = module("example.com/x", "v1.0.0")
MOD = "example.com/x/@v/v1.0.0.mod"


@dataclass(frozen=True)
class Two:
    """Two tenants, both open to read, and a token of the first; both have an answer prepared."""

    site: Site
    token: str
    secret: str

    def is_hot(self, tenant: str, secret: str = "") -> bool:
        """Whether a GET is answered from memory."""
        headers = [(b"host", b"localhost")]
        if secret:
            headers.append((b"authorization", f"Bearer {secret}".encode()))
        app = self.site.application
        head = app.plain_head(headers, "127.0.0.1")
        assert head is not None
        return app.instant(f"/goproxy/{tenant}/{MOD}".encode(), head) is not None

    async def warm(self) -> None:
        for tenant in ("acme", "globex"):
            for headers in ({}, bearer(self.secret)):
                got = await self.site.ask(f"/goproxy/{tenant}/{MOD}", headers=headers)
                assert got.status == 200
        assert self.is_hot("acme")
        assert self.is_hot("globex")


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    with FakeGoproxy([X]) as fake:
        async with harbour(tmp_path) as site:
            await add_tenant(site.services, "acme", fake, hosts=("acme.example",))
            await add_tenant(site.services, "globex", fake)
            await site.services.tenants.credentials.put(
                "acme", "old", a_credential("bearer", "s"), OPERATOR
            )
            token, secret = await add_token(site.services, "acme")
            two = Two(site, token, secret)
            await two.warm()
            yield two


Change = Callable[[Services], Awaitable[object]]

_RULE = a_rule(Effect.DENY, "evil.example")
OF_ACME: dict[str, Change] = {
    "title": lambda s: replace_tenant(
        s, a_tenant("acme", "new", Effect.ALLOW, anonymous_read=True)
    ),
    "rule": lambda s: s.tenants.rules.create("acme", _RULE, OPERATOR),
    "route": lambda s: s.tenants.routes.create("acme", a_route("a.b", "https://a.b"), OPERATOR),
    "credential": lambda s: s.tenants.credentials.remove("acme", "old", OPERATOR),
    "token": lambda s: s.tenants.tokens.create("ci", tenant="acme"),
    "log": lambda s: s.sumdb.logs.create("acme"),
    "refresh": lambda s: s.modules.refresh.forget("acme", "example.com/x", OPERATOR),
}
OF_ALL: dict[str, Change] = {
    "platform rule": lambda s: s.tenants.rules.create(None, _RULE, OPERATOR),
    "platform token": lambda s: s.tenants.tokens.create("admin"),
    "owned prefix": lambda s: s.tenants.ownership.put(an_owner("a.b", "acme"), OPERATOR),
    "private route": lambda s: s.tenants.routes.create(
        "acme", a_route("example.com", "https://a.b", private=True), OPERATOR
    ),
    "private hosts": lambda s: s.tenants.tenants.change(
        "acme", TenantSettings(private_hosts=("athens.corp",)), OPERATOR
    ),
    "removed tenant": lambda s: s.tenants.tenants.remove("acme", OPERATOR),
    # What a program of an earlier version changes is unknown, so it may be anything.
    "earlier version": lambda s: s.shared.db.write(
        lambda session: session.execute(text("UPDATE generation SET value = value + 1"))
    ),
}


@pytest.mark.parametrize("name", OF_ACME)
async def test_a_change_of_one_tenant_leaves_what_was_prepared_for_another(
    two: Two, name: str
) -> None:
    await OF_ACME[name](two.site.services)
    await settled(two.site.services)
    assert (two.is_hot("acme"), two.is_hot("globex")) == (False, True)


@pytest.mark.parametrize("name", OF_ALL)
async def test_a_change_that_concerns_all_ends_what_was_prepared_for_anybody(
    two: Two, name: str
) -> None:
    await OF_ALL[name](two.site.services)
    await settled(two.site.services)
    assert (two.is_hot("acme"), two.is_hot("globex")) == (False, False)


async def test_after_a_change_by_an_earlier_version_changes_are_told_apart_again(two: Two) -> None:
    services = two.site.services
    await OF_ALL["earlier version"](services)
    await OF_ACME["route"](services)  # this one can't say yet what was changed before it
    await settled(services)
    assert not two.is_hot("globex")
    await two.warm()
    await OF_ACME["rule"](services)
    await settled(services)
    assert (two.is_hot("acme"), two.is_hot("globex")) == (False, True)


async def test_F26_a_revoked_token_ends_what_it_was_answered_where_anybody_may_read(
    two: Two,
) -> None:
    assert two.is_hot("globex", two.secret)
    await two.site.services.tenants.tokens.revoke(two.token)
    await settled(two.site.services)
    assert not two.is_hot("globex", two.secret)
    got = await two.site.ask(f"/goproxy/globex/{MOD}", headers=bearer(two.secret))
    assert got.status == 401
    assert two.is_hot("globex")  # what a client without a token was answered


async def test_a_private_name_of_one_tenant_is_refused_to_another_at_once(two: Two) -> None:
    await OF_ALL["private route"](two.site.services)
    await settled(two.site.services)
    assert (await two.site.ask(f"/goproxy/globex/{MOD}")).status == 403


async def test_a_host_that_moves_leads_to_its_new_tenant_alone(two: Two) -> None:
    services, host = two.site.services, {"Host": "acme.example"}
    assert (await two.site.ask(f"/goproxy/{MOD}", headers=host)).status == 200
    await replace_tenant(services, a_tenant("acme", "", Effect.ALLOW, anonymous_read=True))
    closed = a_tenant("globex", "", Effect.ALLOW, hosts=("acme.example",))
    await replace_tenant(services, closed)
    await settled(services)
    assert (await two.site.ask(f"/goproxy/{MOD}", headers=host)).status == 401


async def test_a_token_of_another_process_works_at_once_and_its_file_is_fetched_once(
    tmp_path: Path,
) -> None:
    """The process that is asked has not polled since."""
    with FakeGoproxy([X]) as fake:
        async with harbour(tmp_path) as site, running(site.services.shared.settings) as other:
            await add_tenant(site.services, "before", fake, open_to_all=False)
            _, secret = await add_token(other, "before")
            got = await site.ask(f"/goproxy/before/{MOD}", headers=bearer(secret))
            assert (got.status, sum(fake.hits.values())) == (200, 1)
            await add_tenant(other, "made", fake, open_to_all=False)
            _, secret = await add_token(other, "made")
            got = await site.ask(f"/goproxy/made/{MOD}", headers=bearer(secret))
            assert got.status == 200
            await add_tenant(other, "open", fake)
            assert (await site.ask(f"/goproxy/open/{MOD}")).status == 200


async def test_an_info_that_is_taken_over_ends_answers_of_its_upstreams_tenants_alone(
    two: Two,
) -> None:
    info = "/example.com/x/@v/v1.0.0.info"
    with FakeGoproxy([X]) as own:
        await add_tenant(two.site.services, "initech", own)
        assert (await two.site.ask(f"/goproxy/initech{info}")).body == X.info
        await two.warm()
        changed = info_of(X.version, "2030-01-01T00:00:00Z", {})
        own.put_raw(info, changed)
        await two.site.services.modules.refresh.compare("initech", X.path, X.version, OPERATOR)
        await settled(two.site.services)
        assert two.is_hot("acme")
        assert two.is_hot("globex")
        assert (await two.site.ask(f"/goproxy/initech{info}")).body == changed


async def test_a_release_index_that_is_read_ends_no_answers_of_tenants(two: Two) -> None:
    catalog = two.site.services.releases.catalog
    before = catalog.changed_at
    await two.site.services.shared.db.write(lambda s: bump_generation(s, [RELEASES]))
    await settled(two.site.services)
    assert two.is_hot("acme")
    assert catalog.changed_at > before
    assert (await catalog.current()).generation == catalog.changed_at


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/tenants/acme/rules", {"effect": "deny", "pattern": "example.com/x"}, 403),
        ("DELETE", "/tokens/{token}", None, 401),
        ("PATCH", "/tenants/acme", {"enabled": False}, 401),
    ],
)
async def test_a_change_acts_before_the_admin_hears_that_it_was_made(
    two: Two, method: str, path: str, body: dict[str, object] | None, status: int
) -> None:
    await two.warm()
    await ok(two.site, method, path.format(token=two.token), body)
    got = await two.site.ask(f"/goproxy/acme/{MOD}", headers=bearer(two.secret))
    assert got.status == status


async def test_a_route_for_private_names_holds_for_the_next_request(two: Two) -> None:
    with FakeGoproxy([module("corp.example/y", "v1.0.0")]) as private:
        body = {"pattern": "corp.example/*", "upstreams": [{"url": private.url}]}
        await ok(two.site, "POST", "/tenants/acme/routes", body)
        got = await two.site.ask("/goproxy/acme/corp.example/y/@v/v1.0.0.mod")
    assert got.status == 200
