"""The collection's rollout against a plain playbook, on many hosts: time and CPU.

The hosts are roots on this machine, connected to locally, with pipelining. The plain playbook does
what many have: get_url with checksum, unarchive, a link. It looks at no file after that, tests
nothing, and keeps a half unpacked release if it is stopped. Both get a small archive from a real
Moorage on loopback, with the same number of forks.

Each module runs by a wrapper that notes its CPU time; what is left of the run's is the control
node's.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.report import Comparison, Result
from tests.e2e.control import CHANNEL, Control, Played, archive, publish, set_channel
from tests.e2e.process import Server, Site
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import throwaway_signer

HOSTS, FORKS = 500, 50
_VERSION = "go1.99.1"
_EXTRA_BYTES = 256 << 10

_WRAPPER = """#!/bin/bash
{python} "$@"
code=$?
times > {folder}/$$.$RANDOM
exit $code
"""

_PLAIN = """
- name: A release, as many bring it
  hosts: all
  gather_facts: false
  tasks:
    - name: Make the folder
      ansible.builtin.file:
        path: "{{ toolchain_root }}/{{ version }}"
        state: directory
        mode: "0755"
    - name: Get the archive
      ansible.builtin.get_url:
        url: "{{ url }}"
        checksum: "sha256:{{ sha256 }}"
        dest: "{{ toolchain_root }}/{{ filename }}"
        mode: "0644"
    - name: Unpack
      ansible.builtin.unarchive:
        src: "{{ toolchain_root }}/{{ filename }}"
        dest: "{{ toolchain_root }}/{{ version }}"
        remote_src: true
        creates: "{{ toolchain_root }}/{{ version }}/go/VERSION"
    - name: Link
      ansible.builtin.file:
        src: "{{ version }}/go"
        dest: "{{ toolchain_root }}/current"
        state: link
"""


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Attributes:
        seconds: of the whole run.
        control_s: CPU of the control node.
        all_s: CPU of the control node and of all modules.
    """

    seconds: float
    control_s: float
    all_s: float


def run(*, rounds: int, hosts: int = HOSTS) -> list[Result]:
    """Return the figures of a first run and of one that changes nothing."""
    turns: dict[tuple[bool, bool], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as scratch, _mirror(Path(scratch)) as server:
        control = Control.new(Path(scratch) / "control", forks=FORKS)
        bench = _Bench(control, server, hosts)
        for _ in range(rounds):
            for is_ours in (True, False):
                for is_first in (True, False):
                    cost = bench.turn(is_ours=is_ours, is_first=is_first)
                    turns.setdefault((is_ours, is_first), []).append(cost)
                shutil.rmtree(control.folder / "roots")
    return [
        Comparison(
            what=f"{hosts} hosts, {'first run' if is_first else 'nothing to do'}, {what}",
            reference="plain playbook",
            unit="s",
            ours=[getattr(cost, name) for cost in turns[True, is_first]],
            theirs=[getattr(cost, name) for cost in turns[False, is_first]],
            aim=1.0,
            less_is_better=True,
        )
        for is_first in (True, False)
        for what, name in (
            ("time", "seconds"),
            ("CPU of the control node", "control_s"),
            ("CPU with the hosts'", "all_s"),
        )
    ]


@contextmanager
def _mirror(folder: Path) -> Iterator[Server]:
    with throwaway_signer() as signer, FakeGodev() as fake:
        publish(fake, signer, _VERSION, extra_bytes=_EXTRA_BYTES)
        with Site.new(folder, fake, signer).serve() as server:
            set_channel(server, _VERSION)
            yield server


class _Bench:
    """Runs turns, and notes their cost."""

    def __init__(self, control: Control, server: Server, hosts: int) -> None:
        self._control = control
        self._hosts = hosts
        self._times = control.folder / "times"
        self._plain = control.folder / "plain.yml"
        self._plain.write_text(_PLAIN)
        wrapper = control.folder / "python"
        wrapper.write_text(_WRAPPER.format(python=sys.executable, folder=self._times))
        wrapper.chmod(0o755)
        name = archive(_VERSION)
        control.write_hosts(
            [f"node-{number:03}" for number in range(hosts)],
            ansible_python_interpreter=str(wrapper),
            toolchain_servers=[server.url],
            toolchain_channel=CHANNEL,
            toolchain_vkey=server.get("/api/v1/channel-key").json["vkey"],
            toolchain_throttle=0,
            version=_VERSION,
            filename=name,
            url=f"{server.url}/dl/{name}",
            sha256=server.get(f"/dl/{name}.sha256").text.strip(),
        )

    def turn(self, *, is_ours: bool, is_first: bool) -> Cost:
        """Run one playbook on all hosts."""
        shutil.rmtree(self._times, ignore_errors=True)
        self._times.mkdir()
        if not is_ours and is_first:
            for number in range(self._hosts):
                self._control.root(f"node-{number:03}").mkdir(parents=True)
        playbook = "moorage.go.rollout" if is_ours else str(self._plain)
        played = self._control.play(playbook, rollout_steps=["100%"])
        self._check(played, is_first=is_first)
        modules_s = sum(_seconds(path) for path in self._times.iterdir())
        return Cost(played.seconds, played.cpu_s - modules_s, played.cpu_s)

    def _check(self, played: Played, *, is_first: bool) -> None:
        [recap] = played.recaps()
        is_right = [(counts["changed"] > 0) is is_first for counts in recap.values()]
        if played.code or len(recap) != self._hosts or not all(is_right):
            sys.exit(f"a run did something else:\n{played.out[-4000:]}")


def _seconds(path: Path) -> float:
    """Return user and system seconds of bash's `times`: its own, then its children's."""
    parts = (word.rstrip("s").partition("m") for word in path.read_text().split())
    return sum(60 * int(minutes) + float(seconds) for minutes, _, seconds in parts)
