"""The collection as a whole: its bytes, its code, its own tests, what ansible-lint says of it."""

import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.collection.conftest import ROOT

PLACE = "ansible_collections/moorage/go"


def run(collections: Path, *command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    bin_folder = Path(sys.executable).parent
    environment = {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "PYTHONPATH": f"{collections}:{folder}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        return subprocess.run(
            [str(bin_folder / command[0]), *command[1:]],
            cwd=collections / PLACE,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"{command[0]} hangs\n{error.stdout!r}\n{error.stderr!r}")


def test_the_archive_has_the_same_bytes_each_time_and_the_nodes_own_code(
    builder: ModuleType, tmp_path: Path
) -> None:
    archives = []
    for name in ("first", "second"):
        place = builder.lay_out(tmp_path / name)
        archives.append(builder.pack(place, tmp_path / f"{name}-output"))
    first, second = archives
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as tar:
        names = set(tar.getnames())
        for path in (ROOT / "app" / "node").glob("*.py"):
            inside = f"plugins/module_utils/moorage_node/{path.name}"
            assert (inside in names) is (path.name != "__main__.py")
            if inside in names:
                packed = tar.extractfile(inside)
                assert packed is not None
                assert packed.read() == path.read_bytes()
    assert not {name for name in names if "__pycache__" in name or name.endswith("build.py")}


def test_its_version_is_moorages(collections: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    lines = (collections / PLACE / "galaxy.yml").read_text().splitlines()
    assert f"version: {version}" in lines


def test_its_own_tests_pass(collections: Path, tmp_path: Path) -> None:
    options = (
        "-q",
        "-p",
        "no:schemathesis",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        ".",
        "--timeout=200",
    )
    done = run(collections, "pytest", *options, "tests/unit", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_ansible_lint_has_nothing_to_say(collections: Path, tmp_path: Path) -> None:
    # jsonschema does without it: to load its grammars takes two seconds, for a format of no schema.
    (tmp_path / "rfc3987_syntax.py").write_text("raise ImportError\n")
    options = ("--offline", "--nocolor", "--profile", "production", "--strict")
    done = run(collections, "ansible-lint", *options, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it passed" in done.stderr + done.stdout
