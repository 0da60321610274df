"""A zip with many entries is checked in a process of its own, with the same outcome as here."""

import asyncio
import sys
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
CROWDED = ("a.go", "b.go", "c.go")


@pytest.fixture(autouse=True)
def crowded_from_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipcheck, "_ENTRIES_HERE", 2)


class Started:
    """The processes that were started, with the arguments and options of each."""

    def __init__(self) -> None:
        self.processes: list[asyncio.subprocess.Process] = []
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.first = asyncio.Event()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    seen = Started()
    start = asyncio.create_subprocess_exec

    async def noted(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*arguments, **options)
        seen.calls.append((arguments, options))
        seen.processes.append(process)
        seen.first.set()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    return seen


def made(folder: Path, *names: str) -> Path:
    path = folder / "module.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(PREFIX + name, f"module {MODULE}\n" if name == "go.mod" else name)
    return path


@pytest.mark.parametrize("names", [("a.go",), ("go.mod", "a.go", "b.go"), CROWDED])
async def test_the_facts_are_the_same_here_and_apart(
    tmp_path: Path, started: Started, names: tuple[str, ...]
) -> None:
    path = made(tmp_path, *names)
    with path.open("rb") as stream:
        assert await inspect_file(path, MODULE, VERSION) == inspect(stream, MODULE, VERSION)
    assert len(started.calls) == (len(names) > 2)


async def test_what_is_refused_apart_has_the_same_reason(tmp_path: Path, started: Started) -> None:
    path = made(tmp_path, "A.go", "a.go", "b.go")
    with path.open("rb") as stream, pytest.raises(BadInputError) as here:
        inspect(stream, MODULE, VERSION)
    with pytest.raises(BadInputError) as apart:
        await inspect_file(path, MODULE, VERSION)
    assert str(apart.value) == str(here.value)
    assert len(started.calls) == 1


async def test_other_users_see_no_name_and_the_process_no_secret(
    tmp_path: Path, started: Started
) -> None:
    await inspect_file(made(tmp_path, *CROWDED), MODULE, VERSION)
    [(argv, options)] = started.calls
    assert not any("crowded" in argument for argument in argv)
    assert options["env"] == {}


async def test_a_check_that_nobody_waits_for_ends_its_process(
    tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalling = tmp_path / "python"
    stalling.write_text("#!/bin/sh\nexec sleep 600\n")
    stalling.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stalling))
    check = asyncio.ensure_future(inspect_file(made(tmp_path, *CROWDED), MODULE, VERSION))
    await started.first.wait()
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
    [process] = started.processes
    assert process.returncode == -9


async def test_a_file_that_is_gone_is_told_as_such(tmp_path: Path) -> None:
    for ask in (inspect_file, zipcheck._inspect_apart):
        with pytest.raises(StorageError, match=r"v1\.0\.0 can't be read back: No such file"):
            await ask(tmp_path / "nothing.zip", MODULE, VERSION)


async def test_a_process_that_dies_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    path = made(tmp_path, *CROWDED)
    with pytest.raises(StorageError, match="ended early, with exit code 1"):
        await inspect_file(path, MODULE, VERSION)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(StorageError, match="no process can be started"):
        await inspect_file(path, MODULE, VERSION)
