"""The modules' services over fake upstreams, with clocks that stand still and no waiting.

`Bench` is one process; two of them over one folder are two processes on one database.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import text

from app.core.effect import Effect
from app.core.goproxy import GoproxyRequest, RequestKind
from app.core.principal import ANONYMOUS, OPERATOR, Principal
from app.core.privatehost import PrivateHosts
from app.core.routing import Route, Upstream
from app.db.engine import Session
from app.db.modules import ModuleFile, ModuleTable
from app.services.assembly import Services
from app.services.leases import Leases
from app.services.modules.answers import Absences, ModuleAnswers
from app.services.modules.caller import Caller, Resolved
from app.services.modules.files import ModuleFiles
from app.services.modules.front import ModuleFront
from app.services.modules.healing import ModuleHealing
from app.services.modules.lists import Lists
from app.services.modules.mirrored import MirroredToolchains
from app.services.modules.refresh import ModuleRefresh
from app.services.publiclog.checks import LogChecks
from app.services.remembered import Remembered
from app.services.repair import Repair
from app.services.slots import Slots
from app.services.upstreams import HostAccess, Upstreams
from app.settings import Settings
from app.upstream.address import AddressGuard, AllowedNetwork
from app.upstream.goproxy import Goproxies
from app.upstream.http import HttpClient
from app.upstream.limits import UpstreamLimits
from app.wiring import build
from tests.fakes.goproxy import FakeGoproxy
from tests.installation import migrate
from tests.nouns import a_route, a_rule, a_tenant, an_upstream
from tests.services.bench import Sleeps, Stopwatch, WallClock, staged, stored
from tests.shapes import place_of

LIST, LATEST, INFO, MOD, ZIP = (
    RequestKind.LIST,
    RequestKind.LATEST,
    RequestKind.INFO,
    RequestKind.MOD,
    RequestKind.ZIP,
)
UpstreamLike = str | FakeGoproxy | Upstream


@dataclass(frozen=True)
class Bench:
    """One process's services, its clocks, and what a test asks of them.

    Attributes:
        clock: what `now` tells.
        seconds: what absences are remembered by.
    """

    services: Services
    clock: WallClock
    seconds: Stopwatch
    files: ModuleFiles
    answers: ModuleAnswers
    front: ModuleFront
    upstreams: Upstreams
    repair: Repair
    refresh: ModuleRefresh

    async def tenant(
        self,
        name: str = "acme",
        *upstreams: UpstreamLike,
        default: Effect = Effect.ALLOW,
        **route: Any,
    ) -> None:
        draft = a_tenant(name, "", default, anonymous_read=True)
        await self.services.tenants.tenants.create(draft, OPERATOR, catch_all=False)
        if upstreams:
            await self.route(name, "*", *upstreams, **route)

    async def route(self, tenant: str, pattern: str, *upstreams: UpstreamLike, **more: Any) -> int:
        drafts = tuple(_draft(one) for one in upstreams)
        made = await self.services.tenants.routes.create(
            tenant, a_route(pattern, *drafts, **more), OPERATOR
        )
        return made.id

    async def change_route(self, tenant: str, **change: Any) -> None:
        """Change the first route of a tenant."""
        [route, *_] = await self.services.tenants.routes.page(tenant, OPERATOR)
        words = {name: getattr(route, name) for name in Route.model_fields}
        words["upstreams"] = [u.model_dump() for u in route.upstreams]
        if "private" in change:
            words["log"] = None
        changed = Route.model_validate({**words, **change})
        await self.services.tenants.routes.update(tenant, route.id, changed, OPERATOR)

    async def rule(
        self, effect: Effect, pattern: str, versions: str = "", tenant: str = "acme"
    ) -> None:
        await self.services.tenants.rules.create(
            tenant, a_rule(effect, pattern, versions), OPERATOR
        )

    async def asking(
        self, tenant: str = "acme", *, fetch: bool = True, who: Principal = ANONYMOUS
    ) -> Caller:
        policy = await self.services.shared.policies.current(fresh=True)
        return Caller(policy, policy.tenants[tenant], who, self.clock(), fetch)

    async def ask(
        self,
        kind: RequestKind,
        module: str,
        version: str = "",
        *,
        tenant: str = "acme",
        fetch: bool = True,
    ) -> Resolved:
        asking = await self.asking(tenant, fetch=fetch)
        return await self.front.answer(asking, GoproxyRequest(module, kind, version))

    async def zip_of(
        self, module: str, version: str, *, kind: RequestKind = ZIP, **more: Any
    ) -> bytes:
        """Return the bytes of a zip, or of another file that is a blob."""
        answer = await self.ask(kind, module, version, **more)
        assert answer.file is not None
        blob = await self.services.shared.store.open(answer.file.sha256, answer.file.size_bytes)
        try:
            return bytes(await blob.read(0, answer.file.size_bytes))
        finally:
            blob.close()

    async def rows(self) -> list[ModuleFile]:
        def work(session: Session) -> list[ModuleFile]:
            keys = session.execute(text("select origin_id, module, version from module_files"))
            table = ModuleTable(session)
            return [
                f
                for key in {tuple(key) for key in keys}
                for f in table.files([key[0]], key[1], key[2])
            ]

        return await self.services.shared.db.read(work)

    async def zips(self) -> list[ModuleFile]:
        return [row for row in await self.rows() if row.kind is ZIP]

    async def count(self, table: str) -> int:
        query = text(f"select count(*) from {table}")
        return int(await self.services.shared.db.read(lambda s: s.execute(query).scalar_one()))

    async def assert_untouched(self) -> None:
        """Nothing of any module is stored, staged or recorded, and no evidence was made up."""
        assert await self.rows() == []
        assert stored(self.services) == set()
        assert staged(self.services) == []
        assert await self.count("module_conflicts") == 0


def _draft(one: UpstreamLike) -> Upstream:
    if isinstance(one, Upstream):
        return one
    return an_upstream(one if isinstance(one, str) else one.url)


def settings_in(folder: Path, **more: Any) -> Settings:
    network = {"allow": ["127.0.0.0/8"], "tenant_hosts": ["127.0.0.1", "localhost"]}
    values = {"network": network, "sumdb": {"upstreams": []}, **place_of(folder), **more}
    return Settings(data_dir=folder / "data", **values)


@asynccontextmanager
async def process(
    folder: Path,
    *,
    owner: str = "one/1/1",
    clock: WallClock | None = None,
    max_waiters: int = 1000,
    max_queue: int = 256,
    cold: int = 8,
    **settings: Any,
) -> AsyncIterator[Bench]:
    """Run one process's services; owner tells it apart from another on the same database."""
    process_settings = settings_in(folder, **settings)
    migrate(process_settings)
    clock, seconds = clock or WallClock(), Stopwatch()
    services = build(process_settings, now=clock)
    made = _wired(services, clock, seconds, owner, max_waiters, max_queue, cold)
    try:
        shared = services.shared
        if not shared.keys.is_made():
            await asyncio.to_thread(shared.keys.make)
        await shared.store.recover()
        await shared.watch.poll()
        yield made
    finally:
        await made.repair.aclose()
        await made.front.aclose()
        await made.answers.aclose()
        await made.files.aclose(drain_s=0)
        await made.upstreams._proxies.aclose()
        await services.close()


