"""One node installs the real archive, against `curl; sha256sum -c; tar xzf`, in turns.

The program checks every piece, every file and the signature; the reference checks the archive. Both
write to the same file system (TMPDIR chooses it). Neither starts Go. The stages of the program
overlap, so that their sum is more than the whole.

Needs curl, tar, sha256sum, and the real archive beside the repository. Packing the zstd form takes
a minute or two; BENCH_ZST names a file that has it already.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.services.fleet.nodeprogram import node_program
from bench.report import Comparison, Rate, Result
from tests.fakes.fleet import FakeFleet

ARCHIVE = Path(__file__).parents[1].parent / "shared/upstream/go1.23.1.linux-amd64.tar.gz"
VERSION = "go1.23.1"
ZSTD_LEVEL = 19
RATES = {"loopback": 0.0, "1 Gbit/s": 1e9 / 8, "200 Mbit/s": 200e6 / 8}
AIM = 0.5
STAGES = ("network", "hashing", "decompression", "writing", "durable")


def run(*, rounds: int, seconds: int) -> list[Result]:
    """Measure each rate, program and reference in turns."""
    missing = [name for name in ("curl", "tar", "sha256sum", "zstd") if not shutil.which(name)]
    if missing or not ARCHIVE.exists():
        sys.exit(f"bench node needs {', '.join(missing) or ARCHIVE}")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="bench-node-") as name:
        folder = Path(name)
        vkey = _publish(folder / "site")
        for what, rate in RATES.items():
            with _serving(folder / "site", rate) as url:
                results += _turns(what, url, vkey, folder, rounds)
    return results


def _publish(site: Path) -> str:
    """Write what a server serves of a channel; return the key."""
    fleet = FakeFleet(platform="linux-amd64")
    fleet.put_release(VERSION, ARCHIVE.read_bytes(), zst=_zst())
    channel = site / "dl" / "channels" / fleet.channel
    channel.mkdir(parents=True)
    for suffix in ("", ".tree", ".chunks", ".zst", ".zst.chunks"):
        name = fleet.filename(VERSION) + suffix
        (channel / name).write_bytes(fleet.answer_bytes(VERSION, suffix))
    (channel / "manifest").write_bytes(fleet.manifest())
    (site / "moorage-node.pyz").write_bytes(node_program().content)
    return fleet.vkey


def _zst() -> bytes:
    if "BENCH_ZST" in os.environ:
        return Path(os.environ["BENCH_ZST"]).read_bytes()
    unpacked = subprocess.Popen(["gzip", "-dc", str(ARCHIVE)], stdout=subprocess.PIPE)
    packed = subprocess.run(
        ["zstd", "-q", "-c", f"-{ZSTD_LEVEL}", "-T0"],
        stdin=unpacked.stdout,
        capture_output=True,
        check=True,
    )
    unpacked.wait()
    return packed.stdout


@contextmanager
def _serving(site: Path, rate: float) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.nodeserver", str(site), str(rate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


def _turns(what: str, url: str, vkey: str, folder: Path, rounds: int) -> list[Result]:
    ours: list[float] = []
    theirs: list[float] = []
    ours_cpu: list[float] = []
    theirs_cpu: list[float] = []
    stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for _ in range(rounds):
        wall, cpu = _timed(_reference(url, folder))
        theirs.append(wall)
        theirs_cpu.append(cpu)
        wall, cpu, value = _program(url, vkey, folder)
        ours.append(wall)
        ours_cpu.append(cpu)
        for stage, figures in stages.items():
            figures.append(value["seconds"].get(stage, 0.0))
    name = f"install of {VERSION}, {what}"
    reference = "curl; sha256sum; tar"
    return [
        Comparison(name, reference, "s", ours, theirs, AIM, less_is_better=True),
        Comparison(f"{name}: CPU", reference, "s", ours_cpu, theirs_cpu, 1.0, less_is_better=True),
        *(Rate(f"{name}: {stage}", "s", figures) for stage, figures in stages.items()),
    ]


def _reference(url: str, folder: Path) -> list[str]:
    root, name = folder / "reference", ARCHIVE.name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    (root / "sums").write_text(f"{_sum()}  {name}\n")
    script = (
        f"cd {root} && curl -fsSO {url}/dl/channels/stable/{name} "
        f"&& sha256sum --quiet -c sums && tar xzf {name}"
    )
    return ["sh", "-c", script]


def _sum() -> str:
    done = subprocess.run(["sha256sum", str(ARCHIVE)], capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


def _program(url: str, vkey: str, folder: Path) -> tuple[float, float, dict[str, Any]]:
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    program = str(folder / "site" / "moorage-node.pyz")
    command = [sys.executable, "-I", program, "install", VERSION, "--root", str(root), "--json"]
    way = ["--server", url, "--vkey", vkey, "--channel", "stable", "--smoke", "none"]
    output = folder / "output"
    wall, cpu = _timed([*command, *way], output)
    return wall, cpu, json.loads(output.read_text())


def _timed(command: list[str], output: Path | None = None) -> tuple[float, float]:
    """Return wall and CPU seconds of a command and its children."""
    os.sync()  # nobody pays for what the one before wrote
    before, started = os.times(), time.perf_counter()
    stdout = output.open("wb") if output else subprocess.DEVNULL
    subprocess.run(command, check=True, stdout=stdout)
    wall, after = time.perf_counter() - started, os.times()
    return wall, sum(after[2:4]) - sum(before[2:4])
