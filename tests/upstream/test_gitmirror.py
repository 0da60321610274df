"""A mirror on disk: every run of git is bounded, isolated, and ends with whoever waits."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from app.core.errors import BadInputError, UpstreamContentError
from app.core.gitrefs import GitRefs
from app.upstream.gitmirror import GitMirror
from app.upstream.gitprogram import GitLimits, GitRuns, environment
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


def test_F86_a_run_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    mirror = GitMirror(tmp_path / "mirror", GitLimits(run_s=0.2), GitRuns())
    mirror.prepare(is_sha256=False)
    os.mkfifo(tmp_path / "endless")
    writer = os.open(tmp_path / "endless", os.O_RDWR)
    try:
        with pytest.raises(UpstreamContentError), open(writer, "rb", closefd=False) as stdin:
            mirror._git.run("index-pack", "--stdin", stdin=stdin)
    finally:
        os.close(writer)
    assert children() == []


def test_F86_runs_end_when_their_work_is_given_up(tmp_path: Path) -> None:
    runs = GitRuns()
    mirror = GitMirror(tmp_path / "mirror", GitLimits(), runs)
    mirror.prepare(is_sha256=False)
    threading.Timer(0.1, runs.end).start()
    os.mkfifo(tmp_path / "endless")
    writer = os.open(tmp_path / "endless", os.O_RDWR)
    try:
        with pytest.raises(UpstreamContentError), open(writer, "rb", closefd=False) as stdin:
            mirror._git.run("index-pack", "--stdin", stdin=stdin)
    finally:
        os.close(writer)
    assert children() == []


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