def _wired(
    services: Services,
    clock: WallClock,
    seconds: Stopwatch,
    owner: str,
    max_waiters: int,
    max_queue: int,
    cold: int,
) -> Bench:
    db, store = services.shared.db, services.shared.store
    leases, slots, absences = Leases(db, clock, owner), Slots(), Absences(seconds)
    bounds: Any = {"max_waiters": max_waiters, "max_queue": max_queue}
    checks = LogChecks(list(services.publiclog.relays.values()))
    files = ModuleFiles(db, store, leases, slots, checks, clock, **bounds)
    lists = Lists(slots.checks)
    remembered = Remembered(db, services.shared.watch)
    answers = ModuleAnswers(db, remembered, store, leases, slots, absences, lists, clock, **bounds)
    toolchains, policies = services.modules.toolchains, services.shared.policies
    access = HostAccess(PrivateHosts(services.shared.settings.network.tenant_hosts))
    box = services.tenants.credentials._box
    upstreams = Upstreams(Goproxies(_client), box, cold, policies, access, services.modules.gits)
    mirrored = MirroredToolchains(toolchains)
    front = ModuleFront(
        db,
        remembered,
        files,
        answers,
        absences,
        upstreams,
        mirrored,
        lists,
        services.shared.usage,
        clock,
    )
    healing = ModuleHealing(db, policies, files, upstreams, toolchains)
    repair = Repair(db, store, (healing,), clock)
    refresh = ModuleRefresh(
        db,
        policies,
        files,
        absences,
        services.modules.gits,
        upstreams,
        services.shared.usage,
        clock,
    )
    return Bench(services, clock, seconds, files, answers, front, upstreams, repair, refresh)


def _client(
    limits: UpstreamLimits, ca_pem: str, _private_hosts: tuple[str, ...] | None = ()
) -> HttpClient:
    return HttpClient(
        guard=AddressGuard([AllowedNetwork.parse("127.0.0.0/8")]),
        user_agent="tests",
        random=Random(0),
        sleep=Sleeps(),
        ca_pem=ca_pem,
        limits=limits,
    )
