"""PostgreSQL is away: what is stored and was allowed is served for a while, the rest waits."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.effect import Effect
from app.db.engine import Database
from app.db.schema import upgrade
from app.settings import Settings
from tests import postgres
from tests.e2e.modules.served import add_rule, add_tenant
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.web.wire import Site, serving, until

V = "v1.0.0"
SMALL, LARGE = module("example.com/small", V), module("example.com/large", V, padding_bytes=3 << 20)
OTHER, BLOCKED = module("example.com/other", V), module("example.com/blocked", V)


@pytest.fixture
def cluster() -> Iterator[postgres.Cluster]:
    """Return a cluster that the test may stop."""
    if (reason := postgres.reason_to_skip()) is not None:
        pytest.skip(reason)
    made = postgres.Cluster()
    made.start()
    try:
        yield made
    finally:
        made.remove()


def settings_for(cluster: postgres.Cluster, fake: FakeGoproxy, folder: Path) -> Settings:
    url = cluster.url(cluster.create())
    database = Database(url)
    upgrade(database.engine)
    database.close()
    values: dict[str, Any] = {
        "data_dir": folder / "data",
        "database_url": url,
        "database": {"connect_s": 1},
        "secrets_key": base64.b64encode(b"k" * 32).decode(),
        "port": 0,
        "drain_s": 0,
        "shutdown_s": 1,
        "modules": {"upstream": fake.url},
        "network": {"allow": ["127.0.0.0/8"], "tenant_hosts": ["127.0.0.1", "localhost"]},
        "sumdb": {"upstreams": []},
    }
    return Settings.model_validate(values)


def paths(*modules: Any) -> list[str]:
    return [
        f"/goproxy/acme/{one.path}/@v/{name}"
        for one in modules
        for name in (f"{V}.info", f"{V}.mod", f"{V}.zip", "list")
    ]


async def statuses(site: Site, *modules: Any) -> set[int]:
    return {(await site.ask(path)).status for path in paths(*modules)}


async def test_what_is_stored_is_served_for_a_while_whatever_changed_before(
    cluster: postgres.Cluster, tmp_path: Path
) -> None:
    seconds = [0.0]
    with FakeGoproxy([SMALL, LARGE, OTHER, BLOCKED]) as fake:
        settings = settings_for(cluster, fake, tmp_path)
        async with serving(settings, monotonic=lambda: seconds[0]) as site:
            services = site.services
            await add_tenant(services, "acme")
            assert await statuses(site, SMALL, LARGE, BLOCKED) == {200}
            # A change ends all answers that were prepared for the tenant.
            await add_rule(services, "acme", Effect.DENY, BLOCKED.path, reason="no")
            await until(lambda: _is_denied(site))
            cluster.stop()
            for path in paths(SMALL, LARGE):
                got = await site.ask(path)
                assert got.status == 200, (path, got.text)
            assert (await site.ask(paths(LARGE)[2])).body == LARGE.zip
            assert await statuses(site, BLOCKED) == {403}
            for path in paths(OTHER)[:3]:
                got = await site.ask(path)
                assert (got.status, got.header("retry-after") is not None) == (503, True)
            await until(lambda: _note(site))
            ready = await site.ask("/readyz")
            assert ready.status == 200
            assert "is served for 60 s more" in json.loads(ready.body)["notes"]["database"]
            seconds[0] = 61.0
            await until(lambda: _is_lost(site))
            assert await statuses(site, SMALL) == {503}
            assert (await site.ask("/readyz")).status == 503
            cluster.start()
            await until(lambda: _serves(site, SMALL, LARGE, OTHER))
            assert await statuses(site, BLOCKED) == {403}


async def _is_denied(site: Site) -> bool:
    return (await site.ask(paths(BLOCKED)[0])).status == 403


async def _note(site: Site) -> bool:
    return site.services.shared.watch.bridges_outage


async def _is_lost(site: Site) -> bool:
    return site.services.shared.watch.is_lost


async def _serves(site: Site, *modules: Any) -> bool:
    return await statuses(site, *modules) == {200}
