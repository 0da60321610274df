"""The scenario of a git repository: every version of it is asked for at once, none is stored."""

import asyncio
import time
from pathlib import Path

from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.services.assembly import Services
from bench.bigcontent import ask_all
from bench.report import Bound, Rate
from bench.scenario import Scenario, Site
from tests.fakes.git import FakeGit
from tests.fakes.gitrepos import GitRepo
from tests.nouns import a_tenant

_HOST = "git.corp.example"
_TENANT = "git"
_VERSIONS = 200
_FILES = 100
_CLIENTS = 16


class GitVersions(Scenario):
    """200 versions of one repository; its git server runs in this process."""

    what = f"{_VERSIONS} cold versions of one git repository"
    max_ms = 100

    async def record(self, services: Services, upstream: str) -> None:
        draft = a_tenant(_TENANT, default=Effect.ALLOW, anonymous_read=True)
        await services.tenants.tenants.create(draft, OPERATOR, catch_all=False)

    async def run(self, site: Site) -> None:
        folder = site.folder / "git"
        await asyncio.to_thread(_write, folder)
        with FakeGit(folder) as fake:
            url = f"http://127.0.0.1:{fake.port}/{{path}}.git"
            route = {"pattern": _HOST, "upstreams": [{"url": f"git+{url}"}], "private": True}
            answer = await site.api.post(f"tenants/{_TENANT}/routes", json=route)
            answer.raise_for_status()
            base = f"{site.url}goproxy/{_TENANT}/{_HOST}/team/x/@v/"
            kinds = ("info", "mod", "zip")
            paths = [f"v1.{number}.0.{kind}" for number in range(_VERSIONS) for kind in kinds]
            began = time.monotonic()
            await ask_all(base, iter(paths), clients=_CLIENTS)
            rate = len(paths) / (time.monotonic() - began)
            self.results.append(Rate(f"files of {self.what}", "/s", [rate]))
            asked = float(len(fake.requests))
            self.results.append(Bound(f"{self.what}: requests to its server", "", [asked], 8))


def _write(folder: Path) -> None:
    repo = GitRepo()
    files = {f"p{number}/p.go": f"package p{number}\n" * 60 for number in range(_FILES)}
    files["go.mod"] = f"module {_HOST}/team/x\n"
    for number in range(_VERSIONS):
        mark = repo.commit("main", {**files, "x.go": f"package x // {number}\n"})
        repo.tag(f"v1.{number}.0", mark)
        files = {}
    (folder / "team").mkdir(parents=True)
    repo.write(folder / "team/x.git")
