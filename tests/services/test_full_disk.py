"""A server on a full disk: it starts, and an admin can revoke and deny in every way.

The disk of tests/e2e/test_disk.py is really full. Here the floor is higher than any disk.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.effect import Effect
from app.core.errors import StorageFullError
from app.core.principal import OPERATOR
from app.core.tenant import TenantSettings
from app.services.assembly import Services
from app.services.tenants.plan import Document
from app.storage.freespace import FreeSpace
from tests.installation import running
from tests.nouns import a_rule
from tests.web.harbour import add_rule, add_tenant, add_token, proxy_settings

# PostgreSQL has no disk of this host; what is stored beside it: tests/invariants.
pytestmark = pytest.mark.only_sqlite


@pytest.fixture
async def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Services]:
    """Start services on a disk that became full while they were stopped."""
    settings = proxy_settings(tmp_path)
    async with running(settings) as before:
        await add_tenant(before, "acme")
        await add_rule(before, "acme", Effect.ALLOW, "known.example/*")
        await add_token(before, "acme")

    def full(_: FreeSpace, size_bytes: int) -> int:
        raise StorageFullError(f"no room for {size_bytes}")

    monkeypatch.setattr(FreeSpace, "require", full)
    async with running(settings) as after:
        yield after


async def test_F88_a_token_is_revoked_and_none_is_made(services: Services) -> None:
    tokens = services.tenants.tokens
    [token] = await tokens.page(OPERATOR, tenant="acme")
    await tokens.revoke(token.id)
    with pytest.raises(StorageFullError):
        await tokens.create("another", tenant="acme")


async def test_F88_a_rule_may_deny_and_may_not_allow(services: Services) -> None:
    rules = services.tenants.rules
    made = await rules.create("acme", a_rule(Effect.DENY, "evil.example/*"), OPERATOR)
    await rules.update("acme", made.id, a_rule(Effect.DENY, "evil.example"), OPERATOR)
    await rules.create(None, a_rule(Effect.DENY, "evil.example/*"), OPERATOR)
    for tenant in ("acme", None):
        with pytest.raises(StorageFullError):
            await rules.remove(tenant, made.id, OPERATOR)
    with pytest.raises(StorageFullError):
        await rules.create("acme", a_rule(Effect.ALLOW, "good.example/*"), OPERATOR)
    with pytest.raises(StorageFullError):
        await rules.update("acme", made.id, a_rule(Effect.ALLOW, "evil.example"), OPERATOR)


async def test_F88_a_tenant_is_switched_off_and_not_on(services: Services) -> None:
    tenants = services.tenants.tenants
    off = await tenants.change("acme", TenantSettings(enabled=False), OPERATOR)
    assert not off.enabled
    with pytest.raises(StorageFullError):
        await tenants.change("acme", TenantSettings(enabled=True), OPERATOR)


@pytest.mark.parametrize(
    ("effect", "is_applied"), [(Effect.DENY, True), (Effect.ALLOW, False)], ids=["deny", "allow"]
)
async def test_F88_a_document_that_only_denies_is_applied(
    services: Services, effect: Effect, is_applied: bool
) -> None:
    rules = [
        {"effect": "allow", "pattern": "known.example/*"},
        {"effect": effect, "pattern": "evil.example/*"},
    ]
    acme = {"default": "allow", "anonymous_read": True, "rules": rules}
    document = Document.model_validate({"tenants": {"acme": acme}})
    if is_applied:
        [change] = await services.tenants.documents.apply(document, OPERATOR)
        assert "evil.example" in str(change)
    else:
        with pytest.raises(StorageFullError):
            await services.tenants.documents.apply(document, OPERATOR)


async def test_F88_counts_of_downloads_wait_for_room(services: Services) -> None:
    usage = services.shared.usage
    usage.count("acme", "", "known.example/x", "v1.0.0")
    await usage.flush()
    assert usage._downloads.total() == 1


async def test_F88_stored_toolchains_are_found(services: Services) -> None:
    assert await services.modules.toolchains.origin() > 0
