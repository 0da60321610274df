"""Watching the policy generation: every process polls the number and drops what it prepared."""

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from app import logs
from app.core.errors import DatabaseBusyError
from app.db.engine import Database, Session
from app.db.generation import current_generation

POLL_S = 0.5
_log = logs.get("generation")


class GenerationWatch:
    """The generation as this process last saw it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.value = -1

    async def poll(self) -> int:
        """Read the number and return it."""
        value = await self._db.read(current_generation)
        # Two polls may finish out of order; the number only grows.
        self.value = max(self.value, value)
        return self.value

    async def run(self) -> None:
        """Poll for ever; a database that doesn't answer leaves the last value in force."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.poll()
            except DatabaseBusyError as error:
                _log.warning("generation not read", error=str(error))
            except Exception:
                # Without this loop a process would answer from the past for ever.
                _log.exception("watching the generation broke")


class OfGeneration(Protocol):
    """Something that was read as a whole, and holds until the generation changes."""

    @property
    def generation(self) -> int:
        """The generation that it is of."""
        ...


T = TypeVar("T", bound=OfGeneration)


class PerGeneration(Generic[T]):
    """What is read from the database once for each generation, and held in memory.

    Args:
        db: where from.
        watch: tells the present generation.
        load: reads it.
    """

    def __init__(self, db: Database, watch: GenerationWatch, load: Callable[[Session], T]) -> None:
        self._db = db
        self._watch = watch
        self._load = load
        self._loaded: T | None = None
        self._loading = asyncio.Lock()

    async def current(self, *, fresh: bool = False) -> T:
        """Return what holds in the present generation.

        Args:
            fresh: ask the database for the generation first, for whoever just changed something.

        Raises:
            DatabaseBusyError: the database doesn't answer, and what is loaded is out of date.
        """
        if fresh:
            await self._watch.poll()
        if self._loaded is not None and self._loaded.generation >= self._watch.value:
            return self._loaded
        async with self._loading:
            if self._loaded is None or self._loaded.generation < self._watch.value:
                self._loaded = await self._db.read(self._load)
                self._watch.value = max(self._watch.value, self._loaded.generation)
            return self._loaded
