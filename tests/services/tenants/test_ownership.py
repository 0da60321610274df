"""Owned prefixes: one owner, whatever the case of the letters."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.errors import ConflictError
from app.core.principal import OPERATOR
from app.services.assembly import Services
from tests.installation import running
from tests.nouns import a_tenant, an_owner
from tests.web.harbour import proxy_settings


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with running(proxy_settings(tmp_path)) as made:
        yield made


async def test_F19_a_prefix_that_differs_in_case_alone_is_owned_already(services: Services) -> None:
    tenants, ownership = services.tenants.tenants, services.tenants.ownership
    for name in ("acme", "globex"):
        await tenants.create(a_tenant(name), OPERATOR, catch_all=False)
    await ownership.put(an_owner("example.com/Acme", "acme"), OPERATOR)
    with pytest.raises(ConflictError, match=r"example\.com/Acme is owned already"):
        await ownership.put(an_owner("example.com/aCME", "globex"), OPERATOR)
    await ownership.put(an_owner("example.com/Acme", "acme", "globex"), OPERATOR)
    await ownership.put(an_owner("example.com/acme/sub", "globex"), OPERATOR)
    await ownership.remove("example.com/Acme", OPERATOR)
    await ownership.put(an_owner("example.com/aCME", "globex"), OPERATOR)
    owned = await ownership.page(OPERATOR)
    assert [one.prefix for one in owned] == ["example.com/aCME", "example.com/acme/sub"]
