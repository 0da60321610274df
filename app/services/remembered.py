"""What the database said last, for the minute in which it does not answer.

Stored files never change, so what was read before an outage can be served in it. A process
remembers only what it has read itself, and nothing that is older than the last change of stored
content that it knows of: a file that was blocked or replaced before the outage stays so.
"""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from cachetools import LRUCache

from app.core.errors import DatabaseBusyError
from app.db.engine import Database, Session
from app.services.generation import GenerationWatch

V = TypeVar("V")

MAX_BYTES = 32 << 20
_ENTRY_BYTES = 1024


class Remembered:
    """Answers of the database by key, bounded in bytes.

    Args:
        db: the database.
        watch: knows how long the database has not answered.
        max_bytes: what all answers together may hold.
    """

    def __init__(self, db: Database, watch: GenerationWatch, max_bytes: int = MAX_BYTES) -> None:
        self._db = db
        self._watch = watch
        self._values: LRUCache[Hashable, tuple[int, int, Any]] = LRUCache(
            max_bytes, lambda entry: entry[1] + _ENTRY_BYTES
        )

    async def read(
        self, key: Hashable, work: Callable[[Session], V], size_of: Callable[[V], int]
    ) -> V:
        """Return work(session) from a read transaction, or what the same key gave before.

        Args:
            key: identifies the question.
            work: asks it.
            size_of: returns how many bytes an answer holds. An empty answer is not remembered.

        Raises:
            DatabaseBusyError: the database does not answer, and nothing that is remembered holds.
        """
        generation = self._watch.value
        try:
            value = await self._db.read(work)
        except DatabaseBusyError:
            remembered = self._values.get(key)
            if remembered is None or self._watch.is_lost or remembered[0] < self._watch.stored:
                raise
            known: V = remembered[2]
            return known
        if value:
            self.keep(key, value, size_of(value), generation)
        return value

    def known(self, key: Hashable, tenant: str) -> Any | None:
        """Return what a question got last, while nothing that concerns a tenant has changed since.

        None otherwise. As old as a prepared answer may be: a change is known half a second later.
        """
        entry = self._values.get(key)
        is_current = entry is not None and entry[0] >= self._watch.since(tenant)
        return entry[2] if entry is not None and is_current else None

    @property
    def generation(self) -> int:
        """The generation of what is read from now on, for `keep`."""
        return self._watch.value

    def keep(self, key: Hashable, value: object, size_bytes: int, generation: int) -> None:
        """Remember what was recorded just now, as the answer to a question.

        Args:
            key: identifies the question.
            value: what `read` would give.
            size_bytes: of the value.
            generation: from before the work that recorded it.
        """
        if generation >= self._values.get(key, (generation,))[0]:
            self._values[key] = generation, size_bytes, value
