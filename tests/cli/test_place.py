"""Where commands work: no command works quietly on this machine while a server is named."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli.program import commands
from tests.e2e.process import Ended, Site
from tests.e2e.warm import Warm

_SERVER = "http://127.0.0.1:9"
ANYWHERE = {
    "completion",
    "config check",
    "config show",
    "serve",
    "sumdb check",
    "tls self-signed",
}
"""Commands that look at no installation, or start one. Another one needs a reason."""


def leaves(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Yield every command below a group: ("backup create", command)."""
    if not hasattr(command, "commands"):
        yield " ".join(path), command
        return
    for name, below in command.commands.items():
        yield from leaves(below, *path, name)


def server_option(command: Any) -> Any:
    """Return what a command has as --server; None for nothing."""
    return next((one for one in command.params if "--server" in one.opts), None)


EVERY = dict(leaves(commands()))
HERE = [
    name
    for name, command in EVERY.items()
    if (option := server_option(command)) is not None
    and not option.expose_value
    and name not in ANYWHERE
]


def test_every_command_says_where_it_works() -> None:
    assert [name for name, command in EVERY.items() if server_option(command) is None] == []
    hidden = {name for name, one in EVERY.items() if not server_option(one).expose_value}
    assert hidden == {*HERE, *ANYWHERE}
    assert {"fsck", "doctor", "migrate", "restore", "module import", "backup prune"} <= set(HERE)
    for name, command in EVERY.items():
        variable = None if name in ANYWHERE else "MOORAGE_SERVER"
        assert server_option(command).envvar == variable, name


def run(warm: Warm, folder: Path, *arguments: str, **environ: str) -> Ended:
    return warm.run(Site(folder, {"LC_ALL": "C.UTF-8", **environ}), *arguments)


@pytest.mark.parametrize("name", HERE)
def test_a_local_command_is_refused_while_a_server_is_named(
    warm: Warm, tmp_path: Path, name: str
) -> None:
    words = name.split()
    by_variable = run(warm, tmp_path, *words, MOORAGE_SERVER=_SERVER)
    assert (by_variable.code, by_variable.out) == (2, "")
    assert by_variable.err.startswith(f"moorage: `moorage {name}` works on this machine's data")
    assert f"env -u MOORAGE_SERVER moorage {name}\n" in by_variable.err
    assert by_variable.err.count("\n") == 1
    for arguments in (("--server", _SERVER, *words), (*words, "--server", _SERVER)):
        assert run(warm, tmp_path, *arguments) == by_variable
    assert list(tmp_path.iterdir()) == []
    assert run(warm, tmp_path, *words, "--help", MOORAGE_SERVER=_SERVER).code == 0


@pytest.mark.parametrize("name", sorted(ANYWHERE))
def test_a_command_without_a_place_refuses_the_option_alone(
    warm: Warm, tmp_path: Path, name: str
) -> None:
    words = name.split()
    for arguments in (("--server", _SERVER, *words), (*words, "--server", _SERVER)):
        ended = run(warm, tmp_path, *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == f"moorage: `moorage {name}` asks no server: leave --server out\n"
    shown = run(warm, tmp_path, *words, "--help", MOORAGE_SERVER=_SERVER)
    assert shown.code == 0
    assert "--server" not in shown.out


def test_a_shell_completes_while_a_server_is_named(warm: Warm, tmp_path: Path) -> None:
    ended = run(warm, tmp_path, "completion", "bash", MOORAGE_SERVER=_SERVER)
    assert (ended.code, ended.err) == (0, "")
