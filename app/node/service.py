"""The command `service`: a systemd service and timer that update this node at the server's pace.

The timer starts the service every PERIOD_S. `service run` ends at once while the server does not
want to be asked yet, and waits when the time is near: no process idles, no check-in is early.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from .durable import read_json, replace_file, write_json
from .errors import DONE, NodeError, UsageError, disk_error
from .sandbox import user_units
from .state import read_identity
from .systemctl import systemctl, user_manager_problem
from .units import PERIOD_S, SERVICE_UNIT, TIMER_UNIT, quoted, service_unit, timer_unit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from .layout import Layout
    from .output import Output

# After a failure, or if the server does not say when.
DEFAULT_S = 60.0
# A time further away than this is one of a wrong clock.
_LONGEST_S = 86400.0
# One start of the service: less than its TimeoutStartSec= with an update at its end.
_STAY_S = 900.0


def add_parser(command: Callable[..., argparse.ArgumentParser], *parents: object) -> None:
    """Add the parser of the command."""
    one = command("service", "a systemd service and timer that update this node", *parents)
    one.add_argument("action", choices=("install", "uninstall", "run"))
    one.add_argument("--user", action="store_true", help="for the user's manager, also as root")
    one.add_argument("--program", default="", metavar="FILE", help="moorage-node.pyz")


def service_command(
    options: argparse.Namespace,
    layout: Layout,
    output: Output,
    update: Callable[[], tuple[int, float]],
) -> int:
    """Do `service install`, `uninstall` or `run`.

    Args:
        options: of the command line.
        layout: the root.
        output: where results go.
        update: one update: its exit code, and the seconds until the next, 0 if nobody said.
    """
    if options.action == "run":
        return run_due(layout, update, sleep=time.sleep, now=time.time)
    is_user = bool(options.user) or os.geteuid() != 0
    folder = unit_folder(is_user=is_user)
    if options.action == "uninstall":
        removed = uninstall_service(layout, any_root=True, is_user=is_user)
        output.result({"removed": removed}, [f"removed {path}" for path in removed])
        return DONE
    if not read_identity(layout).node:
        raise UsageError("this node is not enrolled; `moorage-node enroll` does that first")
    link = read_identity(layout).link
    text = service_unit(
        command=_command(options, layout),
        root=layout.root,
        extra=[Path(link).parent] if link else [],
        readable=[_program(options), *_python_folders()],
        is_user=is_user,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / SERVICE_UNIT, text.encode())
        replace_file(folder / TIMER_UNIT, timer_unit().encode())
    except OSError as error:
        raise disk_error(error, "write") from error
    written = [str(folder / SERVICE_UNIT), str(folder / TIMER_UNIT)]
    try:
        systemctl("daemon-reload", is_user=is_user)
        systemctl("enable", "--now", TIMER_UNIT, is_user=is_user)
    except NodeError as error:
        # What systemctl says without a manager names a file that is missing, and no way out.
        why = (user_manager_problem() if is_user else "") or str(error)
        raise NodeError(
            f"{' and '.join(written)} are written, but not started: {why}; then run "
            "`moorage-node service install` again"
        ) from error
    if is_user and not Path("/var/lib/systemd/linger", Path.home().name).exists():
        output.warn("it runs while you are logged in; `loginctl enable-linger` makes it permanent")
    output.result({"written": written}, [f"wrote {path}" for path in written])
    return DONE


def unit_folder(*, is_user: bool) -> Path:
    """Return the folder of the manager's units."""
    return user_units(Path.home()) if is_user else Path("/etc/systemd/system")


def uninstall_service(layout: Layout, *, any_root: bool, is_user: bool | None = None) -> list[str]:
    """Stop and remove service and timer; return the paths removed.

    Args:
        layout: the root.
        any_root: also those of another root.
        is_user: of the user's manager; None: unless root asks.

    Raises:
        DiskError: a file can't be removed.
    """
    is_user = os.geteuid() != 0 if is_user is None else is_user
    folder = unit_folder(is_user=is_user)
    with contextlib.suppress(OSError):
        text = (folder / SERVICE_UNIT).read_text()
        if not any_root and quoted(str(layout.root), is_command=True) not in text:
            return []
    paths = [path for path in (folder / TIMER_UNIT, folder / SERVICE_UNIT) if path.exists()]
    if not paths:
        return []
    # Without systemd there is nothing to stop.
    with contextlib.suppress(NodeError):
        systemctl("disable", "--now", TIMER_UNIT, is_user=is_user)
    try:
        for path in paths:
            path.unlink()
    except OSError as error:
        raise disk_error(error, "remove") from error
    with contextlib.suppress(NodeError):
        systemctl("daemon-reload", is_user=is_user)
    return [str(path) for path in paths]


def _program(options: argparse.Namespace) -> Path:
    program = Path(options.program or sys.argv[0]).resolve()
    if not zipfile.is_zipfile(program):
        raise UsageError(f"{program} is not moorage-node.pyz; name that file with --program")
    return program


def _python_folders() -> list[Path]:
    """Return where a Python of the home's own lies, as one of pyenv or of a venv; else nothing."""
    folders = {Path(sys.prefix), Path(sys.base_prefix)}
    return sorted(folder for folder in folders if folder.is_relative_to(Path.home()))


def _command(options: argparse.Namespace, layout: Layout) -> list[str]:
    program = _program(options)
    python = shutil.which(sys.executable) or "/usr/bin/python3"
    words = [python, str(program), "service", "run", "--root", str(layout.root)]
    for name, default in (("limit", ""), ("form", "auto"), ("smoke", "full"), ("keep", None)):
        value = getattr(options, name, None)
        if value and str(value) != str(default):
            words += [f"--{name}", str(value)]
    return words


def run_due(
    layout: Layout,
    update: Callable[[], tuple[int, float]],
    *,
    sleep: Callable[[float], None],
    now: Callable[[], float],
) -> int:
    """Update when the server wants it, if that is within PERIOD_S; return the last exit code.

    Raises:
        DiskError: the next time can't be written.
    """
    file = layout.state_folder / "next.json"
    started, code = now(), DONE
    while now() - started < _STAY_S:
        wait = _wait(file, now())
        if wait > PERIOD_S:
            break
        if wait > 0:
            sleep(wait)
        code, next_s = update()
        # Half as long again at most, so that a fleet does not ask in step after an outage.
        pause = next_s if next_s > 0 else DEFAULT_S * random.uniform(1.0, 1.5)  # noqa: S311 - no secret
        try:
            write_json(file, {"at": now() + pause})
        except OSError as error:
            raise disk_error(error, "write") from error
    return code


def _wait(file: Path, now: float) -> float:
    try:
        wait = float(read_json(file).get("at", 0)) - now
    except (NodeError, OSError, TypeError, ValueError):
        return 0.0
    return wait if wait < _LONGEST_S else 0.0
