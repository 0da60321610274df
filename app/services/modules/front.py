"""Answering what `go` asks of a tenant: authorise, route, walk the route's upstreams, filter.

Everything that a tenant may not see is filtered here by the same decision that guards its files;
what is asked for by a query is authorised again under the version that it resolves to.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.acl import Decision
from app.core.errors import (
    BadInputError,
    DeniedError,
    MoorageError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
)
from app.core.goproxy import (
    Kind,
    Requested,
    commits_of,
    newest,
    parse_info,
    render_list,
    versions_of,
)
from app.core.module import check_path
from app.core.principal import Principal
from app.core.routing import OnAbsent, Route, Upstream, route_for
from app.db.engine import Database, Session
from app.db.modules import ModuleFile, ModuleTable
from app.services.clock import Now
from app.services.modules.answers import LATEST, LIST, Absences, Asked, Kept, ModuleAnswers
from app.services.modules.checks import Wanted
from app.services.modules.files import ModuleFiles
from app.services.modules.sources import Sources
from app.services.modules.troubles import REFUSALS, for_client
from app.services.tenants.authorization import Operation, Permission, permission
from app.services.tenants.changes import record
from app.services.tenants.policy import Policy, TenantPolicy

OPERATIONS = {
    Kind.LIST: Operation.LIST,
    Kind.LATEST: Operation.RESOLVE,
    Kind.INFO: Operation.FETCH,
    Kind.MOD: Operation.FETCH,
    Kind.ZIP: Operation.FETCH,
}


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, of which tenant, under which policy.

    Attributes:
        fetch: whether upstream may be asked; False answers with what is stored.
    """

    policy: Policy
    of_tenant: TenantPolicy
    principal: Principal
    now: datetime
    fetch: bool = True

    @property
    def tenant(self) -> str:
        """The tenant's name."""
        return self.of_tenant.tenant.name


@dataclass(frozen=True, slots=True)
class Found:
    """What a request is answered with: a file, or a body.

    Attributes:
        version: that the answer is about; "" for a list.
        fresh_s: seconds for which the same answer may be given again; None means for ever.
        stale_s: the age in seconds of an answer that upstream could not be asked about.
        decided_by: the rule that allowed it.
    """

    version: str
    decided_by: str
    body: bytes = b""
    file: ModuleFile | None = None
    fresh_s: float | None = None
    stale_s: int = 0


