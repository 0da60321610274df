"""The mirrors of repositories, below DATA/git: one fetch for all who wait, and the runs of git.

A mirror is brought up to a listing by one fetch, whatever the herd, and only when objects are
needed. A crash leaves a pack that no listing needs, and a staged file; the next fetch goes on from
there. Not here: one mirror on disk (`upstream/gitmirror`).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cachetools import LRUCache

from app import logs
from app.core.digest import Digest
from app.core.errors import UpstreamContentError
from app.core.routing import ZIP_MAX_S
from app.db.engine import Database
from app.services.clock import Now
from app.services.flight import Flight
from app.services.leases import Turns
from app.services.modules.gitplaces import GitPlace
from app.services.modules.gitsources import GitSource, folder_name, turn
from app.services.slots import FairSemaphore
from app.storage.blobstore import BlobStore, StagedBlob
from app.upstream.git import GitListing
from app.upstream.gitmirror import GitMirror
from app.upstream.gitprogram import GitLimits, GitRuns

T = TypeVar("T")
_WORKERS = 4  # runs of git at once
_MAX_REFUSALS = 1024
_REFUSED_FOR = timedelta(hours=1)
_FRAME_PARTS = 512  # frames and progress lines around a pack have less than this part of its bytes
_FRAME_BYTES = 64 * 1024
_log = logs.get("git")


class GitMirrors:
    """The mirrors of all git upstreams.

    Args:
        db: of this installation.
        store: where packs are staged.
        turns: one process at a time works on a mirror.
        folder: of the mirrors.
        limits: of the runs of git.
        now: UTC.
        mirrors_bytes: of all mirrors together; beyond it those that rested longest go.
        max_waiters: for one fetch.
        max_queue: fetches under way.
    """

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        turns: Turns,
        folder: Path,
        limits: GitLimits,
        now: Now,
        *,
        mirrors_bytes: int,
        max_waiters: int,
        max_queue: int,
    ) -> None:
        self._db = db
        self._store = store
        self._turns = turns
        self._folder = folder
        self._limits = limits
        self._now = now
        self._mirrors_bytes = mirrors_bytes
        self._flight: Flight[tuple[int, str], None] = Flight(
            max_waiters=max_waiters, max_keys=max_queue
        )
        # A fetch that is refused has moved gibibytes: it is not tried again for the same refs.
        self._too_large: LRUCache[tuple[int, str], tuple[Digest, datetime]] = LRUCache(
            _MAX_REFUSALS
        )
        self._threads = ThreadPoolExecutor(_WORKERS, thread_name_prefix="git")
        self._shares = FairSemaphore(_WORKERS)

    def of(self, source: GitSource, below: str, runs: GitRuns) -> GitMirror:
        """Return the mirror of a repository."""
        name = folder_name(below)
        return GitMirror(self._folder / str(source.origin_id) / name, self._limits, runs)

    async def bring_up(self, source: GitSource, place: GitPlace) -> None:
        """Fetch what the mirror lacks for a listing; one fetch serves all who wait."""

        def is_at(runs: GitRuns) -> bool:
            return self.of(source, place.below, runs).is_at(place.refs)

        if not await asyncio.to_thread(is_at, GitRuns()):
            await self._flight.do(
                (source.origin_id, place.below), lambda: self._fetch(source, place)
            )

    async def _fetch(self, source: GitSource, place: GitPlace) -> None:
        refs, listing = place.refs, place.listing

        def prepared(runs: GitRuns) -> tuple[list[str], list[str]] | None:
            mirror = self.of(source, place.below, runs)
            if mirror.is_at(refs):
                return None
            mirror.prepare(is_sha256=refs.is_sha256)
            tips = mirror.tips()
            lacking = set(mirror.lacking(sorted(refs.objects.union(tips))))
            wants = (
                oid
                for ref, oid in refs.ids.items()
                if oid in lacking or refs.peeled.get(ref) in lacking
            )
            return list(dict.fromkeys(wants)), [oid for oid in tips if oid not in lacking]

        async with self._turns.hold(turn("mirror", source, place.below)):
            lists = await self.run(source.tenant, prepared)
            if lists is None:
                return
            wants, haves = lists
            if wants:
                await self._db.require_room()
                await self._check_not_too_large(source, place)
                answer = GitListing(refs, listing.url, listing.version, listing.object_format)
                async with self._store.stage() as staged:
                    server, limit = source.server(place.below), self._limits.repository_bytes
                    most = limit + limit // _FRAME_PARTS + _FRAME_BYTES
                    try:
                        await server.fetch(answer, wants, haves, _Limited(staged, limit), most)
                    except RepositoryTooLargeError:
                        digest = await asyncio.to_thread(_digest, place)
                        key = (source.origin_id, place.below)
                        self._too_large[key] = (digest, self._now())
                        raise
                    await staged.seal()
                    path = staged.path
                    await self.run(
                        source.tenant,
                        lambda runs: self.of(source, place.below, runs).take_in(path),
                    )
            await self.run(
                source.tenant, lambda runs: self.of(source, place.below, runs).settle(refs)
            )
        _log.info("repository fetched", repository=place.below, origin=source.url.origin)

    async def _check_not_too_large(self, source: GitSource, place: GitPlace) -> None:
        """Return if no fetch for the same refs was refused within an hour.

        Raises:
            UpstreamContentError: one was.
        """
        refused, at = self._too_large.get((source.origin_id, place.below), (None, None))
        if at is None or self._now() - at > _REFUSED_FOR:
            return
        if refused == await asyncio.to_thread(_digest, place):
            raise _too_large(self._limits.repository_bytes)

    async def remove(self, source: GitSource, below: str) -> None:
        """Remove a mirror; the next request fetches the repository again."""
        await self._flight.do((source.origin_id, below), lambda: self._remove(source, below))

    async def _remove(self, source: GitSource, below: str) -> None:
        async with self._turns.hold(turn("mirror", source, below)):
            await asyncio.to_thread(self.of(source, below, GitRuns()).remove)

    async def run(self, tenant: str, work: Callable[[GitRuns], T]) -> T:
        """Return the result of work in a thread of git; its processes end with whoever waits."""
        async with self._shares.hold(tenant):
            runs = GitRuns()
            running = asyncio.get_running_loop().run_in_executor(self._threads, work, runs)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                runs.end()
                with suppress(Exception):
                    await asyncio.shield(running)
                raise

    async def step(self) -> None:
        """Remove mirrors, those first that were used longest ago, until all together are small.

        What was used within the longest time of a fetch may be in use, and stays.
        """
        for folder, used_at in await asyncio.to_thread(self._superfluous):
            origin, name = folder.parent.name, folder.name
            async with self._turns.hold(f"git mirror:{origin}:{name}"):
                is_removed = await asyncio.to_thread(self._remove_rested, folder, used_at)
            if is_removed:
                _log.info("mirror removed", origin_id=int(origin), mirror=name)

    def _remove_rested(self, folder: Path, used_at: float) -> bool:
        """Remove a mirror, unless it was used, removed or made anew while its turn was awaited."""
        try:
            if folder.stat().st_mtime != used_at:
                return False
        except FileNotFoundError:
            return False
        GitMirror(folder, self._limits, GitRuns()).remove()
        return True

    def _superfluous(self) -> list[tuple[Path, float]]:
        """Return the folders of mirrors to remove, and when each was used last (Unix time)."""
        mirrors = []
        for folder in self._folder.glob("*/*"):
            with suppress(OSError):
                mirrors.append((folder.stat().st_mtime, folder, _size_of(folder)))
        left = sum(size for _, _, size in mirrors) - self._mirrors_bytes
        in_use_since = self._now().timestamp() - ZIP_MAX_S
        superfluous = []
        for used_at, folder, size in sorted(mirrors):
            if left <= 0 or used_at > in_use_since:
                break
            superfluous.append((folder, used_at))
            left -= size
        return superfluous

    async def aclose(self) -> None:
        """End what runs."""
        await self._flight.aclose(cancel=True)
        self._threads.shutdown(wait=False, cancel_futures=True)


class RepositoryTooLargeError(UpstreamContentError):
    """A repository has more bytes than are taken."""


def _too_large(limit: int) -> RepositoryTooLargeError:
    return RepositoryTooLargeError(
        f"the repository has more than the {limit} bytes that are taken; an admin can raise "
        "MOORAGE_GIT__REPOSITORY_BYTES",
        origin="",
    )


@dataclass(slots=True)
class _Limited:
    """A staged blob that takes a number of bytes, as a sink."""

    staged: StagedBlob
    limit: int

    async def restart(self) -> None:
        await self.staged.restart()

    async def write(self, chunk: bytes) -> None:
        if self.staged.size_bytes + len(chunk) > self.limit:
            raise _too_large(self.limit)
        await self.staged.write(chunk)


def _digest(place: GitPlace) -> Digest:
    return Digest.of(place.refs.render())


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
