"""Modules from git: what an upstream GOPROXY would answer, found in a mirror of the repository.

    listing   the branches and tags of a repository; asked for at most once per `ttl_s` of the
              route, by one process at a time, and recorded for all processes
    mirror    a bare repository below DATA/git, one for each repository of an origin. It is brought
              up to a listing by one fetch, whatever the herd, and only when objects are needed
    pin       the commit of a version of which a file was served. A tag that names another commit
              later is refused and kept as evidence

An origin is a URL with a credential: so tenants with different credentials share no listing, no
mirror, no pin and no answer. A crash leaves a pack that no listing needs, and a staged file; the
next fetch goes on from there.

The rules of versions are `core.gitmodule`'s, zips are `gitzips`'. Whatever is served is stored and
checked by `files` and `answers`, as of any other upstream.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TypeVar, cast

from cachetools import LRUCache

from app import logs, metrics
from app.core import pseudo
from app.core.digest import Digest
from app.core.errors import (
    BadInputError,
    ConflictError,
    StorageError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
)
from app.core.gitmodule import Commit, GitModule, Revision
from app.core.gitrefs import TAGS, GitRefs, parse_refs
from app.core.giturl import GitUrl, below_of, parse_git_url, possible_repositories
from app.core.goimport import MAX_PAGE_BYTES, go_import_of
from app.core.goproxy import GoproxyRequest, RequestKind, render_list
from app.core.routing import ZIP_MAX_S, RecordedRoute, RecordedUpstream
from app.core.tenant import Tenant
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.gits import GitPin, GitTable, RecordedListing
from app.db.modules import ModuleFile, ModuleTable
from app.services.clock import Now
from app.services.flight import Flight
from app.services.leases import Turns
from app.services.modules import gitzips
from app.services.modules.answers import MAX_ABSENT_S
from app.services.modules.troubles import REFUSALS, contradicted
from app.services.slots import FairSemaphore
from app.services.upstreams import AnyCredential
from app.storage.blobstore import BlobStore
from app.upstream.address import AddressGuard, Credential
from app.upstream.git import GitDeadlines, GitListing, GitServer, HttpGitServer
from app.upstream.githubapp import GithubApp, GithubTokens
from app.upstream.gitmirror import GitLimits, GitMirror, GitRuns
from app.upstream.gitssh import SshGitServer, SshKey
from app.upstream.goproxy import Goproxies
from app.upstream.http import HttpClient, Sink

T = TypeVar("T")
_WORKERS = 4  # runs of git at once
_MAX_ABSENT = 65_536
_MAX_IMPORTS = 16_384
_PARSED = 64  # listings that are held in memory
_LONG_AGO = timedelta(days=365)
_log = logs.get("git")


@dataclass(frozen=True, slots=True)
class GitSource:
    """A git upstream of a route, for one tenant's request.

    Attributes:
        origin_id: of the upstream.
        url: its URL, taken apart.
        ttl_s: seconds for which a listing is fresh.
        prefix_elements: of the route's pattern.
        tenant: whose share of the runs of git is used.
        server: gives the server of one repository, by what stands for "{path}".
        page: fetches a page of a module's own host, by URL; None where no host is asked.
    """

    origin_id: int
    url: GitUrl
    ttl_s: int
    prefix_elements: int
    tenant: str
    server: Callable[[str], GitServer]
    page: Callable[[str], Awaitable[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class GitUpstream:
    """A git server that answers as a GOPROXY does; see `upstream.goproxy.ModuleUpstream`."""

    modules: "GitModules"
    source: GitSource

    async def fetch(self, request: GoproxyRequest, sink: Sink, max_bytes: int) -> datetime | None:
        """Write the answer to a request into sink; return when its refs were listed."""
        return await self.modules.answer(self.source, request, sink, max_bytes)


@dataclass(frozen=True, slots=True)
class _Place:
    """The repository of a module.

    Attributes:
        below: what stands for "{path}".
        root: the module path of the repository's root.
        is_known: the listing was there before the request.
    """

    below: str
    root: str
    listing: RecordedListing
    refs: GitRefs
    is_known: bool


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
        max_queue: listings and fetches under way.
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
        self._mirrors_bytes = mirrors_bytes
        self._db = db
        self._store = store
        self._turns = turns
        self._github = GithubTokens(now)
        self._proxies = proxies
        self._guard = guard
        self._folder = folder
        self._limits = limits
        self._clock = clock
        self._now = now
        self._flight: Flight[tuple[str, int, str], RecordedListing | None] = Flight(
            max_waiters=max_waiters, max_keys=max_queue
        )
        self._threads = ThreadPoolExecutor(_WORKERS, thread_name_prefix="git")
        self._shares = FairSemaphore(_WORKERS)
        self._absent: LRUCache[tuple[int, str], float] = LRUCache(_MAX_ABSENT)
        self._parsed: LRUCache[tuple[int, str, datetime], GitRefs] = LRUCache(_PARSED)
        self._imports: LRUCache[tuple[int, str], tuple[tuple[str, str], float]] = LRUCache(
            _MAX_IMPORTS
        )
        self._rebuilt: LRUCache[tuple[int, str], datetime] = LRUCache(1024)

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
            place = await self._place(source, request.module)
            try:
                return await self._answer(source, place, request, sink, max_bytes)
            except UpstreamContentError:
                # The listing may be older than what the server has now, or the mirror damaged.
                if not await self._start_anew(source, place):
                    raise
            place = await self._place(source, request.module)
            return await self._answer(source, place, request, sink, max_bytes)
        except UnknownError as error:
            raise _absent(f"{name}: {error}", source, str(error)) from error
        except BadInputError as error:  # of the repository's content: the mirror is as it should be
            raise UpstreamContentError(f"{name} is refused: {error}", origin="") from error

    async def _answer(
        self,
        source: GitSource,
        place: _Place,
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

    async def _small(self, source: GitSource, place: _Place, request: GoproxyRequest) -> bytes:
        url = source.url.repository(place.below)
        if request.kind is RequestKind.LIST:
            with suppress(_ObjectsNeededError):
                nothing = _NoObjects(place.refs)
                return render_list(GitModule(nothing, request.module, place.root).versions())
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
        place: _Place,
        request: GoproxyRequest,
        sink: Sink,
        max_bytes: int,
    ) -> None:
        commit, directory = await self._with_module(
            source, place, request.module, lambda module: module.place(request.version)
        )
        await self._pin(source, place, request, commit)
        loop, sent_bytes = asyncio.get_running_loop(), 0
        await sink.restart()

        def write(chunk: bytes) -> None:
            nonlocal sent_bytes
            sent_bytes += len(chunk)
            if sent_bytes > max_bytes:
                raise BadInputError(f"the zip has more than {max_bytes} bytes")
            asyncio.run_coroutine_threadsafe(_write(sink, chunk), loop).result()

        def work(runs: GitRuns) -> None:
            mirror = self._mirror(source, place.below, runs)
            with mirror.reading(place.refs) as repository:
                gitzips.write_zip(
                    mirror,
                    repository,
                    commit,
                    directory,
                    f"{request.module}@{request.version}",
                    write,
                )

        await self._run(source.tenant, work)

    async def _with_module(
        self, source: GitSource, place: _Place, path: str, ask: Callable[[GitModule], T]
    ) -> T:
        """Return what is asked of a module, whose repository is here as the listing says."""
        await self._bring_up(source, place)

        def work(runs: GitRuns) -> T:
            mirror = self._mirror(source, place.below, runs)
            mirror.touch()
            with mirror.reading(place.refs) as repository:
                return ask(GitModule(repository, path, place.root))

        return await self._run(source.tenant, work)

    # Listings

    async def _place(self, source: GitSource, module: str) -> _Place:
        """Return the repository of a module: the longest path that is one.

        A path that the server does not let us see may be no repository at all: the shorter ones are
        asked, and only if none of them is a repository the refusal counts.
        """
        refusal: UpstreamError | None = None
        for below, root in await self._possible(source, module):
            if self._absent.get((source.origin_id, below), 0.0) > self._clock():
                continue
            try:
                listing, is_known = await self._listing(source, below)
            except UpstreamAbsentError:
                seconds = min(source.ttl_s, MAX_ABSENT_S)
                self._absent[source.origin_id, below] = self._clock() + seconds
                continue
            except UpstreamError as error:
                if error.status not in REFUSALS and not isinstance(error, UpstreamContentError):
                    raise
                refusal = refusal or error
                continue
            refs = await self._refs_of(listing)
            return _Place(below, root, listing, refs, is_known)
        if refusal is not None:
            raise refusal
        raise _absent(f"no repository of {source.url.text} holds {module}", source, "")

    async def _possible(self, source: GitSource, module: str) -> list[tuple[str, str]]:
        """Return which repositories a module may be in, with the module path of each root."""
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

    async def _refs_of(self, listing: RecordedListing) -> GitRefs:
        key = (listing.origin_id, listing.repository, listing.listed_at)
        refs = self._parsed.get(key)
        if refs is None:
            refs = await asyncio.to_thread(lambda: parse_refs(listing.unpacked()))
            self._parsed[key] = refs
        return refs

    async def _listing(self, source: GitSource, below: str) -> tuple[RecordedListing, bool]:
        """Return a listing that is fresh, and whether it was there already."""
        known = await self._known(source, below)
        ttl = timedelta(seconds=source.ttl_s)
        if known is not None and timedelta(0) <= self._now() - known.listed_at < ttl:
            return known, True
        since = None if known is None else known.listed_at
        listing = await self._flight.do(
            ("list", source.origin_id, below), lambda: self._list(source, below, since)
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
        async with self._turns.hold(_turn("list", source, below)):
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
        await self._alarm_moved(source, below, answer.refs)
        return listing

    # Mirrors

    def _mirror(self, source: GitSource, below: str, runs: GitRuns) -> GitMirror:
        name = _folder_name(below)
        return GitMirror(self._folder / str(source.origin_id) / name, self._limits, runs)

    async def _bring_up(self, source: GitSource, place: _Place) -> None:
        """Fetch what the mirror lacks for a listing; one fetch serves all who wait."""

        def is_at(runs: GitRuns) -> bool:
            return self._mirror(source, place.below, runs).is_at(place.refs)

        if not await asyncio.to_thread(is_at, GitRuns()):
            await self._flight.do(
                ("fetch", source.origin_id, place.below), lambda: self._fetch(source, place)
            )

    async def _fetch(self, source: GitSource, place: _Place) -> None:
        refs, listing = place.refs, place.listing

        def prepared(runs: GitRuns) -> tuple[list[str], list[str]] | None:
            mirror = self._mirror(source, place.below, runs)
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

        async with self._turns.hold(_turn("mirror", source, place.below)):
            lists = await self._run(source.tenant, prepared)
            if lists is None:
                return
            wants, haves = lists
            if wants:
                await self._db.require_room()
                answer = GitListing(refs, listing.url, listing.version, listing.object_format)
                async with self._store.stage() as staged:
                    server = source.server(place.below)
                    await server.fetch(answer, wants, haves, staged, self._limits.repository_bytes)
                    await staged.seal()
                    path = staged.path
                    await self._run(
                        source.tenant,
                        lambda runs: self._mirror(source, place.below, runs).take_in(path),
                    )
            await self._run(
                source.tenant, lambda runs: self._mirror(source, place.below, runs).settle(refs)
            )
        _log.info("repository fetched", repository=place.below, origin=source.url.origin)

    async def _start_anew(self, source: GitSource, place: _Place) -> bool:
        """Forget a listing and its mirror once; return whether it is worth another try."""
        key = (source.origin_id, place.below)
        if not place.is_known or self._rebuilt.get(key) == place.listing.listed_at:
            return False
        self._rebuilt[key] = place.listing.listed_at
        await self._flight.do(
            ("fetch", source.origin_id, place.below), lambda: self._drop(source, place.below)
        )
        return True

    async def _drop(self, source: GitSource, below: str) -> None:
        async with self._turns.hold(_turn("mirror", source, below)):
            await asyncio.to_thread(self._mirror(source, below, GitRuns()).remove)
            at = self._now() - _LONG_AGO
            await self._db.write(lambda s: GitTable(s).expire(source.origin_id, [below], at))

    # Pins

    async def _pin(
        self, source: GitSource, place: _Place, request: GoproxyRequest, commit: str
    ) -> None:
        """Record the commit of a version with a tag; refuse another one than was recorded."""
        if pseudo.is_pseudo(request.version):
            return
        known = await self._db.read(
            lambda s: GitTable(s).pin(source.origin_id, request.module, request.version)
        )
        if known is None:
            module = GitModule(_NoObjects(place.refs), request.module, place.root)
            ref = TAGS + module.tag_of(request.version)
            pin = GitPin(
                source.origin_id,
                request.module,
                request.version,
                place.below,
                ref,
                commit,
                self._now(),
            )
            try:
                await self._db.write(lambda s: GitTable(s).add_pin(pin))
            except ConflictError:  # another process was faster
                known = await self._db.read(
                    lambda s: GitTable(s).pin(source.origin_id, request.module, request.version)
                )
        if known is not None and known.commit != commit:
            await self._keep_evidence(known, commit)
            raise contradicted(_moved(known, commit))

    async def _alarm_moved(self, source: GitSource, below: str, refs: GitRefs) -> None:
        """Keep evidence of every served version whose tag names another commit now."""
        pins = await self._db.read(lambda s: GitTable(s).pins(source.origin_id, below))
        for pin in pins:
            commit = refs.commit(pin.ref)
            if commit is not None and commit != pin.commit:
                await self._keep_evidence(pin, commit)

    async def _keep_evidence(self, pin: GitPin, commit: str) -> None:
        at, why = self._now(), _moved(pin, commit)
        file = ModuleFile(
            pin.origin_id,
            pin.module,
            pin.version,
            RequestKind.INFO,
            Digest.of(commit.encode()),
            0,
            at,
            b"",
        )

        def work(session: Session) -> bool:
            is_new = ModuleTable(session).add_conflict(
                file, recorded=f"commit {pin.commit}", seen=f"commit {commit}", detail=why, at=at
            )
            if is_new:
                name = f"{pin.module}@{pin.version}"
                AuditLog(session).append(at, "system", "module.refuse", name, why)
            return is_new

        if await self._db.write(work):
            metrics.count_module_conflict()
            _log.error("tag moved", name=f"{pin.module}@{pin.version}", why=why)

    def open_git(
        self,
        route: RecordedRoute,
        upstream: RecordedUpstream,
        credential: AnyCredential | None,
        tenant: Tenant,
    ) -> GitUpstream:
        """Return a git upstream of a route; see `services.upstreams.GitOpener`."""
        url = parse_git_url(upstream.url)
        hosts = None if upstream.is_platforms else tenant.private_hosts
        deadlines = GitDeadlines(upstream.metadata_s, upstream.zip_s)

        async def authorize(client: HttpClient) -> Credential | None:
            if isinstance(credential, GithubApp):
                return await self._github.credential(credential, url.origin, client)
            return cast(Credential | None, credential)

        async def page(address: str) -> bytes:
            async with self._proxies.lend(upstream, hosts) as client:
                _, body = await client.get(
                    address,
                    max_bytes=MAX_PAGE_BYTES,
                    deadline_s=upstream.metadata_s,
                    follow_to=upstream.redirect_to,
                )
            return body

        def over_http(below: str) -> GitServer:
            return HttpGitServer(
                lambda: self._proxies.lend(upstream, hosts),
                url.repository(below),
                authorize,
                upstream.redirect_to,
                deadlines,
            )

        def over_ssh(below: str) -> GitServer:
            key = cast(SshKey, credential)
            return SshGitServer(self._guard(hosts), url, below, key, upstream.host_keys, deadlines)

        if url.is_ssh != isinstance(credential, SshKey):
            raise StorageError(
                "git+ssh needs a credential of kind ssh_key, git+https one of another kind"
            )
        return GitUpstream(
            self,
            GitSource(
                upstream.origin_id,
                url,
                route.ttl_s,
                route.pattern.elements,
                tenant.name,
                over_ssh if url.is_ssh else over_http,
                page if upstream.vanity else None,
            ),
        )

    # From outside

    def forget_absences(self, origins: Collection[int]) -> None:
        """Forget which repositories were not there a moment ago; in this process."""
        for key in [key for key in self._absent if key[0] in origins]:
            self._absent.pop(key, None)

    async def step(self) -> None:
        """Remove mirrors, those first that were used longest ago, until all together are small.

        What was used within the longest time of a fetch may be in use, and stays.
        """
        for folder in await asyncio.to_thread(self._superfluous):
            origin, name = folder.parent.name, folder.name
            async with self._turns.hold(f"git mirror:{origin}:{name}"):
                mirror = GitMirror(folder, self._limits, GitRuns())
                await asyncio.to_thread(mirror.remove)
            _log.info("mirror removed", origin_id=int(origin), mirror=name)

    def _superfluous(self) -> list[Path]:
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
            superfluous.append(folder)
            left -= size
        return superfluous

    async def aclose(self) -> None:
        """End what runs."""
        await self._flight.aclose(cancel=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, tenant: str, work: Callable[[GitRuns], T]) -> T:
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


async def named_repository(
    url: GitUrl, module: str, page: Callable[[str], Awaitable[bytes]]
) -> tuple[str, str]:
    """Return the repository that a module's own host names, and its root's module path.

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
    return below, named.prefix


