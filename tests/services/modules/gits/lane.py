"""A site, a git server, and what a test asks of both."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.principal import OPERATOR
from tests.fakes.git import FakeGit
from tests.nouns import a_credential, an_upstream
from tests.web.harbour import add_route, settled
from tests.web.wire import Got, Site

HOST = "git.corp.example"


@dataclass(slots=True)
class GitLane:
    """A site whose tenants have routes to a git server."""

    site: Site
    fake: FakeGit
    folder: Path

    async def route(
        self, tenant: str = "acme", password: str = "", user: str = "ci", **more: Any
    ) -> None:
        """Give a tenant a route to the git server, with a credential or without."""
        name = more.pop("credential_name", None)
        if password:
            name = "git"
            credential = a_credential("basic", password, user)
            await self.site.services.tenants.credentials.put(tenant, name, credential, OPERATOR)
        url = more.pop("url", f"git+http://127.0.0.1:{self.fake.port}/{{path}}.git")
        route = {key: more.pop(key) for key in ("ttl_s", "forks") if key in more}
        await add_route(
            self.site.services, tenant, HOST, an_upstream(url, name, **more), private=True, **route
        )

    async def ask(self, path: str, tenant: str = "acme") -> Got:
        """Ask for a path below HOST: "team/x/@v/list"."""
        return await self.site.ask(f"/goproxy/{tenant}/{HOST}/{path}")

    async def expire(self) -> None:
        """Make every listing and every prepared answer stale."""
        refresh = self.site.services.modules.refresh
        for tenant in (await self.site.services.shared.policies.current()).tenants:
            await refresh.note_push(tenant, "team/x", "hook:tests")
        await settled(self.site.services)

    def mirrors(self) -> list[Path]:
        """Return the folders of the mirrors."""
        return sorted((self.folder / "data/git").glob("*/*"))

    def left_behind(self) -> list[str]:
        """Return what a refused fetch may not leave: packs, staged files, processes."""
        data = self.folder / "data"
        files = [*data.glob("git/*/*/objects/pack/*"), *data.glob("tmp/*/*")]
        names = [file.name for file in files if not file.name.endswith(".lock")]
        return [*names, *children()]


def children() -> list[str]:
    """Return the names of the processes that this one has started and that still run."""
    names = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, rest = (entry / "stat").read_text().partition(" (")[2].rpartition(") ")
        except OSError:
            continue
        if rest.split()[1] == str(os.getpid()) and name in ("git", "ssh"):
            names.append(name)
    return names
