"""Answering what `go` asks of a tenant: authorise, route, ask the route's upstreams, filter.

Everything that a tenant may not see is filtered here by the same decision that guards its files. A
query is authorised again under the version that it resolves to.

One function per kind of request: `_list`, `_latest`, `_query`, `_version_file`. All of them reach
upstreams through `walk.first_answer`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from app import logs
from app.core.acl import Decision
from app.core.errors import (
    DatabaseBusyError,
    DeniedError,
    MoorageError,
    StorageFullError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamError,
    VerificationError,
)
from app.core.goproxy import (
    GoproxyRequest,
    RequestKind,
    render_list,
)
from app.core.logstate import LogState
from app.core.moduleinfo import parse_info
from app.core.published import is_published
from app.core.routing import LogPolicy, RecordedRoute, RecordedUpstream
from app.db.engine import Database
from app.db.modules import ModuleFile, ModuleTable, files_of
from app.db.usage import ModuleUse
from app.services.authorization import Permission
from app.services.clock import Now
from app.services.modules.answers import (
    LATEST,
    LIST,
    MAX_ABSENT_S,
    Absences,
    CachedAnswer,
    ModuleAnswers,
    Query,
)
from app.services.modules.caller import Caller, Resolved, allowed
from app.services.modules.checks import FileKey
from app.services.modules.files import ModuleFiles
from app.services.modules.lists import Lists
from app.services.modules.mirrored import MirroredToolchains
from app.services.modules.probes import Probes
from app.services.modules.published import PublishedModules
from app.services.modules.troubles import for_client
from app.services.modules.walk import asked_origins, first_answer
from app.services.remembered import Remembered
from app.services.upstreams import Source, Upstreams
from app.services.usage import UsageCounter

_MAX_AHEAD = 64
_log = logs.get("modules")
_SIBLING = {RequestKind.INFO: RequestKind.MOD, RequestKind.MOD: RequestKind.INFO}
_ANY_ORIGIN = 0  # of a query that `first_answer` puts to each origin of a route in turn


class ModuleFront:
    """What the GOPROXY front of every tenant answers."""

    def __init__(
        self,
        db: Database,
        remembered: Remembered,
        files: ModuleFiles,
        answers: ModuleAnswers,
        absences: Absences,
        upstreams: Upstreams,
        mirrored: MirroredToolchains,
        lists: Lists,
        usage: UsageCounter,
        now: Now,
    ) -> None:
        self._db = db
        self._remembered = remembered
        self._published = PublishedModules(db)
        self._files = files
        self._answers = answers
        self._absences = absences
        self._upstreams = upstreams
        self._mirrored = mirrored
        self._lists = lists
        self._usage = usage
        self._now = now
        self._ahead: set[asyncio.Task[None]] = set()
        self._probes = Probes(db, lambda caller, route, m: self._cached(caller, route, m, LIST))

    async def answer(self, caller: Caller, request: GoproxyRequest) -> Resolved:
        """Return the answer to a GOPROXY request.

        Raises:
            DeniedError: policy says no; the message names the rule.
            UnknownError: it is known to be absent.
            UpstreamError: it can't be had now.
            MoorageError: as the fetching of files says.
        """
        permission = caller.may(request.module)
        version = None if request.is_query else (request.version or None)
        if caller.is_mirrored(request.module):
            # A denial comes first: at a 404, `go` asks the next proxy.
            if version is not None and permission.decide(version).allowed:
                await self._check_used(caller, request)
            resolved = await self._mirrored.answer(request, permission, caller.client)
            if caller.fetch:
                self._usage.answered(_use(caller, request, resolved.version))
            return resolved
        decision = allowed(permission.decide(version))
        route = self._route(caller, request.module)
        if caller.is_limited_to_uses:
            return await self._answer_used(caller, route, request, permission, decision)
        resolved = await self._answer(caller, route, request, permission, decision)
        if caller.fetch:
            self._usage.answered(_use(caller, request, resolved.version))
        return resolved

    async def _answer_used(
        self,
        caller: Caller,
        route: RecordedRoute,
        request: GoproxyRequest,
        permission: Permission,
        decision: Decision,
    ) -> Resolved:
        """Return the answer for a client that forbids the fetch: only what this tenant has used.

        What is stored because another tenant uses it is answered like what is not stored.
        """
        not_stored = _not_used(_name(request))
        if request.kind is RequestKind.LIST:
            body = await self._list_of_used(caller, route, request)
            if not body:
                raise not_stored
            visible = await self._lists.visible(body, request.module, permission, caller.tenant)
            return Resolved(version="", decided_by=decision.by, body=visible, fresh_s=0.0)
        version = "" if request.is_query else request.version
        if version:
            await self._check_used(caller, request)
        try:
            resolved = await self._answer(caller, route, request, permission, decision)
        except UnknownError as error:
            raise not_stored from error
        if not version and not await self._usage.was_answered(
            _use(caller, request, resolved.version)
        ):
            raise not_stored
        return resolved

    async def _check_used(self, caller: Caller, request: GoproxyRequest) -> None:
        """Return if a version's file may be answered as far as uses limit the caller.

        Raises:
            UnknownError: the client forbids the fetch, and the tenant was never answered this file.
        """
        use = _use(caller, request, request.version)
        if caller.is_limited_to_uses and not await self._usage.was_answered(use):
            raise _not_used(_name(request))

    async def check_zip_used(self, caller: Caller, module: str, version: str) -> None:
        """Return if uses do not limit the caller, or the tenant was answered the zip before.

        Raises:
            UnknownError: the client forbids the fetch, and the tenant was never answered the zip.
        """
        await self._check_used(caller, GoproxyRequest(module, RequestKind.ZIP, version))

    async def _list_of_used(
        self, caller: Caller, route: RecordedRoute, request: GoproxyRequest
    ) -> bytes:
        """Return the last list, if the tenant was ever answered one; else the versions it used."""
        module = request.module
        if await self._usage.was_answered(_use(caller, request, "")):
            listed = await self._stored_answer(route, module, LIST)
            if listed is not None:
                return listed.body
        return render_list(await self._usage.used_versions(caller.of_tenant.tenant.id, module))

    async def _answer(
        self,
        caller: Caller,
        route: RecordedRoute,
        request: GoproxyRequest,
        permission: Permission,
        decision: Decision,
    ) -> Resolved:
        try:
            if request.kind is RequestKind.LIST:
                return await self._list(caller, route, request.module, permission)
            if request.kind is RequestKind.LATEST:
                return await self._latest(caller, route, request.module, permission)
            if request.is_query:
                return await self._query(caller, route, request, permission)
            return await self._version_file(caller, route, request, decision)
        except UpstreamError as error:
            raise await self._client_error(error, caller, route, request) from error

    async def _list(
        self, caller: Caller, route: RecordedRoute, module: str, permission: Permission
    ) -> Resolved:
        """Return the versions that the tenant may see."""
        listed = await self._cached(caller, route, module, LIST)
        visible = await self._lists.visible(listed.body, module, permission, caller.tenant)
        return _from_cached("", permission.decide(None), listed, visible)

    async def _latest(
        self, caller: Caller, route: RecordedRoute, module: str, permission: Permission
    ) -> Resolved:
        """Return upstream's @latest if the tenant may see it, else the newest visible version."""
        denial: Decision | None = None
        try:
            latest = await self._cached(caller, route, module, LATEST)
        except (UpstreamAbsentError, UnknownError, DeniedError):
            latest = None
        if latest is not None:
            version = self._version_in(latest.body, module)
            decision = permission.decide(version)
            if decision.allowed:
                return _from_cached(version, decision, latest, latest.body)
            denial = decision
        listed = await self._cached(caller, route, module, LIST)
        newest_visible = await self._lists.newest_visible(
            listed.body, module, permission, caller.tenant
        )
        if newest_visible is None:
            if denial is not None:
                raise DeniedError(denial.reason, denial.by)
            raise UnknownError(f"{module} has no version ({route})")
        info = await self._file(caller, route, module, newest_visible, RequestKind.INFO)
        body = await self._files.read(info)
        return _from_cached(newest_visible, permission.decide(newest_visible), listed, body)

    async def _query(
        self, caller: Caller, route: RecordedRoute, request: GoproxyRequest, permission: Permission
    ) -> Resolved:
        """Return the version that a branch, tag or commit resolves to."""
        resolved = await self._cached(caller, route, request.module, f"={request.version}")
        version = self._version_in(resolved.body, request.module)
        return _from_cached(version, allowed(permission.decide(version)), resolved, resolved.body)

    async def _version_file(
        self, caller: Caller, route: RecordedRoute, request: GoproxyRequest, decision: Decision
    ) -> Resolved:
        """Return the .info, .mod or .zip of a version."""
        file = await self._file(caller, route, request.module, request.version, request.kind)
        if file.kind in _SIBLING and caller.may_fetch(route):
            self._fetch_ahead(caller, route, file)
        await self._check_not_refused(file)
        # A blob has no body here: the sender opens it, and has it healed if need be.
        body = b"" if file.body is None else await self._files.read(file)
        return Resolved(version=file.version, decided_by=decision.by, body=body, file=file)

    def _fetch_ahead(self, caller: Caller, route: RecordedRoute, file: ModuleFile) -> None:
        """Fetch the .mod of an .info that just came in, or the other way round.

        `go` asks for both, one after the other. Never the zip: most modules that are looked at are
        not downloaded.
        """
        is_new = caller.now <= file.stored_at
        if is_new and len(self._ahead) < _MAX_AHEAD:
            unasked, kind = replace(caller, is_ahead=True), _SIBLING[file.kind]
            work = partial(self._file, unasked, route, file.module, file.version, kind)
            task = asyncio.ensure_future(_quietly(work))
            self._ahead.add(task)
            task.add_done_callback(self._ahead.discard)

    async def aclose(self) -> None:
        """End what runs in the background."""
        for task in self._ahead:
            task.cancel()
        await asyncio.gather(*self._ahead, return_exceptions=True)

    async def vouched_zip(
        self, caller: Caller, module: str, version: str
    ) -> tuple[ModuleFile, RecordedRoute]:
        """Return the zip of a version that the tenant may use, and its route.

        The zip is fetched if need be. The public log is asked about it if it was not yet.

        Raises:
            MoorageError: as `answer`.
        """
        route = self._route(caller, module)
        try:
            file = await self._file(caller, route, module, version, RequestKind.ZIP)
        except UpstreamError as error:
            raise for_client(error, route, f"{module}@{version}") from error
        if file.log_state is LogState.UNVERIFIED and not route.private:
            file = await self._files.settle(file, route.log, tenant=caller.tenant)
        await self._check_not_refused(file)
        return file, route

    async def _check_not_refused(self, file: ModuleFile) -> None:
        if file.log_state is LogState.REFUSED:
            why = await self._files.why_refused(file)
            raise VerificationError(f"{file.name} is quarantined: {why}")

    def _route(self, caller: Caller, module: str) -> RecordedRoute:
        """Return the route that a module takes, if the tenant may use its upstreams.

        Raises:
            DeniedError: no route leads to it, or an upstream is another tenant's private host.
        """
        route = caller.route(module)
        if any(is_published(u.url) for u in route.upstreams):
            route = _if_owned(route, caller, module)
        self._upstreams.access.check(route, caller.policy, caller.of_tenant.tenant)
        return route

    def _version_in(self, body: bytes, module: str) -> str:
        return parse_info(body, module, asked=None).version

    async def _cached(
        self, caller: Caller, route: RecordedRoute, module: str, query: str
    ) -> CachedAnswer:
        """Return the answer of the first upstream that has the module."""
        if not caller.may_fetch(route):
            return await self._last_answer(caller, route, module, query)

        async def ask(upstream: RecordedUpstream) -> CachedAnswer:
            if is_published(upstream.url):
                at_origin = Query(upstream.origin_id, module, query)
                return await self._published.answer(at_origin, route.ttl_s)
            source = self._open(caller, route, upstream)
            return await self._answers.get(Query(upstream.origin_id, module, query), route, source)

        try:
            return await first_answer(route, Query(_ANY_ORIGIN, module, query), ask, self._answers)
        except UpstreamAbsentError:
            stored = await self._list_of_gone(route, module) if query == LIST else None
            if stored is None:
                raise
            return stored

    async def _list_of_gone(self, route: RecordedRoute, module: str) -> CachedAnswer | None:
        """Return the stored versions of a module that upstream has no more; None if there are none.

        Their files are served for ever, so a list without them would only break what asks for the
        list first: `go get MODULE@latest`, `go list -m -versions`.
        """
        origins = asked_origins(route)
        versions = await self._db.read(lambda s: ModuleTable(s).versions(origins, module))
        if not versions:
            return None
        with suppress(StorageFullError, DatabaseBusyError):  # for `explain` alone
            for origin in origins:
                await self._answers.record_absence(Query(origin, module, LIST), 404)
        _log.warning(
            "module gone upstream", name=module, route=str(route), stored_versions=len(versions)
        )
        return CachedAnswer(render_list(versions), min(route.ttl_s, MAX_ABSENT_S))

    async def _last_answer(
        self, caller: Caller, route: RecordedRoute, module: str, query: str
    ) -> CachedAnswer:
        """Return the last answer of the first upstream that gave one, however old it is."""
        answer = await self._stored_answer(route, module, query)
        if answer is not None:
            return answer
        if query == LIST:
            origins = [u.origin_id for u in route.upstreams]
            versions = await self._db.read(lambda s: ModuleTable(s).versions(origins, module))
            if versions:
                return CachedAnswer(render_list(versions), 0.0)
        raise _not_stored(f"{module}@{query.removeprefix('=')}", route, caller)

    async def _stored_answer(
        self, route: RecordedRoute, module: str, query: str
    ) -> CachedAnswer | None:
        for upstream in route.upstreams:
            at_origin = Query(upstream.origin_id, module, query)
            if is_published(upstream.url):
                with suppress(UpstreamAbsentError):
                    return await self._published.answer(at_origin, route.ttl_s)
                continue
            answer = await self._answers.stored(at_origin)
            if answer is not None:
                return answer
        return None

    async def _file(
        self, caller: Caller, route: RecordedRoute, module: str, version: str, kind: RequestKind
    ) -> ModuleFile:
        """Return a file of a version from the first upstream that has it.

        Once a later upstream's file is stored, that file is the one that is served: an earlier
        upstream whose absence is recorded is not asked again.
        """
        origins = [u.origin_id for u in route.upstreams]
        generation, key = self._remembered.generation, ("files", *origins, module, version, kind)
        rows = await self._remembered.read(
            key,
            files_of(origins, module, version, kind),
            lambda rows: sum(len(row.body or b"") for row in rows),
        )
        stored = {file.origin_id: file for file in rows}
        query = Query(_ANY_ORIGIN, module, f"@{version}.{kind}")
        if any(is_published(u.url) and u.origin_id not in stored for u in route.upstreams):
            await self._published.check_not_gone(module, version, kind)

        async def ask(upstream: RecordedUpstream) -> ModuleFile | None:
            file = stored.get(upstream.origin_id)
            if file is None and stored:
                at_origin = query.at(upstream.origin_id)
                if not caller.may_fetch(route) or await self._answers.is_absent(at_origin):
                    return None
            file = None if file is None else await self._files.whole(file)
            if file is None:
                key = FileKey.of(route, upstream.origin_id, module, version, kind)
                file = await self._fetch(caller, route, upstream, key)
            return file

        file = await first_answer(route, query, ask, self._answers)
        if not stored:
            self._remembered.keep(key, [file], len(file.body or b""), generation)
        return await self._asked_about(file, caller, route)

    async def _fetch(
        self, caller: Caller, route: RecordedRoute, upstream: RecordedUpstream, key: FileKey
    ) -> ModuleFile:
        if not caller.may_fetch(route):
            raise _not_stored(key.name, route, caller)
        self._absences.check(key.identity, key.name)
        source = self._open(caller, route, upstream)
        try:
            return await self._files.ensure(key, source, is_ahead=caller.is_ahead)
        except UpstreamAbsentError as error:
            self._absences.remember(key.identity, error)
            raise

    async def _asked_about(
        self, file: ModuleFile, caller: Caller, route: RecordedRoute
    ) -> ModuleFile:
        """Return a stored file, now that the log was asked as far as the route demands.

        The file may have come in while the log was down, or by a route that asks no log.
        """
        if route.private or route.log is LogPolicy.OFF or file.kind is RequestKind.INFO:
            return file
        was_not_asked = file.log_state in (LogState.OFF, LogState.PRIVATE)
        is_due = route.log is LogPolicy.REQUIRE and file.log_state is LogState.UNVERIFIED
        if not was_not_asked and not is_due:
            return file
        return await self._files.settle(file, route.log, tenant=caller.tenant)

    def _open(self, caller: Caller, route: RecordedRoute, upstream: RecordedUpstream) -> Source:
        tenant = caller.of_tenant.tenant
        return self._upstreams.open(route, upstream, caller.policy, tenant, caller.client)

    async def _client_error(
        self, error: UpstreamError, caller: Caller, route: RecordedRoute, request: GoproxyRequest
    ) -> MoorageError:
        """Return the error that tells the client of upstream's trouble; the log gets all of it."""
        if not isinstance(error, UpstreamAbsentError):
            _log.warning("upstream failed", name=str(request), route=str(route), error=str(error))
        if await self._probes.is_none(error, caller, route, request):
            return UnknownError(
                f"{request.module} is not known to be a module, one above it is; "
                "upstream can't be asked now"
            )
        return for_client(error, route, str(request))


