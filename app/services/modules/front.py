"""Answering what `go` asks of a tenant: authorise, route, walk the route's upstreams, filter.

Everything that a tenant may not see is filtered here by the same decision that guards its files;
what is asked for by a query is authorised again under the version that it resolves to.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from app.core.acl import Decision
from app.core.errors import (
    DeniedError,
    MoorageError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamError,
    VerificationError,
)
from app.core.goproxy import (
    GoproxyRequest,
    RequestKind,
    commits_of,
    newest,
    parse_info,
    render_list,
    versions_of,
)
from app.core.logstate import LogState
from app.core.routing import LogPolicy, OnAbsent, Route, Upstream
from app.core.toolchain import MODULE_PATH
from app.db.engine import Database, Session
from app.db.modules import ModuleFile, ModuleTable
from app.services.authorization import Operation, Permission
from app.services.changes import record
from app.services.clock import Now
from app.services.modules.answers import LATEST, LIST, Absences, CachedAnswer, ModuleAnswers, Query
from app.services.modules.caller import Caller, Resolved, allowed
from app.services.modules.checks import FileKey
from app.services.modules.files import ModuleFiles
from app.services.modules.probes import Probes
from app.services.modules.toolchains import Toolchains, instead
from app.services.modules.troubles import for_client
from app.services.upstreams import Upstreams

_CHANGING_S = 60.0
_MAX_AHEAD = 64
_SIBLING = {RequestKind.INFO: RequestKind.MOD, RequestKind.MOD: RequestKind.INFO}
MIRROR = "the mirror of Go releases"
"""What stands for the route of the mirror's own toolchains in messages."""

OPERATIONS = {
    RequestKind.LIST: Operation.LIST,
    RequestKind.LATEST: Operation.RESOLVE,
    RequestKind.INFO: Operation.FETCH,
    RequestKind.MOD: Operation.FETCH,
    RequestKind.ZIP: Operation.FETCH,
}


