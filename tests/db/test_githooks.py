"""Messages of git hosts: each is taken once, and forgotten after a while."""

from datetime import timedelta

import pytest

from app.core.tenant import RecordedTenant
from app.db.engine import Session
from app.db.githooks import GitHookTable
from app.db.tenants import TenantTable
from tests.db.moments import T0, later
from tests.nouns import a_tenant

pytestmark = pytest.mark.both_shapes
ONE, OTHER = "1" * 64, "2" * 64


def test_a_message_is_new_once_for_each_tenant_until_it_is_forgotten(session: Session) -> None:
    first, second = (_tenant(session, name) for name in ("acme", "other"))
    table, before = GitHookTable(session), T0 - timedelta(days=1)
    assert table.add(first, ONE, T0, before)
    assert not table.add(first, ONE, T0, before)
    assert table.add(first, OTHER, T0, before)
    assert table.add(second, ONE, T0, before)
    assert table.add(first, ONE, later(hours=2), later(hours=1))


def _tenant(session: Session, name: str) -> int:
    TenantTable(session).add_all([RecordedTenant.first(a_tenant(name), T0)])
    return TenantTable(session).ids_of([name])[name]


def test_a_tenant_that_goes_takes_its_messages_along(session: Session) -> None:
    tenant = _tenant(session, "acme")
    GitHookTable(session).add(tenant, ONE, T0, T0)
    TenantTable(session).remove_all([tenant])
    session.flush()
    assert TenantTable(session).ids_of(["acme"]) == {}
