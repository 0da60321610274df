"""Checksum databases: hits against nginx, appends to a tenant's own log, toolchain zips.

Lookups and tiles are of a relayed log and of a tenant's own one; both were asked for before, and
the server's workers have them in memory. An append is durable, and its head is in a file of its
own, before it counts. The toolchain zip is built in a process of its own by the code that the
server runs for it, from Go's official archive beside the repository, if that is there.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.core.record import Sums
from app.services.assembly import Services
from app.settings import Settings
from app.settings.sections.modules import PublicLog, Sumdb
from app.settings.sections.network import Network
from app.wiring import build, migrate
from bench.report import Bound, Comparison, Rate, Result
from bench.servers import Load, Served, moorage, nginx, require_programs, wrk
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.fakes.sumdb import FakeSumdb
from tests.nouns import a_route, a_tenant

_WORKERS = 2
_CONNECTIONS = 32
_RECORDS = 1000  # before what is looked up: tiles are full, and proofs take two levels
_APPENDS = 200
_AT_ONCE = 16
_TENANT = "hits"
_HIT = module("example.com/hit", "v1.0.0")
_ARCHIVE = "go1.23.1.linux-amd64.tar.gz"
_TOOLCHAIN = "v0.0.1-go1.23.1.linux-amd64"
_H1 = "h1:TmiC7kE4hHuA7UwTcrWUtL/Curn//Xchpqc+HHYEv2M="
_UPSTREAM = Path(__file__).parents[1].parent / "shared" / "upstream"

_BUILD = """
import hashlib, json, resource, sys, time
from app.core.goarchive import iter_files
from app.core.toolchainzip import ToolchainZip
began, builder = time.process_time(), ToolchainZip("go1.23.1", sys.argv[2])
with open(sys.argv[1], "rb") as archive, open(sys.argv[3], "wb") as out:
    digest = hashlib.sha256()
    for piece in builder.pieces(iter_files(archive, "tar.gz")):
        digest.update(piece)
        out.write(piece)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([builder.h1, time.process_time() - began, peak]))
"""


def run(*, rounds: int, seconds: int) -> list[Result]:
    """Return the figures."""
    require_programs()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with _served(folder) as (ours, paths):
            results = _hits(ours, paths, folder, rounds, seconds)
        results.append(Rate("appends to a tenant's log", "appends/s", _appends(folder, rounds)))
        return results + _toolchain(folder, rounds)


@contextmanager
def _served(folder: Path) -> Iterator[tuple[Served, dict[str, str]]]:
    """Serve a relayed log and a tenant's own; yield where, and paths by what they are."""
    with FakeGoproxy([_HIT]) as proxy, FakeSumdb() as log:
        log.add_module(_HIT)
        log.grow(_RECORDS)
        relayed = PublicLog(name=log.name, vkey=log.vkey, url=log.url)
        network = Network(allow=("127.0.0.0/8",), tenant_hosts=("127.0.0.1",))
        settings = Settings(
            data_dir=folder / "data", network=network, sumdb=Sumdb(upstreams=(relayed,))
        )
        migrate(settings)
        own = asyncio.run(_set_up(settings, proxy.url))
        environment = {
            "MOORAGE_DATA_DIR": str(folder / "data"),
            "MOORAGE_NETWORK__ALLOW": json.dumps(["127.0.0.0/8"]),
            "MOORAGE_NETWORK__TENANT_HOSTS": '["127.0.0.1"]',
            "MOORAGE_SUMDB__UPSTREAMS": json.dumps([relayed.model_dump()]),
            "MOORAGE_LOG_LEVEL": "info",
        }
        paths = {"lookup": f"lookup/{_HIT.path}@{_HIT.version}", "tile": "tile/8/0/001"}
        with moorage(environment, _WORKERS) as ours:
            yield (
                ours,
                {
                    f"{kind}, {whose}": f"goproxy/{_TENANT}/sumdb/{name}/{path}"
                    for whose, name in (("relayed log", log.name), ("tenant's log", own))
                    for kind, path in paths.items()
                },
            )


