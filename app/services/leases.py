"""Holding a lease: acquire, renew in the background, release.

The name of an owner is "host/boot/pid/start". If the process of an owner on this host was killed,
another process notices that, and takes the lease without waiting for its end.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

from app.core.errors import DatabaseBusyError, StorageFullError
from app.db.engine import Database, Session
from app.db.leases import LeaseHolder, LeaseTable, lease_time, topic_of
from app.db.room import Room
from app.services.clock import Now

TTL = timedelta(seconds=15)
_RENEW_S = 5.0
_POLL_S = 0.1
_POLL_MAX_S = 0.5
_POLL_BEHIND_NOTICES_S = 2.0


def _start_ticks(pid: int) -> str | None:
    """Return the process's start time in clock ticks since boot, None if the process is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The program's name is in brackets, and may itself have spaces and brackets.
    fields = stat.rsplit(")", 1)[1].split()
    is_zombie = fields[0] == "Z"  # dead, but its parent has not collected it yet
    return None if is_zombie else fields[19]


@lru_cache
def _host() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot, namespace = "", ""
    return f"{socket.gethostname()}/{boot[:8]}{namespace.removeprefix('pid:')}"


def this_owner() -> str:
    """Return the owner's name of this process."""
    pid = os.getpid()
    return f"{_host()}/{pid}/{_start_ticks(pid) or 0}"


def is_dead(owner: str) -> bool:
    """Report whether owner is a process of this host that is certainly dead."""
    host, pid, ticks = owner.rsplit("/", 2)
    if host != _host() or not Path("/proc/self/stat").exists():
        return False
    return _start_ticks(int(pid)) != ticks


class Turns(Protocol):
    """Turns between processes, by leases or by locks of one host: one process holds a name."""

    def hold(self, name: str) -> AbstractAsyncContextManager[object]:
        """Wait for the turn of a name, then hold the name inside the context."""


class Leases:
    """Leases of this process."""

    def __init__(self, db: Database, now: Now, owner: str | None = None) -> None:
        self._db = db
        self._now = now
        self._owner = owner or this_owner()

    async def try_acquire(self, name: str, *, room: Room = Room.BELOW_FLOOR) -> LeaseHolder | None:
        """Take the lease if it is free or expired, or its owner is dead; else return None.

        Args:
            name: of the lease.
            room: ABOVE_FLOOR for work that stores something: it does not begin on a full disk.
        """

        def work(session: Session) -> int | None:
            table = LeaseTable(session)
            last = table.holder(name)
            dead = last.owner if last and is_dead(last.owner) else None
            now = lease_time(session, self._now)
            return table.acquire(name, self._owner, now, TTL, dead_owner=dead)

        acquiring = asyncio.ensure_future(self._db.write(work, room=room))
        try:
            fence = await asyncio.shield(acquiring)
        except asyncio.CancelledError:
            # The transaction goes on, and nobody else would ever release what it takes.
            with contextlib.suppress(DatabaseBusyError, StorageFullError):
                if (fence := await acquiring) is not None:
                    await self._release(LeaseHolder(name, self._owner, fence))
            raise
        return None if fence is None else LeaseHolder(name, self._owner, fence)

    @contextlib.asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[LeaseHolder]:
        """Wait for the lease, renew it inside the context, and release it at the end.

        The context is for work that stores something.

        After a long pause of the process the lease may be lost. The transaction that records the
        result must check the fence.
        """
        pause_s = _POLL_S
        while (holder := await self.try_acquire(name, room=Room.ABOVE_FLOOR)) is None:
            await self._db.notices.wait(topic_of(name), pause_s)
            longest_s = _POLL_BEHIND_NOTICES_S if self._db.notices.are_heard else _POLL_MAX_S
            pause_s = min(pause_s * 1.5, longest_s)
        async with self.keep(holder):
            yield holder

    @contextlib.asynccontextmanager
    async def keep(self, holder: LeaseHolder) -> AsyncIterator[None]:
        """Renew an acquired lease inside the context and release it at the end."""
        renewing = asyncio.ensure_future(self._renew(holder))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            # A lease that can't be released expires by itself.
            with contextlib.suppress(DatabaseBusyError, StorageFullError):
                await self._release(holder)

    async def _release(self, holder: LeaseHolder) -> None:
        await self._db.write(lambda s: LeaseTable(s).release(holder), room=Room.BELOW_FLOOR)

    async def _renew(self, holder: LeaseHolder) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            with contextlib.suppress(DatabaseBusyError, StorageFullError):
                if not await self._db.write(partial(self._renewed, holder), room=Room.BELOW_FLOOR):
                    return

    def _renewed(self, holder: LeaseHolder, session: Session) -> bool:
        return LeaseTable(session).renew(holder, lease_time(session, self._now), TTL)

    async def still_mine(self, holder: LeaseHolder) -> bool:
        """Report whether holder still has the lease."""
        return await self._db.read(lambda s: LeaseTable(s).holds(holder))
