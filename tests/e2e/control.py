"""A control node: Ansible with the collection, and hosts that are roots on this machine.

Nothing of the user's own settings of Ansible counts: no ansible.cfg, a home of its own.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.node.goversion import this_platform
from tests.e2e.process import ROOT, Server
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.fleet import go_script
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer

BIN = Path(sys.executable).parent
CHANNEL = "stable"


def publish(fake: FakeGodev, signer: Signer, version: str, **archive: Any) -> None:
    """Publish a small release for this machine, whose bin/go answers the smoke test."""
    goos, _, goarch = this_platform().partition("-")
    options = {"go_command": go_script(version), **archive}
    data = go_archive(version, goos, goarch, **options)
    fake.put_file(archive_name(version, goos, goarch), data, signature=signer.sign(data))


def archive(version: str) -> str:
    """Return the name of a release's archive for this machine."""
    return archive_name(version, *this_platform().split("-", 1))


def set_channel(server: Server, version: str) -> None:
    """Make a verified release the current one of the channel; the channel is made if needed."""
    assert server.get(f"/dl/{archive(version)}").status == 200
    assert server.admin("POST", "/channels", {"name": CHANNEL}).status in (201, 409)
    answer = server.admin("POST", f"/channels/{CHANNEL}/revisions", {"current": version})
    assert answer.status == 201, answer.text


@dataclass(frozen=True)
class Played:
    """How a run ended, and what it cost.

    Attributes:
        code: the exit code.
        out: what it printed, both streams.
        report: of the callback; of the last playbook if there were several.
        seconds: of the whole run.
        cpu_s: of the run and of everything that it started.
    """

    code: int
    out: str
    report: Mapping[str, Any]
    seconds: float
    cpu_s: float

    def outcomes(self) -> dict[str, str]:
        """Return what became of each host."""
        return {host: entry["outcome"] for host, entry in self.report["hosts"].items()}

    def recaps(self) -> list[dict[str, dict[str, int]]]:
        """Return the recap of each playbook: counts by host."""
        recaps = []
        for part in self.out.split("PLAY RECAP")[1:]:
            recap = {}
            for line in part.partition("\n\n")[0].splitlines()[1:]:
                host, _, counts = line.partition(" : ")
                words = (word.partition("=") for word in counts.split())
                recap[host.strip()] = {name: int(count) for name, _, count in words}
            recaps.append(recap)
        return recaps


@dataclass(frozen=True)
class Control:
    """A control node.

    Attributes:
        folder: of its files.
        forks: processes at once.
    """

    folder: Path
    forks: int = 5

    @classmethod
    def new(cls, folder: Path, *, forks: int = 5) -> "Control":
        """Return one that has the collection, and no hosts."""
        folder.mkdir(parents=True)
        build = [sys.executable, str(ROOT / "ansible" / "build.py")]
        subprocess.run([*build, "--tree", str(folder)], check=True, capture_output=True)
        return cls(folder, forks)

    @property
    def limit_file(self) -> Path:
        """Where the callback writes the hosts that failed."""
        return self.folder / "failed"

    def root(self, host: str) -> Path:
        """Return where a host has its releases."""
        return self.folder / "roots" / host

    def current(self, host: str) -> str | None:
        """Return the release that a host runs."""
        link = self.root(host) / "current"
        return link.readlink().name if link.is_symlink() else None

    def write_hosts(self, hosts: Sequence[str], **variables: Any) -> None:
        """Write the inventory; hosts are connected to locally."""
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "toolchain_root": str(self.root("{{ inventory_hostname }}")),
            **variables,
        }
        everybody = {"hosts": dict.fromkeys(hosts, None), "vars": variables}
        folder = self.folder / "inventory"
        folder.mkdir(exist_ok=True)
        (folder / "hosts.yml").write_text(json.dumps({"all": everybody}))

    def play(
        self, *playbooks: str, options: Sequence[str] = (), env: Mapping[str, str] | None = None,
        **variables: Any,
    ) -> Played:  # fmt: skip
        """Run playbooks in one process, and return how that ended."""
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        command = [str(BIN / "ansible-playbook"), "--inventory", str(self.folder / "inventory")]
        command += ["--forks", str(self.forks), "--extra-vars", json.dumps(variables), *options]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            [*command, *playbooks],
            cwd=self.folder,
            env={**self._environment(report), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Played(
            code=done.returncode,
            out=done.stdout,
            report=json.loads(report.read_text()) if report.exists() else {},
            seconds=time.monotonic() - started,
            cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        )

    def _environment(self, report: Path) -> dict[str, str]:
        return {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder),
            "ANSIBLE_CALLBACKS_ENABLED": "moorage.go.report",
            "ANSIBLE_INVENTORY_ENABLED": "moorage.go.fleet,ansible.builtin.yaml",
            "ANSIBLE_PIPELINING": "true",
            "MOORAGE_REPORT_FILE": str(report),
            "MOORAGE_LIMIT_FILE": str(self.limit_file),
        }