async def _set_up(settings: Settings, upstream: str) -> str:
    """Record a tenant whose log has as many records as the relayed one; return the log's name."""
    services = build(settings)
    try:
        services.shared.keys.make()  # as the start does, which this process leaves out
        draft = a_tenant(_TENANT, default=Effect.ALLOW, anonymous_read=True)
        await services.tenants.tenants.create(draft, OPERATOR, catch_all=False)
        await services.tenants.routes.create(_TENANT, a_route("*", upstream), OPERATOR)
        log = await services.sumdb.logs.create(_TENANT)
        await _append(services, range(_RECORDS))
        return log.name
    finally:
        await services.close()


async def _append(services: Services, numbers: range) -> None:
    """Append synthetic records to the tenant's log, some at once."""
    log = await services.sumdb.logs.of(_TENANT)
    if log is None:
        raise AssertionError("the tenant has a log")
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        async with slots:
            sums = Sums(_H1, _H1)
            await services.sumdb.logs.append(log, f"example.com/r{number}", "v1.0.0", sums)

    await asyncio.gather(*map(one, numbers))


def _appends(folder: Path, rounds: int) -> list[float]:
    """Return appends a second, one figure a turn."""

    async def turns() -> list[float]:
        services = build(Settings(data_dir=folder / "data"))
        try:
            rates = []
            for turn in range(rounds):
                start = _RECORDS + turn * _APPENDS
                began = time.perf_counter()
                await _append(services, range(start, start + _APPENDS))
                rates.append(_APPENDS / (time.perf_counter() - began))
            return rates
        finally:
            await services.close()

    return asyncio.run(turns())


def _hits(
    ours: Served, paths: dict[str, str], folder: Path, rounds: int, seconds: int
) -> list[Result]:
    root = folder / "html"
    root.mkdir()
    for number, path in enumerate(paths.values()):
        with urllib.request.urlopen(ours.url + path) as answer:
            (root / str(number)).write_bytes(answer.read())
    results: list[Result] = []
    with nginx(root, folder, _WORKERS) as theirs:
        for number, (what, path) in enumerate(paths.items()):
            loads = _turns(ours.url + path, f"{theirs.url}{number}", rounds, seconds)
            rates = ([one.requests_s for one in loads[0]], [one.requests_s for one in loads[1]])
            results.append(Comparison(f"{what}, hit", "nginx", "requests/s", *rates, aim=0.5))
    return results


def _turns(ours: str, theirs: str, rounds: int, seconds: int) -> tuple[list[Load], list[Load]]:
    """Load both in alternating turns."""
    loads: tuple[list[Load], list[Load]] = ([], [])
    for url in (ours, theirs):  # a turn that isn't counted: caches, processes waking up
        wrk(url, connections=_CONNECTIONS, seconds=1)
    for turn in range(rounds):
        pair = ((0, ours), (1, theirs))
        for which, url in pair if turn % 2 == 0 else reversed(pair):
            loads[which].append(wrk(url, connections=_CONNECTIONS, seconds=seconds))
    return loads


def _toolchain(folder: Path, rounds: int) -> list[Result]:
    """Build the module zip of Go's own archive; what comes out must have the published h1."""
    archive = _UPSTREAM / _ARCHIVE
    if not archive.exists():
        print(f"{_ARCHIVE} is not beside the repository: no toolchain zip", file=sys.stderr)
        return []
    figures = []
    for _ in range(rounds):
        command = [sys.executable, "-c", _BUILD, str(archive), _TOOLCHAIN, str(folder / "out.zip")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        h1, cpu_s, peak = json.loads(done.stdout)
        if h1 != _H1:
            sys.exit(f"the toolchain zip has {h1}")
        figures.append((cpu_s, peak))
    return [
        Bound("toolchain zip of go1.23.1, CPU", "s", [cpu_s for cpu_s, _ in figures], 3),
        Bound("toolchain zip of go1.23.1, peak memory", "MiB", [peak for _, peak in figures], 150),
    ]
