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


# One start for all commands: starting is what takes the time.
RUN_EACH = """
import sys
sys.path.insert(0, sys.argv[1])
from moorage_node.cli import main
for line in sys.stdin.read().splitlines():
    code, _, argv = line.partition(" ")
    assert main(argv.split()) == int(code), line
"""


@pytest.mark.parametrize("version", PYTHONS)
def test_each_python_installs_checks_and_mends(version: str, tmp_path: Path, fleet: FakeFleet):
    program = tmp_path / "moorage-node.pyz"
    program.write_bytes(node_program().content)
    root = tmp_path / "root"
    way = f"--root {root} --server {fleet.base_url}"
    commands = [
        f"0 install {V1} {way} --vkey {fleet.vkey} --channel stable",
        f"0 verify --full --root {root}",
        f"2 verify go1.1 --root {root}",
        f"1 rollback --root {root}",
        f"0 repair {way}",
        f"0 status --json --root {root}",
    ]
    done = subprocess.run(
        [interpreter(version), "-X", "dev", "-W", "error", "-c", RUN_EACH, str(program)],
        input="\n".join(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert f"{V1} is clean" in done.stdout


def test_the_file_itself_runs(tmp_path: Path):
    program = tmp_path / "moorage-node.pyz"
    program.write_bytes(node_program().content)
    done = subprocess.run(
        [sys.executable, str(program), "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("moorage-node ")
