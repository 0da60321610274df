"""A running Moorage with an upstream of its own: what the tests with the real go point it at.

Tenants are made before the server starts, by the services that the command line uses too. What go
runs in is `gocommand.py`'s, what upstream serves `tests/fakes`'.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.core.effect import Effect
from app.core.principal import OPERATOR, Scope
from app.core.routing import Upstream
from app.db.engine import Session
from app.db.leases import LeaseTable
from app.services.assembly import Services
from app.settings import load_settings
from app.wiring import build
from tests.e2e.process import Reply, Server, Site, wait_until
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import escape
from tests.fakes.tls import TlsFront
from tests.installation import migrate
from tests.nouns import a_route, a_rule, a_tenant

Arrange = Callable[[Services], Awaitable[None]]
SIGNED_IN = "example.com/one"
"""A module that the tenants of `Secured` have."""

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Served:
    """A server, and the fake that its tenants' modules come from unless a test has others."""

    site: Site
    server: Server
    fake: FakeGoproxy

    def url(self, tenant: str = "default") -> str:
        """Return what GOPROXY is set to."""
        return f"{self.server.url}/goproxy/{tenant}"

    def get(self, path: str, tenant: str = "default", **headers: str) -> Reply:
        """Return the answer to a GET below a tenant's URL."""
        return self.server.get(f"/goproxy/{tenant}/{path}", **headers)

    def asked(self, *modules: str) -> list[dict[str, Any]]:
        """Return the logged decisions about modules; those of finished requests are complete."""
        last = f"last{next(_NUMBERS)}.example"
        self.server.get(f"/goproxy/nobody/{last}/@v/list")
        wait_until(lambda: any(last in str(line) for line in self._decisions()), "the last line")
        return [line for line in self._decisions() if line.get("module") in modules]

    def _decisions(self) -> list[dict[str, Any]]:
        return [line for line in self.server.events if line["event"] == "decision"]

    @property
    def forbidding_the_fetch(self) -> dict[str, str]:
        """The headers of an admin who wants no upstream to be asked."""
        return {"Authorization": f"Bearer {self.server.token}", "Disable-Module-Fetch": "true"}

    def has_stored(self, module: str, version: str, suffix: str) -> bool:
        """Whether a file is stored; an admin who forbids the fetch is told so."""
        path = f"{escape(module)}/@v/{escape(version)}.{suffix}"
        return self.get(path, **self.forbidding_the_fetch).status == 200


@dataclass(frozen=True)
class Secured:
    """Moorage behind TLS.

    Attributes:
        token: for the tenant `acme`, which wants one.
        others: for the tenant `other`, which wants one as well.
    """

    served: Served
    tls: TlsFront
    token: str
    others: str

    @property
    def host(self) -> str:
        """Host and port, as netrc has them."""
        return self.tls.url.removeprefix("https://")

    def url(self, tenant: str = "acme", user: str = "") -> str:
        """Return what GOPROXY is set to; user is "name:password@"."""
        return f"https://{user}{self.host}/goproxy/{tenant}"


@contextmanager
def serving(
    warm: Warm, folder: Path, fake: FakeGoproxy, arrange: Arrange | None = None, **settings: Any
) -> Iterator[Served]:
    """Serve from the fake; arrange makes what the first start would not.

    Without it there is the tenant `default`, open to everybody.
    """
    site = site_for(folder, fake, **settings)
    if arrange is not None:
        arranged(site, arrange)
    with warm.serve(site) as server:
        yield Served(site, server, fake)


def site_for(folder: Path, fake: FakeGoproxy, **settings: Any) -> Site:
    """Return an installation whose public upstream is the fake."""
    fields = {
        "modules__upstream": fake.url,
        "network__allow": ["127.0.0.0/8"],
        "network__tenant_hosts": ["127.0.0.1", "localhost"],
        # No test asks the real ones.
        "sumdb__upstreams": [],
        "releases__index_url": "http://127.0.0.1:9/dl/",
        "releases__files_urls": ["http://127.0.0.1:9/go/"],
        **settings,
    }
    return Site.new(folder, **fields)


def arranged(site: Site, arrange: Arrange) -> None:
    """Change an installation's tenants while no server runs."""
    settings = load_settings(site.environ)
    migrate(settings)

    async def run() -> None:
        services = build(settings)
        try:
            await services.shared.start()  # makes the key of secrets
            await arrange(services)
        finally:
            await services.close()

    asyncio.run(run())


async def keep_from_leading(services: Services) -> None:
    """Let no server of this installation lead, so that no background pass runs beside a test."""

    def work(session: Session) -> None:
        ttl = timedelta(days=3650)
        LeaseTable(session).acquire(
            "leader", "elsewhere/1/1", services.shared.now(), ttl, dead_owner=None
        )

    await services.shared.db.write(work)


async def add_tenant(services: Services, name: str, *, is_open: bool = True, **more: Any) -> None:
    """Make a tenant that allows everything and takes it from the public upstream.

    Args:
        services: of the installation.
        name: the tenant's.
        is_open: whether reading needs no token.
        **more: of `Tenant`, and catch_all.
    """
    catch_all = more.pop("catch_all", True)
    draft = a_tenant(name, **{"default": Effect.ALLOW, "anonymous_read": is_open, **more})
    await services.tenants.tenants.create(draft, OPERATOR, catch_all=catch_all)


async def add_route(
    services: Services, tenant: str, pattern: str, *upstreams: Upstream | str, **more: Any
) -> None:
    """Make a route to upstreams; a URL stands for one with all defaults."""
    await services.tenants.routes.create(tenant, a_route(pattern, *upstreams, **more), OPERATOR)


async def add_rule(
    services: Services, tenant: str, effect: Effect, pattern: str, versions: str = "", **more: Any
) -> None:
    """Make a rule."""
    await services.tenants.rules.create(tenant, a_rule(effect, pattern, versions, **more), OPERATOR)


async def add_token(services: Services, tenant: str) -> str:
    """Make a token for reading, and return its secret."""
    scopes = frozenset({Scope.READ})
    _, secret = await services.tenants.tokens.create("ci", tenant=tenant, scopes=scopes)
    return secret


def netrc(folder: Path, *entries: str) -> Path:
    """Write a netrc file into a folder."""
    path = folder / "netrc"
    path.write_text("\n".join(entries) + "\n")
    return path
