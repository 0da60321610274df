"""Opening upstreams: how long an opened secret is held, and which origins there are."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.principal import OPERATOR
from app.services.assembly import Services
from tests.installation import running
from tests.nouns import a_credential, an_upstream
from tests.web.harbour import add_route, add_tenant, proxy_settings, settled

URL = "https://repo.example/go"


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with running(proxy_settings(tmp_path)) as one:
        await add_tenant(one, "acme")
        await put(one, "first secret")
        await add_route(one, "acme", "corp.example/*", an_upstream(URL, "repo"), private=True)
        yield one


async def put(services: Services, secret: str) -> None:
    credential = a_credential("bearer", secret)
    await services.tenants.credentials.put("acme", "repo", credential, OPERATOR)
    await settled(services)


async def opened(services: Services) -> str:
    """Open the route's upstream; return the header that it gets."""
    policy = await services.shared.policies.current()
    acme = policy.tenants["acme"]
    [upstream] = acme.routes[0].upstreams
    source = services.modules.upstreams.open(acme.routes[0], upstream, policy, acme.tenant)
    assert source.proxy.credential is not None
    return repr(source.proxy.credential.value)


def held(services: Services) -> str:
    credentials = services.modules.upstreams._credentials
    return " ".join(repr(credential.value) for credential in credentials.values())


async def test_a_rotated_secret_is_held_no_more(services: Services) -> None:
    assert "first secret" in await opened(services)
    await services.modules.upstreams.step()
    assert "first secret" in held(services)
    await put(services, "second secret")
    await services.modules.upstreams.step()
    assert held(services) == ""
    assert "second secret" in await opened(services)
    assert "first secret" not in held(services)


async def test_a_removed_secret_is_held_no_more(services: Services) -> None:
    await opened(services)
    routes = services.tenants.routes
    [route] = await routes.page("acme", OPERATOR)
    await routes.remove("acme", route.id, OPERATOR)
    await services.tenants.credentials.remove("acme", "repo", OPERATOR)
    await settled(services)
    await services.modules.upstreams.step()
    assert held(services) == ""


async def test_a_request_of_an_earlier_policy_brings_no_secret_back(services: Services) -> None:
    policy = await services.shared.policies.current()
    [upstream] = policy.tenants["acme"].routes[0].upstreams
    await put(services, "second secret")
    await services.modules.upstreams.step()
    acme = policy.tenants["acme"]
    services.modules.upstreams.open(acme.routes[0], upstream, policy, acme.tenant)
    assert held(services) == ""


async def test_origins_are_those_of_settings_and_present_routes(services: Services) -> None:
    before = await services.origins()
    assert {"https://repo.example", "http://127.0.0.1:9"} <= before
    routes = services.tenants.routes
    [route] = await routes.page("acme", OPERATOR)
    await routes.remove("acme", route.id, OPERATOR)
    await settled(services)
    assert before - await services.origins() == {"https://repo.example"}
