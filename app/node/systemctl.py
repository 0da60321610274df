"""Asking systemd: `systemctl`, for the user's manager or the system's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .errors import NodeError


def runtime_folder() -> Path:
    """Return the user's runtime folder: $XDG_RUNTIME_DIR or /run/user/<uid>."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")


def user_manager_problem() -> str:
    """Return why there is no user manager to ask; "" if there is one."""
    if not shutil.which("systemctl"):
        return "systemd is not installed"
    if not (runtime_folder() / "systemd/private").exists():
        return (
            "no user session of systemd runs for this user; log in, or let root "
            "`loginctl enable-linger` this user"
        )
    return ""


def systemctl(*words: str, is_user: bool) -> str:
    """Run systemctl and return what it prints.

    Raises:
        NodeError: systemctl failed, or is missing.
    """
    done = _run(words, is_user=is_user)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise NodeError(f"systemctl {' '.join(words)}: {ascii(reason[:200])[1:-1]}")
    return done.stdout


def start_and_wait(unit: str) -> subprocess.Popen[str]:
    """Start a unit of the user's manager; the process ends when the unit has ended."""
    # A session of its own: Ctrl-C goes to the command, not to the waiting.
    return subprocess.Popen(
        ["systemctl", "--user", "start", "--wait", unit],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _run(words: tuple[str, ...], *, is_user: bool) -> subprocess.CompletedProcess[str]:
    scope = ["--user"] if is_user else []
    try:
        return subprocess.run(
            ["systemctl", *scope, *words],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,
        )
    except OSError as error:
        raise NodeError("systemd is not installed: systemctl does not start") from error


def _environment() -> dict[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": str(runtime_folder()), "LC_ALL": "C"}
