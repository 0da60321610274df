"""A run in bubblewrap (bwrap(1)): for machines and logins without a user manager.

It has no limits of memory and tasks, and no filter of system calls on machines that `seccomp.py`
does not know. `lacks` names what is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import NodeError
from .forward import forwarded
from .sandbox import hidden_paths, shown_paths
from .seccomp import socket_filter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .sandbox import Sandbox, View

_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - empty ones of the run's own
_RESOLVERS = ("systemd/resolve", "resolvconf", "NetworkManager/resolv.conf")


def bwrap_problem() -> str:
    """Return why bubblewrap can't be used; "" if it can as far as is known without a run."""
    if not shutil.which("bwrap"):
        return "bwrap is not installed (package bubblewrap)"
    return ""


def lacks() -> list[str]:
    """Return what this sandbox does not protect here and the systemd one would."""
    missing = ["MemoryMax= and TasksMax= (bubblewrap has no limits)"]
    missing.append("RestrictRealtime= LockPersonality= RestrictSUIDSGID= MemoryDenyWriteExecute=")
    if not socket_filter(platform.machine()):
        missing.append(f"SystemCallFilter= (no filter is known for {platform.machine()})")
    if not _can_refuse_namespaces():
        missing.append("RestrictNamespaces= (bubblewrap before 0.8)")
    return missing


def _can_refuse_namespaces() -> bool:
    done = subprocess.run(["bwrap", "--help"], capture_output=True, check=False)
    return b"--disable-userns" in done.stdout + done.stderr


def bwrap_words(
    sandbox: Sandbox, view: View, variables: dict[str, str], *, can_refuse_namespaces: bool
) -> list[str]:
    """Return the command without the program that runs in it, and without its descriptors."""
    words = ["bwrap", "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--hostname", "go-sandbox", "--cap-drop", "ALL"]
    # A session of its own: the run can't type into the caller's terminal (CVE-2017-5226).
    words += ["--die-with-parent", "--new-session"]
    if can_refuse_namespaces:
        words.append("--disable-userns")
    words += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    goroot = Path(variables["GOROOT"])
    netrc = Path(variables["NETRC"]) if "NETRC" in variables else None
    hidden = [path for path in sandbox.hidden if path.is_dir()]
    for path in (*_TEMPORARY, *hidden):
        words += ["--tmpfs", str(path)]
    for name in _RESOLVERS:
        words += ["--ro-bind-try", f"/run/{name}", f"/run/{name}"]
    for path in shown_paths(goroot, netrc):
        words += ["--ro-bind", str(path), str(path)]
    # After the roots that they lie in.
    states = [path for path in hidden_paths(sandbox, goroot) if path not in sandbox.hidden]
    for path in states:
        words += ["--tmpfs", str(path)]
    for path in (*sandbox.caches, view.workspace):
        words += ["--bind", str(path), str(path)]
    for path in view.guarded:
        words += ["--ro-bind", str(path), str(path)]
    for path in (*hidden, *states):
        words += ["--remount-ro", str(path)]
    return [*words, "--chdir", str(view.folder)]


def run_in_bwrap(
    sandbox: Sandbox,
    view: View,
    variables: dict[str, str],
    argv: Sequence[str],
) -> int:
    """Run a command with the caller's stdin, stdout and stderr, and return its exit code.

    A signal that ended the command gives 128 and its number, as in a shell.

    Raises:
        NodeError: bubblewrap could not make the sandbox; the command did not start.
    """
    words = bwrap_words(sandbox, view, variables, can_refuse_namespaces=_can_refuse_namespaces())
    program = socket_filter(platform.machine())
    with contextlib.ExitStack() as stack:
        info, info_end = os.pipe()
        stack.callback(os.close, info)
        kept = [info_end]
        words += ["--info-fd", str(info_end)]
        if program:
            filter_file, filter_end = os.pipe()
            stack.callback(os.close, filter_file)
            os.write(filter_end, program)  # some 500 bytes: less than any pipe holds
            os.close(filter_end)
            kept.append(filter_file)
            words += ["--seccomp", str(filter_file)]
        process = subprocess.Popen([*words, "--", *argv], env=variables, pass_fds=kept)
        os.close(info_end)
        with open(info, "rb", closefd=False) as file:
            raw = file.read()
        child = int(json.loads(raw)["child-pid"]) if raw else 0
        with forwarded(lambda number: _signal_below(child, number)):
            code = process.wait()
    if not child:
        raise NodeError("bubblewrap could not make the sandbox; its reason stands above")
    return code if code >= 0 else 128 - code


def _signal_below(process: int, number: int) -> None:
    for pid in list(_below(process)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.Signals(number))


def _below(process: int) -> Iterator[int]:
    """Yield the descendants of a process; the process itself is bubblewrap's own init."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from _below(child)
