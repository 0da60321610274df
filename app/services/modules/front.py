"""Answering what `go` asks of a tenant: authorise, route, ask the route's upstreams, filter.

Everything that a tenant may not see is filtered here by the same decision that guards its files. A
query is authorised again under the version that it resolves to.

One function per kind of request: `_list`, `_latest`, `_query`, `_version_file`. All of them reach
upstreams through `walk.first_answer`.
"""

from app import logs
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
    render_list,
)
from app.core.logstate import LogState
from app.core.moduleinfo import parse_info
from app.core.published import is_published
from app.core.routing import RecordedRoute
from app.db.engine import Database
from app.db.modules import ModuleFile
from app.db.usage import ModuleUse
from app.services.authorization import Permission
from app.services.clock import Now
from app.services.modules.answers import (
    LATEST,
    LIST,
    Absences,
    CachedAnswer,
    ModuleAnswers,
)
from app.services.modules.caller import Caller, Resolved, allowed
from app.services.modules.files import ModuleFiles
from app.services.modules.lists import Lists
from app.services.modules.mirrored import MirroredToolchains
from app.services.modules.probes import Probes
from app.services.modules.published import PublishedModules
from app.services.modules.routeanswers import RouteAnswers
from app.services.modules.troubles import for_client
from app.services.modules.versionfiles import VersionFiles, not_used
from app.services.remembered import Remembered
from app.services.upstreams import Upstreams
from app.services.usage import UsageCounter

_log = logs.get("modules")


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
        published = PublishedModules(db)
        self._files = files
        self._upstreams = upstreams
        self._mirrored = mirrored
        self._lists = lists
        self._usage = usage
        self._now = now
        self._versions = VersionFiles(remembered, published, files, answers, absences, upstreams)
        self._routed = RouteAnswers(db, published, answers, upstreams)
        self._probes = Probes(db, lambda caller, route, m: self._routed.get(caller, route, m, LIST))

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
        not_stored = not_used(_name(request))
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
            raise not_used(_name(request))

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
            listed = await self._routed.stored(route, module, LIST)
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
        listed = await self._routed.get(caller, route, module, LIST)
        visible = await self._lists.visible(listed.body, module, permission, caller.tenant)
        return _from_cached("", permission.decide(None), listed, visible)

    async def _latest(
        self, caller: Caller, route: RecordedRoute, module: str, permission: Permission
    ) -> Resolved:
        """Return upstream's @latest if the tenant may see it, else the newest visible version."""
        denial: Decision | None = None
        try:
            latest = await self._routed.get(caller, route, module, LATEST)
        except (UpstreamAbsentError, UnknownError, DeniedError):
            latest = None
        if latest is not None:
            version = self._version_in(latest.body, module)
            decision = permission.decide(version)
            if decision.allowed:
                return _from_cached(version, decision, latest, latest.body)
            denial = decision
        listed = await self._routed.get(caller, route, module, LIST)
        newest_visible = await self._lists.newest_visible(
            listed.body, module, permission, caller.tenant
        )
        if newest_visible is None:
            if denial is not None:
                raise DeniedError(denial.reason, denial.by)
            raise UnknownError(f"{module} has no version ({route})")
        info = await self._versions.get(caller, route, module, newest_visible, RequestKind.INFO)
        body = await self._files.read(info)
        return _from_cached(newest_visible, permission.decide(newest_visible), listed, body)

    async def _query(
        self, caller: Caller, route: RecordedRoute, request: GoproxyRequest, permission: Permission
    ) -> Resolved:
        """Return the version that a branch, tag or commit resolves to."""
        resolved = await self._routed.get(caller, route, request.module, f"={request.version}")
        version = self._version_in(resolved.body, request.module)
        return _from_cached(version, allowed(permission.decide(version)), resolved, resolved.body)

    async def _version_file(
        self, caller: Caller, route: RecordedRoute, request: GoproxyRequest, decision: Decision
    ) -> Resolved:
        """Return the .info, .mod or .zip of a version."""
        file = await self._versions.get(
            caller, route, request.module, request.version, request.kind
        )
        self._versions.fetch_ahead(caller, route, file)
        await self._check_not_refused(file)
        # A blob has no body here: the sender opens it, and has it healed if need be.
        body = b"" if file.body is None else await self._files.read(file)
        return Resolved(version=file.version, decided_by=decision.by, body=body, file=file)

    async def aclose(self) -> None:
        """End what runs in the background."""
        await self._versions.aclose()

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
            file = await self._versions.get(caller, route, module, version, RequestKind.ZIP)
        except UpstreamError as error:
            raise for_client(error, route, f"{module}@{version}") from error
        if file.log_state is LogState.UNVERIFIED and not route.private:
            file = await self._files.records.settle(file, route.log, tenant=caller.tenant)
        await self._check_not_refused(file)
        return file, route

    async def _check_not_refused(self, file: ModuleFile) -> None:
        if file.log_state is LogState.REFUSED:
            why = await self._files.records.why_refused(file)
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


def _use(caller: Caller, request: GoproxyRequest, version: str) -> ModuleUse:
    return ModuleUse(caller.of_tenant.tenant.id, request.module, version, request.kind)


def _name(request: GoproxyRequest) -> str:
    """Return the name of what is asked for: "a.b/c@v1.0.0.zip", "a.b/c@list", "a.b/c@master"."""
    if not request.version:
        return f"{request.module}@{request.kind}"
    return str(request) if request.is_query else f"{request}.{request.kind}"
