"""One installation for the commands of tenants, on its data directory and through its server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.e2e.process import Ended, Server, Site
from tests.e2e.warm import Warm
from tests.installation import memory_folder

_NOWHERE = "http://127.0.0.1:9/"


@dataclass(frozen=True)
class Port:
    """A served installation whose only upstreams are those that a test names."""

    site: Site
    server: Server
    warm: Warm

    def here(self, *arguments: str) -> Ended:
        """Run a command on the data directory."""
        return self.warm.run(self.site, *arguments)

    def there(self, *arguments: str) -> Ended:
        """Run a command through the server; its environment names nothing but the token."""
        environ = {"MOORAGE_TOKEN": self.server.token, "LC_ALL": "C.UTF-8"}
        return self.warm.run(
            Site(self.site.folder, environ), *arguments, "--server", self.server.url
        )

    def both(self, *arguments: str) -> Ended:
        """Run a command that only looks in both ways, and return what both printed."""
        local, remote = self.here(*arguments), self.there(*arguments)
        assert local == remote
        return local

    def done(self, *arguments: str) -> Any:
        """Return the JSON of a command that must end well."""
        ended = self.here(*arguments, "--json")
        assert ended.code == 0, ended
        return ended.json


@contextmanager
def served_port(warm: Warm, **settings: Any) -> Iterator[Port]:
    """Serve an installation in memory; it has the tenant "default", as after a first start."""
    with memory_folder() as folder:
        site = Site.new(
            folder,
            releases__index_url=f"{_NOWHERE}dl/",
            releases__files_urls=[f"{_NOWHERE}go/"],
            modules__upstream=_NOWHERE.rstrip("/"),
            network__allow=["127.0.0.0/8"],
            network__tenant_hosts=["127.0.0.1", "localhost"],
            **settings,
        )
        with warm.serve(site) as server:
            yield Port(site, server, warm)


@dataclass(frozen=True)
class Way:
    """One of the two ways that a command goes: "here" or "there"."""

    port: Port
    where: str

    def __call__(self, *arguments: str) -> Ended:
        """Run a command."""
        return self.port.here(*arguments) if self.where == "here" else self.port.there(*arguments)

    def json(self, *arguments: str) -> Any:
        """Return the JSON of a command that must end well and say nothing else."""
        ended = self(*arguments, "--json")
        assert (ended.code, ended.err) == (0, ""), ended
        return ended.json
