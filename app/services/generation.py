"""Watching the policy generation: every process polls the number and what has changed since.

PostgreSQL tells of a change at once (`app/db/notices.py`); the polling stays behind that.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from app import logs
from app.core.errors import DatabaseBusyError
from app.db.engine import Database, Session
from app.db.generation import (
    CHANNELS,
    EVERYTHING,
    NO_POLICY,
    PLATFORM,
    RELEASES,
    STORED,
    changes_since,
)
from app.db.notices import GENERATION

POLL_S = 0.5
SILENCE_S = 5.0
"""After so many seconds without an answer to a small query the database counts as silent."""
_HOLDING = ("stored", "releases", "channels", "policy", "_all_tenants", "_tenants")
_log = logs.get("generation")


class GenerationWatch:
    """The generation that this process read last, and when what changed.

    Attributes:
        value: the generation.
        stored: the generation at which stored content changed last.
        releases: the generation at which the catalogue of releases changed last.
        channels: the generation at which any channel changed last.
        policy: the generation at which any policy changed last, of a tenant or of the platform.
        is_lost: whether the database has not answered for so long that nothing known holds.

    Args:
        db: the database.
        outage_s: seconds without an answer after which nothing that is known holds any more; None
            for no such limit: nobody but processes of this host changes the database.
        monotonic: seconds of a clock that only grows.
    """

    def __init__(
        self,
        db: Database,
        outage_s: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._outage_s = outage_s
        self._monotonic = monotonic
        self._answered_at = monotonic()
        self._is_answering = True
        self._before_loss: dict[str, Any] | None = None
        self.value = -1
        self.stored = -1
        self.releases = -1
        self.channels = -1
        self.policy = -1
        self._all_tenants = -1  # the generation at which answers of every tenant ended last
        self._tenants: dict[str, int] = {}  # of tenants that changed later than that
        self._one_poll = asyncio.Lock()
        self._next_poll: asyncio.Task[int] | None = None

    async def poll_shared(self) -> int:
        """Return the number of a poll that begins after this call.

        All callers that wait share one poll: however many call, one poll runs and one waits.
        """
        if self._next_poll is None:
            self._next_poll = asyncio.ensure_future(self._poll_in_turn())
        return await asyncio.shield(self._next_poll)

    async def _poll_in_turn(self) -> int:
        async with self._one_poll:
            self._next_poll = None  # who comes now may ask about a change that this poll misses
            return await self.poll()

    async def poll(self) -> int:
        """Read the number and what has changed; return the number."""
        known = self.value
        try:
            async with asyncio.timeout(SILENCE_S):
                changes = await self._db.read(changes_since(known))
        except DatabaseBusyError:
            self._note_silence()
            raise
        except TimeoutError as error:  # a server that stands still refuses no connection
            self._note_silence()
            raise DatabaseBusyError("the database does not answer") from error
        self._note_answer()
        scopes = changes.scopes
        # Two polls may finish in the other order; no number decreases.
        everything = scopes.get(EVERYTHING, -1)
        self.stored = max(self.stored, everything, scopes.get(STORED, -1))
        self.releases = max(self.releases, self.stored, scopes.get(RELEASES, -1))
        self.channels = max(self.channels, everything, scopes.get(CHANNELS, -1))
        self._all_tenants = max(self._all_tenants, self.stored, scopes.get(PLATFORM, -1))
        self.policy = max([self.policy, *(at for s, at in scopes.items() if s not in NO_POLICY)])
        latest = {s: max(at, self._tenants.get(s, -1)) for s, at in scopes.items()}
        self._tenants = {
            scope: at for scope, at in (self._tenants | latest).items() if at > self._all_tenants
        }
        self.value = max(self.value, changes.generation)
        return self.value

    @property
    def is_lost(self) -> bool:
        """Whether the database has been silent for so long that nothing known holds."""
        return self._before_loss is not None

    @property
    def bridges_outage(self) -> bool:
        """Whether the database is silent, and what is stored is served for a limited time."""
        return (
            self._outage_s is not None
            and self.value >= 0
            and not self._is_answering
            and not self.is_lost
        )

    def note(self) -> str | None:
        """Return since when the database is silent and how long that is bridged, or None."""
        if self._is_answering or self._outage_s is None:
            return None
        silent_s = int(self._monotonic() - self._answered_at)
        if self.is_lost:
            return f"the database has not answered for {silent_s} s; nothing is served without it"
        left_s = max(int(self._outage_s) - silent_s, 0)
        return (
            f"the database has not answered for {silent_s} s; what is stored and was allowed is "
            f"served for {left_s} s more"
        )

    def _note_silence(self) -> None:
        self._is_answering = False
        silent_s = self._monotonic() - self._answered_at
        if self._outage_s is not None and silent_s > self._outage_s and not self.is_lost:
            _log.error("database lost", silent_s=int(silent_s))
            # As if everything had changed just now: whatever is known is older.
            self._before_loss = {name: getattr(self, name) for name in _HOLDING}
            for name in _HOLDING:
                setattr(self, name, {} if name == "_tenants" else sys.maxsize)

    def _note_answer(self) -> None:
        self._answered_at, self._is_answering = self._monotonic(), True
        if self._before_loss is not None:
            for name, value in self._before_loss.items():
                setattr(self, name, value)
            self._before_loss = None

    def since(self, tenant: str) -> int:
        """Return the generation of the last change that concerns answers to a tenant.

        An answer that was prepared at an earlier generation is not valid.
        """
        return self._tenants.get(tenant, self._all_tenants)

    async def run(self) -> None:
        """Poll for ever; if the database doesn't answer, the last value stays valid."""
        while True:
            await self._db.notices.wait(GENERATION, POLL_S)
            try:
                await self.poll()
            except DatabaseBusyError as error:
                _log.warning("generation not read", error=str(error))
            except Exception:
                # Without this loop the process would serve old answers for ever.
                _log.exception("watching the generation broke")


class GenerationValue(Protocol):
    """A value that was read in one transaction, and is valid until what it is about changes."""

    @property
    def generation(self) -> int:
        """The generation of the transaction."""
        ...


T = TypeVar("T", bound=GenerationValue)


class PerGeneration(Generic[T]):
    """A value that is held in memory, and read again after each change that concerns the value.

    Args:
        db: the database.
        watch: knows the present generation.
        load: reads the value; its argument is the value before, None at first.
        since: returns the generation of the last change that concerns the value.
    """

    def __init__(
        self,
        db: Database,
        watch: GenerationWatch,
        load: Callable[[Session, T | None], T],
        since: Callable[[], int],
    ) -> None:
        self._db = db
        self._watch = watch
        self._load = load
        self._since = since
        self._loaded: T | None = None
        self._loading = asyncio.Lock()

    async def current(self, *, fresh: bool = False) -> T:
        """Return the value of the present generation.

        Args:
            fresh: read the generation from the database first; for a caller that has just made a
                change.

        Raises:
            DatabaseBusyError: the database doesn't answer, and the value in memory is too old.
        """
        if fresh:
            await self._watch.poll()
        if self._loaded is not None and self._loaded.generation >= self._since():
            return self._loaded
        async with self._loading:
            before = self._loaded
            if before is not None and before.generation >= self._since():
                return before
            if self._watch.value < 0:
                await self._watch.poll()
            self._loaded = loaded = await self._db.read(lambda s: self._load(s, before))
            return loaded
