"""While upstream is down, decide whether a path is a package of a known module.

`go` looks for a package at every prefix of its path at once. It fails if a longer prefix answers
5xx, even if a shorter prefix is the module. If a parent path is a known module, an unknown path
counts as no module. On a private route it never does: a 404 would send the name elsewhere
(decisions/0012).
"""

from collections.abc import Awaitable, Callable

from app.core.errors import (
    BadInputError,
    DeniedError,
    MoorageError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
    UpstreamRefusedError,
)
from app.core.goproxy import GoproxyRequest, RequestKind
from app.core.module import check_path
from app.core.routing import RecordedRoute
from app.db.engine import Database
from app.db.modules import ModuleTable
from app.services.modules.caller import Caller, allowed

_PROBED = frozenset({RequestKind.LIST, RequestKind.LATEST, RequestKind.INFO})


class Probes:
    """Judges paths that may be none.

    Args:
        list_of: returns the list of a module on a route, or raises why there is none.
    """

    def __init__(
        self, db: Database, list_of: Callable[[Caller, RecordedRoute, str], Awaitable[object]]
    ) -> None:
        self._db = db
        self._list_of = list_of

    async def is_none(
        self, error: UpstreamError, caller: Caller, route: RecordedRoute, request: GoproxyRequest
    ) -> bool:
        """Whether a path was never seen to be a module, and has a parent that is one.

        Where nothing is known of the parents, upstream is asked for their lists: `go` asks for them
        at this very moment, and the answer about the longer path may have come first. Not for a
        version while upstream fails: that may be a nested module's, and its 404 would be wrong. It
        takes a parent that is known to have that very version.

        Args:
            error: why upstream can't be asked.
            caller: who asks.
            route: that the path takes.
            request: what was asked for.
        """
        is_trouble = not isinstance(error, UpstreamAbsentError)
        if not is_trouble or request.kind not in _PROBED or route.private:
            return False
        origins, parents = [u.origin_id for u in route.upstreams], _parents(request.module)
        if await self._db.read(lambda s: ModuleTable(s).is_known(origins, [request.module])):
            return False
        is_refused = isinstance(error, UpstreamRefusedError)
        if request.kind is RequestKind.INFO and not is_refused:
            version = request.version
            return await self._db.read(
                lambda s: ModuleTable(s).is_version_known(origins, parents, version)
            )
        if await self._db.read(lambda s: ModuleTable(s).is_known(origins, parents)):
            return True
        if error.status is None and not is_refused and not isinstance(error, UpstreamContentError):
            return False  # it gives no answer at all, and each question may take its whole deadline
        return await self._has_parent(caller, route, parents[1:])  # a host is hardly ever a module

    async def _has_parent(self, caller: Caller, route: RecordedRoute, parents: list[str]) -> bool:
        for parent in reversed(parents):
            try:
                await self._look(caller, route, parent)
            except (UpstreamAbsentError, UnknownError, DeniedError, BadInputError):
                continue
            except MoorageError:
                return False
            return True
        return False

    async def _look(self, caller: Caller, route: RecordedRoute, parent: str) -> None:
        """Return if a parent on the same route has a list; the tenant must be allowed to see it."""
        check_path(parent)
        allowed(caller.may(parent).decide(None))
        if caller.route(parent).id != route.id:
            raise UnknownError(f"{parent} takes another route")
        await self._list_of(caller, route, parent)


def _parents(module: str) -> list[str]:
    elements = module.split("/")
    return ["/".join(elements[:n]) for n in range(1, len(elements))]
