"""The node program as one file: what it imports, its bytes, and the Pythons that run it."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.services.fleet.nodeprogram import node_program
from tests.fakes.fleet import FakeFleet
from tests.node.conftest import V1

SOURCES = sorted((Path(__file__).parents[2] / "app" / "node").glob("*.py"))
OLDEST = (3, 9)
PYTHONS = [f"3.{minor}" for minor in range(9, 15)]


def imported(source: str) -> set[str]:
    names: set[str] = set()
    for item in ast.walk(ast.parse(source)):
        if isinstance(item, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in item.names}
        elif isinstance(item, ast.ImportFrom) and not item.level:
            names.add(str(item.module).partition(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_file_has_the_oldest_syntax_and_imports_the_standard_library_or_relatively(path: Path):
    source = path.read_text()
    ast.parse(source, feature_version=OLDEST)
    assert imported(source) <= sys.stdlib_module_names


def test_the_check_of_imports_sees_a_planted_one():
    assert imported("import httpx.x\nfrom app.core import note\nfrom . import a") == {
        "httpx",
        "app",
    }


def test_the_bytes_are_the_same_each_time():
    first = node_program().content
    node_program.cache_clear()
    assert node_program().content == first


def interpreter(version: str) -> str:
    """Return a Python that starts, also one of pyenv's that no shim leads to."""
    homes = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*")
    candidates = [shutil.which(f"python{version}"), *(str(home / "bin/python") for home in homes)]
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-c", ""], capture_output=True, check=False)
        if done.returncode == 0:
            return candidate
    pytest.skip(f"Python {version} is not installed")


@pytest.mark.parametrize("version", PYTHONS)
def test_each_python_installs_checks_and_mends(version: str, tmp_path: Path, fleet: FakeFleet):
    program = tmp_path / "moorage-node.pyz"
    program.write_bytes(node_program().content)
    root = tmp_path / "root"
    command = [interpreter(version), "-X", "dev", "-W", "error", str(program)]

    def run(*argv: str) -> int:
        done = subprocess.run(
            [*command, *argv, "--root", str(root)], capture_output=True, text=True, check=False
        )
        assert done.stderr == "" or done.returncode == 3, done.stderr
        return done.returncode

    way = ("--server", fleet.base_url, "--vkey", fleet.vkey, "--channel", "stable")
    assert run("install", V1, *way) == 0
    assert run("verify", "--full") == 0
    (root / V1 / "VERSION").unlink()
    assert run("verify") == 3
    assert run("repair") == 0
    assert run("status") == 0
