"""Modules from git: what an upstream GOPROXY would answer, found in a mirror of the repository.

    source    a git upstream of a route, for one tenant's request (`gitsources`)
    listing   the branches and tags of a repository (`gitlistings`)
    place     the repository that a module is in (`gitplaces`)
    mirror    a bare repository on disk (`gitmirrors`)
    pin       the commit of a version of which a file was served (`gitpins`)

An origin is a URL with a credential: so tenants with different credentials share no listing, no
mirror, no pin and no answer.

The rules of versions are `core.gitmodule`'s, zips are `gitzips`'. Whatever is served is stored and
checked by `files` and `answers`, as of any other upstream.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cachetools import LRUCache

from app.core import pseudo
from app.core.errors import BadInputError, UnknownError, UpstreamContentError
from app.core.gitmodule import GitModule, Revision
from app.core.gitrefs import TAGS
from app.core.gitrepository import ObjectsNeededError, RefsOnly
from app.core.goproxy import GoproxyRequest, RequestKind, render_list
from app.core.routing import RecordedRoute, RecordedUpstream
from app.core.tenant import Tenant
from app.db.engine import Database
from app.services.clock import Now
from app.services.leases import Turns
from app.services.modules.gitlistings import GitListings
from app.services.modules.gitmirrors import GitMirrors, RepositoryTooLargeError
from app.services.modules.gitpins import GitPins
from app.services.modules.gitplaces import GitPlace, GitPlaces
from app.services.modules.gitsources import GitSource, GitSources, absent
from app.services.modules.gitzips import ZipPlace, write_zip
from app.services.upstreams import AnyCredential
from app.storage.blobstore import BlobStore
from app.upstream.address import AddressGuard
from app.upstream.gitprogram import GitLimits, GitRuns
from app.upstream.gitreader import MirrorReader
from app.upstream.goproxy import Goproxies
from app.upstream.sink import Sink

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GitUpstream:
    """A git server that answers as a GOPROXY does; see `upstream.goproxy.ModuleUpstream`."""

    modules: "GitModules"
    source: GitSource

    async def fetch(self, request: GoproxyRequest, sink: Sink, max_bytes: int) -> datetime | None:
        """Write the answer to a request into sink; return when its refs were listed."""
        return await self.modules.answer(self.source, request, sink, max_bytes)


class GitModules:
    """The repositories of all git upstreams, and the modules in them.

    Args:
        db: of this installation.
        store: where packs are staged.
        turns: one process at a time works on a mirror.
        proxies: lend the HTTP clients of upstreams.
        guard: returns the guard of the addresses that tenants with these private hosts may have.
        folder: of the mirrors.
        limits: of the runs of git.
        clock: monotonic seconds.
        now: UTC.
        mirrors_bytes: of all mirrors together; beyond it those that rested longest go.
        max_waiters: for one listing or fetch.
        max_queue: listings under way, and as many fetches.
    """

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        turns: Turns,
        proxies: Goproxies,
        guard: Callable[[tuple[str, ...] | None], AddressGuard],
        folder: Path,
        limits: GitLimits,
        clock: Callable[[], float],
        now: Now,
        *,
        mirrors_bytes: int,
        max_waiters: int,
        max_queue: int,
    ) -> None:
        self._sources = GitSources(proxies, guard, now, clock)
        self._pins = GitPins(db, now)
        self._listings = GitListings(
            db, turns, self._pins, now, max_waiters=max_waiters, max_queue=max_queue
        )
        self._places = GitPlaces(self._listings, clock)
        self._mirrors = GitMirrors(
            db,
            store,
            turns,
            folder,
            limits,
            now,
            mirrors_bytes=mirrors_bytes,
            max_waiters=max_waiters,
            max_queue=max_queue,
        )
        self._rebuilt: LRUCache[tuple[int, str], datetime] = LRUCache(1024)

    def open_git(
        self,
        route: RecordedRoute,
        upstream: RecordedUpstream,
        credential: AnyCredential | None,
        tenant: Tenant,
    ) -> GitUpstream:
        """Return a git upstream of a route; see `services.upstreams.GitOpener`."""
        return GitUpstream(self, self._sources.open(route, upstream, credential, tenant))

    async def answer(
        self, source: GitSource, request: GoproxyRequest, sink: Sink, max_bytes: int
    ) -> datetime:
        """Write what a GOPROXY would answer into sink; return when the refs were listed.

        Raises:
            UpstreamAbsentError: there is no such repository, module or version.
            UpstreamError: the repository can't be had, or can't be used.
            VerificationError: the version's tag has moved.
        """
        name = f"{request.module}@{request.version or request.kind}"
        try:
            place = await self._places.of(source, request.module)
            try:
                return await self._answer(source, place, request, sink, max_bytes)
            except RepositoryTooLargeError:
                raise  # the mirror, as it was before, still serves what it has
            except UpstreamContentError:
                # The listing may be older than what the server has now, or the mirror damaged.
                if not await self._start_anew(source, place):
                    raise
            place = await self._places.of(source, request.module)
            return await self._answer(source, place, request, sink, max_bytes)
        except UnknownError as error:
            raise absent(f"{name}: {error}", source, str(error)) from error
        except BadInputError as error:  # of the repository's content: the mirror is as it should be
            raise UpstreamContentError(f"{name} is refused: {error}", origin="") from error

    async def _answer(
        self,
        source: GitSource,
        place: GitPlace,
        request: GoproxyRequest,
        sink: Sink,
        max_bytes: int,
    ) -> datetime:
        if request.kind is RequestKind.ZIP:
            await self._send_zip(source, place, request, sink, max_bytes)
        else:
            body = await self._small(source, place, request)
            if len(body) > max_bytes:
                raise BadInputError(f"it has more than {max_bytes} bytes")
            await sink.restart()
            await sink.write(body)
        return place.listing.listed_at

    # Answers

    async def _small(self, source: GitSource, place: GitPlace, request: GoproxyRequest) -> bytes:
        url = source.url.repository(place.below)
        if request.kind is RequestKind.LIST:
            refs_only = RefsOnly(place.refs)

            def listed() -> bytes:
                return render_list(place.module(refs_only, request.module).versions())

            with suppress(ObjectsNeededError):
                return await asyncio.to_thread(listed)  # 30 ms for 5,000 tags
            return await self._with_module(
                source, place, request.module, lambda module: render_list(module.versions())
            )
        if request.kind is RequestKind.MOD:

            def with_commit(module: GitModule) -> tuple[str, bytes]:
                return module.place(request.version)[0], module.go_mod(request.version)

            commit, text = await self._with_module(source, place, request.module, with_commit)
            await self._pin(source, place, request, commit)
            return text

        def with_info(module: GitModule) -> tuple[Revision, bytes]:
            is_latest = request.kind is RequestKind.LATEST
            revision = module.latest() if is_latest else module.stat(request.version)
            return revision, module.info(revision, url)

        revision, info = await self._with_module(source, place, request.module, with_info)
        if revision.version == request.version:
            await self._pin(source, place, request, revision.commit.id)
        return info

    async def _send_zip(
        self,
        source: GitSource,
        place: GitPlace,
        request: GoproxyRequest,
        sink: Sink,
        max_bytes: int,
    ) -> None:
        def of_repository(repository: MirrorReader) -> ZipPlace:
            module = place.module(repository, request.module)
            return ZipPlace.of(repository, *module.place(request.version))

        zip_place = await self._with_repository(source, place, of_repository)
        await self._pin(source, place, request, zip_place.commit)
        loop, sent_bytes = asyncio.get_running_loop(), 0
        await sink.restart()

        def write(chunk: bytes) -> None:
            nonlocal sent_bytes
            sent_bytes += len(chunk)
            if sent_bytes > max_bytes:
                raise BadInputError(f"the zip has more than {max_bytes} bytes")
            asyncio.run_coroutine_threadsafe(_write(sink, chunk), loop).result()

        def work(runs: GitRuns) -> None:
            mirror = self._mirrors.of(source, place.below, runs)
            write_zip(mirror, zip_place, f"{request.module}@{request.version}", write)

        await self._mirrors.run(source.tenant, work)

    async def _with_module(
        self, source: GitSource, place: GitPlace, path: str, ask: Callable[[GitModule], T]
    ) -> T:
        """Return what is asked of a module, whose repository is here as the listing says."""
        return await self._with_repository(
            source, place, lambda repository: ask(place.module(repository, path))
        )

    async def _with_repository(
        self, source: GitSource, place: GitPlace, ask: Callable[[MirrorReader], T]
    ) -> T:
        """Return what is asked of a repository, which is here as the listing says."""
        await self._mirrors.bring_up(source, place)

        def work(runs: GitRuns) -> T:
            mirror = self._mirrors.of(source, place.below, runs)
            mirror.touch()
            with mirror.reading(place.refs) as repository:
                return ask(repository)

        return await self._mirrors.run(source.tenant, work)

    async def _start_anew(self, source: GitSource, place: GitPlace) -> bool:
        """Forget a listing and its mirror once; return whether it is worth another try."""
        key = (source.origin_id, place.below)
        if not place.is_known or self._rebuilt.get(key) == place.listing.listed_at:
            return False
        self._rebuilt[key] = place.listing.listed_at
        await self._mirrors.remove(source, place.below)
        await self._listings.expire(source, place.below)
        return True

    async def _pin(
        self, source: GitSource, place: GitPlace, request: GoproxyRequest, commit: str
    ) -> None:
        if pseudo.is_pseudo(request.version):
            return
        ref = TAGS + place.module(RefsOnly(place.refs), request.module).tag_of(request.version)
        await self._pins.check(source, place.below, ref, request, commit)

    # From outside

    def forget_absences(self, origins: Collection[int]) -> None:
        """Forget which repositories were not there a moment ago; in this process."""
        self._places.forget_absences(origins)

    async def step(self) -> None:
        """Remove mirrors that are superfluous; see `GitMirrors.step`."""
        await self._mirrors.step()

    async def aclose(self) -> None:
        """End what runs."""
        await self._listings.aclose()
        await self._mirrors.aclose()


async def _write(sink: Sink, chunk: bytes) -> None:
    await sink.write(chunk)
