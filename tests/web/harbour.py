"""Tenants over fake upstreams behind a real socket: what the tests of the GOPROXY front share."""

import base64
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from app.core.effect import Effect
from app.core.principal import OPERATOR, Scope
from app.core.routing import Upstream
from app.core.tenant import RecordedTenant, Tenant, TenantSettings
from app.db.generation import bump_generation
from app.services.assembly import Services
from app.services.clock import Now, utc_now
from app.settings import Settings
from tests.fakes.goproxy import FakeGoproxy
from tests.nouns import a_route, a_rule, a_tenant, an_upstream
from tests.shapes import place_of
from tests.web.wire import Got, Site, serving

READ = frozenset({Scope.READ})
_NOWHERE = "http://127.0.0.1:9/"  # the index of releases is of no interest here
_MANY = dict.fromkeys(
    ("tenant_rate", "bad_tokens", "admin_token_rate", "admin_address_rate"), 1000000
)


def proxy_settings(folder: Path, **more: Any) -> Settings:
    """Return settings whose only upstreams are those that a test names."""
    releases = {"index_url": f"{_NOWHERE}dl/", "files_urls": [f"{_NOWHERE}go/"]}
    limits = {**_MANY, **more.pop("limits", {})}
    network = {
        "allow": ["127.0.0.0/8"],
        "tenant_hosts": ["127.0.0.1", "localhost"],
        **more.pop("network", {}),
    }
    groups: dict[str, Any] = {"releases": releases, "limits": limits, "network": network}
    return Settings(
        data_dir=folder / "data",
        port=0,
        drain_s=0,
        shutdown_s=1,
        **{**groups, "sumdb": {"upstreams": []}, **place_of(folder), **more},
    )


@asynccontextmanager
async def harbour(folder: Path, *, now: Now = utc_now, **more: Any) -> AsyncIterator[Site]:
    """Serve without any tenant."""
    async with serving(proxy_settings(folder, **more), now=now) as site:
        yield site


async def add_tenant(
    services: Services,
    name: str,
    upstream: str | FakeGoproxy | None = None,
    *,
    default: Effect = Effect.ALLOW,
    open_to_all: bool = True,
    **more: Any,
) -> None:
    """Make a tenant with one route of everything to an upstream, or with none."""
    draft = a_tenant(name, "", default, anonymous_read=open_to_all, **more)
    await services.tenants.tenants.create(draft, OPERATOR, catch_all=False)
    if upstream is not None:
        await add_route(services, name, "*", upstream)
    await settled(services)


async def replace_tenant(services: Services, tenant: Tenant) -> RecordedTenant:
    """Give the tenant of that name all settings of another; return it."""
    settings = TenantSettings(
        **{name: getattr(tenant, name) for name in TenantSettings.model_fields}
    )
    return await services.tenants.tenants.change(tenant.name, settings, OPERATOR)


async def add_route(
    services: Services,
    tenant: str,
    pattern: str,
    *upstreams: str | FakeGoproxy | Upstream,
    **more: Any,
) -> None:
    drafts = tuple(_upstream(one) for one in upstreams)
    await services.tenants.routes.create(tenant, a_route(pattern, *drafts, **more), OPERATOR)
    await settled(services)


def _upstream(one: str | FakeGoproxy | Upstream) -> Upstream:
    if isinstance(one, Upstream):
        return one
    return an_upstream(one if isinstance(one, str) else one.url)


async def add_rule(
    services: Services,
    tenant: str | None,
    effect: Effect,
    pattern: str,
    versions: str = "",
    **more: Any,
) -> int:
    recorded = await services.tenants.rules.create(
        tenant, a_rule(effect, pattern, versions, **more), OPERATOR
    )
    await settled(services)
    return recorded.id


async def add_token(
    services: Services,
    tenant: str | None,
    scopes: Iterable[Scope] = READ,
    *,
    name: str = "tests",
    expires_at: datetime | None = None,
) -> tuple[str, str]:
    """Return a new token's id and secret."""
    token, secret = await services.tenants.tokens.create(
        name, tenant=tenant, scopes=frozenset(scopes), expires_at=expires_at
    )
    await settled(services)
    return token.id, secret


async def settled(services: Services) -> None:
    """Let this process see the newest generation now instead of within a second."""
    await services.shared.watch.poll()


async def cooled(services: Services) -> None:
    """Let every process drop what it prepared."""
    await services.shared.db.write(bump_generation)
    await settled(services)


def streams_of(site: Site, tenant: str) -> int:
    """Return how many bodies are streamed to a tenant."""
    lanes = site.application.surfaces.goproxy._admission._streams.items()
    return sum(turns._held.total() for (name, _), turns in lanes if name == tenant)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def basic(secret: str, user: str = "ci") -> dict[str, str]:
    encoded = base64.b64encode(f"{user}:{secret}".encode("latin-1")).decode()
    return {"Authorization": f"Basic {encoded}"}


def assert_one_line(got: Got, status: int) -> None:
    """It is an error as `go` shows it: one short line of plain text, and never a 500."""
    assert got.status == status, (got.status, got.body[:300])
    assert got.header("content-type") == "text/plain; charset=utf-8"
    line = got.text
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert line.strip()
    assert line[:-1].isprintable()
    assert len(line) <= 648
    assert "http://" not in line
    assert (got.header("www-authenticate") is not None) is (status == 401)
    assert (got.header("retry-after") is not None) is (status in (429, 503, 504, 507))
