"""Misses: what a module costs that nobody asked for before, against its upstream asked directly."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import Bound, Comparison, Result
from bench.transfers import download_s
from tests.e2e.gocommand import Go

_HERD = 12
_VERSION = "v1.0.0"
_SAMPLE_S = 0.01


def compare_herd(
    direct: str, ours: str, log: Path, rate: str, pid: int, rounds: int, *, is_unlimited: bool
) -> list[Result]:
    """Compare twelve parallel cold downloads of a big zip with one from the upstream itself.

    Args:
        direct: the upstream's URL.
        ours: Moorage's URL of the tenant.
        log: of the upstream: one fetch of the twelve must be in it.
        rate: of the upstream, for people.
        pid: of Moorage's first process.
        rounds: how often; each has a zip of its own.
        is_unlimited: the twelve then wait for the loopback as well as for the upstream, so that the
            reference is one direct download and twelve of the stored file.
    """
    times: tuple[list[float], list[float]] = ([], [])
    growth: list[float] = []
    for turn in range(rounds):
        path = f"/example.com/big{turn}/@v/{_VERSION}.zip"
        with _grown(pid) as grown:
            times[0].append(download_s(ours + path, _HERD))
        growth += grown
        fetches = log.read_text().count(path)
        if fetches != 1:
            sys.exit(f"{fetches} fetches of one zip from upstream")
        stored_s = download_s(ours + path, _HERD) if is_unlimited else 0.0
        times[1].append(download_s(direct + path, 1) + stored_s)
    what = f"{_HERD} parallel cold requests for a 100 MB zip, upstream {rate}"
    reference = "one direct download"
    if is_unlimited:
        reference += f" + {_HERD} of the stored file"
    return [
        Comparison(what, reference, "s", *times, aim=1.3, less_is_better=True),
        Bound(f"memory growth during that, upstream {rate}", "MiB", growth, 64),
    ]


def compare_builds(
    direct: str, ours: str, folder: Path, latency: str, rounds: int, modules: int, aim: float
) -> Result:
    """Compare `go mod download` of modules that are cold here with the same from upstream.

    Args:
        direct: the upstream's URL.
        ours: Moorage's URL of the tenant.
        folder: to work in; each turn has an empty module cache.
        latency: of the upstream, for people.
        rounds: how often; each has modules of its own.
        modules: how many there are in each.
        aim: the ratio aimed at.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        pair = ((0, ours), (1, direct))
        for which, url in pair if turn % 2 == 0 else reversed(pair):
            paths = [f"example.com/t{turn}/m{n:04}" for n in range(modules)]
            times[which].append(build_s(folder / f"{turn}-{which}", url, paths))
    what = f"cold `go mod download` of {modules} modules, upstream answers after {latency}"
    return Comparison(what, "directly", "s", *times, aim=aim, less_is_better=True)


def crowd_s(folder: Path, url: str, modules: list[list[str]]) -> float:
    """Return the seconds in which clients, starting at once, have their modules: a list for each.

    A failure ends the run.
    """
    clients = [
        threading.Thread(
            target=lambda n=number, p=paths: took.append(build_s(folder / str(n), url, p)),
            daemon=True,
        )
        for number, paths in enumerate(modules)
    ]
    took: list[float] = []
    began = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    took_s = time.perf_counter() - began
    if len(took) < len(clients):
        sys.exit(f"{len(clients) - len(took)} of {len(clients)} clients failed")
    return took_s


def build_s(folder: Path, url: str, paths: list[str]) -> float:
    """Return the seconds of `go mod download` of modules by their paths; a failure ends the run."""
    go = Go(folder, url)
    requires = "".join(f"\t{path} {_VERSION}\n" for path in paths)
    go.write("go.mod", f"module m\n\ngo 1.21\n\nrequire (\n{requires})\n")
    began = time.perf_counter()
    ended = go.run("mod", "download")
    took_s = time.perf_counter() - began
    if ended.code:
        sys.exit(f"go mod download failed:\n{ended.err}")
    go.forget_modules()  # the module cache is read-only, and would outlive the folder
    shutil.rmtree(folder)
    return took_s


@contextmanager
def _grown(pid: int) -> Iterator[list[float]]:
    """Yield a list that has, after the context, by how many MiB a server's processes grew."""
    before, peak = _resident_bytes(pid), [0]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_S):
            peak[0] = max(peak[0], _resident_bytes(pid))

    sampling = threading.Thread(target=sample, daemon=True)
    sampling.start()
    grown: list[float] = []
    yield grown
    ended.set()
    sampling.join()
    grown.append(max(peak[0] - before, 0) / 1024**2)


def _resident_bytes(pid: int) -> int:
    """Return the memory of a process and its descendants."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_resident_bytes(int(c)) for c in children)
