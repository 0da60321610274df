"""Running the image's own command as a container runtime would: user, environment, process 1.

The root is mounted read-only. The network is that of this machine, so that the service reaches
upstreams on loopback. Only Linux and root: `unshare`, `mount` and `chroot`.
"""

import os
import shlex
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Runs as process 1 of its own tree of processes, with mounts of its own: they end with it.
_SETUP = """
set -e
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
for pair in $MOUNTS; do
  mount --rbind "${pair%%:*}" "$ROOT${pair#*:}"
done
mount -o remount,bind,ro "$ROOT"
exec chroot "$ROOT" /usr/bin/setpriv --reuid="$USER_ID" --regid="$GROUP_ID" --clear-groups \\
  --no-new-privs --bounding-set=-all --inh-caps=-all /usr/bin/env -i -C "$FOLDER" "$@"
"""


@dataclass(frozen=True)
class Container:
    """The image's file system and configuration.

    Attributes:
        mounts: folders of this machine, by where they are in the container: {"/data": …}.
    """

    root: Path
    config: dict[str, Any]
    mounts: dict[str, Path]

    def __post_init__(self) -> None:
        """Make the places of the mounts, as a container runtime does."""
        for place in self.mounts:
            (self.root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def start(self, *arguments: str, log: Path, **environ: str) -> "Running":
        """Start the entrypoint with its own arguments, or with others."""
        command = [*self.config["Entrypoint"], *(arguments or self.config["Cmd"])]
        with log.open("wb") as sink:
            return Running(
                subprocess.Popen(
                    self._isolated(command, environ), env=self._environ(), stdout=sink, stderr=sink
                ),
                log,
            )

    def run(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the image to its end."""
        return subprocess.run(
            self._isolated(command, environ),
            env=self._environ(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _isolated(self, command: Any, environ: dict[str, str]) -> list[str]:
        inside = [*self.config["Env"], *(f"{name}={value}" for name, value in environ.items())]
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _SETUP, "sh"]
        return [*own, *inside, *command]

    def _environ(self) -> dict[str, str]:
        user, _, group = self.config["User"].partition(":")
        return {
            "PATH": os.environ["PATH"],
            "ROOT": str(self.root),
            "MOUNTS": " ".join(f"{folder}:{place}" for place, folder in self.mounts.items()),
            "USER_ID": user,
            "GROUP_ID": group,
            "FOLDER": self.config["WorkingDir"],
        }


class Running:
    """A started container; `process` is `unshare`, whose only child is the image's process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def inner(self) -> int:
        """The image's process, by its number outside."""
        outer = self.process.pid
        return int(Path(f"/proc/{outer}/task/{outer}/children").read_text())

    def status(self) -> dict[str, str]:
        """Return /proc/…/status of the image's process: Uid, CapEff, NoNewPrivs …"""
        lines = Path(f"/proc/{self.inner}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def terminate(self) -> None:
        """Send the image's process a SIGTERM."""
        os.kill(self.inner, signal.SIGTERM)

    def kill(self) -> None:
        """End the container, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __str__(self) -> str:
        return f"{shlex.quote(str(self.log))}:\n{self.log.read_text()}"
