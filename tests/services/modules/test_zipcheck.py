"""A zip with many entries is checked in a process of its own, with the same outcome as here."""

import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import BadInputError, StorageError
from app.core.modzip import inspect
from app.services.modules import zipcheck
from app.services.modules.zipcheck import inspect_file

MODULE, VERSION = "example.com/crowded", "v1.0.0"
PREFIX = f"{MODULE}@{VERSION}/"


@pytest.fixture(autouse=True)
def crowded_from_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipcheck, "_ENTRIES_HERE", 2)


Call = tuple[tuple[Any, ...], dict[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Return what `subprocess.run` was called with."""
    seen: list[Call] = []
    run = subprocess.run

    def noted(*args: Any, **more: Any) -> Any:
        seen.append((args, more))
        return run(*args, **more)

    monkeypatch.setattr(zipcheck.subprocess, "run", noted)
    return seen


def made(folder: Path, *names: str) -> Path:
    path = folder / "module.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(PREFIX + name, f"module {MODULE}\n" if name == "go.mod" else name)
    return path


@pytest.mark.parametrize("names", [("a.go",), ("go.mod", "a.go", "b.go"), ("a.go", "b.go", "c.go")])
def test_the_facts_are_the_same_here_and_apart(
    tmp_path: Path, calls: list[Call], names: tuple[str, ...]
) -> None:
    path = made(tmp_path, *names)
    with path.open("rb") as stream:
        assert inspect_file(path, MODULE, VERSION) == inspect(stream, MODULE, VERSION)
    assert len(calls) == (len(names) > 2)


def test_what_is_refused_apart_has_the_same_reason(tmp_path: Path, calls: list[Call]) -> None:
    path = made(tmp_path, "A.go", "a.go", "b.go")
    with path.open("rb") as stream, pytest.raises(BadInputError) as here:
        inspect(stream, MODULE, VERSION)
    with pytest.raises(BadInputError) as apart:
        inspect_file(path, MODULE, VERSION)
    assert str(apart.value) == str(here.value)
    assert len(calls) == 1


def test_other_users_see_no_name_and_the_process_no_secret(
    tmp_path: Path, calls: list[Call]
) -> None:
    inspect_file(made(tmp_path, "a.go", "b.go", "c.go"), MODULE, VERSION)
    [((argv,), options)] = calls
    assert not any("crowded" in argument for argument in argv)
    assert options["env"] == {}


def test_a_file_that_is_gone_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        zipcheck._inspect_apart(tmp_path / "nothing.zip", MODULE, VERSION)


def test_a_process_that_dies_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipcheck.sys, "executable", "/bin/false")
    path = made(tmp_path, "a.go", "b.go", "c.go")
    with pytest.raises(StorageError, match="ended early, with exit code 1"):
        inspect_file(path, MODULE, VERSION)
    monkeypatch.setattr(zipcheck.sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(StorageError, match="did not run"):
        inspect_file(path, MODULE, VERSION)
