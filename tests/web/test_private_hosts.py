"""Upstreams in the own network: only where a platform admin says so for the tenant, never here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.web.api import ok, refused
from tests.web.asking import admin_of, rows
from tests.web.harbour import add_route, add_tenant, harbour, settled
from tests.web.wire import Site

X = module("example.com/x", "v1.0.0")
MOD = "example.com/x/@v/v1.0.0.mod"
ROUTES = "/tenants/acme/routes"


@asynccontextmanager
async def site_over(folder: Path, *tenant_hosts: str) -> AsyncIterator[tuple[Site, FakeGoproxy]]:
    """Serve the tenants acme and globex, without routes, beside an upstream on loopback."""
    with FakeGoproxy([X]) as fake:
        async with harbour(folder, network={"tenant_hosts": list(tenant_hosts)}) as site:
            for tenant in ("acme", "globex"):
                await add_tenant(site.services, tenant)
            yield site, fake


def host_of(fake: FakeGoproxy) -> str:
    return urlsplit(fake.url).netloc


async def list_hosts(site: Site, tenant: str, *hosts: str) -> None:
    await ok(site, "PATCH", f"/tenants/{tenant}", {"private_hosts": list(hosts)})
    await settled(site.services)


async def test_a_tenants_admin_reaches_a_private_address_only_once_it_is_listed(
    tmp_path: Path,
) -> None:
    async with site_over(tmp_path) as (site, fake):
        inside = await admin_of(site, "acme")
        body: dict[str, Any] = {"pattern": "*", "upstreams": [fake.url]}
        refusal = await inside.ask("POST", ROUTES, body)
        assert (refusal.status, "--private-host 127.0.0.1:" in refusal.text) == (403, True)
        listing = {"private_hosts": [host_of(fake)]}
        refusal = await inside.ask("PATCH", "/tenants/acme", listing)
        assert (refusal.status, "a platform admin's" in refusal.text) == (403, True)
        assert fake.hits == {}
        await list_hosts(site, "acme", host_of(fake))
        [row] = await rows(site, "tenant.update")
        assert f"private hosts {host_of(fake)}" in row.detail
        assert (await inside.ask("POST", ROUTES, body)).status == 201
        await settled(site.services)
        assert (await site.ask(f"/goproxy/acme/{MOD}")).body == X.mod


async def test_a_host_that_is_listed_no_more_is_not_reached(tmp_path: Path) -> None:
    async with site_over(tmp_path) as (site, fake):
        await list_hosts(site, "acme", "127.0.0.1")
        await add_own_route(site, "acme", fake)
        await list_hosts(site, "acme")
        assert (await site.ask(f"/goproxy/acme/{MOD}")).status == 502
        assert fake.hits == {}


async def test_a_listed_host_is_closed_to_other_tenants_with_all_that_came_from_it(
    tmp_path: Path,
) -> None:
    async with site_over(tmp_path) as (site, fake):
        for tenant in ("globex", "acme"):
            await list_hosts(site, tenant, "127.0.0.1")
            await add_own_route(site, tenant, fake)
        assert (await site.ask(f"/goproxy/acme/{MOD}")).status == 200
        assert (await site.ask(f"/goproxy/globex/{MOD}")).status == 200
        await list_hosts(site, "globex")
        got = await site.ask(f"/goproxy/globex/{MOD}")
        assert (got.status, "private host of other tenants" in got.text) == (403, True)
        explained = await ok(site, "GET", "/tenants/globex/explain?module=example.com/x")
        assert "private host of other tenants" in explained["route_refusal"]
        assert explained["stored"] == []
        again = {"module": "example.com/x", "version": "v1.0.0"}
        status, _ = await refused(site, "POST", "/tenants/globex/refresh", again)
        assert status == 409
        assert (await site.ask(f"/goproxy/acme/{MOD}")).status == 200


async def test_the_settings_list_hosts_for_every_tenant(tmp_path: Path) -> None:
    async with site_over(tmp_path, "127.0.0.1") as (site, fake):
        await list_hosts(site, "globex", "127.0.0.1")
        for tenant in ("acme", "globex"):
            await add_route(site.services, tenant, "*", fake)
            assert (await site.ask(f"/goproxy/{tenant}/{MOD}")).status == 200


async def test_a_platform_admin_says_so_by_writing_the_route(tmp_path: Path) -> None:
    async with site_over(tmp_path) as (site, fake):
        await list_hosts(site, "globex", "127.0.0.1")
        part = {"default": "allow", "anonymous_read": True, "routes": [_everything_to(fake)]}
        await ok(site, "POST", "/apply", {"document": {"tenants": {"acme": part}}})
        await settled(site.services)
        assert (await site.ask(f"/goproxy/acme/{MOD}")).body == X.mod


async def test_a_tenants_admin_changes_all_of_that_route_but_where_it_leads(tmp_path: Path) -> None:
    async with site_over(tmp_path) as (site, fake):
        await add_route(site.services, "acme", "*", fake)
        inside = await admin_of(site, "acme")
        route = f"{ROUTES}/{(await ok(site, 'GET', ROUTES))['items'][0]['id']}"
        assert (await inside.ask("PUT", route, _everything_to(fake) | {"ttl_s": 9})).status == 200
        await settled(site.services)
        assert (await site.ask(f"/goproxy/acme/{MOD}")).body == X.mod
        upstream = {"url": fake.url, "redirect_to": ["http://127.0.0.1:1"]}
        for elsewhere in (f"{fake.url}/other", upstream):
            body = {"pattern": "*", "upstreams": [elsewhere]}
            refusal = await inside.ask("PUT", route, body)
            assert (refusal.status, "--private-host 127.0.0.1:" in refusal.text) == (403, True)


async def test_a_platform_admin_who_changes_a_note_opens_no_host_that_the_tenant_chose(
    tmp_path: Path,
) -> None:
    async with site_over(tmp_path) as (site, fake):
        await list_hosts(site, "acme", "127.0.0.1")
        await add_own_route(site, "acme", fake)
        await list_hosts(site, "acme")
        route = f"{ROUTES}/{(await ok(site, 'GET', ROUTES))['items'][0]['id']}"
        await ok(site, "PUT", route, _everything_to(fake) | {"note": "seen"})
        part = {"default": "allow", "anonymous_read": True}
        part |= {"routes": [_everything_to(fake) | {"note": "seen again"}]}
        for _ in range(2):
            await settled(site.services)
            assert (await site.ask(f"/goproxy/acme/{MOD}")).status == 502
            await ok(site, "POST", "/apply", {"document": {"tenants": {"acme": part}}})
        assert fake.hits == {}
        await ok(site, "DELETE", route)
        await add_route(site.services, "acme", "*", fake)
        assert (await site.ask(f"/goproxy/acme/{MOD}")).status == 200


async def add_own_route(site: Site, tenant: str, fake: FakeGoproxy) -> None:
    """Add a route as the tenant's own admin."""
    inside = await admin_of(site, tenant)
    got = await inside.ask("POST", f"/tenants/{tenant}/routes", _everything_to(fake))
    assert got.status == 201
    await settled(site.services)


