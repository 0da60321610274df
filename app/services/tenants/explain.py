"""Which rule and which route decide about a module, and what is stored of it.

The words for rules are core/explain's; the decision is that of the one choke point, and the route
that of core/routing, as for a request of `go`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from app.core import module as modules
from app.core.acl import Decision
from app.core.errors import DeniedError
from app.core.explain import ExplainedStep, explain
from app.core.goproxy import RequestKind, decode_path, parse_path
from app.core.logstate import LogState
from app.core.principal import Principal, Scope
from app.core.routing import RecordedRoute, RecordedUpstream, matching, route_for
from app.core.toolchain import MODULE_PATH
from app.db.engine import Database, Session
from app.db.moduleanswers import ModuleAnswerTable
from app.db.moduleconflicts import ModuleConflict, ModuleConflictTable
from app.db.modules import ModuleFile, ModuleTable
from app.db.origins import OriginTable
from app.services.authorization import permission, require_admin
from app.services.clock import Now
from app.services.modules.answers import LIST
from app.services.modules.caller import Caller
from app.services.modules.toolchains import ORIGIN
from app.services.modules.walk import asked_origins
from app.services.policy import PolicyReader, TenantPolicy, tenant_in
from app.services.upstreams import HostAccess
from app.services.usage import UsageCounter
from app.upstream.goproxy import path_of

LATEST = "latest"


class Cause(StrEnum):
    """What decides the answer to a request for a module."""

    TENANT = "tenant"  # it is switched off
    RULES = "rules"  # rules, an owner or the default deny it
    NO_ROUTE = "no-route"
    PRIVATE_NAME = "private-name"  # without a private route
    PRIVATE_HOST = "private-host"  # of another tenant
    ROUTE_OFF = "route-off"  # and the version is not stored
    QUARANTINED = "quarantined"
    STORED = "stored"
    MIRROR = "mirror"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a tenant stands to a module.

    Attributes:
        version: as it was asked for; None for the module as a whole.
        is_query: whether upstream has to resolve it; it is authorised again as what it resolves to.
        decision: what a request with a token that may read is told.
        cause: what decides the answer; a request that upstream answers may still fail there.
        steps: the rules, in the order that they act; none decides where the tenant is switched off.
        routes: those whose patterns match, the first of them counts.
        route_refusal: why no upstream may be asked, "" where one may.
        private: what makes the name private; None for a public one.
        upstreams: those of the route that is taken, in order.
        stored: the files of the version under these upstreams; to a tenant's admin, those that the
            tenant was ever answered.
        conflicts: what was refused of the version because it contradicts them.
        mirrored: whether the release mirror itself serves it; then no route is taken.
        gone: whether upstream has the module no more, and what is stored is listed in its place.
    """

    tenant: str
    module: str
    version: str | None
    is_query: bool
    decision: Decision
    cause: Cause
    steps: Sequence[ExplainedStep]
    routes: Sequence[RecordedRoute] = ()
    route_refusal: str = ""
    private: str | None = None
    upstreams: Sequence[RecordedUpstream] = ()
    stored: Sequence[ModuleFile] = ()
    conflicts: Sequence[ModuleConflict] = ()
    mirrored: bool = False
    gone: bool = False


