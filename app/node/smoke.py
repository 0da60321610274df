"""Does a release work on this machine? `go version`, and a program that it compiles and runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .errors import SmokeTestError
from .layout import Layout
from .transfer import staging

FULL, VERSION_ONLY, NONE = "full", "version", "none"
_TIMEOUT_S = 600.0
_SOURCE = """package main

import "runtime"

func main() { print(runtime.Version()) }
"""


def smoke_test(layout: Layout, version: str, level: str) -> None:
    """Accept a snapshot that works.

    Nothing of the user's settings counts, no network is used, and nothing is left behind.

    Args:
        layout: of the root.
        version: of the snapshot.
        level: FULL, VERSION_ONLY or NONE.

    Raises:
        SmokeTestError: go does not start, says another version, or can't compile.
    """
    if level == NONE:
        return
    go = str(layout.snapshot(version) / "bin" / "go")
    with staging(layout) as folder:
        _turn_telemetry_off(folder)
        environment = _environment(folder)
        said = _run([go, "version"], folder, environment).split()
        if said[:3] != ["go", "version", version]:
            raise SmokeTestError(f"{go} says {' '.join(said)[:80]!a}, not go version {version}")
        if level == FULL:
            (folder / "smoke.go").write_text(_SOURCE)
            _run([go, "build", "-o", "smoke", "smoke.go"], folder, environment)
            said = _run([str(folder / "smoke")], folder, environment).split()
            if said != [version]:
                raise SmokeTestError(
                    f"a program compiled by {version} says {' '.join(said)[:80]!a}"
                )


def _turn_telemetry_off(home: Path) -> None:
    # Since 1.23 each go command may start a process that outlives it and writes counters below its
    # home: that folder could then not be removed. No variable stops it, only this file
    # (golang.org/x/telemetry, "Mode").
    mode = home / ".config" / "go" / "telemetry" / "mode"
    mode.parent.mkdir(parents=True)
    mode.write_text("off")


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "GOPATH": str(folder / "path"),
        "GOCACHE": str(folder / "cache"),
        "GOENV": "off",
        "GOFLAGS": "",
        "GOPROXY": "off",
        "GOSUMDB": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GO111MODULE": "on",
        "CGO_ENABLED": "0",
    }


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Return what a command prints, stdout and stderr together."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SmokeTestError(f"{command[0]} took longer than {_TIMEOUT_S:.0f} s") from error
    except OSError as error:
        raise SmokeTestError(f"{command[0]} does not start: {error.strerror}") from error
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        last = said.strip().rpartition("\n")[2]
        raise SmokeTestError(
            f"{' '.join(command[:2])} ended with {done.returncode}: {last[:200]!a}"
        )
    return said
