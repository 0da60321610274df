"""Files of versions: from the first upstream of a route that has them, some ahead of requests.

Whether a tenant may have the version was decided before. Not here: how a file is fetched, checked
and recorded (`files`), and what a refusal tells the client (`troubles`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from app.core.errors import DeniedError, MoorageError, UnknownError, UpstreamAbsentError
from app.core.goproxy import RequestKind
from app.core.logstate import LogState
from app.core.published import is_published
from app.core.routing import LogPolicy, RecordedRoute, RecordedUpstream
from app.db.modules import ModuleFile, files_of
from app.services.modules.answers import Absences, ModuleAnswers, Query
from app.services.modules.caller import Caller
from app.services.modules.checks import FileKey
from app.services.modules.files import ModuleFiles
from app.services.modules.published import PublishedModules
from app.services.modules.walk import ANY_ORIGIN, first_answer
from app.services.remembered import Remembered
from app.services.upstreams import Source, Upstreams

_MAX_AHEAD = 64
_SIBLING = {RequestKind.INFO: RequestKind.MOD, RequestKind.MOD: RequestKind.INFO}


class VersionFiles:
    """The .info, .mod and .zip files of versions, for callers who may have them.

    Attributes:
        ahead: the fetches that run ahead of requests.
    """

    def __init__(
        self,
        remembered: Remembered,
        published: PublishedModules,
        files: ModuleFiles,
        answers: ModuleAnswers,
        absences: Absences,
        upstreams: Upstreams,
    ) -> None:
        self._remembered = remembered
        self._published = published
        self._files = files
        self._answers = answers
        self._absences = absences
        self._upstreams = upstreams
        self.ahead: set[asyncio.Task[None]] = set()

    async def get(
        self, caller: Caller, route: RecordedRoute, module: str, version: str, kind: RequestKind
    ) -> ModuleFile:
        """Return a file of a version from the first upstream that has it.

        Once a later upstream's file is stored, that file is the one that is served: an earlier
        upstream whose absence is recorded is not asked again.

        Raises:
            UnknownError: the file is known to be absent, or not stored and the client forbids the
                fetch.
            DeniedError: the file is not stored, and the route is off.
            GoneError: the version was published, and withdrawn for good.
            MoorageError: whatever the fetch raises.
        """
        origins = [u.origin_id for u in route.upstreams]
        generation, key = self._remembered.generation, ("files", *origins, module, version, kind)
        rows = await self._remembered.read(
            key,
            files_of(origins, module, version, kind),
            lambda rows: sum(len(row.body or b"") for row in rows),
        )
        stored = {file.origin_id: file for file in rows}
        query = Query(ANY_ORIGIN, module, f"@{version}.{kind}")
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
            raise not_stored(key.name, route, caller)
        self._absences.check(key.identity, key.name)
        source = source_of(self._upstreams, caller, route, upstream)
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
        return await self._files.records.settle(file, route.log, tenant=caller.tenant)

    def fetch_ahead(self, caller: Caller, route: RecordedRoute, file: ModuleFile) -> None:
        """Fetch the .mod of an .info that just came in, or the other way round.

        `go` asks for both, one after the other. Never the zip: most modules that are looked at are
        not downloaded.
        """
        is_new = file.kind in _SIBLING and caller.now <= file.stored_at
        if is_new and caller.may_fetch(route) and len(self.ahead) < _MAX_AHEAD:
            unasked, kind = replace(caller, is_ahead=True), _SIBLING[file.kind]
            work = partial(self.get, unasked, route, file.module, file.version, kind)
            task = asyncio.ensure_future(_quietly(work))
            self.ahead.add(task)
            task.add_done_callback(self.ahead.discard)

    async def aclose(self) -> None:
        """End what runs in the background."""
        for task in self.ahead:
            task.cancel()
        await asyncio.gather(*self.ahead, return_exceptions=True)


def source_of(
    upstreams: Upstreams, caller: Caller, route: RecordedRoute, upstream: RecordedUpstream
) -> Source:
    """Return an upstream of a route, ready for requests of a caller."""
    tenant = caller.of_tenant.tenant
    return upstreams.open(route, upstream, caller.policy, tenant, caller.client)


def not_stored(name: str, route: RecordedRoute, caller: Caller) -> MoorageError:
    """Return the error of what is not stored, where the client or the route forbids the fetch."""
    if not caller.fetch:
        return not_used(name)
    return DeniedError(
        f"{name} is not stored here, and {route} is off: it fetches nothing", "route"
    )


def not_used(name: str) -> UnknownError:
    """Return the error of what is not stored for a client that forbids the fetch."""
    return UnknownError(f"{name} is not stored here, and the client asked not to fetch it")


async def _quietly(work: Callable[[], Awaitable[ModuleFile]]) -> None:
    """Await work() and ignore its error. The next request for the file gets the error itself."""
    with suppress(MoorageError):
        await work()
