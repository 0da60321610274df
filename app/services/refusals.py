"""Refused calls of the admin API: counted, and written to the audit log once a minute.

A row for each refused call would let everybody with a token fill the audit log and the disk. So one
row says what one caller was refused for within a minute: how often, from when to when, and which
calls (`auditwindows`). The log of requests has each call at once.
"""

from datetime import timedelta
from enum import StrEnum

from app.core.principal import Principal
from app.db.engine import Database
from app.services.auditwindows import AuditWindows, Source
from app.services.clock import Now

WINDOW = timedelta(seconds=60)


class Refusal(StrEnum):
    """Why calls are refused; the values are actions of audit rows."""

    DENIED = "access.deny"
    MALFORMED = "access.malformed"


class RefusalCounter:
    """The refused calls of this process that are not written yet."""

    def __init__(self, db: Database, now: Now) -> None:
        self._windows = AuditWindows(db, now, WINDOW)

    async def count(self, who: Principal, kind: Refusal, call: str, why: str) -> None:
        """Count one refused call.

        Args:
            who: the caller; never nobody, since whoever reaches the port could fill the log.
            kind: the kind of reason.
            call: method and path: "POST /api/v1/rules".
            why: the reason, for a reader.
        """
        await self._windows.count(Source(who.actor, kind), call, why)

    async def flush(self, *, all_windows: bool = False) -> None:
        """Write the minutes that have ended, or all; see `AuditWindows.flush`."""
        await self._windows.flush(all_windows=all_windows)
