"""A page of a list costs the same among 100 tenants as among 10, and is read by an index."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from app.services.assembly import Services
from app.web.admin.app import create_admin
from app.web.admin.context import Backend, Callers
from app.web.health import Health
from app.web.limits import AdminRates, WrongTokens
from app.web.tenancy import Gateways
from tests.many import FEW, MANY, TENANT, installation
from tests.statements import Seen, watched
from tests.web.harbour import bearer

LISTS = (
    "/tenants",
    "/rules",
    "/ownership",
    "/tokens",
    "/audit",
    "/audit/downloads",
    f"/tenants/{TENANT}/rules",
    f"/tenants/{TENANT}/routes",
    f"/tenants/{TENANT}/credentials",
    f"/tenants/{TENANT}/tokens",
)
SHOWN = (f"/tenants/{TENANT}", f"/tenants/{TENANT}/log")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def sizes(module_folder: Path) -> AsyncIterator[list[Services]]:
    async with (
        installation(module_folder / "few", FEW) as few,
        installation(module_folder / "many", MANY) as many,
    ):
        yield [few, many]


@asynccontextmanager
async def asking(services: Services, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the admin API with a token of that name."""
    shared = services.shared
    health = Health(shared.db, shared.store, services.releases.keyring)
    callers = Callers(Gateways(()), AdminRates(1_000_000, 1_000_000), WrongTokens(1_000_000))
    application = create_admin(Backend(services, callers, health))
    _, secret = await services.tenants.tokens.create(name)
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(
        transport=transport, headers=bearer(secret), base_url="http://moorage/api/v1"
    ) as client:
        yield client


async def second_page(services: Services, path: str) -> tuple[Seen, int]:
    """Return what reading the second page of a list sends, and how many items the page has.

    The first page is the second of a list that has only one.
    """
    url = f"{path}?limit=2"
    async with asking(services, f"for {path}") as client:
        cursor = (await client.get(url)).raise_for_status().json()["next_cursor"]
        with watched(services.shared.db) as seen:
            answer = await client.get(url if cursor is None else f"{url}&cursor={cursor}")
    return seen, len(answer.raise_for_status().json()["items"])


async def shown(services: Services, path: str) -> Seen:
    """Return what showing one object sends."""
    async with asking(services, f"for {path}") as client:
        (await client.get(path)).raise_for_status()
        with watched(services.shared.db) as seen:
            (await client.get(path)).raise_for_status()
    return seen


@pytest.mark.parametrize("path", LISTS)
async def test_a_page_costs_the_same_among_many_tenants(sizes: list[Services], path: str) -> None:
    (of_few, _), (of_many, items) = [await second_page(services, path) for services in sizes]
    assert items
    assert of_many.count == of_few.count <= 8
    assert of_many.scans(sizes[1].shared.db) == []


@pytest.mark.parametrize("path", SHOWN)
async def test_one_object_costs_the_same_among_many_tenants(
    sizes: list[Services], path: str
) -> None:
    of_few, of_many = [await shown(services, path) for services in sizes]
    assert of_many.count == of_few.count <= 8
    assert of_many.scans(sizes[1].shared.db) == []
