"""kill -9 of the node program at random moments of an installation of the real archive.

    python -m tests.node.random_kills [--count 200] [--seed 1]

An old release is current. The program installs the real archive as a process of its own, in one
form and the other by turns, and is killed after a random part of the time that the longest
installation of that form took. Then the old release (or the new one, if the kill came after the
switch) has to be current, whole and able to run, and the next run has to end clean. The first
thing that is not so ends the run with 1. TMPDIR chooses the file system.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from app.node.goversion import this_platform
from app.services.fleet.nodeprogram import node_program
from tests.fakes.fleet import FakeFleet, go_script

ARCHIVE = Path(__file__).parents[2].parent / "shared/upstream/go1.23.1.linux-amd64.tar.gz"
OLD, NEW = "go1.22.9", "go1.23.1"
FORMS = ("zst", "tar.gz")
_STATE = {"lock", "node.json", "state.json", "snapshots"}


class Trial:
    """A prepared root, copied for each kill."""

    def __init__(self, folder: Path, fleet: FakeFleet) -> None:
        self._prepared, self._root = folder / "prepared", folder / "root"
        self._program = folder / "moorage-node.pyz"
        self._program.write_bytes(node_program().content)
        pin = ["--vkey", fleet.vkey, "--channel", fleet.channel, "--smoke", "version"]
        self._way = ["--server", fleet.base_url, *pin]
        self._longest_s = dict.fromkeys(FORMS, 0.0)
        self._run("install", OLD, *self._way, root=self._prepared)

    def measure(self, form: str) -> None:
        """Install once without a kill."""
        self._copy()
        began = time.perf_counter()
        self._run("install", NEW, "--form", form, *self._way)
        self._longest_s[form] = time.perf_counter() - began

    def kill(self, form: str, part: float) -> str:
        """Kill one installation; return what the kill met: the newest stage, or "ended"."""
        self._copy()
        command = self._command("install", NEW, "--form", form, *self._way)
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
        )
        try:
            process.wait(part * self._longest_s[form])
        except subprocess.TimeoutExpired:
            process.kill()
        status = process.wait()
        met = "ended" if status == 0 else self._met()
        current = (self._root / "current").readlink().name
        self._run("verify", current, "--full")
        go = [str(self._root / "current/bin/go"), "version"]
        said = subprocess.run(go, capture_output=True, text=True, check=True).stdout
        if status not in (0, -9) or current not in said:
            sys.exit(f"{form} at {part:.3f}: status {status}, {current} says {said!r}")
        began = time.perf_counter()
        self._run("install", NEW, "--form", form, *self._way)
        self._longest_s[form] = max(self._longest_s[form], time.perf_counter() - began)
        self._run("verify", NEW, "--full")
        names = {path.name for path in self._root.iterdir()}
        state = {path.name for path in (self._root / ".moorage").iterdir()}
        if names != {OLD, NEW, "current", ".moorage"} or not state <= _STATE:
            sys.exit(f"{form} at {part:.3f}: the next run left {sorted(names | state)}")
        return met

    def _met(self) -> str:
        if (self._root / "current").readlink().name == NEW:
            return "after the switch"
        if (self._root / NEW).exists():
            return "before the switch"
        staging = list(self._root.glob(".staging-*"))
        return "unpacking" if staging else "before the first file"

    def _copy(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.copytree(self._prepared, self._root, symlinks=True)

    def _command(self, *argv: str, root: Path | None = None) -> list[str]:
        where = ["--root", str(root or self._root), "--json"]
        return [sys.executable, "-I", str(self._program), *argv, *where]

    def _run(self, *argv: str, root: Path | None = None) -> None:
        done = subprocess.run(
            self._command(*argv, root=root), capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(argv[:2])} ended with {done.returncode}: {done.stderr}")


def main() -> None:
    """Kill as often as asked, and print where the kills came."""
    parser = argparse.ArgumentParser(prog="tests.node.random_kills", description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if not ARCHIVE.exists():
        sys.exit(f"needs {ARCHIVE}")
    chance = random.Random(asked.seed)
    met: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory(prefix="random-kills-") as name,
        FakeFleet(platform=this_platform()) as fleet,
    ):
        fleet.put_release(OLD, go_command=go_script(OLD))
        fleet.put_release(NEW, ARCHIVE.read_bytes(), zst=_zst())
        trial = Trial(Path(name), fleet)
        for form in FORMS:
            trial.measure(form)
        for number in range(asked.count):
            form = FORMS[number % len(FORMS)]
            met[f"{form}: {trial.kill(form, chance.random())}"] += 1
            print(json.dumps({"kills": number + 1, "met": met}), flush=True)


def _zst() -> bytes:
    unpacked = subprocess.Popen(["gzip", "-dc", str(ARCHIVE)], stdout=subprocess.PIPE)
    packed = subprocess.run(
        ["zstd", "-q", "-c", "-3"], stdin=unpacked.stdout, capture_output=True, check=True
    )
    unpacked.wait()
    return packed.stdout


if __name__ == "__main__":
    main()