def _everything_to(fake: FakeGoproxy) -> dict[str, Any]:
    return {"pattern": "*", "upstreams": [fake.url]}


async def test_a_tenants_own_route_is_not_served_what_a_platform_admins_route_brought_in(
    tmp_path: Path,
) -> None:
    async with site_over(tmp_path, "127.0.0.1") as (site, fake):
        await add_route(site.services, "acme", "*", fake)
        assert (await site.ask(f"/goproxy/acme/{MOD}")).status == 200
        for tenant in ("globex", "initech"):
            if tenant == "initech":
                await add_tenant(site.services, tenant)
            inside = await admin_of(site, tenant)
            made = await inside.ask("POST", f"/tenants/{tenant}/routes", _everything_to(fake))
            assert made.status == 201
            await settled(site.services)
            assert (await site.ask(f"/goproxy/{tenant}/{MOD}")).body == X.mod
        # Once for all platform admins' routes, and once for all that tenants' own admins write.
        assert fake.hits[f"/{MOD}"] == 2


async def test_our_own_listener_is_no_upstream_whatever_is_listed(tmp_path: Path) -> None:
    async with site_over(tmp_path, "127.0.0.1") as (site, fake):
        await add_route(site.services, "globex", "*", fake)
        await list_hosts(site, "acme", "127.0.0.1")
        for host in ("127.0.0.1", "127.0.0.2"):
            await list_hosts(site, "acme", host)
            await add_route(
                site.services,
                "acme",
                f"{host}.example",
                f"http://{host}:{site.port}/goproxy/globex",
            )
            got = await site.ask(f"/goproxy/acme/{host}.example/@v/list")
            assert got.status == 502
        assert fake.hits == {}
