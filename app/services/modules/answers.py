"""Answers that change: lists, @latest, what queries resolve to.

An answer is stored, and still used after its time if upstream fails.

    younger than ttl        answered from the store
    younger than 2 * ttl    answered from the store, and asked for anew in the background
    older                   asked for anew; if upstream fails, the old answer is given, marked stale

An absence is remembered in memory for a minute at most, since `go` asks for many paths that are no
modules. It is recorded only where the next upstream of the route had the module: with that record
the module is found even while the first upstream is down.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from cachetools import TTLCache

from app import logs
from app.core.errors import (
    BadInputError,
    DatabaseBusyError,
    MoorageError,
    OverloadedError,
    StorageFullError,
    UpstreamAbsentError,
    UpstreamError,
)
from app.core.goproxy import MAX_LIST_BYTES, GoproxyRequest, RequestKind
from app.core.moduleinfo import MAX_INFO_BYTES
from app.core.routing import RecordedRoute
from app.db.engine import Database
from app.db.moduleanswers import ModuleAnswer, ModuleAnswerTable
from app.db.modules import INLINE_BYTES
from app.db.room import Room
from app.services.clock import Now
from app.services.flight import Flight
from app.services.leases import Turns
from app.services.modules.checks import check_resolved, refused
from app.services.modules.lists import Lists
from app.services.modules.spill import SpillSink
from app.services.remembered import Remembered
from app.services.slots import Slots
from app.services.upstreams import Source
from app.storage.blobstore import BlobStore
from app.upstream.sink import MemorySink

LIST = "list"
LATEST = "latest"
MAX_ABSENT_S = 60.0
_MAX_ABSENT = 65_536
_TEXT_CHARS = 128  # an absence with a text this long takes the place of two
_Identity = tuple[int, str, str]
_log = logs.get("modules")


@dataclass(frozen=True, slots=True)
class Query:
    """One question to one origin.

    Attributes:
        query: "list", "latest", "=" and a query such as "=master", or "@" and a file's name such as
            "@v1.0.0.zip"; the last is only ever recorded as absent.
    """

    origin_id: int
    module: str
    query: str

    @property
    def request(self) -> GoproxyRequest:
        """The request for the answer."""
        if self.query == LIST:
            return GoproxyRequest(self.module, RequestKind.LIST)
        if self.query == LATEST:
            return GoproxyRequest(self.module, RequestKind.LATEST)
        return GoproxyRequest(self.module, RequestKind.INFO, self.query.removeprefix("="))

    @property
    def identity(self) -> tuple[int, str, str]:
        """What tells this question from all others."""
        return (self.origin_id, self.module, self.query)

    def at(self, origin_id: int) -> "Query":
        """Return the same question to another origin."""
        return Query(origin_id, self.module, self.query)

    def __str__(self) -> str:
        return f"{self.module}@{self.query.removeprefix('=')}"


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer and how old it is.

    Attributes:
        fresh_s: seconds for which it needs no new look; 0 if it is past that.
        stale_s: its age in seconds if upstream could not be asked anew; else 0.
    """

    body: bytes
    fresh_s: float
    stale_s: int = 0


class Absences:
    """What is known to be absent upstream, for a minute at most, in this process."""

    def __init__(self, clock: Callable[[], float], seconds: float = MAX_ABSENT_S) -> None:
        self._known: TTLCache[tuple[object, ...], tuple[int, str, str]] = TTLCache(
            _MAX_ABSENT,
            min(seconds, MAX_ABSENT_S),
            clock,
            getsizeof=lambda absence: 1 + len(absence[1]) // _TEXT_CHARS,
        )

    def remember(self, key: tuple[object, ...], error: UpstreamAbsentError) -> None:
        """Remember an absence with the status and the text that upstream gave."""
        self._known[key] = (error.status or 404, error.upstream_text, error.origin)

    def forget(self, module: str) -> None:
        """Forget what is remembered of a module."""
        for key in [k for k in self._known if module in k]:
            self._known.pop(key, None)

    def forget_origins(self, origins: Collection[int]) -> None:
        """Forget what is remembered of some origins."""
        for key in [k for k in self._known if k[0] in origins]:
            self._known.pop(key, None)

    def check(self, key: tuple[object, ...], name: str) -> None:
        """Return if nothing is remembered.

        Raises:
            UpstreamAbsentError: it was absent a moment ago.
        """
        known = self._known.get(key)
        if known is not None:
            status, text, origin = known
            absent = UpstreamAbsentError(f"{name} is not there", origin=origin, status=status)
            absent.upstream_text = text
            raise absent


