"""`python -m bench.coldprofile [--latency S] [--strace]`: where the cost of a cold module is.

One Moorage process brings in 200 modules for `go mod download`, and counts what it does
(`bench/counted.py`). CPU and counts mean something on a busy machine too; seconds do not, and are
printed beside those of the same download from the upstream itself, with the load average.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.coldmodules import build_s
from bench.modules import MODULES, Tenant, fill_modules, served
from bench.servers import upstream

_ANSWER_S = 10.0
_SYNCS = ("fsync", "fdatasync")
_Seen = tuple[Counter[str], Counter[str]]


def main() -> None:
    """Run, and print a table: for a module, the median over the turns."""
    parser = argparse.ArgumentParser(prog="bench.coldprofile", description=__doc__)
    parser.add_argument("--latency", default="0", help="seconds before each answer of upstream (0)")
    parser.add_argument("--rounds", type=int, default=3, help="turns, of 200 modules each (3)")
    parser.add_argument("--strace", action="store_true", help="count system calls; slow")
    parser.add_argument("--sql", action="store_true", help="print each statement, too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        fill_modules(folder / "upstream", asked.rounds)
        url = stack.enter_context(
            upstream(folder / "upstream", folder / "log", "--latency", asked.latency)
        )
        trace = folder / "strace"
        tracer = ["strace", "-f", "-c", "-o", str(trace)] if asked.strace else []
        out = folder / "counts.json"
        command = [*tracer, sys.executable, "-m", "bench.counted", str(out)]
        with served(folder, (Tenant("cold", url, folder / "log"),), workers=1, command=command) as (
            ours,
            _,
        ):
            pid = _pid_of(ours.pid) if asked.strace else ours.pid
            turns = _turns(f"{ours.url}goproxy/cold", url, pid, out, folder, asked.rounds)
        _print(turns, is_sql=asked.sql)
        if asked.strace:
            _print_calls(trace, asked.rounds)


def _pid_of(tracer: int) -> int:
    return int(Path(f"/proc/{tracer}/task/{tracer}/children").read_text().split()[0])


def _turns(
    ours: str, direct: str, pid: int, out: Path, folder: Path, rounds: int
) -> list[dict[str, float]]:
    turns = []
    for turn in range(rounds):
        paths = [f"example.com/t{turn}/m{number:04}" for number in range(MODULES)]
        before = _counted(pid, out)
        ours_s = build_s(folder / f"ours-{turn}", ours, paths)
        after = _counted(pid, out)
        direct_s = build_s(folder / f"direct-{turn}", direct, paths)
        spent = {f"CPU ms, {name}": 1000 * s for name, s in (after[0] - before[0]).items()}
        figures = {"CPU ms": sum(spent.values()), **spent, **(after[1] - before[1])}
        turns.append({name: figure / MODULES for name, figure in figures.items()})
        print(
            f"turn {turn}: {ours_s:.2f} s, directly {direct_s:.2f} s: {ours_s / direct_s:.2f}×, "
            f"load {os.getloadavg()[0]:.1f}"
        )
    return turns


def _counted(pid: int, out: Path) -> _Seen:
    """Return CPU seconds by thread and counts, of now."""
    out.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR2)
    until = time.monotonic() + _ANSWER_S
    while not out.exists():
        if time.monotonic() > until:
            sys.exit("the server wrote no counts")
        time.sleep(0.01)
    seen = json.loads(out.read_text())
    return Counter(seen["cpu_s"]), Counter(seen["counts"])


def _print(turns: list[dict[str, float]], *, is_sql: bool) -> None:
    names = sorted({name for turn in turns for name in turn})
    print("| of a module | median (min–max) |\n|---|---|")
    for name in names:
        figures = [turn.get(name, 0.0) for turn in turns]
        if (is_sql or not name.startswith("sql ")) and max(figures) >= 0.01:
            print(f"| {name} | **{median(figures):.2f}** ({min(figures):.2f}–{max(figures):.2f}) |")


def _print_calls(trace: Path, rounds: int) -> None:
    """Print the system calls that sync, and the most frequent ones, of a module."""
    calls = {}
    for line in trace.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdecimal():
            calls[fields[-1]] = int(fields[3]) / (rounds * MODULES)
    for name in (*_SYNCS, *sorted(calls, key=lambda n: -calls[n])[:12]):
        print(f"{name}: {calls.get(name, 0):.2f}")


if __name__ == "__main__":
    main()
