"""Which repository a module is in: the longest path that is one, or what the module's host says.

Not here: listings (`gitlistings`), where a version is in its repository (`core/gitplace`).
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from cachetools import LRUCache

from app.core.errors import (
    BadInputError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamCredentialError,
    UpstreamError,
    UpstreamRefusedError,
)
from app.core.gitmodule import GitModule
from app.core.gitrefs import GitRefs
from app.core.gitrepository import Repository
from app.core.giturl import GitUrl, NamedRepository, below_of, possible_repositories
from app.core.goimport import go_import_of
from app.db.gits import RecordedListing
from app.services.modules.answers import MAX_ABSENT_S
from app.services.modules.gitlistings import GitListings
from app.services.modules.gitsources import GitSource, absent

_MAX_ABSENT = 65_536
_MAX_IMPORTS = 16_384


@dataclass(frozen=True, slots=True)
class GitPlace:
    """The repository of a module.

    Attributes:
        below: what stands for "{path}".
        root: the module path of the repository's root, or of the sub-directory.
        subdirectory: that the module's host names; "" for the root.
        is_known: the listing was there before the request.
    """

    below: str
    root: str
    subdirectory: str
    listing: RecordedListing
    refs: GitRefs
    is_known: bool

    def module(self, repository: Repository, path: str) -> GitModule:
        """Return a module of the repository.

        Raises:
            UnknownError: the repository can't hold the module.
        """
        return GitModule(repository, path, self.root, self.subdirectory)


class GitPlaces:
    """Finds the repositories of modules.

    Args:
        listings: of all git upstreams.
        clock: monotonic seconds.
    """

    def __init__(self, listings: GitListings, clock: Callable[[], float]) -> None:
        self._listings = listings
        self._clock = clock
        self._absent: LRUCache[tuple[int, str], float] = LRUCache(_MAX_ABSENT)
        self._imports: LRUCache[tuple[int, str], tuple[NamedRepository, float]] = LRUCache(
            _MAX_IMPORTS
        )

    async def of(self, source: GitSource, module: str) -> GitPlace:
        """Return the repository of a module: the longest path that is one.

        A path that the server does not let us see may be no repository at all: the shorter ones are
        asked, and only if none of them is a repository the refusal counts.

        Raises:
            UpstreamAbsentError: no repository can hold the module.
            UpstreamError: the server can't be asked, or does not let us in.
        """
        refusal: UpstreamError | None = None
        for named in await self._possible(source, module):
            below = named.below
            if self._absent.get((source.origin_id, below), 0.0) > self._clock():
                continue
            try:
                listing, is_known = await self._listings.fresh(source, below)
            except UpstreamAbsentError:
                seconds = min(source.ttl_s, MAX_ABSENT_S)
                self._absent[source.origin_id, below] = self._clock() + seconds
                continue
            except UpstreamError as error:
                is_of_path = isinstance(error, UpstreamContentError | UpstreamRefusedError)
                if not is_of_path or isinstance(error, UpstreamCredentialError):
                    raise
                refusal = refusal or error
                continue
            refs = await self._listings.refs_of(listing)
            return GitPlace(below, named.root, named.subdirectory, listing, refs, is_known)
        if refusal is not None:
            raise refusal
        raise absent(f"no repository of {source.url.text} holds {module}", source, "")

    async def _possible(self, source: GitSource, module: str) -> list[NamedRepository]:
        """Return which repositories a module may be in."""
        if source.page is None:
            return possible_repositories(source.url, module, source.prefix_elements)
        known = self._imports.get((source.origin_id, module))
        if known is None or known[1] <= self._clock():
            place = await named_repository(source.url, module, source.page)
            known = self._imports[source.origin_id, module] = (
                place,
                self._clock() + source.ttl_s,
            )
        return [known[0]]

    def forget_absences(self, origins: Collection[int]) -> None:
        """Forget which repositories were not there a moment ago; in this process."""
        for key in [key for key in self._absent if key[0] in origins]:
            self._absent.pop(key, None)


async def named_repository(
    url: GitUrl, module: str, page: Callable[[str], Awaitable[bytes]]
) -> NamedRepository:
    """Return the repository that a module's own host names.

    As in `go`, the page of the root must say the same: else who owns a page below a root could say
    where the whole of it is.

    Args:
        url: of the upstream, which must have the repository.
        module: plain path.
        page: fetches a page by URL.

    Raises:
        UpstreamAbsentError: the host has no such page, or the page names nothing for the module.
        UpstreamError: the page can't be had, or names something that the route does not.
    """
    try:
        named = go_import_of(await page(f"https://{module}?go-get=1"), module)
        if named.prefix != module:
            of_root = go_import_of(await page(f"https://{named.prefix}?go-get=1"), named.prefix)
            if of_root != named:
                raise BadInputError("the pages of the module and of its root differ")
    except UnknownError as error:
        absent = UpstreamAbsentError(f"{module}: {error}", origin=url.origin, status=404)
        raise absent from error
    except BadInputError as error:
        raise UpstreamContentError(f"{module}: {error}", origin="") from error
    below = below_of(url, named.url)
    if below is None:
        raise UpstreamContentError(
            f"{module}: its host names a repository that is none of the upstream's", origin=""
        )
    return NamedRepository(below, named.prefix, named.subdirectory)
