"""The sandbox's files in a home, and what a run may see and write.

~/.go-sandbox/env                           variables of each run, as systemd and a shell read them
~/.go-sandbox/gocache, gomodcache           GOCACHE and GOMODCACHE, apart from those outside
~/.go-sandbox/runs/<id>/                    one run; removed at its end
~/.config/systemd/user/go-sandbox@.service  the template of the runs

How a run is started: `run.py`, with systemd `userunit.py`, with bubblewrap `bwrap.py`.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from .durable import replace_file
from .errors import RefusedError, UsageError, disk_error
from .layout import STATE, remove
from .units import SANDBOX_UNIT, sandbox_unit

_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
# Variables of the caller that a run gets. The env file wins.
_PASSED = re.compile(
    r"TERM|COLORTERM|NO_COLOR|LANG|LC_[A-Z]+|TZ|CI|CGO_[A-Z_]+|CC|CXX|GOOS|GOFLAGS|GODEBUG|GOGC"
    r"|GOMAXPROCS|GOMEMLIMIT|GOTRACEBACK|GOEXPERIMENT|GOWORK|GO(ARCH|AMD64|ARM|ARM64|386|WASM)"
)
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Sandbox:
    """The sandbox of one user.

    Attributes:
        home: the user's.
    """

    home: Path

    @property
    def folder(self) -> Path:
        """Return ~/.go-sandbox."""
        return self.home / ".go-sandbox"

    @property
    def env_file(self) -> Path:
        """Return the file of variables."""
        return self.folder / "env"

    @property
    def caches(self) -> tuple[Path, Path]:
        """Return GOCACHE and GOMODCACHE."""
        return self.folder / "gocache", self.folder / "gomodcache"

    @property
    def runs(self) -> Path:
        """Return the folder of the runs."""
        return self.folder / "runs"

    @property
    def unit_file(self) -> Path:
        """Return the template's path."""
        return user_units(self.home) / SANDBOX_UNIT

    @property
    def hidden(self) -> list[Path]:
        """Return the homes, and /run with the sockets of services and sessions."""
        below = (Path("/home"), Path("/root"))
        more = [] if self.home.is_relative_to("/home") or self.home in below else [self.home]
        return [Path("/run"), *below, *more]

    def variables(self) -> dict[str, str]:
        """Return what the env file sets.

        Raises:
            UsageError: there is no sandbox yet.
            RefusedError: the file is damaged.
        """
        try:
            text = self.env_file.read_text()
        except FileNotFoundError:
            raise UsageError(
                "there is no sandbox; `moorage-node sandbox install` makes it"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise RefusedError(f"{self.env_file} can't be read") from error
        return parse_variables(text, str(self.env_file))


@dataclass(frozen=True)
class View:
    """What one run sees beside the system's files, which are read-only.

    Attributes:
        workspace: the folder that it may write.
        folder: where it starts; inside the workspace.
        guarded: parts of the workspace that stay read-only.
    """

    workspace: Path
    folder: Path
    guarded: tuple[Path, ...]


def user_units(home: Path) -> Path:
    """Return the folder of a user's units: ~/.config/systemd/user."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "systemd/user"


def parse_variables(text: str, source: str) -> dict[str, str]:
    """Return the variables of `NAME=value` lines: the output of `client-config --for env`.

    Raises:
        RefusedError: a line is of another form.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            words = []
        name, equals, value = words[0].partition("=") if len(words) == 1 else ("", "", "")
        if not _NAME.fullmatch(name) or not equals or not value.isprintable() or "'" in value:
            raise RefusedError(f"{source}: {line[:80]!a} is not NAME=value")
        values[name] = value
    return values


def install_sandbox(
    sandbox: Sandbox,
    *,
    goroot: Path,
    settings: dict[str, str],
    netrc: Path | None,
    memory: str,
    tasks: int,
) -> dict[str, str]:
    """Write the env file, the caches and the template; return the variables.

    Args:
        sandbox: where to.
        goroot: GOROOT; a link, as `current`, is followed at each run.
        settings: of the tenant: GOPROXY, GOSUMDB and so on.
        netrc: file with the token of the tenant, which each run may read; None for none.
        memory: MemoryMax=.
        tasks: TasksMax=.

    Raises:
        UsageError: a value can't be written to a unit.
        DiskError: a file can't be written.
    """
    gocache, gomodcache = sandbox.caches
    variables = {
        "GOPROXY": "off",
        **settings,
        "PATH": f"{goroot}/bin:{_SYSTEM_PATH}",
        "GOROOT": str(goroot),
        "GOTOOLCHAIN": "local",
        "GOENV": "off",
        "GOCACHE": str(gocache),
        "GOMODCACHE": str(gomodcache),
        "GOPATH": str(sandbox.folder / "gopath"),
        "HOME": str(sandbox.home),
    }
    if netrc is not None:
        variables["NETRC"] = str(netrc)
    for name, value in variables.items():
        if not value.isprintable() or "'" in value:
            raise UsageError(f"{name} can't have the value {value!a}")
    unit = sandbox_unit(
        hidden=hidden_paths(sandbox, goroot),
        readable=shown_paths(goroot, netrc),
        writable=sandbox.caches,
        memory=memory,
        tasks=tasks,
    )
    text = "# Written by moorage-node; each run of the sandbox has these variables.\n"
    text += "".join(f"{name}='{value}'\n" for name, value in sorted(variables.items()))
    try:
        for folder in (sandbox.folder, *sandbox.caches, sandbox.runs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sandbox.unit_file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(sandbox.env_file, text.encode(), mode=0o600)
        replace_file(sandbox.unit_file, unit.encode())
    except OSError as error:
        raise disk_error(error, "write") from error
    return variables


def uninstall_sandbox(sandbox: Sandbox, root: Path | None) -> list[str]:
    """Remove the template and the folder with its caches; return the paths removed.

    Args:
        sandbox: the sandbox.
        root: remove nothing if the sandbox's Go is not of this root; None removes in any case.

    Raises:
        DiskError: something can't be removed.
    """
    if root is not None and not (
        sandbox.env_file.exists() and Path(sandbox.variables()["GOROOT"]).is_relative_to(root)
    ):
        return []
    removed = []
    for path in (sandbox.unit_file, sandbox.folder):
        try:
            if path.exists():
                remove(path)
                removed.append(str(path))
        except OSError as error:
            raise disk_error(error, "remove") from error
    return removed


def shown_paths(goroot: Path, netrc: Path | None) -> list[Path]:
    """Return what a run may read although it may lie in a hidden folder: Go, and a NETRC.

    Of a link, as `current` of a root, the folder around it: its target may be replaced.
    """
    shown = [] if netrc is None else [netrc]
    path = goroot
    while path.is_symlink():
        shown.append(path.parent)
        path = Path(os.path.normpath(path.parent / os.readlink(path)))
    return shown if any(path.is_relative_to(part) for part in shown) else [*shown, path]


def hidden_paths(sandbox: Sandbox, goroot: Path) -> list[Path]:
    """Return the folders that a run finds empty and can't write.

    `.moorage` of a root that is shown is one of them: there is the node's token.
    """
    states = [path / STATE for path in shown_paths(goroot, None)]
    return [*sandbox.hidden, *(state for state in states if state.is_dir())]


def find_view(sandbox: Sandbox, folder: Path, workspace: Path | None) -> View:
    """Return what a run in a folder may write.

    Without a workspace it is the nearest folder above with `.git` or `go.work`, else the nearest
    with `go.mod`, else the folder. Its `.git` stays read-only: a hook or a setting of Git would run
    outside the sandbox later.

    Raises:
        UsageError: the workspace would open more than a workspace.
    """
    folder = folder.resolve()
    above = [folder, *folder.parents]
    if workspace is None:
        candidates = [p for p in above if (p / ".git").exists() or (p / "go.work").exists()]
        candidates = candidates or [p for p in above if (p / "go.mod").exists()] or [folder]
        workspace = candidates[0]
    workspace = workspace.resolve()
    if not folder.is_relative_to(workspace):
        raise UsageError(f"{folder} is not in the workspace {workspace}")
    closed = [sandbox.home.resolve(), sandbox.folder.resolve(), Path("/usr"), Path("/etc")]
    for path in closed:
        if path.is_relative_to(workspace):
            raise UsageError(f"{workspace} is no workspace: {path} would be writable")
    if workspace.is_relative_to(sandbox.folder.resolve()):
        raise UsageError(f"{workspace} is no workspace: it belongs to the sandbox")
    guarded = tuple(path for path in (workspace / ".git",) if path.exists())
    return View(workspace, folder, guarded)


def passed_variables(environment: dict[str, str]) -> dict[str, str]:
    """Return the variables of the caller that a run gets, unless the env file sets them."""
    return {
        name: value
        for name, value in environment.items()
        if _PASSED.fullmatch(name) and value.isprintable()
    }
