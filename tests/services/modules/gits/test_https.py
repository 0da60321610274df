"""Modules from git over HTTP: what is asked for how often, tenants, tags that move."""

import asyncio
import os
import shutil
import subprocess
import threading
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from app.core.errors import VerificationError
from app.core.gitmodule import GitModule
from app.core.principal import OPERATOR
from app.db.moduleconflicts import ModuleConflictTable
from app.services.clock import utc_now
from app.upstream.gitprogram import GitRuns
from tests.fakes.git import GitUser
from tests.fakes.gitrepos import GitRepo, run_git
from tests.services.modules.gits.conftest import FILES
from tests.services.modules.gits.lane import HOST, GitLane
from tests.web.harbour import add_tenant

X = f"{HOST}/team/x"


@pytest.mark.both_shapes
async def test_a_herd_costs_one_listing_and_one_fetch(lane: GitLane) -> None:
    await lane.route()
    lists = await asyncio.gather(*(lane.ask("team/x/@v/list") for _ in range(30)))
    assert {got.body for got in lists} == {b"v1.0.0\nv1.1.0\n"}
    paths = [f"team/x/@v/{v}.{kind}" for v in ("v1.0.0", "v1.1.0") for kind in ("info", "zip")]
    files = await asyncio.gather(*(lane.ask(path) for path in paths * 5))
    assert {got.status for got in files} == {200}
    assert lane.fake.count("/team/x.git/info/refs") == 1
    assert lane.fake.count("/git-upload-pack") == 2  # ls-refs and the fetch


