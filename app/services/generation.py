"""Watching the policy generation: every process polls the number and drops what it prepared."""

import asyncio

from app import logs
from app.core.errors import DatabaseBusyError
from app.db.engine import Database
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
