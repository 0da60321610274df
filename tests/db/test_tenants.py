"""Identities of tenants' rows: an id is never used again, an origin is URL and credential."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.core.acl import Effect
from app.core.errors import ConflictError
from app.core.modulepattern import Pattern
from app.core.routing import Route, Upstream
from app.core.tenant import Tenant, TenantLimits
from app.db.engine import Database, Session
from app.db.routes import CredentialTable, RouteTable
from app.db.tenants import TenantTable

AT = datetime(2026, 11, 25, tzinfo=UTC)
ACME = Tenant(0, "acme", "", Effect.DENY, False, True, ("go.example",), TenantLimits(), 0, AT)
URL = "https://proxy.example"


async def added(database: Database, name: str = "acme", *hosts: str) -> Tenant:
    tenant = replace(ACME, name=name, hosts=hosts)
    return await database.write(lambda s: TenantTable(s).add(tenant))


def credential(session: Session, tenant: Tenant, name: str) -> int:
    table = CredentialTable(session)
    table.save(tenant, name, kind="bearer", username="", sealed=b"sealed", at=AT)
    found = table.get(tenant, name)
    assert found is not None
    return found.id


def origin(session: Session, tenant: Tenant, pattern: str, credential_id: int | None) -> int:
    upstream = Upstream(0, URL, credential=credential_id)
    table = RouteTable(session)
    route_id = table.save(Route(0, tenant.name, Pattern.parse(pattern), (upstream,)), tenant, AT)
    [found] = [r.route for r in table.of(tenant) if r.route.id == route_id]
    return found.upstreams[0].origin_id


async def test_a_tenants_id_is_never_used_again(database: Database) -> None:
    first = await added(database)
    await database.write(lambda s: TenantTable(s).remove(first))
    assert (await added(database)).id > first.id


async def test_a_credentials_id_is_never_used_again_or_another_would_see_its_modules(
    database: Database,
) -> None:
    acme, globex = await added(database), await added(database, "globex")
    first = await database.write(lambda s: credential(s, acme, "nexus"))
    seen = await database.write(lambda s: origin(s, acme, "a.b", first))
    await database.write(lambda s: RouteTable(s).remove_of(acme))
    await database.write(lambda s: CredentialTable(s).remove(first))
    second = await database.write(lambda s: credential(s, globex, "nexus"))
    assert second > first
    assert await database.write(lambda s: origin(s, globex, "a.b", second)) != seen


async def test_a_changed_secret_keeps_the_credentials_id(database: Database) -> None:
    acme = await added(database)
    first = await database.write(lambda s: credential(s, acme, "nexus"))
    assert await database.write(lambda s: credential(s, acme, "nexus")) == first


async def test_an_origin_is_the_url_and_the_credential_whoever_routes_there(
    database: Database,
) -> None:
    acme, globex = await added(database), await added(database, "globex")
    own = await database.write(lambda s: credential(s, acme, "nexus"))
    anonymous = await database.write(lambda s: origin(s, acme, "a.b", None))
    assert await database.write(lambda s: origin(s, acme, "c.d", None)) == anonymous
    assert await database.write(lambda s: origin(s, globex, "a.b", None)) == anonymous
    assert await database.write(lambda s: origin(s, acme, "e.f", own)) != anonymous


async def test_a_host_leads_to_one_tenant(database: Database) -> None:
    await added(database, "acme", "go.example")
    with pytest.raises(ConflictError):
        await added(database, "globex", "go.example")
