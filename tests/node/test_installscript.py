"""`/fleet/install.sh` in a POSIX shell, with and without Python."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.errors import BadInputError
from app.services.fleet.installscript import install_script
from app.services.fleet.nodeprogram import node_program
from tests.fakes.fleet import FakeFleet
from tests.node.conftest import V1, V2

TOOLS = (
    "sh", "curl", "sha256sum", "tar", "gzip", "mktemp", "rm", "mv", "ln", "mkdir", "id", "uname",
    "cut", "grep", "readlink", "cat", "chmod", "cp", "dirname",
)  # fmt: skip
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason="curl, tar or sha256sum is not installed"
)


@pytest.fixture
def run(tmp_path: Path, fleet: FakeFleet):
    """Return a function that runs the script with these arguments, in a home of its own."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    program = node_program()
    fleet.extra["/fleet/moorage-node.pyz"] = program.content
    fleet.extra["/fleet/moorage-node.pyz.sha256"] = f"{program.sha256}\n".encode()
    (tmp_path / "install.sh").write_text(install_script(fleet.base_url))

    def call(*argv: str, python: bool, **more: str) -> subprocess.CompletedProcess[str]:
        if python:
            (tools / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
            (tools / "python3").chmod(0o755)
        return subprocess.run(
            [str(tools / "sh"), str(tmp_path / "install.sh"), *argv],
            env={
                "PATH": str(tools),
                "HOME": str(tmp_path),
                "MOORAGE_ROOT": str(tmp_path / "root"),
                "MOORAGE_BIN": str(tmp_path / "bin"),
                **more,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_with_python_it_runs_the_checked_program(run, tmp_path: Path):
    done = run("install", V1, python=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root/current/VERSION").read_text().startswith(V1)
    installed = tmp_path / "bin" / "moorage-node"
    assert hashlib.sha256(installed.read_bytes()).hexdigest() == node_program().sha256


def test_a_folder_that_is_not_on_the_path_is_named(run, tmp_path: Path):
    folder = str(tmp_path / "bin")
    assert f'export PATH="{folder}:$PATH"' in run("list", python=True).stderr
    on_path = run("list", python=True, PATH=f"{tmp_path / 'tools'}:{folder}")
    assert "PATH" not in on_path.stderr


def test_a_program_with_another_sum_is_not_run(run, tmp_path: Path):
    done = run("install", V1, python=True, MOORAGE_NODE_SHA256="0" * 64)
    assert (done.returncode, "another sum" in done.stderr) == (1, True)
    assert not (tmp_path / "bin").exists()


def test_without_python_it_installs_one_release(run, tmp_path: Path, fleet: FakeFleet):
    fleet.put_release(V2)
    for version in (V1, V2.removeprefix("go")):
        done = run("install", version, python=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "root/current").readlink() == Path(V2)
    assert {path.name for path in (tmp_path / "root").iterdir()} == {V1, V2, "current"}


def test_without_python_a_wrong_archive_is_not_unpacked(run, tmp_path: Path, fleet: FakeFleet):
    fleet.set_file(V1, ".sha256", b"0" * 64)
    done = run("install", V1, python=False)
    assert (done.returncode, "another sum" in done.stderr) == (1, True)
    assert not (tmp_path / "root").exists()


def test_without_python_other_commands_say_what_is_missing(run):
    done = run("enroll", python=False)
    assert (done.returncode, "Python 3.9" in done.stderr) == (1, True)


@pytest.mark.parametrize("url", ["", "https://x'; rm -rf /; '", "https://a b", 'https://"'])
def test_a_servers_url_can_not_become_a_command(url: str):
    with pytest.raises(BadInputError, match="plain characters"):
        install_script(url)