class ModuleAnswers:
    """The answers that change, of all origins."""

    def __init__(
        self,
        db: Database,
        remembered: Remembered,
        store: BlobStore,
        turns: Turns,
        slots: Slots,
        absences: Absences,
        lists: Lists,
        now: Now,
        *,
        max_waiters: int,
        max_queue: int,
    ) -> None:
        self._db = db
        self._remembered = remembered
        self._store = store
        self._turns = turns
        self._slots = slots
        self._absences = absences
        self._lists = lists
        self._now = now
        # Two flights, as of files: a tenant's callers share its slot, all tenants the request.
        self._queue: Flight[tuple[str, _Identity], ModuleAnswer] = Flight(
            max_waiters=max_waiters, max_keys=max_queue
        )
        self._flight: Flight[_Identity, ModuleAnswer] = Flight(
            max_waiters=max_waiters, max_keys=max_queue
        )
        self._refreshing: set[asyncio.Task[None]] = set()
        self._closing = False

    async def get(self, query: Query, route: RecordedRoute, source: Source) -> CachedAnswer:
        """Return an answer, asking upstream where it is not fresh.

        Raises:
            UpstreamAbsentError: upstream has no such module or query.
            UpstreamError: upstream can't be asked, and no earlier answer is stored.
            OverloadedError: too much is under way.
        """
        known, now = await self._known(query), self._now()
        ttl = timedelta(seconds=route.ttl_s)
        if known is not None and known.status == 200:
            # Below zero where a clock was ahead when upstream was asked: then the age is unknown.
            age = now - known.fetched_at
            if age < timedelta(0):
                age = 2 * ttl
            if age < ttl:
                return CachedAnswer(known.body, (ttl - age).total_seconds())
            if age < 2 * ttl:
                self._refresh(query, known.fetched_at, source)
                return CachedAnswer(known.body, 0.0)
        return await self._ask_anew(query, known, source, ttl)

    async def stored(self, query: Query) -> CachedAnswer | None:
        """Return the last answer, however old; None where there is none."""
        known = await self._known(query)
        if known is None or known.status != 200:
            return None
        return CachedAnswer(known.body, 0.0)

    async def _known(self, query: Query) -> ModuleAnswer | None:
        return await self._remembered.read(
            ("answer", query.identity),
            lambda s: ModuleAnswerTable(s).get(*query.identity),
            lambda answer: 0 if answer is None else len(answer.body),
        )

    async def _ask_anew(
        self, query: Query, known: ModuleAnswer | None, source: Source, ttl: timedelta
    ) -> CachedAnswer:
        since, generation = known.fetched_at if known else None, self._remembered.generation
        try:
            answer = await self._ask(query, since, source)
            self._remembered.keep(("answer", query.identity), answer, len(answer.body), generation)
        except UpstreamAbsentError:
            raise
        except (UpstreamError, OverloadedError, StorageFullError, DatabaseBusyError) as error:
            if known is None:
                raise
            if known.status != 200:
                # The trouble of this server says nothing about upstream.
                if not isinstance(error, UpstreamError):
                    raise
                raise _absent(query, known.status) from error
            stale_s = int((self._now() - known.fetched_at).total_seconds())
            _log.warning("stale answer", name=str(query), age_s=stale_s, error=str(error))
            return CachedAnswer(known.body, 0.0, max(stale_s, 1))
        # Another process may have asked, whose clock is ahead.
        age = max(self._now() - answer.fetched_at, timedelta(0))
        return CachedAnswer(answer.body, max((ttl - age).total_seconds(), 0.0))

    async def _ask(self, query: Query, since: datetime | None, source: Source) -> ModuleAnswer:
        """Ask upstream, one at a time in all processes; since is when it was asked before."""
        self._absences.check(query.identity, str(query))
        if self._closing:
            raise OverloadedError("this server is shutting down; ask again", retry_after_s=5)
        return await self._queue.do(
            (source.tenant, query.identity), lambda: self._ask_with_slot(query, since, source)
        )

    async def _ask_with_slot(
        self, query: Query, since: datetime | None, source: Source
    ) -> ModuleAnswer:
        """Ask once the tenant has a slot, or join the request of another tenant."""

        def work() -> Awaitable[ModuleAnswer]:
            return self._ask_in_turn(query, since, source)

        if self._flight.is_running(query.identity):
            return await self._flight.do(query.identity, work)
        # The slot first: who waits for one must not hold, and renew, a lease meanwhile.
        async with self._slots.fetch(source.tenant, query.origin_id, source.slots, source.client):
            return await self._flight.do(query.identity, work)

    async def _ask_in_turn(
        self, query: Query, since: datetime | None, source: Source
    ) -> ModuleAnswer:
        """Ask when it is this process's turn, unless another one asked meanwhile."""
        turn = f"answer:{query.origin_id}:{query}"
        async with self._turns.hold(turn):
            known = await self._known(query)
            if known is not None and (since is None or known.fetched_at != since):
                # Another process was faster. It may have recorded that a later upstream has it.
                if known.status != 200:
                    raise _absent(query, known.status)
                return known
            await self._db.require_room()
            try:
                body, as_of = await self._fetch(query, source)
            except UpstreamAbsentError as error:
                self._absences.remember(query.identity, error)
                if known is not None and known.status == 200:  # it is gone, for good or for now
                    await self._db.write(
                        lambda s: ModuleAnswerTable(s).forget(*query.identity),
                        room=Room.BELOW_FLOOR,
                    )
                raise
            answer = ModuleAnswer(*query.identity, 200, body, as_of or self._now())
            await self._db.write(
                lambda s: ModuleAnswerTable(s).save(answer), size_bytes=len(answer.body)
            )
            return answer

    async def _fetch(self, query: Query, source: Source) -> tuple[bytes, datetime | None]:
        """Return an answer, and the moment of which it is if that is not now."""
        proxy = source.proxy
        if query.query != LIST:
            small = MemorySink()
            as_of = await proxy.fetch(query.request, small, MAX_INFO_BYTES)
            return check_resolved(query.module, query.query, bytes(small.body)), as_of
        memory = self._slots.memory
        async with SpillSink(self._store, memory, INLINE_BYTES, source.tenant) as sink:
            as_of = await proxy.fetch(query.request, sink, MAX_LIST_BYTES)
            try:
                return await self._lists.read_checked(sink, query.module, source.tenant), as_of
            except BadInputError as error:
                raise refused(f"{query.module}/@v/list", str(error)) from error

    def _refresh(self, query: Query, since: datetime, source: Source) -> None:
        work = self._ask(query, since, source)
        task = asyncio.ensure_future(_unless_it_fails(str(query), work))
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    async def is_absent(self, query: Query) -> bool:
        """Whether it is recorded that this origin does not have what a later one has."""
        known = await self._known(query)
        return known is not None and known.status != 200

    async def record_absence(self, query: Query, status: int) -> None:
        """Record that this origin has no such module, because the next one has it."""
        known = await self._known(query)
        if known is not None and known.status == status:
            return
        answer = ModuleAnswer(*query.identity, status, b"", self._now())
        await self._db.write(lambda s: ModuleAnswerTable(s).save(answer))

    def begin_drain(self) -> None:
        """Ask nothing new."""
        self._closing = True

    async def aclose(self) -> None:
        """End what runs in the background."""
        self._closing = True
        for task in self._refreshing:
            task.cancel()
        await asyncio.gather(*self._refreshing, return_exceptions=True)
        await self._queue.aclose(cancel=True)
        await self._flight.aclose(cancel=True)


def _absent(query: Query, status: int) -> UpstreamAbsentError:
    return UpstreamAbsentError(
        f"{query} was not there when upstream was last asked", origin="", status=status
    )


async def _unless_it_fails(name: str, work: Awaitable[ModuleAnswer]) -> None:
    try:
        await work
    except MoorageError as error:
        _log.warning("answer not refreshed", name=name, error=str(error))
