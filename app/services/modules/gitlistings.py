"""The branches and tags of repositories, as git servers listed them last.

A listing is asked for at most once per `ttl_s` of the route, by one process at a time, and recorded
for all processes. Not here: what is behind the refs (`gitmirrors`).
"""

import asyncio
from datetime import datetime, timedelta

from cachetools import LRUCache

from app.core.errors import UpstreamAbsentError
from app.core.gitrefs import GitRefs, parse_refs
from app.db.engine import Database
from app.db.gits import GitTable, RecordedListing
from app.services.clock import Now
from app.services.flight import Flight
from app.services.leases import Turns
from app.services.modules.gitpins import GitPins
from app.services.modules.gitsources import GitSource, turn
from app.upstream.git import GitListing

_PARSED = 64  # listings that are held in memory
_LONG_AGO = timedelta(days=365)


class GitListings:
    """The listings of all git upstreams.

    Args:
        db: of this installation.
        turns: one process at a time lists a repository.
        pins: which versions may not move.
        now: UTC.
        max_waiters: for one listing.
        max_queue: listings under way.
    """

    def __init__(
        self,
        db: Database,
        turns: Turns,
        pins: GitPins,
        now: Now,
        *,
        max_waiters: int,
        max_queue: int,
    ) -> None:
        self._db = db
        self._turns = turns
        self._pins = pins
        self._now = now
        self._flight: Flight[tuple[int, str], RecordedListing | None] = Flight(
            max_waiters=max_waiters, max_keys=max_queue
        )
        self._parsed: LRUCache[tuple[int, str, datetime], GitRefs] = LRUCache(_PARSED)

    async def refs_of(self, listing: RecordedListing) -> GitRefs:
        """Return the refs of a listing, parsed the first time."""
        key = (listing.origin_id, listing.repository, listing.listed_at)
        refs = self._parsed.get(key)
        if refs is None:
            refs = await asyncio.to_thread(lambda: parse_refs(listing.unpacked()))
            self._parsed[key] = refs
        return refs

    async def fresh(self, source: GitSource, below: str) -> tuple[RecordedListing, bool]:
        """Return a listing that is fresh, and whether it was there already.

        Raises:
            UpstreamAbsentError: there is no such repository.
            UpstreamError: the server can't be asked.
        """
        known = await self._known(source, below)
        ttl = timedelta(seconds=source.ttl_s)
        if known is not None and timedelta(0) <= self._now() - known.listed_at < ttl:
            return known, True
        since = None if known is None else known.listed_at
        listing = await self._flight.do(
            (source.origin_id, below), lambda: self._list(source, below, since)
        )
        if listing is None:
            raise UpstreamAbsentError("the repository is not there", origin=source.url.origin)
        return listing, False

    async def _known(self, source: GitSource, below: str) -> RecordedListing | None:
        return await self._db.read(lambda s: GitTable(s).listing(source.origin_id, below))

    async def _list(
        self, source: GitSource, below: str, since: datetime | None
    ) -> RecordedListing | None:
        """List when it is this process's turn, unless another one listed meanwhile."""
        async with self._turns.hold(turn("list", source, below)):
            known = await self._known(source, below)
            if known is not None and known.listed_at != since:
                return known
            await self._db.require_room()
            try:
                answer = await source.server(below).list_refs()
            except UpstreamAbsentError:
                if known is not None:
                    await self._db.write(
                        lambda s: GitTable(s).forget_listing(source.origin_id, below)
                    )
                raise
            return await self._record(source, below, answer)

    async def _record(self, source: GitSource, below: str, answer: GitListing) -> RecordedListing:
        packed = await asyncio.to_thread(lambda: RecordedListing.packed(answer.refs.render()))
        listing = RecordedListing(
            source.origin_id,
            below,
            self._now(),
            answer.url,
            answer.version,
            answer.object_format,
            packed,
        )
        await self._db.write(lambda s: GitTable(s).save_listing(listing), size_bytes=len(packed))
        self._parsed[listing.origin_id, below, listing.listed_at] = answer.refs
        await self._pins.alarm_moved(source, below, answer.refs)
        return listing

    async def expire(self, source: GitSource, below: str) -> None:
        """Make a listing stale: the next request asks the git server."""
        at = self._now() - _LONG_AGO
        await self._db.write(lambda s: GitTable(s).expire(source.origin_id, [below], at))

    async def aclose(self) -> None:
        """End what runs."""
        await self._flight.aclose(cancel=True)
