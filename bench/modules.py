"""The module proxy: hits against nginx, hits during slow misses, and misses against no proxy.

One Moorage with two workers serves all parts, with its decision log on. Tenants have twenty rules.
What is cold is a module that no turn asked for before. Upstreams are imitations in processes of
their own, so an absolute time of theirs says nothing of a real one.
"""

import asyncio
import base64
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.core.effect import Effect
from app.core.principal import OPERATOR, Scope
from app.services.assembly import Services
from app.settings import Settings
from app.settings.sections.network import Network
from app.wiring import build, migrate
from bench.coldmodules import compare_builds, compare_herd
from bench.report import Bound, Comparison, Result
from bench.servers import Load, Served, moorage, nginx, require_programs, upstream, wrk
from bench.transfers import asking, body_of
from tests.fakes.modules import Module, many, module
from tests.nouns import a_route, a_rule, a_tenant

WORKERS = 2
CONNECTIONS = 32
HIT = "example.com/hit"
VERSION = "v1.0.0"
_ZIP_BYTES = 256 * 1024
BIG_BYTES = 100_000_000
_RATE = 40_000_000
MODULES = 200
_MODULE_BYTES = 50_000
_SLOW_LISTS = 40
_SLOW_S = 20
_RULES = 20


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant of the benchmark.

    Attributes:
        upstream: base URL.
        log: where its upstream writes a line for each request.
        is_open: it is read without a token.
    """

    name: str
    upstream: str
    log: Path
    is_open: bool = True


def run(*, rounds: int, seconds: int) -> list[Result]:
    """Return the figures."""
    require_programs()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        cache = folder / "upstream"
        fill_upstreams(cache, rounds)

        def tenant(name: str, *options: str, is_open: bool = True) -> Tenant:
            log = folder / f"{name}.log"
            url = stack.enter_context(upstream(cache, log, *options))
            return Tenant(name, url, log, is_open)

        hits = tenant("hits", is_open=False)
        slow = tenant("slow", "--latency", str(_SLOW_S))
        paced, free = tenant("paced", "--rate", str(_RATE)), tenant("free")
        near, far = tenant("near"), tenant("far", "--latency", "0.02")
        with served(folder, (hits, slow, paced, free, near, far)) as (ours, token):
            results = _hits(ours, token, folder, rounds, seconds)
            results.append(_during_lists(ours, token, slow, rounds, seconds))
            for one, rate in ((paced, f"at {_RATE // 1_000_000} MB/s"), (free, "unlimited")):
                base = f"{ours.url}goproxy/{one.name}"
                results += compare_herd(
                    one.upstream, base, one.log, rate, ours.pid, rounds, is_unlimited=one is free
                )
            for one, latency, aim in ((near, "0 ms", 2.0), (far, "20 ms", 0.75)):
                base = f"{ours.url}goproxy/{one.name}"
                work = folder / one.name
                results.append(
                    compare_builds(one.upstream, base, work, latency, rounds, MODULES, aim)
                )
            return results


def fill_upstreams(cache: Path, rounds: int) -> None:
    """Write what the upstreams serve."""
    put_module(cache, module(HIT, VERSION, padding_bytes=_ZIP_BYTES))
    for number in range(rounds * _SLOW_LISTS):
        folder = cache / f"example.com/slow{number}" / "@v"
        folder.mkdir(parents=True)
        (folder / "list").write_text(f"{VERSION}\n")
    for turn in range(rounds):
        put_module(cache, module(f"example.com/big{turn}", VERSION, padding_bytes=BIG_BYTES))
    fill_modules(cache, rounds, "t", "crowd")


def fill_modules(cache: Path, rounds: int, *kinds: str) -> None:
    """Write modules to be downloaded cold: 200 for each turn and kind, "t" without a kind.

    Those of the second turn are "example.com/t1/m0000" and so on.
    """
    for turn in range(rounds):
        for kind in kinds or ("t",):
            under = f"example.com/{kind}{turn}"
            for one in many(MODULES, under=under, padding_bytes=_MODULE_BYTES):
                put_module(cache, one)


def put_module(cache: Path, one: Module) -> None:
    """Write a module as a module cache's cache/download has it."""
    folder = cache / one.path / "@v"
    folder.mkdir(parents=True)
    (folder / "list").write_text(f"{one.version}\n")
    for kind, body in (("info", one.info), ("mod", one.mod), ("zip", one.zip)):
        (folder / f"{one.version}.{kind}").write_bytes(body)


