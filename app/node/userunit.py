"""A run as an instance of go-sandbox@.service, in the user's systemd manager.

The instance's drop-in in the runtime folder has the command, the workspace, and the caller's
stdin, stdout and stderr, which the manager opens by /proc/<pid>/fd. A descriptor that can't be
opened so (a socket, a pipe of another user, a file read from its middle) gets a pipe in between.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import NodeError, disk_error
from .forward import forwarded
from .layout import remove
from .sandbox import Sandbox, View
from .systemctl import runtime_folder, start_and_wait, systemctl
from .units import SANDBOX_UNIT, run_dropin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NAMES = ("StandardInput", "StandardOutput", "StandardError")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Exit codes of systemd itself, before the command starts (systemd.exec(5)).
_NOT_MADE = {
    "203": "the command can't be executed",
    "217": "user namespaces are off",
    "218": "capabilities can't be dropped",
    "226": "namespaces can't be made",
    "228": "system calls can't be filtered",
}


def lacks() -> list[str]:
    """Return the lines of the template that this machine's manager passes over in silence."""
    group = systemctl("show", "--property=ControlGroup", "--value", is_user=True).strip()
    try:
        controllers = Path(f"/sys/fs/cgroup{group}/cgroup.controllers").read_text().split()
    except OSError:
        controllers = []
    missing = [
        f"{line} (the controller {name} is not delegated to user sessions)"
        for name, line in (("memory", "MemoryMax="), ("pids", "TasksMax="))
        if name not in controllers
    ]
    if not Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        missing.append("SystemCallFilter= RestrictAddressFamilies= (the kernel has no seccomp)")
    elif "-SECCOMP" in systemctl("--version", is_user=True):
        missing.append("SystemCallFilter= RestrictAddressFamilies= (this systemd has no seccomp)")
    return missing


def run_in_unit(
    sandbox: Sandbox,
    view: View,
    environment: dict[str, str],
    argv: Sequence[str],
) -> int:
    """Run a command and return its exit code; 128 and the number if a signal ended it.

    Raises:
        NodeError: the manager could not make the sandbox; the command did not start.
        DiskError: a file of the run can't be written.
    """
    _remove_ended(sandbox)
    run = f"{os.getpid()}-{secrets.token_hex(4)}"
    unit = SANDBOX_UNIT.replace("@", f"@{run}")
    run_folder, dropin = sandbox.runs / run, _dropin_folder(run)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_quietly, run_folder, dropin)
        try:
            for folder in (*sandbox.caches, run_folder, dropin):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = run_dropin(
                argv=argv,
                folder=view.folder,
                run_folder=run_folder,
                writable=[view.workspace],
                readable=view.guarded,
                files=stack.enter_context(_files()),
                environment=environment,
                unset=_variables_of_session({*environment, *sandbox.variables()}),
            )
            (dropin / "run.conf").write_text(text)
        except OSError as error:
            raise disk_error(error, "write") from error
        systemctl("daemon-reload", is_user=True)
        waiting = start_and_wait(unit)

        def send(number: int) -> None:
            with contextlib.suppress(NodeError):
                name = signal.Signals(number).name
                systemctl("kill", f"--signal={name}", unit, is_user=True)

        with forwarded(send):
            reason = waiting.communicate()[1]
        return _end(unit, run_folder, reason.strip().partition("\n")[0])


def _variables_of_session(kept: set[str]) -> list[str]:
    """Return the names of the manager's variables that the run does not get: sockets, secrets."""
    lines = systemctl("show-environment", is_user=True).splitlines()
    names = {line.partition("=")[0] for line in lines if "=" in line} | {"XDG_RUNTIME_DIR"}
    return sorted(name for name in names - kept if _NAME.fullmatch(name))


def _end(unit: str, run_folder: Path, reason: str) -> int:
    shown = systemctl("show", "--property=Result", "--property=ExecMainStatus", unit, is_user=True)
    facts = dict(line.partition("=")[::2] for line in shown.splitlines())
    with contextlib.suppress(NodeError):
        systemctl("reset-failed", unit, is_user=True)
    try:
        kind, _, status = (run_folder / "end").read_text().strip().partition(" ")
    except OSError:
        why = _NOT_MADE.get(facts.get("ExecMainStatus", ""), ascii(reason[:200])[1:-1])
        raise NodeError(
            f"this machine's user manager could not make the sandbox: {why or 'no reason given'}"
            "; `moorage-node run --by bwrap` needs no manager"
        ) from None
    if kind == "exited":
        return int(status.partition("/")[0])
    if facts.get("Result") == "oom-kill":
        os.write(2, b"moorage-node: the run reached the memory limit of the sandbox (MemoryMax=)\n")
    return 128 + getattr(signal, f"SIG{status}", 0)


def _dropin_folder(run: str) -> Path:
    unit = SANDBOX_UNIT.replace("@", f"@{run}")
    return runtime_folder() / "systemd/user" / f"{unit}.d"


def _remove_quietly(*folders: Path) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            remove(folder)


def _remove_ended(sandbox: Sandbox) -> None:
    """Stop and remove the runs whose caller was killed."""
    with contextlib.suppress(OSError):
        for folder in sandbox.runs.iterdir():
            pid = folder.name.partition("-")[0]
            if not Path(f"/proc/{pid}").exists():
                with contextlib.suppress(NodeError):
                    systemctl("stop", SANDBOX_UNIT.replace("@", f"@{folder.name}"), is_user=True)
                _remove_quietly(folder, _dropin_folder(folder.name))


@contextlib.contextmanager
def _files() -> Iterator[dict[str, str]]:
    """Yield the lines by which the manager opens the caller's descriptors 0, 1 and 2.

    At the end, what waits in a pipe in between is written.
    """
    values: dict[str, str] = {}
    copies: list[threading.Thread] = []
    ours: list[int] = []
    for number, name in enumerate(_NAMES):
        kind = "append" if number else "file"
        if _can_reopen(number):
            values[name] = f"{kind}:/proc/{os.getpid()}/fd/{number}"
            continue
        if not _is_open(number):
            values[name] = "null"
            continue
        source, target = os.pipe()
        theirs, mine = (target, source) if number else (source, target)
        os.set_inheritable(theirs, False)
        values[name] = f"{kind}:/proc/{os.getpid()}/fd/{theirs}"
        pair = (mine, number) if number else (number, mine)
        copy = threading.Thread(target=_copy, args=pair, daemon=True)
        copy.start()
        if number:
            ours.append(theirs)
            copies.append(copy)
    try:
        yield values
    finally:
        for descriptor in ours:
            os.close(descriptor)
        for copy in copies:
            copy.join()


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _can_reopen(number: int) -> bool:
    """Return whether opening /proc/<pid>/fd/<number> gives the same as the descriptor."""
    flags = (os.O_WRONLY | os.O_APPEND) if number else os.O_RDONLY
    try:
        status = os.fstat(number)
        if not number and stat.S_ISREG(status.st_mode) and os.lseek(number, 0, os.SEEK_CUR):
            return False
        if stat.S_ISREG(status.st_mode) and not status.st_nlink:
            return False  # deleted: its name is of no use to the manager
        os.close(os.open(f"/proc/self/fd/{number}", flags | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _copy(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        while part := os.read(source, 1 << 16):
            left = memoryview(part)
            while left:
                left = left[os.write(target, left) :]
    # The end of a caller's stdin is the end of the command's. stdout and stderr stay open.
    if target > 2:
        with contextlib.suppress(OSError):
            os.close(target)
