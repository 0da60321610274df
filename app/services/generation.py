"""Watching the policy generation: every process polls the number; an older answer is not valid."""

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
    """The generation that this process read last."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.value = -1

    async def poll(self) -> int:
        """Read the number and return it."""
        value = await self._db.read(current_generation)
        # Two polls may finish in the other order; the number never decreases.
        self.value = max(self.value, value)
        return self.value

    async def run(self) -> None:
        """Poll for ever; if the database doesn't answer, the last value stays valid."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.poll()
            except DatabaseBusyError as error:
                _log.warning("generation not read", error=str(error))
            except Exception:
                # Without this loop the process would serve old answers for ever.
                _log.exception("watching the generation broke")


class GenerationValue(Protocol):
    """A value that was read in one transaction, and is valid for one generation."""

    @property
    def generation(self) -> int:
        """The generation of the transaction."""
        ...


T = TypeVar("T", bound=GenerationValue)


class PerGeneration(Generic[T]):
    """A value that is read once for each generation, and held in memory.

    Args:
        db: the database.
        watch: knows the present generation.
        load: reads the value.
    """

    def __init__(self, db: Database, watch: GenerationWatch, load: Callable[[Session], T]) -> None:
        self._db = db
        self._watch = watch
        self._load = load
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
        if self._loaded is not None and self._loaded.generation >= self._watch.value:
            return self._loaded
        async with self._loading:
            if self._loaded is None or self._loaded.generation < self._watch.value:
                self._loaded = await self._db.read(self._load)
                self._watch.value = max(self._watch.value, self._loaded.generation)
            return self._loaded