class ModuleFront:
    """What the GOPROXY front of every tenant answers."""

    def __init__(
        self,
        db: Database,
        files: ModuleFiles,
        answers: ModuleAnswers,
        absences: Absences,
        sources: Sources,
        now: Now,
        cold: int,
    ) -> None:
        self._db = db
        self._files = files
        self._answers = answers
        self._absences = absences
        self._sources = sources
        self._now = now
        self._cold = cold

    async def answer(self, asking: Asking, requested: Requested) -> Found:
        """Return what a request is answered with.

        Raises:
            DeniedError: policy says no; the message names the rule.
            UnknownError: it is known to be absent.
            UpstreamError: it can't be had now.
            MoorageError: as the fetching of files says.
        """
        operation = OPERATIONS[requested.kind]
        may = permission(
            asking.principal, asking.of_tenant, operation, requested.module, asking.now
        )
        version = None if requested.is_query else (requested.version or None)
        decision = _allowed(may.decide(version))
        route = route_for(
            asking.of_tenant.routes, asking.policy.private_names, asking.tenant, requested.module
        )
        try:
            return await self._found(asking, requested, route, may, decision)
        except UpstreamError as error:
            raise await self._told(error, asking, route, requested) from error

    async def _found(
        self,
        asking: Asking,
        requested: Requested,
        route: Route,
        may: Permission,
        decision: Decision,
    ) -> Found:
        if requested.kind is Kind.LIST:
            kept = await self._versions(asking, route, requested.module, may)
            return Found("", decision.by, kept.body, fresh_s=kept.fresh_s, stale_s=kept.stale_s)
        if requested.kind is Kind.LATEST:
            return await self._latest(asking, route, requested.module, may)
        if requested.is_query:
            return await self._resolved(asking, route, requested, may)
        file = await self._file(asking, route, requested.module, requested.version, requested.kind)
        return await self._of_file(file, decision)

    async def _of_file(self, file: ModuleFile, decision: Decision) -> Found:
        if file.body is None:  # a blob: whoever sends it opens it, and has it healed if need be
            return Found(file.version, decision.by, file=file)
        return Found(file.version, decision.by, await self._files.read(file), file)

    async def _versions(self, asking: Asking, route: Route, module: str, may: Permission) -> Kept:
        """Return the list as this tenant sees it."""
        kept = await self._kept(asking, route, module, LIST)
        allowed = [v for v in versions_of(kept.body, module) if may.decide(v).allowed]
        return Kept(render_list(allowed), kept.fresh_s, kept.stale_s)

    async def _latest(self, asking: Asking, route: Route, module: str, may: Permission) -> Found:
        """Return upstream's @latest if it may be seen, else the newest version that may."""
        hidden: Decision | None = None
        try:
            kept = await self._kept(asking, route, module, LATEST)
        except (UpstreamAbsentError, UnknownError, DeniedError):
            kept = None
        if kept is not None:
            version = self._version_in(kept.body, module)
            decision = may.decide(version)
            if decision.allowed:
                return Found(
                    version, decision.by, kept.body, fresh_s=kept.fresh_s, stale_s=kept.stale_s
                )
            hidden = decision
        listed = await self._kept(asking, route, module, LIST)
        best = newest(v for v in versions_of(listed.body, module) if may.decide(v).allowed)
        if best is None:
            commits = commits_of(listed.body, module)
            best = next((v for v in reversed(commits) if may.decide(v).allowed), None)
        if best is None:
            if hidden is not None:
                raise DeniedError(hidden.reason, hidden.by)
            raise UnknownError(f"{module} has no version ({route})")
        file = await self._file(asking, route, module, best, Kind.INFO)
        body = await self._files.read(file)
        by = may.decide(best).by
        return Found(best, by, body, fresh_s=listed.fresh_s, stale_s=listed.stale_s)

    async def _resolved(
        self, asking: Asking, route: Route, requested: Requested, may: Permission
    ) -> Found:
        kept = await self._kept(asking, route, requested.module, f"={requested.version}")
        version = self._version_in(kept.body, requested.module)
        decision = _allowed(may.decide(version))
        return Found(version, decision.by, kept.body, fresh_s=kept.fresh_s, stale_s=kept.stale_s)

    def _version_in(self, body: bytes, module: str) -> str:
        return parse_info(body, module, asked=None, now=self._now()).version

    async def _kept(self, asking: Asking, route: Route, module: str, query: str) -> Kept:
        """Return the answer of the first upstream that has the module."""
        if not _may_fetch(asking, route):
            return await self._stored(asking, route, module, query)
        passed: list[tuple[Asked, int]] = []
        for upstream in route.upstreams:
            asked = Asked(upstream.origin_id, module, query)
            try:
                kept = await self._kept_at(asking, route, upstream, asked)
            except UpstreamAbsentError as error:
                if upstream.on_absent is OnAbsent.STOP:
                    raise
                passed.append((asked, error.status or 404))
                continue
            for absent, status in passed:
                await self._answers.record_absence(absent, status)
            return kept
        raise _all_absent(module, [status for _, status in passed])

    async def _kept_at(
        self, asking: Asking, route: Route, upstream: Upstream, asked: Asked
    ) -> Kept:
        source = self._sources.open(upstream, asking.policy)
        return await self._answers.get(asked, route, source, asking.tenant, self._slots(asking))

    async def _stored(self, asking: Asking, route: Route, module: str, query: str) -> Kept:
        """Return the last answer of the first upstream that gave one, however old it is."""
        origins = [u.origin_id for u in route.upstreams]
        for origin_id in origins:
            kept = await self._answers.stored(Asked(origin_id, module, query))
            if kept is not None:
                return kept
        if query == LIST:
            versions = await self._db.read(lambda s: ModuleTable(s).versions(origins, module))
            if versions:
                return Kept(render_list(versions), 0.0)
        raise _not_stored(f"{module}@{query.removeprefix('=')}", route, asking)

    async def _file(
        self, asking: Asking, route: Route, module: str, version: str, kind: Kind
    ) -> ModuleFile:
        """Return a file of a version from the first upstream that has it.

        Once a later upstream's file is stored, it stays the one that is served: the record of the
        earlier ones' absence is asked for no more.
        """
        origins = [u.origin_id for u in route.upstreams]
        rows = await self._db.read(lambda s: ModuleTable(s).files(origins, module, version, kind))
        stored = {file.origin_id: file for file in rows}
        query = f"@{version}.{kind}"
        passed: list[tuple[Asked, int]] = []
        for upstream in route.upstreams:
            asked = Asked(upstream.origin_id, module, query)
            there = stored.get(upstream.origin_id)
            is_elsewhere = there is None and bool(stored)
            if is_elsewhere and (not _may_fetch(asking, route) or await self._was_passed(asked)):
                continue
            if there is None or there.damaged:
                wanted = Wanted.of(route, upstream.origin_id, module, version, kind)
                try:
                    there = await self._fetched(asking, route, upstream, wanted)
                except UpstreamAbsentError as error:
                    if upstream.on_absent is OnAbsent.STOP:
                        raise
                    passed.append((asked, error.status or 404))
                    continue
            for absent, status in passed:
                await self._answers.record_absence(absent, status)
            return there
        raise _all_absent(f"{module}@{version}", [status for _, status in passed])

    async def _was_passed(self, asked: Asked) -> bool:
        known = await self._db.read(
            lambda s: ModuleTable(s).answer(asked.origin_id, asked.module, asked.query)
        )
        return known is not None and known.status != 200

    async def _fetched(
        self, asking: Asking, route: Route, upstream: Upstream, wanted: Wanted
    ) -> ModuleFile:
        if not _may_fetch(asking, route):
            raise _not_stored(wanted.name, route, asking)
        self._absences.check(wanted.key, wanted.name)
        source = self._sources.open(upstream, asking.policy)
        try:
            return await self._files.ensure(wanted, source, asking.tenant, self._slots(asking))
        except UpstreamAbsentError as error:
            self._absences.remember(wanted.key, error.status)
            raise

    def _slots(self, asking: Asking) -> int:
        return asking.of_tenant.tenant.limits.cold or self._cold

    async def _told(
        self, error: UpstreamError, asking: Asking, route: Route, requested: Requested
    ) -> MoorageError:
        """Return what the client is told of upstream's trouble.

        `go` looks for a package at every prefix of its path at once, and fails if a longer one
        answers 5xx although a shorter one is the module. So where a parent is known to be a module,
        a path never seen before is taken to be none while upstream is down; but not on a private
        route, whose names a 404 would send elsewhere.
        """
        is_probe = requested.kind in (Kind.LIST, Kind.LATEST, Kind.INFO)
        is_trouble = not isinstance(error, UpstreamAbsentError)
        may_be_none = is_trouble and is_probe and not route.private
        if may_be_none and await self._is_below_a_module(error, asking, route, requested):
            return UnknownError(
                f"{requested.module} is not known to be a module, one above it is; "
                "upstream can't be asked now"
            )
        return for_client(error, route, str(requested))

    async def _is_below_a_module(
        self, error: UpstreamError, asking: Asking, route: Route, requested: Requested
    ) -> bool:
        """Whether a path that was never seen to be a module has a parent that is one.

        Where nothing is known of the parents, upstream is asked for their lists: `go` asks for them
        at this very moment, and the answer about the longer path may have come first. Not for a
        version while upstream fails: that may be a nested module's, and its 404 would be wrong.
        """
        origins, parents = [u.origin_id for u in route.upstreams], _parents(requested.module)
        if await self._db.read(lambda s: ModuleTable(s).is_known(origins, [requested.module])):
            return False
        if await self._db.read(lambda s: ModuleTable(s).is_known(origins, parents)):
            return True
        if requested.kind is Kind.INFO and error.status not in REFUSALS:
            return False
        if error.status is None and not isinstance(error, UpstreamContentError):
            return False  # it gives no answer at all, and each question may take its whole deadline
        for parent in reversed(parents[1:]):  # a host alone is hardly ever a module
            try:
                await self._list_of_parent(asking, route, parent)
            except (UpstreamAbsentError, UnknownError, DeniedError, BadInputError):
                continue
            except MoorageError:
                return False
            return True
        return False

    async def _list_of_parent(self, asking: Asking, route: Route, parent: str) -> None:
        """Return if a parent on the same route has a list; the tenant must be allowed to see it."""
        check_path(parent)
        may = permission(asking.principal, asking.of_tenant, Operation.LIST, parent, asking.now)
        _allowed(may.decide(None))
        routes, names = asking.of_tenant.routes, asking.policy.private_names
        if route_for(routes, names, asking.tenant, parent).id != route.id:
            raise UnknownError(f"{parent} takes another route")
        await self._kept(asking, route, parent, LIST)

    async def refresh(self, asking: Asking, module: str) -> None:
        """Have the next request ask upstream about everything that changes of a module.

        What was answered before is kept for the case that upstream can't be asked.

        Every process drops what it prepared. Absences that another process keeps in memory are
        forgotten by themselves, a minute after it saw them.

        Raises:
            DeniedError: no route of the tenant may be asked for it.
        """
        route = route_for(
            asking.of_tenant.routes, asking.policy.private_names, asking.tenant, module
        )
        origins = [u.origin_id for u in route.upstreams]
        stale = asking.now - timedelta(seconds=2 * route.ttl_s)

        def work(session: Session) -> None:
            ModuleTable(session).expire_answers(origins, module, stale)
            # Prepared answers go with the generation, in every process.
            obj = f"module:{asking.tenant}/{module}"
            record(session, asking.now, asking.principal, "module.refresh", obj)

        await self._db.write(work)
        self._absences.forget(module)


def _may_fetch(asking: Asking, route: Route) -> bool:
    return asking.fetch and not route.off


def _allowed(decision: Decision) -> Decision:
    if not decision.allowed:
        raise DeniedError(decision.reason, decision.by)
    return decision


def _all_absent(name: str, statuses: list[int]) -> UpstreamAbsentError:
    status = 410 if statuses and all(s == 410 for s in statuses) else 404
    return UpstreamAbsentError(f"no upstream has {name}", origin="", status=status)


def _not_stored(name: str, route: Route, asking: Asking) -> MoorageError:
    if not asking.fetch:
        return UnknownError(f"{name} is not stored here, and the client asked not to fetch it")
    return DeniedError(f"{name} is not stored here, and {route} is off: it fetches nothing")


def _parents(module: str) -> list[str]:
    elements = module.split("/")
    return ["/".join(elements[:n]) for n in range(1, len(elements))]
