"""Files of versions: from the first upstream of a route that has them, some ahead of requests.

Whether a tenant may have the version was decided before. Not here: how a file is fetched, checked
and recorded (`files`), and what a refusal tells the client (`troubles`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from cachetools import TTLCache

from app.core.errors import DeniedError, MoorageError, UnknownError, UpstreamAbsentError
from app.core.goproxy import RequestKind
from app.core.logstate import LogState
from app.core.published import is_published
from app.core.routing import LogPolicy, RecordedRoute, RecordedUpstream
from app.db.lookup import Lookup
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
_MAX_AWAITED = 4096  # versions
_AWAITED_S = 10.0
_Rows = list[ModuleFile]
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
        self._awaited: TTLCache[tuple[int, str, str], set[RequestKind]] = TTLCache(
            _MAX_AWAITED, _AWAITED_S
        )
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
        rows = await self._rows(caller, route, key, files_of(origins, module, version, kind))
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
            self._note_new(caller, file)
        return await self._asked_about(file, caller, route)

    async def _rows(
        self, caller: Caller, route: RecordedRoute, key: tuple[Any, ...], lookup: Lookup[_Rows]
    ) -> _Rows:
        """Return what is stored of a file, one row for each origin that has it.

        The database is not asked about what this process has just recorded, nor about the other
        files of a version of which the first one has just come in. If another process has stored
        them since, `ModuleFiles` finds them in its turn, before it fetches.
        """
        known: _Rows | None = self._remembered.known(key, caller.tenant)
        if known is not None and all(file.body is not None for file in known):
            return known
        if len(route.upstreams) == 1 and caller.may_fetch(route):
            _, origin, module, version, kind = key
            if kind in self._awaited.get((origin, module, version), ()):
                self._awaited[origin, module, version].discard(kind)
                return []
        return await self._remembered.read(
            key, lookup, lambda rows: sum(len(row.body or b"") for row in rows)
        )

    def _note_new(self, caller: Caller, file: ModuleFile) -> None:
        """Expect the other files of a version, where the first one has just come in."""
        version = (file.origin_id, file.module, file.version)
        if file.kind in _SIBLING and _is_new(caller, file) and version not in self._awaited:
            self._awaited[version] = {_SIBLING[file.kind], RequestKind.ZIP}

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
        is_due = file.kind in _SIBLING and _is_new(caller, file) and caller.may_fetch(route)
        if is_due and len(self.ahead) < _MAX_AHEAD:
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


def _is_new(caller: Caller, file: ModuleFile) -> bool:
    """Whether a file came in for this request, or while it was under way."""
    return caller.now <= file.stored_at


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
