"""The commands `sandbox` and `run`: which sandbox this machine can make, and a command in it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import bwrap, userunit
from .errors import DONE, RefusedError, UsageError
from .sandbox import (
    Sandbox,
    find_view,
    install_sandbox,
    parse_variables,
    passed_variables,
    uninstall_sandbox,
)
from .systemctl import systemctl, user_manager_problem
from .units import SANDBOX_UNIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from .layout import Layout
    from .output import Output

AUTO, SYSTEMD, BWRAP = "auto", "systemd", "bwrap"
_LARGEST_TASKS = 1 << 20


def add_parsers(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the parsers of both commands."""
    one = command("sandbox", "set up, look at or remove the sandbox of this user")
    one.add_argument("action", choices=("install", "check", "uninstall"))
    one.add_argument("--env", default="", metavar="FILE", help="output of client-config -t env")
    one.add_argument("--goroot", default="", metavar="DIR", help="another Go than <root>/current")
    one.add_argument("--netrc", default="", metavar="FILE", help="runs may read this token")
    one.add_argument("--memory", default="4G", metavar="SIZE", help="MemoryMax= of a run (4G)")
    one.add_argument("--tasks", type=int, default=4096, metavar="N", help="TasksMax= (4096)")
    one = command("run", "run a command in the sandbox: run -- go test ./...")
    one.add_argument("--by", choices=(AUTO, SYSTEMD, BWRAP), default=AUTO)
    one.add_argument("--workspace", default="", metavar="DIR", help="the folder it may write")
    one.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")


def sandbox_command(options: argparse.Namespace, layout: Layout, output: Output) -> int:
    """Do `sandbox install`, `check` or `uninstall`."""
    sandbox = Sandbox(Path.home())
    if options.action == "uninstall":
        removed = uninstall_sandbox(sandbox, None)
        if removed and not user_manager_problem():
            systemctl("daemon-reload", is_user=True)
        output.result({"removed": removed}, [f"removed {path}" for path in removed])
        return DONE
    if options.action == "install":
        _install(options, sandbox, layout, output)
    method, problem = _method(AUTO)
    if method == BWRAP:
        output.warn(f"runs take bubblewrap, since {problem}")
    missing = _missing(method)
    lines = [f"sandbox by {method}", *(f"not protected here: {line}" for line in missing)]
    value = {
        "sandbox": method,
        "unit": str(sandbox.unit_file),
        "env": str(sandbox.env_file),
        "missing": missing,
        "variables": sandbox.variables(),
    }
    output.result(value, lines)
    return DONE


def _install(options: argparse.Namespace, sandbox: Sandbox, layout: Layout, output: Output) -> None:
    if not options.memory.strip("%KMGT").isdecimal() or not 0 < options.tasks <= _LARGEST_TASKS:
        raise UsageError("--memory is a size as 4G or 50%, --tasks a number")
    goroot = Path(options.goroot).absolute() if options.goroot else layout.current
    if not (goroot / "bin/go").exists():
        raise UsageError(f"{goroot} has no Go; install a release first, or name a --goroot")
    netrc = Path(options.netrc).absolute() if options.netrc else None
    if netrc is not None and not netrc.is_file():
        raise UsageError(f"{netrc} is no file")
    settings = _settings(options.env, sandbox)
    if settings.get("GOPROXY", "off") == "off":
        output.warn(
            "no client-config (--env): GOPROXY is off, so modules come from vendor/ and the cache"
        )
    if settings.get("GOAUTH", "").startswith("netrc") and netrc is None:
        output.warn(
            "the tenant asks for a token, and runs see no home: without --netrc FILE its proxy"
            " answers 401"
        )
    install_sandbox(
        sandbox,
        goroot=goroot,
        settings=settings,
        netrc=netrc,
        memory=options.memory,
        tasks=options.tasks,
    )
    if not user_manager_problem():
        systemctl("daemon-reload", is_user=True)


def _settings(source: str, sandbox: Sandbox) -> dict[str, str]:
    """Return the tenant's settings: of a file, or those that the env file has already."""
    if source:
        try:
            text = sys.stdin.read() if source == "-" else Path(source).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{source} can't be read") from error
        read = parse_variables(text, source)
        if not read:
            raise UsageError(
                f"{source} has no settings;"
                " `moorage tenant client-config TENANT --for env` prints them"
            )
    else:
        read = sandbox.variables() if sandbox.env_file.exists() else {}
    # NETRC is asked for anew each time: a run can read that file.
    return {name: value for name, value in read.items() if name.startswith("GO")}


def run_command(options: argparse.Namespace, output: Output) -> int:
    """Run a command in the sandbox, and return its exit code."""
    words = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not words:
        raise UsageError("say what to run: moorage-node run -- go test ./...")
    sandbox = Sandbox(Path.home())
    variables = sandbox.variables()
    view = find_view(sandbox, Path.cwd(), Path(options.workspace) if options.workspace else None)
    program = shutil.which(words[0], path=variables.get("PATH"))
    if program is None:
        raise UsageError(f"{words[0]} is not in the sandbox's PATH")
    argv = [str(Path(program).absolute()), *words[1:]]
    passed = passed_variables(dict(os.environ))
    method, problem = _method(options.by)
    if method == BWRAP and options.by == AUTO:
        output.warn(f"in bubblewrap, since {problem}")
    missing = _missing(method)
    if missing:
        output.warn(f"not protected here: {'; '.join(missing)}")
    if method == SYSTEMD:
        if not sandbox.unit_file.exists():
            raise RefusedError(f"{sandbox.unit_file} is missing; `moorage-node sandbox install`")
        return userunit.run_in_unit(sandbox, view, passed, argv)
    return bwrap.run_in_bwrap(sandbox, view, {**passed, **variables}, argv)


def _method(by: str) -> tuple[str, str]:
    """Return SYSTEMD or BWRAP, and why it is not systemd.

    Raises:
        UsageError: this machine has neither, or not the one asked for.
    """
    problem = user_manager_problem() if by != BWRAP else ""
    if by != BWRAP and not problem:
        return SYSTEMD, ""
    if by == SYSTEMD:
        raise UsageError(f"no sandbox by systemd: {problem}")
    other = bwrap.bwrap_problem()
    if other:
        before = f"{problem}, and " if problem else ""
        raise UsageError(f"this machine can make no sandbox of {SANDBOX_UNIT}: {before}{other}")
    return BWRAP, problem


def _missing(method: str) -> list[str]:
    return userunit.lacks() if method == SYSTEMD else bwrap.lacks()
