"""Identities of tenants' rows: an id is never used again, an origin is URL and credential."""

import pytest

from app.core.credential import RecordedCredential
from app.core.errors import ConflictError
from app.core.tenant import RecordedTenant
from app.db.credentials import CredentialTable
from app.db.engine import Database, Session
from app.db.routes import RouteTable
from app.db.tenants import TenantTable
from tests.nouns import AT, recorded_route, recorded_tenant, recorded_upstream

pytestmark = pytest.mark.both_shapes

URL = "https://proxy.example"


async def added(database: Database, name: str = "acme", *hosts: str) -> RecordedTenant:
    def work(session: Session) -> RecordedTenant | None:
        TenantTable(session).add_all([recorded_tenant(name, *hosts)])
        return TenantTable(session).get(name)

    tenant = await database.write(work)
    assert tenant is not None
    return tenant


def credential(session: Session, tenant: RecordedTenant, name: str) -> int:
    table = CredentialTable(session)
    before = table.get(tenant.id, name)
    after = RecordedCredential(
        id=0,
        tenant=tenant.name,
        name=name,
        kind="bearer",
        sealed=b"sealed",
        revision=1,
        created_at=AT,
        changed_at=AT,
    ).succeeding(before)
    if before is None:
        table.add_all([after], {tenant.name: tenant.id})
    else:
        table.save_all([after])
    return table.ids_of(tenant.id)[name]


def origin(
    session: Session, tenant: RecordedTenant, pattern: str, credential_id: int | None
) -> int:
    upstream = recorded_upstream(0, URL, credential_id=credential_id)
    route = recorded_route(0, pattern, upstream, tenant=tenant.name)
    [route_id] = RouteTable(session).add_all([route], {tenant.name: tenant.id})
    recorded = RouteTable(session).get(tenant.id, route_id)
    assert recorded is not None
    return recorded.upstreams[0].origin_id


async def test_a_tenants_id_is_never_used_again(database: Database) -> None:
    first = await added(database)
    await database.write(lambda s: TenantTable(s).remove_all([first.id]))
    assert (await added(database)).id > first.id


async def test_a_credentials_id_is_never_used_again_or_another_would_see_its_modules(
    database: Database,
) -> None:
    acme, globex = await added(database), await added(database, "globex")
    first = await database.write(lambda s: credential(s, acme, "nexus"))
    seen = await database.write(lambda s: origin(s, acme, "a.b", first))
    await database.write(lambda s: RouteTable(s).remove_of([acme.id]))
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


def test_a_row_is_saved_only_at_the_revision_that_was_seen(session: Session) -> None:
    table = TenantTable(session)
    table.add_all([recorded_tenant("acme")])
    seen = table.get("acme")
    assert seen is not None
    changed = seen.model_copy(update={"title": "two", "revision": seen.revision + 1})
    table.save_all([changed])
    with pytest.raises(ConflictError, match="changed or removed meanwhile"):
        table.save_all([changed.model_copy(update={"title": "lost"})])
    assert table.get("acme") == changed
