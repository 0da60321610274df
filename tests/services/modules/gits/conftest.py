"""A git server on loopback, and a site with one tenant that has a route to it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fakes import git
from tests.fakes.git import FakeGit
from tests.fakes.gitrepos import GitRepo
from tests.services.modules.gits.lane import GitLane
from tests.web.harbour import add_tenant, harbour

FILES = {"go.mod": "module git.corp.example/team/x\n", "x.go": "package x\n", "LICENSE": "free\n"}


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeGit]:
    if not git.is_here():
        pytest.skip("git's http-backend is not installed")
    repo = GitRepo()
    repo.tag("v1.0.0", repo.commit("main", FILES), annotated=True)
    repo.tag("v1.1.0", repo.commit("main", {"y.go": "package x\n"}))
    (tmp_path / "git/team").mkdir(parents=True)
    repo.write(tmp_path / "git/team/x.git")
    with FakeGit(tmp_path / "git") as server:
        yield server


@pytest.fixture
async def lane(tmp_path: Path, fake: FakeGit) -> AsyncIterator[GitLane]:
    async with harbour(tmp_path, git={"repository_bytes": 1 << 20}) as site:
        await add_tenant(site.services, "acme")
        yield GitLane(site, fake, tmp_path)
