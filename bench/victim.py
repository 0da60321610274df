"""How long a victim waits: a cached .mod of one tenant, while others load the same process.

`python -m bench victim [SCENARIO …] [--rounds N] [--seconds S]`. In each turn one Moorage with one
worker serves; `bench/sampler.py` asks for the .mod every 10 ms, first with nothing beside it and
then beside the scenario. Scenarios are subclasses of `Scenario`.
"""

import asyncio
import json
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx

from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.services.assembly import Services
from app.settings import Settings
from app.settings.sections.network import Network
from app.wiring import build, migrate
from bench.bigcontent import ChangingQueries, CrowdedZips, FirstLists, LongGoMods, LongLists
from bench.fleet import FleetCheckIns, FleetRollout
from bench.gitversions import GitVersions
from bench.policychanges import ManyRules, PolicyChanges, PolicyLoop
from bench.report import Disturbance, Result
from bench.scenario import Scenario, Site
from bench.servers import moorage, upstream
from tests.fakes.modules import Module, module
from tests.nouns import a_route, a_tenant

SCENARIOS: dict[str, type[Scenario]] = {
    "policy": PolicyChanges,
    "policyloop": PolicyLoop,
    "rules": ManyRules,
    "lists": LongLists,
    "queries": ChangingQueries,
    "gomods": LongGoMods,
    "zips": CrowdedZips,
    "first": FirstLists,
    "git": GitVersions,
    "fleet": FleetCheckIns,
    "rollout": FleetRollout,
}

_VICTIM = module("example.com/victim", "v1.0.0")
_WARM_S = 1.0


def run(*, rounds: int, seconds: int, scenarios: list[str]) -> list[Result]:
    """Return the figures of scenarios; all of them where none is named."""
    results: list[Result] = []
    for name in scenarios or SCENARIOS:
        kind = SCENARIOS.get(name)
        if kind is None:
            sys.exit(f"there is no scenario {name}; there are: {' '.join(SCENARIOS)}")
        result = Disturbance(f".mod hit beside {kind.what}", kind.p99_ms, kind.max_ms)
        results.append(result)
        for _ in range(rounds):
            scenario = kind()
            alone, beside = asyncio.run(_turn(scenario, seconds))
            result.add(alone, beside)
            results += scenario.results
    return results


async def _turn(scenario: Scenario, seconds: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds that the victim waited alone, and beside the scenario."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cache = folder / "upstream"
        for one in (_VICTIM, *scenario.modules()):
            write_module(cache, one)
        scenario.fill(cache)
        with upstream(cache, folder / "upstream.log", *scenario.upstream_options) as source:
            secret = await _set_up(scenario, folder, source)
            with moorage(_environment(folder) | scenario.environment, 1) as ours:
                victim = f"{ours.url}goproxy/victim/{_VICTIM.path}/@v/{_VICTIM.version}.mod"
                api = httpx.AsyncClient(
                    base_url=f"{ours.url}api/v1/",
                    headers={"Authorization": f"Bearer {secret}"},
                    timeout=120,
                )
                async with api:
                    site = Site(ours.url, ours.pid, source, victim, api, folder)
                    await _sample(victim, _WARM_S)  # the first answer is fetched
                    alone = await _sample(victim, seconds)
                    disturbing = asyncio.create_task(scenario.run(site))
                    beside = await _sample(victim, seconds)
                    disturbing.cancel()
                    with suppress(asyncio.CancelledError):
                        await disturbing
                    return alone, beside


async def _sample(url: str, seconds: float) -> list[float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.sampler", url, str(seconds), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        sys.exit("the sampler failed")
    waits_ms: list[float] = json.loads(out)
    return waits_ms


def write_module(cache: Path, one: Module) -> None:
    """Write a module version as the upstream's folder has it."""
    folder = cache / one.path / "@v"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "list").open("a") as listed:
        listed.write(f"{one.version}\n")
    for kind, body in (("info", one.info), ("mod", one.mod), ("zip", one.zip)):
        (folder / f"{one.version}.{kind}").write_bytes(body)


def _environment(folder: Path) -> dict[str, str]:
    return {
        "MOORAGE_DATA_DIR": str(folder / "data"),
        "MOORAGE_NETWORK__ALLOW": '["127.0.0.0/8"]',
        "MOORAGE_NETWORK__TENANT_HOSTS": '["127.0.0.1"]',
        "MOORAGE_LOG_LEVEL": "info",
        "MOORAGE_SUMDB__UPSTREAMS": "[]",
    }


async def _set_up(scenario: Scenario, folder: Path, source: str) -> str:
    """Record the victim and what the scenario needs; return the secret of a platform admin."""
    settings = Settings(
        data_dir=folder / "data",
        network=Network(allow=("127.0.0.0/8",), tenant_hosts=("127.0.0.1",)),
    )
    await asyncio.to_thread(migrate, settings)
    services = build(settings)
    try:
        await _record_victim(services, source)
        await scenario.record(services, source)
        _, secret = await services.tenants.tokens.create("bench")
    finally:
        await services.close()
    return secret


async def _record_victim(services: Services, source: str) -> None:
    draft = a_tenant("victim", default=Effect.ALLOW, anonymous_read=True)
    await services.tenants.tenants.create(draft, OPERATOR, catch_all=False)
    await services.tenants.routes.create("victim", a_route("*", source), OPERATOR)
