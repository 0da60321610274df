"""Lists, @latest and what queries resolve to: from the first upstream of a route that has them.

Not here: how one origin is asked, and what is stored of its answers (`answers`).
"""

from contextlib import suppress

from app import logs
from app.core.errors import DatabaseBusyError, StorageFullError, UpstreamAbsentError
from app.core.goproxy import render_list
from app.core.published import is_published
from app.core.routing import RecordedRoute, RecordedUpstream
from app.db.engine import Database
from app.db.modules import ModuleTable
from app.services.modules.answers import LIST, MAX_ABSENT_S, CachedAnswer, ModuleAnswers, Query
from app.services.modules.caller import Caller
from app.services.modules.published import PublishedModules
from app.services.modules.versionfiles import not_stored, source_of
from app.services.modules.walk import ANY_ORIGIN, asked_origins, first_answer
from app.services.upstreams import Upstreams

_log = logs.get("modules")


class RouteAnswers:
    """The answers of routes, for callers who may ask about the module."""

    def __init__(
        self,
        db: Database,
        published: PublishedModules,
        answers: ModuleAnswers,
        upstreams: Upstreams,
    ) -> None:
        self._db = db
        self._published = published
        self._answers = answers
        self._upstreams = upstreams

    async def get(
        self, caller: Caller, route: RecordedRoute, module: str, query: str
    ) -> CachedAnswer:
        """Return the answer of the first upstream that has the module.

        Raises:
            UpstreamAbsentError: no upstream has it.
            UnknownError: nothing is stored, and the client forbids the fetch.
            DeniedError: nothing is stored, and the route is off.
            MoorageError: whatever the fetch raises.
        """
        if not caller.may_fetch(route):
            return await self._last_answer(caller, route, module, query)

        async def ask(upstream: RecordedUpstream) -> CachedAnswer:
            if is_published(upstream.url):
                at_origin = Query(upstream.origin_id, module, query)
                return await self._published.answer(at_origin, route.ttl_s)
            source = source_of(self._upstreams, caller, route, upstream)
            return await self._answers.get(Query(upstream.origin_id, module, query), route, source)

        try:
            return await first_answer(route, Query(ANY_ORIGIN, module, query), ask, self._answers)
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
        answer = await self.stored(route, module, query)
        if answer is not None:
            return answer
        if query == LIST:
            origins = [u.origin_id for u in route.upstreams]
            versions = await self._db.read(lambda s: ModuleTable(s).versions(origins, module))
            if versions:
                return CachedAnswer(render_list(versions), 0.0)
        raise not_stored(f"{module}@{query.removeprefix('=')}", route, caller)

    async def stored(self, route: RecordedRoute, module: str, query: str) -> CachedAnswer | None:
        """Return the last answer of the first upstream of which one is stored; None without one."""
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
