"""A running Moorage that relays a checksum database, and what it keeps of that.

What go runs in is `gocommand.py`'s, how a server with tenants is started `modules/served.py`'s.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from app.core.routing import LogPolicy
from app.db.engine import Database, Session
from app.db.sumdb import LogEvidence, LogTable
from app.services.assembly import Services
from app.settings import load_settings
from app.wiring import build
from tests.e2e.modules.served import (
    Arrange,
    Served,
    add_route,
    add_tenant,
    keep_from_leading,
    serving,
)
from tests.e2e.process import Site
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module
from tests.fakes.sumdb import FakeSumdb

T = TypeVar("T")

POLICIES = {"default": LogPolicy.DEFER, "strict": LogPolicy.REQUIRE, "unasked": LogPolicy.OFF}
"""Tenants, open to all, and what their route of everything has to do with the log."""

_NOWHERE = "http://127.0.0.1:9"  # nobody listens there


@dataclass(frozen=True)
class Relayed:
    """A server, the proxy that its modules come from, and the log that it relays."""

    served: Served
    proxy: FakeGoproxy
    log: FakeSumdb

    def url(self, tenant: str = "default") -> str:
        """Return what GOPROXY is set to."""
        return self.served.url(tenant)

    def gosumdb(self, tenant: str = "default") -> str:
        """Return what GOSUMDB is set to for a go that asks no proxy whether it has the log."""
        return f"{self.log.vkey} {self.url(tenant)}/sumdb/{self.log.name}"

    def publish(self, *modules: Module) -> None:
        """Have the proxy serve modules, and the log vouch for them."""
        for one in modules:
            self.proxy.put(one)
            self.log.add_module(one)

    def evidence(self) -> list[LogEvidence]:
        """Return what Moorage keeps of the log's misbehaviour."""
        return read(self.served.site, lambda s: LogTable(s, self.log.name).evidence())

    def keeps_lookup(self, module: str, version: str) -> bool:
        """Whether Moorage keeps the log's answer about a version."""
        site = self.served.site
        return read(site, lambda s: LogTable(s, self.log.name).lookup(module, version)) is not None

    def alarms(self) -> list[str]:
        """Return why the log's answers were refused, as the server's log has it."""
        events = self.served.server.events
        return [e["why"] for e in events if e["event"] == "checksum database refused"]

    def lookups_of(self, name: str) -> int:
        """Return how many lookups with a name in them came to the log."""
        hits = self.log.hits.items()
        return sum(n for path, n in hits if path.startswith("/lookup/") and name in path)


@contextmanager
def relaying(
    warm: Warm,
    folder: Path,
    proxy: FakeGoproxy,
    log: FakeSumdb,
    arrange: Arrange | None = None,
    **settings: Any,
) -> Iterator[Relayed]:
    """Serve the tenants of POLICIES from the proxy, and relay the log.

    The server runs no background pass: `pass_of_the_log` is one, when a test wants it.
    """

    async def prepare(services: Services) -> None:
        await keep_from_leading(services)
        for name, policy in POLICIES.items():
            await add_tenant(services, name, catch_all=False)
            await add_route(services, name, "*", proxy.url, log=policy)
        if arrange is not None:
            await arrange(services)

    fields = {
        "sumdb__upstreams": [{"name": log.name, "vkey": log.vkey, "url": log.url}],
        "releases__index_url": f"{_NOWHERE}/dl/",
        "releases__files_urls": [f"{_NOWHERE}/go/"],
        "releases__retry_failed_s": 0,
        **settings,
    }
    with serving(warm, folder, proxy, prepare, **fields) as served:
        yield Relayed(served, proxy, log)


def read(site: Site, work: Callable[[Session], T]) -> T:
    """Return what is read from an installation's database, whether a server runs or not."""

    async def run() -> T:
        db = Database(load_settings(site.environ).resolved_database_url)
        try:
            return await db.read(work)
        finally:
            db.close()

    return asyncio.run(run())


def pass_of_the_log(site: Site) -> int:
    """Have the public log asked about what waits for it; return how many files it vouched for.

    The server does so by itself every few minutes.
    """

    async def run() -> int:
        services = build(load_settings(site.environ))
        try:
            return await services.modules.log_pass.step()
        finally:
            await services.close()

    return asyncio.run(run())