async def test_no_list_is_made_on_the_event_loop(
    lane: GitLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, versions = set(), GitModule.versions

    def seen(module: GitModule) -> list[str]:
        threads.add(threading.get_ident())
        return versions(module)

    monkeypatch.setattr(GitModule, "versions", seen)
    await lane.route()
    assert (await lane.ask("team/x/@v/list")).body == b"v1.0.0\nv1.1.0\n"
    assert threads
    assert threading.get_ident() not in threads


async def test_a_cold_zip_costs_four_runs_of_git(
    lane: GitLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter stands still while a program starts, so other tenants' hits wait for it."""
    await lane.route()
    assert (await lane.ask("team/x/@v/v1.1.0.mod")).status == 200
    assert (await lane.ask("team/x/@v/v1.1.0.info")).status == 200  # no work runs ahead any more
    started: list[str] = []

    def add(runs: GitRuns, process: "subprocess.Popen[bytes]") -> None:
        words = cast(list[str], process.args)
        started.append(next(word for word in words if word in ("cat-file", "ls-tree", "archive")))

    monkeypatch.setattr(GitRuns, "add", add)
    assert (await lane.ask("team/x/@v/v1.0.0.zip")).status == 200
    # The first of the two reads for the .mod that is stored beside the zip.
    assert sorted(started) == ["archive", "cat-file", "cat-file", "ls-tree"]


async def test_a_tag_is_seen_once_the_listing_is_stale_and_fetched_by_itself(
    lane: GitLane,
) -> None:
    await lane.route()
    assert (await lane.ask("team/x/@v/v1.1.0.zip")).status == 200
    repo = GitRepo()
    repo.tag("v1.2.0", repo.commit("other", {**FILES, "z.go": "package x\n"}))
    repo.write(lane.fake.folder / "team/x.git")
    assert (await lane.ask("team/x/@v/list")).body == b"v1.0.0\nv1.1.0\n"
    await lane.expire()
    assert (await lane.ask("team/x/@v/list")).body == b"v1.0.0\nv1.1.0\nv1.2.0\n"
    assert (await lane.ask("team/x/@v/v1.2.0.zip")).status == 200
    [mirror] = lane.mirrors()
    assert len(list(mirror.glob("objects/pack/*.pack"))) == 2


async def test_a_server_that_knows_only_version_0_is_understood(lane: GitLane) -> None:
    lane.fake.has_version_2 = False
    await lane.route()
    assert (await lane.ask("team/x/@v/list")).body == b"v1.0.0\nv1.1.0\n"
    assert (await lane.ask("team/x/@v/v1.0.0.zip")).status == 200
    repo = GitRepo()
    repo.tag("v1.2.0", repo.commit("other", {**FILES, "z.go": "package x\n"}))
    repo.write(lane.fake.folder / "team/x.git")
    await lane.expire()
    assert (await lane.ask("team/x/@v/v1.2.0.zip")).status == 200
    assert lane.fake.count("/git-upload-pack") == 2


async def test_the_longest_path_that_is_a_repository_is_taken_and_remembered(
    lane: GitLane,
) -> None:
    await lane.route()
    assert (await lane.ask("team/x/sub/dir/@v/list")).body == b""
    assert (await lane.ask("team/x/sub/dir/@latest")).status == 404
    assert [r for r in lane.fake.requests if r.endswith("/info/refs")] == [
        "GET /team/x/sub/dir.git/info/refs",
        "GET /team/x/sub.git/info/refs",
        "GET /team/x.git/info/refs",
    ]


async def test_one_repository_for_a_whole_route_has_its_root_at_the_pattern(
    lane: GitLane,
) -> None:
    await lane.route(url=f"git+http://127.0.0.1:{lane.fake.port}/team/x.git", forks=True)
    assert (await lane.site.ask(f"/goproxy/acme/{HOST}/@v/list")).body == b"v1.0.0\nv1.1.0\n"
    assert lane.fake.requests[0] == "GET /team/x.git/info/refs"


async def test_tenants_with_other_credentials_share_no_mirror_answer_or_knowledge(
    lane: GitLane,
) -> None:
    lane.fake.users.update(
        a=GitUser("secret-a"), b=GitUser("secret-b", frozenset({"team/other.git"}))
    )
    for tenant in ("b", "nobody"):
        await add_tenant(lane.site.services, tenant)
    await lane.route("acme", "secret-a", "a")
    await lane.route("b", "secret-b", "b")
    await lane.route("nobody")
    for path in ("team/x/@v/list", "team/x/@v/v1.0.0.zip", "team/x/@latest"):
        assert (await lane.ask(path)).status == 200
        hidden = await lane.ask(path, "b")
        nowhere = await lane.ask(path.replace("team/x", "team/y"), "b")
        assert (hidden.status, hidden.body.replace(b"team/x", b"team/y")) == (404, nowhere.body)
        assert (await lane.ask(path, "nobody")).status == 502
    assert len(lane.mirrors()) == 1


@pytest.mark.both_shapes
async def test_F85_a_moved_tag_is_refused_alarmed_and_kept_as_evidence(lane: GitLane) -> None:
    await lane.route()
    first = await lane.ask("team/x/@v/v1.0.0.info")
    assert (await lane.ask("team/x/@v/v1.0.0.mod")).status == 200
    folder = lane.fake.folder / "team/x.git"
    other = GitRepo.oid(folder, "v1.1.0")
    run_git(folder, "update-ref", "refs/tags/v1.0.0", other)
    await lane.expire()
    await lane.site.services.modules.refresh.forget("acme", X, OPERATOR)
    assert (await lane.ask("team/x/@v/list")).status == 200
    policy = await lane.site.services.shared.policies.current()
    origin = policy.tenants["acme"].routes[0].upstreams[0].origin_id
    [evidence] = await lane.site.services.shared.db.read(
        lambda s: ModuleConflictTable(s).of_version([origin], X, "v1.0.0")
    )
    assert evidence.seen == f"commit {other}"
    got = await lane.ask("team/x/@v/v1.0.0.zip")  # was never stored
    assert got.status == 502
    assert b"the first value counts for ever" in got.body
    assert (await lane.ask("team/x/@v/v1.0.0.mod")).status == 200
    assert (await lane.ask("team/x/@v/v1.0.0.info")).body == first.body
    # One sentence for all files of the version, and where the evidence is.
    with pytest.raises(VerificationError) as caught:
        await lane.site.services.modules.refresh.compare("acme", X, "v1.0.0", OPERATOR)
    assert str(caught.value).count("is recorded as commit") == 1
    assert f"`moorage explain --tenant acme {X}@v1.0.0` shows the evidence" in str(caught.value)


async def test_what_was_served_of_a_deleted_repository_stays(lane: GitLane) -> None:
    await lane.route()
    paths = [f"team/x/@v/v1.0.0.{kind}" for kind in ("info", "mod", "zip")]
    before = [await lane.ask(path) for path in paths]
    shutil.rmtree(lane.fake.folder / "team/x.git")
    shutil.rmtree(lane.mirrors()[0])
    await lane.expire()
    assert [(await lane.ask(path)).body for path in paths] == [got.body for got in before]
    assert (await lane.ask("team/x/@v/v1.1.0.zip")).status == 404


async def test_the_list_of_a_deleted_repository_has_what_is_stored(lane: GitLane) -> None:
    lane.fake.users.update(a=GitUser("secret-a"), b=GitUser("secret-b", frozenset()))
    await add_tenant(lane.site.services, "b")
    await lane.route("acme", "secret-a", "a")
    await lane.route("b", "secret-b", "b")
    info = await lane.ask("team/x/@v/v1.0.0.info")
    assert (await lane.ask("team/x/@v/list")).body == b"v1.0.0\nv1.1.0\n"
    explain = lane.site.services.tenants.explain.explain
    assert not (await explain("acme", X, None, OPERATOR)).gone
    shutil.move(lane.fake.folder / "team/x.git", lane.folder / "away")
    await lane.expire()
    with capture_logs() as logged:
        assert (await lane.ask("team/x/@v/list")).body == b"v1.0.0\n"
    assert "module gone upstream" in [entry["event"] for entry in logged]
    assert (await lane.ask("team/x/@latest")).body == info.body
    assert (await explain("acme", X, None, OPERATOR)).gone
    assert not (await explain("b", X, None, OPERATOR)).gone
    for path in ("team/x/@v/list", "team/x/@latest"):
        hidden, nowhere = await lane.ask(path, "b"), await lane.ask(path.replace("x", "y"), "b")
        assert (hidden.status, hidden.body.replace(b"team/x", b"team/y")) == (404, nowhere.body)
    shutil.move(lane.folder / "away", lane.fake.folder / "team/x.git")
    await lane.expire()
    assert (await lane.ask("team/x/@v/list")).body == b"v1.0.0\nv1.1.0\n"
    assert not (await explain("acme", X, None, OPERATOR)).gone


async def test_F69_a_tree_that_no_zip_can_hold_is_refused_and_not_fetched_again(
    lane: GitLane,
) -> None:
    repo = GitRepo()
    repo.tag("v1.2.0", repo.commit("other", {**FILES, "A.go": "package x\n", "a.go": "x\n"}))
    repo.write(lane.fake.folder / "team/x.git")
    await lane.route()
    for _ in range(3):
        got = await lane.ask("team/x/@v/v1.2.0.zip")
        assert got.status == 502
        assert b"upper and lower case" in got.body
    assert lane.fake.count("/git-upload-pack") == 2
    assert len(lane.mirrors()) == 1


async def test_a_damaged_mirror_is_made_anew(lane: GitLane) -> None:
    await lane.route()
    assert (await lane.ask("team/x/@v/v1.0.0.zip")).status == 200
    [mirror] = lane.mirrors()
    for pack in mirror.glob("objects/pack/*"):
        pack.unlink()
    assert (await lane.ask("team/x/@v/v1.1.0.zip")).status == 200
    assert list(mirror.glob("objects/pack/*.pack"))


async def _read_at_rest(lane: GitLane) -> None:
    """Have a mirror that nobody reads: an .info has its .mod fetched too, which is waited for."""
    for kind in ("info", "mod"):
        assert (await lane.ask(f"team/x/@v/v1.0.0.{kind}")).status == 200


async def test_a_mirror_that_is_used_while_its_removal_waits_stays(lane: GitLane) -> None:
    await lane.route()
    await _read_at_rest(lane)
    mirrors = lane.site.services.modules.gits._mirrors
    mirrors._mirrors_bytes = 1
    mirrors._now = lambda: utc_now() + timedelta(days=1)
    looked, superfluous = asyncio.Event(), mirrors._superfluous
    loop = asyncio.get_running_loop()

    def look() -> list[tuple[Path, float]]:
        rested = superfluous()
        loop.call_soon_threadsafe(looked.set)
        return rested

    mirrors._superfluous = look
    (folder,) = lane.mirrors()
    async with mirrors._turns.hold(f"git mirror:{folder.parent.name}:{folder.name}"):
        removing = asyncio.ensure_future(mirrors.step())
        await looked.wait()
        os.utime(folder)  # as whoever reads it does
    await removing
    assert lane.mirrors() == [folder]


async def test_mirrors_that_rested_longest_go_when_all_together_are_too_large(
    lane: GitLane,
) -> None:
    await lane.route()
    await _read_at_rest(lane)
    gits = lane.site.services.modules.gits
    now = utc_now()
    gits._mirrors._now = lambda: now
    await gits.step()
    assert len(lane.mirrors()) == 1
    gits._mirrors._mirrors_bytes = 1
    await gits.step()
    assert len(lane.mirrors()) == 1  # it was used a moment ago
    gits._mirrors._now = lambda: now + timedelta(days=1)
    await gits.step()
    assert lane.mirrors() == []
    gits._mirrors._mirrors_bytes = 1 << 30  # the background's next step lets the new one alone
    assert (await lane.ask("team/x/@v/v1.1.0.info")).status == 200
