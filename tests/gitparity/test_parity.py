"""A part of the comparison; `make test-git` makes all of it."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.gocommand import go_binary
from tests.fakes import git
from tests.fakes.git import FakeGit, GitUser
from tests.gitparity import corpus
from tests.gitparity.compare import compare
from tests.gitparity.goruns import GoRuns
from tests.nouns import a_credential, an_upstream
from tests.web.harbour import OPERATOR, add_route, add_tenant, harbour

PART = (
    "team/plain",
    "team/dirs/sub",
    "team/dirs/deep/er/v2",
    "team/majorbranch/v2",
    "team/became",
    "team/attributes",
    "team/odd",
    "team/refused",
)


@pytest.mark.skipif(not git.is_here(), reason="git's http-backend is not installed")
async def test_F84_lists_queries_and_files_are_those_of_go_with_goproxy_direct(
    tmp_path: Path,
) -> None:
    corpus.write_all(tmp_path / "repositories")
    (tmp_path / "go").mkdir()
    user = {"ci": GitUser("s3cret")}
    with FakeGit(tmp_path / "repositories", users=user) as fake:
        go = GoRuns(
            go_binary(),
            tmp_path / "go",
            fake.base_url,
            "machine 127.0.0.1 login ci password s3cret\n",
        )
        async with harbour(tmp_path) as site:
            await add_tenant(site.services, "acme")
            credential = a_credential("basic", "s3cret", "ci")
            await site.services.tenants.credentials.put("acme", "git", credential, OPERATOR)
            url = f"git+http://127.0.0.1:{fake.port}/{{path}}.git"
            await add_route(
                site.services, "acme", corpus.HOST, an_upstream(url, "git"), private=True
            )
            part = {path: corpus.MODULES[path] for path in PART}
            count, lines = await asyncio.to_thread(
                compare, go, f"{site.base}/goproxy/acme", part, is_thorough=False
            )
    assert lines == []
    assert count > 100