class ExplainService:
    """Explains decisions to admins."""

    def __init__(
        self,
        db: Database,
        policies: PolicyReader,
        access: HostAccess,
        usage: UsageCounter,
        now: Now,
    ) -> None:
        self._db = db
        self._policies = policies
        self._access = access
        self._usage = usage
        self._now = now

    async def explain(
        self, tenant: str, module: str, version: str | None, who: Principal
    ) -> Explanation:
        """Return how a tenant stands to a module, or to one version of it.

        Raises:
            DeniedError: who is no admin of the tenant.
            BadInputError: module or version is malformed.
            UnknownError: there is no such tenant, or no proxy serves such a version.
        """
        require_admin(who, tenant)
        modules.check_path(module)
        is_query = version is not None and _is_query(module, version)
        policy = await self._policies.current(fresh=True)
        of_tenant = tenant_in(policy, tenant)
        asked = None if is_query else version
        tenant_id = of_tenant.tenant.id
        decision, steps = self._decide(of_tenant, module, asked, who)
        explanation = partial(
            Explanation,
            tenant=tenant,
            module=module,
            version=version,
            is_query=is_query,
            decision=decision,
            steps=steps,
        )
        if Caller(policy, of_tenant, who, self._now()).is_mirrored(module):
            return explanation(
                cause=_denial(decision) or Cause.MIRROR,
                stored=await self._usage.used_files(await self._built(version), tenant_id, who),
                mirrored=True,
            )
        refusal, upstreams, gone = "", tuple[RecordedUpstream, ...](), False
        routes, private = matching(of_tenant.routes, module), policy.private_names.why(module)
        try:
            route = route_for(of_tenant.routes, policy.private_names, tenant, module)
            self._access.check(route, policy, of_tenant.tenant)
            upstreams = route.upstreams
            gone = await self._is_gone(asked_origins(route), module)
        except DeniedError as error:
            refusal = str(error)
        stored, conflicts = await self._stored(upstreams, module, asked)
        cause = _denial(decision)
        if cause is None and refusal:
            cause = _without_route(routes, private)
        return explanation(
            cause=cause or _with_route(routes[0], asked, stored),
            routes=routes,
            route_refusal=refusal,
            private=private,
            upstreams=upstreams,
            stored=await self._usage.used_files(stored, tenant_id, who),
            conflicts=conflicts,
            gone=gone,
        )

    def _decide(
        self, of_tenant: TenantPolicy, module: str, version: str | None, who: Principal
    ) -> tuple[Decision, list[ExplainedStep]]:
        reader = Principal("explain", frozenset({Scope.READ}), of_tenant.tenant.name)
        now = self._now()
        may = permission(reader, of_tenant, module, now)
        access = of_tenant.access.to(module, now)
        steps = explain(access, version, names_others=who.is_platform_admin)
        if may.refusal is not None:  # the tenant is switched off: no rule is looked at
            steps = [replace(line, decides=False) for line in steps]
        return may.decide(version), steps

    async def _stored(
        self, upstreams: Sequence[RecordedUpstream], module: str, version: str | None
    ) -> tuple[list[ModuleFile], list[ModuleConflict]]:
        if not upstreams or version is None:
            return [], []
        origins = [upstream.origin_id for upstream in upstreams]

        def work(session: Session) -> tuple[list[ModuleFile], list[ModuleConflict]]:
            files = ModuleTable(session).files(origins, module, version)
            files.sort(key=lambda f: (origins.index(f.origin_id), f.kind))
            return files, ModuleConflictTable(session).of_version(origins, module, version)

        return await self._db.read(work)

    async def _is_gone(self, origins: Sequence[int], module: str) -> bool:
        def work(session: Session) -> bool:
            answers = [ModuleAnswerTable(session).get(o, module, LIST) for o in origins]
            is_absent = all(answer is not None and answer.status != 200 for answer in answers)
            return is_absent and bool(ModuleTable(session).versions(origins, module))

        return await self._db.read(work)

    async def _built(self, version: str | None) -> list[ModuleFile]:
        """Return what is stored of a toolchain that the mirror serves."""

        def work(session: Session) -> list[ModuleFile]:
            origin = OriginTable(session).known_origin(ORIGIN)
            if origin is None or version is None:
                return []
            return ModuleTable(session).files([origin], MODULE_PATH, version)

        return await self._db.read(work)


def _denial(decision: Decision) -> Cause | None:
    """Return what denies a module, None where it is allowed."""
    if decision.allowed:
        return None
    return Cause.TENANT if decision.by == "tenant" else Cause.RULES


def _without_route(routes: Sequence[RecordedRoute], private: str | None) -> Cause:
    """Return why an allowed module is asked for nowhere."""
    if not routes:
        return Cause.NO_ROUTE
    if private is not None and not routes[0].private:
        return Cause.PRIVATE_NAME
    return Cause.PRIVATE_HOST


def _with_route(route: RecordedRoute, version: str | None, stored: Sequence[ModuleFile]) -> Cause:
    """Return where the answer about an allowed module comes from."""
    zips = [file for file in stored if file.kind is RequestKind.ZIP]
    if zips:
        is_quarantined = zips[0].log_state is LogState.REFUSED
        return Cause.QUARANTINED if is_quarantined else Cause.STORED
    if not route.off:
        return Cause.UPSTREAM
    return Cause.STORED if version is None else Cause.ROUTE_OFF


def _is_query(module: str, version: str) -> bool:
    """Whether upstream has to resolve a version.

    Raises:
        BadInputError: `go` can't ask for it.
        UnknownError: it has a slash, which no proxy serves.
    """
    if version == LATEST:
        return True
    return parse_path(decode_path(path_of(module, RequestKind.INFO, version).encode())).is_query