class ModuleFront:
    """What the GOPROXY front of every tenant answers."""

    def __init__(
        self,
        db: Database,
        files: ModuleFiles,
        answers: ModuleAnswers,
        absences: Absences,
        sources: Upstreams,
        toolchains: Toolchains,
        now: Now,
        cold: int,
    ) -> None:
        self._db = db
        self._files = files
        self._answers = answers
        self._absences = absences
        self._sources = sources
        self.toolchains = toolchains
        self._now = now
        self._cold = cold
        self._ahead: set[asyncio.Task[None]] = set()
        self._probes = Probes(db, lambda asking, route, m: self._kept(asking, route, m, LIST))

    async def answer(self, asking: Caller, requested: GoproxyRequest) -> Resolved:
        """Return what a request is answered with.

        Raises:
            DeniedError: policy says no; the message names the rule.
            UnknownError: it is known to be absent.
            UpstreamError: it can't be had now.
            MoorageError: as the fetching of files says.
        """
        may = asking.may(OPERATIONS[requested.kind], requested.module)
        if requested.module == MODULE_PATH and is_mirrored(asking):
            try:
                return await self._toolchain(requested, may)
            except UpstreamError as error:
                raise for_client(error, MIRROR, str(requested)) from error
        version = None if requested.is_query else (requested.version or None)
        decision = allowed(may.decide(version))
        route = asking.route(requested.module)
        try:
            return await self._found(asking, requested, route, may, decision)
        except UpstreamError as error:
            raise await self._told(error, asking, route, requested) from error

    async def _found(
        self,
        asking: Caller,
        requested: GoproxyRequest,
        route: Route,
        may: Permission,
        decision: Decision,
    ) -> Resolved:
        if requested.kind is RequestKind.LIST:
            kept = await self._versions(asking, route, requested.module, may)
            return Resolved("", decision.by, kept.body, fresh_s=kept.fresh_s, stale_s=kept.stale_s)
        if requested.kind is RequestKind.LATEST:
            return await self._latest(asking, route, requested.module, may)
        if requested.is_query:
            return await self._resolved(asking, route, requested, may)
        file = await self._file(asking, route, requested.module, requested.version, requested.kind)
        if file.kind in _SIBLING and asking.may_fetch(route):
            self._fetch_ahead(asking, route, file)
        return await self._of_file(file, decision)

    def _fetch_ahead(self, asking: Caller, route: Route, file: ModuleFile) -> None:
        """Fetch the .mod of an .info that just came in, or the other way round.

        `go` asks for both, one after the other. Never the zip: most of what is looked at is not
        downloaded.
        """
        is_new = asking.now <= file.stored_at
        if is_new and len(self._ahead) < _MAX_AHEAD:
            ahead, kind = replace(asking, is_unasked=True), _SIBLING[file.kind]
            work = self._file(ahead, route, file.module, file.version, kind)
            task = asyncio.ensure_future(_quietly(work))
            self._ahead.add(task)
            task.add_done_callback(self._ahead.discard)

    async def aclose(self) -> None:
        """End what runs in the background."""
        for task in self._ahead:
            task.cancel()
        await asyncio.gather(*self._ahead, return_exceptions=True)

    async def _toolchain(self, requested: GoproxyRequest, may: Permission) -> Resolved:
        """Return what the mirror's own archives make of golang.org/toolchain."""
        allowed(may.decide(None))
        listed = [v for v in await self.toolchains.versions() if may.decide(v).allowed]
        if requested.kind is RequestKind.LIST:
            return Resolved("", may.decide(None).by, render_list(listed), fresh_s=_CHANGING_S)
        version = requested.version
        if requested.kind is RequestKind.LATEST or requested.is_query:
            raise UnknownError(f"{MODULE_PATH} has versions only; see its list")
        decision = may.decide(version)
        if not decision.allowed:
            other = instead(listed, version)
            told = f"; use {other}: GOTOOLCHAIN={other}" if other else ""
            raise DeniedError(decision.reason + told, decision.by)
        if requested.kind is RequestKind.ZIP:
            file = await self.toolchains.zip(version)
            return await self._of_file(file, decision)
        is_info = requested.kind is RequestKind.INFO
        text = self.toolchains.info(version) if is_info else self.toolchains.go_mod(version)
        return Resolved(version, decision.by, await text, fresh_s=_CHANGING_S)

    async def toolchain_h1(self, version: str) -> str:
        """Return the h1 of a version of the mirror's golang.org/toolchain.

        Raises:
            MoorageError: as `answer`.
        """
        try:
            return await self.toolchains.h1(version)
        except UpstreamError as error:
            raise for_client(error, MIRROR, f"{MODULE_PATH}@{version}") from error

    async def vouched_zip(
        self, asking: Caller, module: str, version: str
    ) -> tuple[ModuleFile, Route]:
        """Return the zip of a version that the tenant may use, and its route.

        It is fetched if need be, and the public log is asked about it if it was not yet.

        Raises:
            MoorageError: as `answer`.
        """
        route = asking.route(module)
        try:
            file = await self._file(asking, route, module, version, RequestKind.ZIP)
        except UpstreamError as error:
            raise for_client(error, route, f"{module}@{version}") from error
        if file.log_state is LogState.UNVERIFIED and not route.private:
            file = await self._files.settle(file, route.log)
        _check_not_refused(file)
        return file, route

    async def _of_file(self, file: ModuleFile, decision: Decision) -> Resolved:
        _check_not_refused(file)
        if file.body is None:  # a blob: whoever sends it opens it, and has it healed if need be
            return Resolved(file.version, decision.by, file=file)
        return Resolved(file.version, decision.by, await self._files.read(file), file)

    async def _versions(
        self, asking: Caller, route: Route, module: str, may: Permission
    ) -> CachedAnswer:
        """Return the list as this tenant sees it."""
        kept = await self._kept(asking, route, module, LIST)
        allowed = [v for v in versions_of(kept.body, module) if may.decide(v).allowed]
        return CachedAnswer(render_list(allowed), kept.fresh_s, kept.stale_s)

    async def _latest(self, asking: Caller, route: Route, module: str, may: Permission) -> Resolved:
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
                return Resolved(
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
        file = await self._file(asking, route, module, best, RequestKind.INFO)
        body = await self._files.read(file)
        by = may.decide(best).by
        return Resolved(best, by, body, fresh_s=listed.fresh_s, stale_s=listed.stale_s)

    async def _resolved(
        self, asking: Caller, route: Route, requested: GoproxyRequest, may: Permission
    ) -> Resolved:
        kept = await self._kept(asking, route, requested.module, f"={requested.version}")
        version = self._version_in(kept.body, requested.module)
        decision = allowed(may.decide(version))
        return Resolved(version, decision.by, kept.body, fresh_s=kept.fresh_s, stale_s=kept.stale_s)

    def _version_in(self, body: bytes, module: str) -> str:
        return parse_info(body, module, asked=None, now=self._now()).version

    async def _kept(self, asking: Caller, route: Route, module: str, query: str) -> CachedAnswer:
        """Return the answer of the first upstream that has the module."""
        if not asking.may_fetch(route):
            return await self._stored(asking, route, module, query)
        passed: list[tuple[Query, int]] = []
        for upstream in route.upstreams:
            asked = Query(upstream.origin_id, module, query)
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
        self, asking: Caller, route: Route, upstream: Upstream, asked: Query
    ) -> CachedAnswer:
        source = self._sources.open(upstream, asking.policy)
        return await self._answers.get(asked, route, source, asking.tenant, self._slots(asking))

    async def _stored(self, asking: Caller, route: Route, module: str, query: str) -> CachedAnswer:
        """Return the last answer of the first upstream that gave one, however old it is."""
        origins = [u.origin_id for u in route.upstreams]
        for origin_id in origins:
            kept = await self._answers.stored(Query(origin_id, module, query))
            if kept is not None:
                return kept
        if query == LIST:
            versions = await self._db.read(lambda s: ModuleTable(s).versions(origins, module))
            if versions:
                return CachedAnswer(render_list(versions), 0.0)
        raise _not_stored(f"{module}@{query.removeprefix('=')}", route, asking)

    async def _file(
        self, asking: Caller, route: Route, module: str, version: str, kind: RequestKind
    ) -> ModuleFile:
        """Return a file of a version from the first upstream that has it.

        Once a later upstream's file is stored, it stays the one that is served: the record of the
        earlier ones' absence is asked for no more.
        """
        origins = [u.origin_id for u in route.upstreams]
        rows = await self._db.read(lambda s: ModuleTable(s).files(origins, module, version, kind))
        stored = {file.origin_id: file for file in rows}
        query = f"@{version}.{kind}"
        passed: list[tuple[Query, int]] = []
        for upstream in route.upstreams:
            asked = Query(upstream.origin_id, module, query)
            there = stored.get(upstream.origin_id)
            is_elsewhere = there is None and bool(stored)
            if is_elsewhere and (not asking.may_fetch(route) or await self._was_passed(asked)):
                continue
            if there is None or there.damaged:
                wanted = FileKey.of(route, upstream.origin_id, module, version, kind)
                try:
                    there = await self._fetched(asking, route, upstream, wanted)
                except UpstreamAbsentError as error:
                    if upstream.on_absent is OnAbsent.STOP:
                        raise
                    passed.append((asked, error.status or 404))
                    continue
            for absent, status in passed:
                await self._answers.record_absence(absent, status)
            return await self._asked_about(there, route)
        raise _all_absent(f"{module}@{version}", [status for _, status in passed])

    async def _asked_about(self, file: ModuleFile, route: Route) -> ModuleFile:
        """Return a stored file, now that the log was asked as far as the route wants it.

        It may have come in while the log was down, or by a route that asks none.
        """
        if route.private or route.log is LogPolicy.OFF or file.kind is RequestKind.INFO:
            return file
        is_unasked = file.log_state in (LogState.OFF, LogState.PRIVATE)
        is_due = route.log is LogPolicy.REQUIRE and file.log_state is LogState.UNVERIFIED
        return await self._files.settle(file, route.log) if is_unasked or is_due else file

    async def _was_passed(self, asked: Query) -> bool:
        known = await self._db.read(
            lambda s: ModuleTable(s).answer(asked.origin_id, asked.module, asked.query)
        )
        return known is not None and known.status != 200

    async def _fetched(
        self, asking: Caller, route: Route, upstream: Upstream, wanted: FileKey
    ) -> ModuleFile:
        if not asking.may_fetch(route):
            raise _not_stored(wanted.name, route, asking)
        self._absences.check(wanted.key, wanted.name)
        source = self._sources.open(upstream, asking.policy)
        try:
            return await self._files.ensure(
                wanted, source, asking.tenant, self._slots(asking), is_unasked=asking.is_unasked
            )
        except UpstreamAbsentError as error:
            self._absences.remember(wanted.key, error.status)
            raise

    def _slots(self, asking: Caller) -> int:
        return asking.of_tenant.tenant.limits.cold or self._cold

    async def _told(
        self, error: UpstreamError, asking: Caller, route: Route, requested: GoproxyRequest
    ) -> MoorageError:
        """Return what the client is told of upstream's trouble."""
        if await self._probes.is_none(error, asking, route, requested):
            return UnknownError(
                f"{requested.module} is not known to be a module, one above it is; "
                "upstream can't be asked now"
            )
        return for_client(error, route, str(requested))

    async def refresh(self, asking: Caller, module: str) -> None:
        """Have the next request ask upstream about everything that changes of a module.

        What was answered before is kept for the case that upstream can't be asked.

        Every process drops what it prepared. Absences that another process keeps in memory are
        forgotten by themselves, a minute after it saw them.

        Raises:
            DeniedError: no route of the tenant may be asked for it.
        """
        route = asking.route(module)
        origins = [u.origin_id for u in route.upstreams]
        stale = asking.now - timedelta(seconds=2 * route.ttl_s)

        def work(session: Session) -> None:
            ModuleTable(session).expire_answers(origins, module, stale)
            # Prepared answers go with the generation, in every process.
            obj = f"module:{asking.tenant}/{module}"
            record(session, asking.now, asking.principal, "module.refresh", obj)

        await self._db.write(work)
        self._absences.forget(module)


async def _quietly(work: Awaitable[ModuleFile]) -> None:
    """Do work whose failure whoever asks for it next will meet, and be told of."""
    with suppress(MoorageError):
        await work


def is_mirrored(asking: Caller) -> bool:
    """Whether a tenant's toolchains are the mirror's: no route of exactly that path leads away."""
    return all(route.pattern.text != MODULE_PATH for route in asking.of_tenant.routes)


def _check_not_refused(file: ModuleFile) -> None:
    if file.log_state is LogState.REFUSED:
        raise VerificationError(
            f"{file.name} is quarantined: the checksum database vouches for other content"
        )


def _all_absent(name: str, statuses: list[int]) -> UpstreamAbsentError:
    status = 410 if statuses and all(s == 410 for s in statuses) else 404
    return UpstreamAbsentError(f"no upstream has {name}", origin="", status=status)


def _not_stored(name: str, route: Route, asking: Caller) -> MoorageError:
    if not asking.fetch:
        return UnknownError(f"{name} is not stored here, and the client asked not to fetch it")
    return DeniedError(f"{name} is not stored here, and {route} is off: it fetches nothing")
