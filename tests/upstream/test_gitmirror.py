"""A mirror on disk: every run of git is bounded, isolated, and ends with whoever waits."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from app.core.errors import BadInputError, UpstreamContentError
from app.core.gitrefs import GitRefs
from app.upstream.gitmirror import GitMirror
from app.upstream.gitprogram import GitLimits, GitRuns, environment, in_of
from tests.fakes import git
from tests.fakes.gitrepos import GitRepo
from tests.services.modules.gits.lane import children

pytestmark = pytest.mark.skipif(not git.is_here(), reason="git is not installed")


@pytest.fixture
def mirror(tmp_path: Path) -> GitMirror:
    made = GitMirror(tmp_path / "mirror", GitLimits(), GitRuns())
    made.prepare(is_sha256=False)
    return made


def pack_of(folder: Path) -> Path:
    """Write a repository with a hook, an attribute and a filter; return its pack."""
    repo = GitRepo()
    files = {".gitattributes": "* filter=evil\n", "x.txt": "x\n", "go.mod": "module x\n"}
    repo.commit("main", files)
    return packed(repo, folder)


def packed(repo: GitRepo, folder: Path) -> Path:
    """Write a repository; return its one pack."""
    source = repo.write(folder / "source.git")
    git_at = {"GIT_DIR": str(source), "PATH": os.environ["PATH"]}
    subprocess.run(["/usr/bin/git", "repack", "-adq"], env=git_at, check=True)
    return next(source.glob("objects/pack/*.pack"))


def test_F84_what_the_users_configuration_says_is_not_read(
    mirror: GitMirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    config = tmp_path / "home/.gitconfig"
    config.parent.mkdir()
    config.write_text(
        f'[filter "evil"]\n smudge = touch {marker}\n required = true\n'
        f"[core]\n hooksPath = {tmp_path}\n fsmonitor = touch {marker}\n"
        f"[alias]\n cat-file = !touch {marker}\n"
    )
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(config.parent))
    for name in ("GIT_CONFIG_GLOBAL", "GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_PAGER"):
        monkeypatch.setenv(name, str(config))
    mirror.take_in(pack_of(tmp_path))
    commit = GitRepo.oid(tmp_path / "source.git", "HEAD")
    assert {file.path for file in mirror.files(commit, "")} == {
        ".gitattributes",
        "go.mod",
        "x.txt",
    }
    with mirror.archive(commit, "") as stream:
        assert b"x\n" in stream.read()
    assert not marker.exists()
    assert set(environment()) & {"GIT_SSH_COMMAND", "GIT_PAGER", "MOORAGE_SECRETS_KEY"} == set()


@pytest.mark.parametrize("name", ["--output=x", "-h", "HEAD", "a" * 39, "A" * 40, "a" * 40 + "\n"])
def test_F82_only_names_of_objects_become_arguments(mirror: GitMirror, name: str) -> None:
    with pytest.raises(BadInputError):
        mirror.files(name, "")
    with pytest.raises(BadInputError), mirror.archive(name, ""):
        pass
    with mirror.reading(GitRefs()) as repository:
        with pytest.raises(BadInputError):
            repository.tags_behind(name)
        with pytest.raises(BadInputError):
            repository._is_reachable(name)
    assert list(mirror.folder.glob("x")) == []


def test_F86_a_mirror_is_not_at_refs_whose_objects_did_not_come(mirror: GitMirror) -> None:
    refs = GitRefs({"refs/tags/v1.0.0": "1" * 40})
    with pytest.raises(UpstreamContentError, match="objects that it does not send"):
        mirror.settle(refs)
    assert not mirror.is_at(refs)


class ElapsedTimer:
    """A timer whose time is over at once."""

    waits: ClassVar[list[float]] = []

    def __init__(self, seconds: float, work: Callable[..., None], arguments: list[Any]) -> None:
        self.waits.append(seconds)
        self._work = partial(work, *arguments)

    def start(self) -> None:
        """Do the work."""
        self._work()

    def cancel(self) -> None:
        """Do nothing."""


# Each run reads what the test sends. It ends well at the end of that, if nothing has killed it.


def test_F86_a_run_that_takes_too_long_is_killed(
    mirror: GitMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "Timer", ElapsedTimer)
    with mirror._git.started("cat-file", "--batch", stdin=subprocess.PIPE, run_s=7.5) as process:
        in_of(process).close()
        assert process.wait() == -signal.SIGKILL
    assert ElapsedTimer.waits == [7.5]
    assert children() == []


def test_F86_runs_end_when_their_work_is_given_up(tmp_path: Path) -> None:
    runs = GitRuns()
    mirror = GitMirror(tmp_path / "mirror", GitLimits(), runs)
    mirror.prepare(is_sha256=False)
    with mirror._git.started("cat-file", "--batch", stdin=subprocess.PIPE) as process:
        runs.end()
        in_of(process).close()
        assert process.wait() == -signal.SIGKILL
    assert children() == []


def test_F86_a_pack_that_is_too_large_is_not_taken_in(tmp_path: Path) -> None:
    pack = pack_of(tmp_path)
    limits = GitLimits(repository_bytes=pack.stat().st_size - 1)
    mirror = GitMirror(tmp_path / "mirror", limits, GitRuns())
    mirror.prepare(is_sha256=False)
    with pytest.raises(UpstreamContentError, match="exceeds maximum allowed size"):
        mirror.take_in(pack)
    assert list(mirror.folder.glob("objects/pack/*")) == []


def test_F86_memory_is_limited(tmp_path: Path) -> None:
    mirror = GitMirror(tmp_path / "mirror", GitLimits(heap_bytes=4 << 20), GitRuns())
    mirror.prepare(is_sha256=False)
    repo = GitRepo()
    repo.commit("main", {"large": b"\0" * (24 << 20)})
    pack = packed(repo, tmp_path)
    with pytest.raises(UpstreamContentError):
        mirror.take_in(pack)
    assert list(mirror.folder.glob("objects/pack/*")) == []


def test_F102_words_of_git_are_one_line_without_control_characters(mirror: GitMirror) -> None:
    with pytest.raises(UpstreamContentError) as caught:
        mirror._git.run("cat-file", "-e", "\x1b[31m\r\nfake log line")
    assert str(caught.value).isprintable()
