"""Liveness, readiness, version and metrics.

Liveness says that the process answers, and asks nobody. Readiness asks the database, the store and
the keyring, never an upstream: a mirror whose upstream is down still serves what it has.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from app import metrics
from app.core.errors import DatabaseBusyError, MoorageError, UnfitDatabaseError
from app.db.engine import Database
from app.db.generation import current_generation
from app.db.schema import require_schema
from app.services.generation import GenerationWatch
from app.services.releases.keyring import ReleaseKeyring, signing_subkeys
from app.services.storemark import StoreMark
from app.storage.blobstore import BlobStore

Note = Callable[[], str | None]
Origins = Callable[[], Awaitable[frozenset[str]]]
_CHECK_S = 5.0
_DATABASE_S = 4.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a start waits.

    Attributes:
        subject: "database" or "storage".
        reason: one line.
    """

    subject: str
    reason: str


class Health:
    """What this process knows of its own health.

    Args:
        db: proven by a transaction.
        store: proven by a write.
        keyring: must have a signing key.
        notes: by subject, what returns one line where an operator has to act although requests can
            be served, else None.
        watch: knows whether a database that is silent is bridged; None bridges nothing.
        mark: knows whether the store turned out to be another database's.
        origins: returns the upstreams that metrics may name; None names all that were asked.
    """

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        keyring: ReleaseKeyring,
        notes: Mapping[str, Note] = MappingProxyType({}),
        origins: Origins | None = None,
        watch: GenerationWatch | None = None,
        mark: StoreMark | None = None,
    ) -> None:
        self._mark = mark
        self._watch = watch
        self._db = db
        self._store = store
        self._keyring = keyring
        self._notes = notes
        self._origins = origins
        self._last_origins: frozenset[str] | None = None
        self.draining = False
        self.waiting: Waiting | None = None
        """What the start waits for; None once it is done."""

    async def readiness(self) -> dict[str, str]:
        """Return check → "ok" or what is wrong."""
        if self.draining:
            return {"process": "shutting down"}
        if self.waiting is not None:
            return {self.waiting.subject: self.waiting.reason}
        checks: dict[str, Callable[[], Awaitable[object]]] = {
            "database": partial(self._bridged, self._database),
            "storage": self._storage,
            "keyring": partial(self._bridged, self._usable_key),
        }
        return {name: await _checked(check) for name, check in checks.items()}

    def notes(self) -> dict[str, str]:
        """Return subject → what an operator has to look at; none of it makes this unready."""
        texts = {subject: note() for subject, note in self._notes.items()}
        metrics.set_notes({subject: text is not None for subject, text in texts.items()})
        return {subject: text for subject, text in texts.items() if text is not None}

    async def origins(self) -> frozenset[str] | None:
        """Return the upstreams that metrics may name; the last ones if they can't be read now."""
        if self._origins is not None:
            with suppress(MoorageError):
                self._last_origins = await self._origins()
        return self._last_origins

    async def _bridged(self, check: Callable[[], Awaitable[object]]) -> None:
        """Do a check that needs the database; a silence that is bridged is a note, no failure.

        If every replica said that it is not ready, nobody would serve what is stored.
        """
        try:
            async with asyncio.timeout(_DATABASE_S):
                await check()
        except (DatabaseBusyError, TimeoutError):  # it refuses, or it stands still
            if self._watch is None or not self._watch.bridges_outage:
                raise

    async def _database(self) -> None:
        # A newer replica may have migrated the database to a schema that this program can't serve.
        await self._db.read(lambda s: require_schema(s.connection()))
        # A write transaction that changes nothing: it proves the lock and the file can be had.
        await self._db.write(current_generation)

    async def _storage(self) -> None:
        if self._mark is not None and self._mark.trouble is not None:
            raise UnfitDatabaseError(self._mark.trouble)
        metrics.set_storage_free(await self._store.probe())

    async def _usable_key(self) -> None:
        signing_subkeys(await self._keyring.active())


async def _checked(check: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(_CHECK_S):
            await check()
    except MoorageError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {_CHECK_S:.0f} s"
    return "ok"