def _if_owned(route: RecordedRoute, caller: Caller, module: str) -> RecordedRoute:
    """Return a route, without published modules if nobody owns the prefix of the module.

    Rules keep an owned prefix to its tenant, and whom the owner lets in; nothing keeps another.

    Raises:
        DeniedError: no other upstream is left.
    """
    if caller.policy.platform.owners.of(module) is not None:
        return route
    others = tuple(u for u in route.upstreams if not is_published(u.url))
    if not others:
        raise DeniedError(
            f"nobody owns a prefix of {module}, so nothing published below it is served",
            "ownership",
        )
    return route.model_copy(update={"upstreams": others})


def _from_cached(version: str, decision: Decision, cached: CachedAnswer, body: bytes) -> Resolved:
    """Return an answer that is as fresh as the cached answer that it was made from."""
    return Resolved(
        version=version,
        decided_by=decision.by,
        body=body,
        fresh_s=cached.fresh_s,
        stale_s=cached.stale_s,
    )


async def _quietly(work: Callable[[], Awaitable[ModuleFile]]) -> None:
    """Await work() and ignore its error. The next request for the file gets the error itself."""
    with suppress(MoorageError):
        await work()


def _use(caller: Caller, request: GoproxyRequest, version: str) -> ModuleUse:
    return ModuleUse(caller.of_tenant.tenant.id, request.module, version, request.kind)


def _name(request: GoproxyRequest) -> str:
    """Return the name of what is asked for: "a.b/c@v1.0.0.zip", "a.b/c@list", "a.b/c@master"."""
    if not request.version:
        return f"{request.module}@{request.kind}"
    return str(request) if request.is_query else f"{request}.{request.kind}"


def _not_stored(name: str, route: RecordedRoute, caller: Caller) -> MoorageError:
    if not caller.fetch:
        return _not_used(name)
    return DeniedError(
        f"{name} is not stored here, and {route} is off: it fetches nothing", "route"
    )


def _not_used(name: str) -> UnknownError:
    return UnknownError(f"{name} is not stored here, and the client asked not to fetch it")