@contextmanager
def served(
    folder: Path,
    tenants: tuple[Tenant, ...],
    *,
    workers: int = WORKERS,
    command: list[str] | None = None,
    **more: str,
) -> Iterator[tuple[Served, str]]:
    """Serve tenants with Moorage; yield it and the Authorization line of the closed one.

    command: what runs the program; more: further variables of its environment.
    """
    allow = ["127.0.0.0/8"]
    settings = Settings(
        data_dir=folder / "data", network=Network(allow=tuple(allow), tenant_hosts=("127.0.0.1",))
    )
    migrate(settings)
    secret = asyncio.run(_set_up(settings, tenants))
    environment = {
        "MOORAGE_DATA_DIR": str(folder / "data"),
        "MOORAGE_NETWORK__ALLOW": json.dumps(allow),
        "MOORAGE_NETWORK__TENANT_HOSTS": '["127.0.0.1"]',
        "MOORAGE_LOG_LEVEL": "info",
        "MOORAGE_SUMDB__UPSTREAMS": "[]",
        **more,
    }
    encoded = base64.b64encode(f"go:{secret}".encode()).decode()
    with moorage(environment, workers, command) as ours:
        yield ours, f"Authorization: Basic {encoded}"


async def _set_up(settings: Settings, tenants: tuple[Tenant, ...]) -> str:
    """Record the tenants; return a token of the one that needs it."""
    services = build(settings)
    secret = ""
    try:
        for tenant in tenants:
            await _record(services, tenant)
            if not tenant.is_open:
                _, secret = await services.tenants.tokens.create(
                    "bench", tenant=tenant.name, scopes=frozenset({Scope.READ})
                )
    finally:
        await services.close()
    return secret


async def _record(services: Services, tenant: Tenant) -> None:
    draft = a_tenant(tenant.name, default=Effect.DENY, anonymous_read=tenant.is_open)
    await services.tenants.tenants.create(draft, OPERATOR, catch_all=False)
    route = a_route("*", tenant.upstream)
    await services.tenants.routes.create(tenant.name, route, OPERATOR)
    for number in range(_RULES - 1):
        rule = a_rule(Effect.DENY, f"evil{number}.example/*", "<v2.0.0", "not wanted")
        await services.tenants.rules.create(tenant.name, rule, OPERATOR)
    await services.tenants.rules.create(tenant.name, a_rule(Effect.ALLOW, "example.com"), OPERATOR)


def _hits(ours: Served, token: str, folder: Path, rounds: int, seconds: int) -> list[Result]:
    base = f"{ours.url}goproxy/hits/{HIT}/@v/"
    names = [f"{VERSION}.info", f"{VERSION}.mod", "list", f"{VERSION}.zip"]
    root = folder / "html"
    root.mkdir()
    for name in names:
        (root / name).write_bytes(body_of(base + name, token))
    results: list[Result] = []
    with nginx(root, folder, WORKERS) as theirs:
        for name in names:
            loads = _turns(base + name, theirs.url + name, token, rounds, seconds)
            results += _compared(name, *loads)
    return results


def _turns(
    ours: str, theirs: str, token: str, rounds: int, seconds: int
) -> tuple[list[Load], list[Load]]:
    """Load both in alternating turns, with the same headers."""
    loads: tuple[list[Load], list[Load]] = ([], [])
    for url in (ours, theirs):  # a turn that isn't counted: caches, processes waking up
        wrk(url, connections=CONNECTIONS, seconds=1, headers=(token,))
    for turn in range(rounds):
        pair = ((0, ours), (1, theirs))
        for which, url in pair if turn % 2 == 0 else reversed(pair):
            load = wrk(url, connections=CONNECTIONS, seconds=seconds, headers=(token,))
            loads[which].append(load)
    return loads


def _compared(name: str, ours: list[Load], theirs: list[Load]) -> list[Result]:
    is_zip = name.endswith(".zip")
    what = "256 KB zip" if is_zip else name.removeprefix(VERSION)
    rates = ([one.requests_s for one in ours], [one.requests_s for one in theirs])
    slowest = ([one.p99_ms for one in ours], [one.p99_ms for one in theirs])
    aim = 0.9 if is_zip else 0.6
    return [
        Comparison(f"{what}, hit", "nginx", "requests/s", *rates, aim=aim),
        Bound(f"{what}, hit, p99", "ms", slowest[0], 5, "nginx", slowest[1]),
    ]


def _during_lists(ours: Served, token: str, slow: Tenant, rounds: int, seconds: int) -> Result:
    """Load a cached .mod while lists wait for their upstream; all of them must still wait after."""
    slowest: list[float] = []
    mod = f"{ours.url}goproxy/hits/{HIT}/@v/{VERSION}.mod"
    wrk(mod, connections=CONNECTIONS, seconds=1, headers=(token,))
    for turn in range(rounds):
        numbers = range(turn * _SLOW_LISTS, (turn + 1) * _SLOW_LISTS)
        urls = [f"{ours.url}goproxy/{slow.name}/example.com/slow{n}/@v/list" for n in numbers]
        with asking(urls):
            load = wrk(mod, connections=CONNECTIONS, seconds=min(seconds, _SLOW_S // 2),
                       headers=(token,))  # fmt: skip
        slowest.append(load.p99_ms)
    return Bound(f".mod, hit, p99 while {_SLOW_LISTS} lists wait for upstream", "ms", slowest, 10)
