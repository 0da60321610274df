"""Reading published modules: lists, @latest, and whether a version is gone.

The files of a version are stored as those of any other origin, and served as such. Nothing here
asks anybody, so nothing is cached: a change of a version ends prepared answers by its generation.
Publishing is `publishing.py`.
"""

from functools import cmp_to_key

from app.core import semver
from app.core.errors import GoneError, UpstreamAbsentError
from app.core.goproxy import RequestKind, render_list
from app.core.published import PublishedState, PublishedVersion, info_of
from app.db.engine import Database
from app.db.published import PublishedTable
from app.services.modules.answers import LATEST, LIST, CachedAnswer, Query

_ORDER = cmp_to_key(semver.compare)


class PublishedModules:
    """What was published, as the front asks for it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def answer(self, query: Query, ttl_s: int) -> CachedAnswer:
        """Return a list, or @latest.

        Raises:
            UpstreamAbsentError: nothing is offered of the module, or it is another query.
        """
        versions = await self._db.read(lambda s: PublishedTable(s).of_module(query.module))
        offered = [v for v in versions if v.state is PublishedState.OFFERED]
        if not offered or query.query not in (LIST, LATEST):
            raise UpstreamAbsentError(f"{query} is not published here", origin="", status=404)
        if query.query == LIST:
            body = render_list([one.version for one in offered])
        else:
            newest = _newest(offered)
            body = info_of(newest.version, newest.published_at)
        return CachedAnswer(body, float(ttl_s))

    async def check_not_gone(self, module: str, version: str, kind: RequestKind) -> None:
        """Return if a version that is not stored was not withdrawn, either.

        Raises:
            GoneError: it was; no other upstream is asked for it.
        """
        known = await self._db.read(lambda s: PublishedTable(s).get(module, version))
        if known is not None and known.state is PublishedState.GONE:
            raise gone(known, f".{kind}")


def gone(published: PublishedVersion, what: str = "") -> GoneError:
    """Return the error of a version that was withdrawn for good."""
    why = f": {published.reason}" if published.reason else ""
    return GoneError(
        f"{published.name}{what} was withdrawn on {published.changed_at:%Y-%m-%d}{why}; use another"
        " version"
    )


def _newest(offered: list[PublishedVersion]) -> PublishedVersion:
    """Return what `go` takes for @latest: the newest release, else the newest pre-release."""
    releases = [one for one in offered if not semver.prerelease(one.version)]
    return max(releases or offered, key=lambda one: _ORDER(one.version))
