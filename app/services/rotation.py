"""A new key for sealed secrets, while the service runs.

    1. the key's file gets the new key as its first line; the old one is the second. Every process
       reads the file anew when it has changed: it seals under the first key and opens with both.
    2. every secret is sealed under the new key, and every process is told to read them anew.
    3. after a pause in which processes have done so, and every change that sealed under the old key
       has ended: again, until nothing is sealed under the old key.
    4. the file has the new key alone.

Killed in between, the file has both keys; the next rotation goes on with them. With the key from
outside, an operator does steps 1 and 4 by two settings.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.generation import EVERYTHING, bump_generation
from app.db.room import Room
from app.db.sealed import SealedSecret, SealedTable
from app.services.changes import locked
from app.services.clock import Now
from app.services.secrets import (
    CANARY_PLACE,
    KeySource,
    SecretBox,
    fleet_place,
    log_place,
    place_of,
    webhook_place,
)

_PLACES: dict[str, Callable[..., str]] = {
    "credential": place_of,
    "log": log_place,
    "fleet": fleet_place,
    "webhook": webhook_place,
    "canary": lambda: CANARY_PLACE,
}
_ROOM = Room.BELOW_FLOOR
_ENDING_S = 20.0
"""Longer than any change to the database may take, and than a process takes to notice one."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did.

    Attributes:
        sealed: number of secrets that were sealed anew.
        secrets: number of all secrets.
        is_old_key_needed: whether the operator still has to remove the old key from the settings.
    """

    sealed: int
    secrets: int
    is_old_key_needed: bool


class Rotation:
    """Gives all sealed secrets a new key.

    Args:
        db: holds the secrets.
        source: has the keys.
        now: the clock.
        pause: waits so many seconds.
    """

    def __init__(
        self,
        db: Database,
        source: KeySource,
        now: Now,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._db = db
        self._source = source
        self._now = now
        self._pause = pause

    async def rotate(self, actor: str) -> Rotated:
        """Seal everything under a new key; return when nothing needs the old one.

        Raises:
            BadInputError: the key comes from outside, and there is no second one.
            StorageError: a secret can't be opened with any key; nothing is lost, the keys stay.
        """
        await asyncio.to_thread(self._source.begin)
        sealed = await self._pass(actor)
        while True:
            await self._pause(_ENDING_S)
            count = await self._pass(actor)
            sealed += count
            if not count:
                break
        secrets = await self._db.read(_all)
        newest = SecretBox(self._source.keys()[0])
        for secret in secrets:
            newest.open(secret.sealed, place(secret))
        is_ours = await asyncio.to_thread(self._source.end)
        return Rotated(sealed, len(secrets), is_old_key_needed=not is_ours)

    async def unopened(self) -> list[str]:
        """Return the places of the secrets that no key opens: "credential:acme/nexus"."""
        box, secrets = SecretBox(source=self._source), await self._db.read(_all)
        return [place(secret) for secret in secrets if not box.opens(secret.sealed, place(secret))]

    async def _pass(self, actor: str) -> int:
        return await self._db.write(locked(lambda s: self._seal_all(s, actor)), room=_ROOM)

    def _seal_all(self, session: Session, actor: str) -> int:
        """Seal anew what the first key does not open; in one transaction, with its audit row."""
        keys = self._source.keys()
        newest, every = SecretBox(keys[0]), SecretBox(*keys)
        table, count = SealedTable(session), 0
        for secret in table.all():
            if not newest.opens(secret.sealed, place(secret)):
                plain = every.open(secret.sealed, place(secret))
                count += table.replace(secret, newest.seal(plain, place(secret)))
        if count:
            detail = f"{count} sealed under a new key"
            AuditLog(session).append(self._now(), actor, "secrets.rotate", "secrets", detail)
            bump_generation(session, [EVERYTHING])  # processes hold sealed secrets in memory
        return count


def _all(session: Session) -> list[SealedSecret]:
    return SealedTable(session).all()


def place(secret: SealedSecret) -> str:
    """Return the place for which a secret was sealed."""
    return _PLACES[secret.kind](*secret.names)
