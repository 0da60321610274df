"""Texts of the systemd units: the sandbox's template, a run's drop-in, the update service, timer.

Each line of hardening is one that a user manager can apply (systemd 247 and newer); docs/sandbox.md
says what each line stops. How systemd reads them: systemd.unit(5), systemd.exec(5), "Quoting" and
"Specifiers" in systemd.syntax(7) and systemd.unit(5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

SANDBOX_UNIT = "go-sandbox@.service"
SERVICE_UNIT, TIMER_UNIT = "moorage-node.service", "moorage-node.timer"
# How often the timer starts the service, which then asks the server or ends at once.
PERIOD_S = 30

_HARDENING = """\
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities=
UMask=0022
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectHome={home}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources @keyring
SystemCallFilter=@chown
"""
# Of @privileged, chown comes back: tests and unpacking give files their owner, mostly the same one.

_SANDBOX = """\
# Written by moorage-node; `systemctl --user edit {unit}` is for changes of yours.
[Unit]
Description=Go in a sandbox (run %i)
CollectMode=inactive

[Service]
Type=exec
# The command, its workspace and its input and output: from the run's drop-in.
ExecStart=/bin/false
ExecStopPost=/bin/sh -c 'echo "$EXIT_CODE $EXIT_STATUS" > "$MOORAGE_RUN/end"'
EnvironmentFile=%h/.go-sandbox/env
KillMode=control-group
TimeoutStopSec=10
MemoryMax={memory}
MemorySwapMax=0
TasksMax={tasks}
LimitCORE=0

# In a user manager, mounts need a user namespace of their own.
PrivateUsers=yes
{hardening}
# Nothing of homes. Nothing of /run: no bus, no docker.sock. Only what resolv.conf may lead to.
TemporaryFileSystem={hidden}
BindReadOnlyPaths=-/run/systemd/resolve -/run/resolvconf -/run/NetworkManager/resolv.conf
# Go itself, and the two folders that may be written beside the workspace.
BindReadOnlyPaths={readable}
BindPaths={writable}
"""

_SERVICE = """\
# Written by moorage-node; `systemctl {scope}edit {unit}` is for changes of yours.
[Unit]
Description=Keep Go as the fleet's server orders
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={command}
# Held by the server, or another run at work.
SuccessExitStatus=4
# An update that can't end is stopped; the old release stays.
TimeoutStartSec=1h
Nice=10
{scoped}
{hardening}
{paths}
"""

_TIMER = """\
# Written by moorage-node.
[Unit]
Description=Ask the fleet's server when it wants to be asked

[Timer]
OnActiveSec=5s
OnUnitInactiveSec={period}s
AccuracySec=5s

[Install]
WantedBy=timers.target
"""


def quoted(text: str, *, is_command: bool = False) -> str:
    """Return a word for a unit file: "a b%" gives '"a b%%"'.

    Args:
        text: the word.
        is_command: the word is one of ExecStart=, where "$" is special too.

    Raises:
        UsageError: the word can't stand in a unit file.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!a} is not UTF-8, which systemd needs") from None
    special = {"\\": "\\\\", '"': '\\"', "%": "%%", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    if is_command:
        special["$"] = "$$"
    return '"' + "".join(special.get(c) or _plain(c) for c in text) + '"'


def _plain(char: str) -> str:
    return char if char >= " " and char != "\x7f" else f"\\x{ord(char):02x}"


def _paths(paths: Iterable[Path], *, is_bind: bool) -> str:
    return " ".join(quoted(_colon(path) if is_bind else str(path)) for path in paths)


def _colon(path: Path) -> str:
    # A colon divides source and target: its backslash outlives the quoting.
    return str(path).replace(":", "\\:")


def sandbox_unit(
    *,
    hidden: Sequence[Path],
    readable: Sequence[Path],
    writable: Sequence[Path],
    memory: str,
    tasks: int,
) -> str:
    """Return the template: everything that is the same for each run.

    Args:
        hidden: folders in whose place there is an empty one that can't be written.
        readable: paths shown read-only although they may lie in a hidden folder.
        writable: folders that may be written.
        memory: MemoryMax=, as "4G" or "50%".
        tasks: TasksMax=.
    """
    return _SANDBOX.format(
        unit=SANDBOX_UNIT,
        memory=memory,
        tasks=tasks,
        hardening=_HARDENING.format(capabilities="", home="tmpfs"),
        hidden=" ".join(quoted(f"{_colon(path)}:ro") for path in hidden),
        readable=_paths(readable, is_bind=True),
        writable=_paths(writable, is_bind=True),
    )


def run_dropin(
    *,
    argv: Sequence[str],
    folder: Path,
    run_folder: Path,
    writable: Sequence[Path],
    readable: Sequence[Path],
    files: Mapping[str, str],
    environment: Mapping[str, str],
    unset: Sequence[str],
) -> str:
    """Return what one run adds to the template.

    Args:
        argv: the command; its first word is an absolute path.
        folder: working directory.
        run_folder: where the run's end is written.
        writable: the workspace.
        readable: what stays read-only in the workspace.
        files: StandardInput, StandardOutput and StandardError, each with its value.
        environment: variables of this run.
        unset: variables of the manager that the run does not get.
    """
    lines = [
        "[Service]",
        "ExecStart=",
        "ExecStart=" + " ".join(quoted(word, is_command=True) for word in argv),
        f"WorkingDirectory={str(folder).replace('%', '%%')}",
        f"BindPaths={_paths([*writable, run_folder], is_bind=True)}",
    ]
    if readable:
        lines.append(f"BindReadOnlyPaths={_paths(readable, is_bind=True)}")
    lines += [f"{name}={value}" for name, value in files.items()]
    environment = {**environment, "MOORAGE_RUN": str(run_folder)}
    lines += [f"Environment={quoted(f'{name}={value}')}" for name, value in environment.items()]
    if unset:
        lines.append(f"UnsetEnvironment={' '.join(unset)}")
    return "\n".join(lines) + "\n"


def service_unit(
    *,
    command: Sequence[str],
    root: Path,
    extra: Sequence[Path],
    readable: Sequence[Path],
    is_user: bool,
) -> str:
    """Return the service that runs one update when the server wants it.

    Args:
        command: words of ExecStart=.
        root: the node's root, which may be written.
        extra: further folders that may be written: those of links.
        readable: the program and its Python, which may lie in a user's home.
        is_user: for a user manager.
    """
    paths = [root, *extra]
    if is_user:
        lines = [
            "# The home is hidden but for these.",
            f"BindPaths={_paths(paths, is_bind=True)}",
            "BindReadOnlyPaths=" + " ".join(quoted(f"-{_colon(path)}") for path in readable),
        ]
    else:
        lines = [f"ReadWritePaths={_paths(paths, is_bind=False)}"]
    scoped = "PrivateUsers=yes" if is_user else "CPUSchedulingPolicy=batch"
    capabilities = "" if is_user else "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER"
    return _SERVICE.format(
        scope="--user " if is_user else "",
        unit=SERVICE_UNIT,
        command=" ".join(quoted(word, is_command=True) for word in command),
        scoped=scoped,
        hardening=_HARDENING.format(
            capabilities=capabilities, home="tmpfs" if is_user else "read-only"
        ),
        paths="\n".join(lines),
    )


def timer_unit() -> str:
    """Return the timer of the service."""
    return _TIMER.format(period=PERIOD_S)