class _ObjectsNeededError(Exception):
    """Refs alone do not answer the question."""


class _NoObjects:
    """A repository of which only the refs are known; see `core.gitmodule.Repository`."""

    def __init__(self, refs: GitRefs) -> None:
        self.refs = refs

    def commit(self, name: str) -> Commit | None:
        raise _ObjectsNeededError

    def read(self, commit: str, path: str) -> bytes | None:
        raise _ObjectsNeededError

    def tags_behind(self, commit: str) -> list[str]:
        raise _ObjectsNeededError

    def descends(self, commit: str, tag: str) -> bool:
        raise _ObjectsNeededError


async def _write(sink: Sink, chunk: bytes) -> None:
    await sink.write(chunk)


def _turn(what: str, source: GitSource, below: str) -> str:
    return f"git {what}:{source.origin_id}:{_folder_name(below)}"


def _folder_name(below: str) -> str:
    return sha256(below.encode()).hexdigest()[:32]


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _absent(message: str, source: GitSource, text: str) -> UpstreamAbsentError:
    error = UpstreamAbsentError(message, origin=source.url.origin, status=404)
    error.upstream_text = text
    return error


def _moved(pin: GitPin, commit: str) -> str:
    return (
        f"{pin.module}@{pin.version} is recorded as commit {pin.commit[:12]}, and its tag is at "
        f"{commit[:12]} now; the first value counts for ever"
    )
