"""Refused calls of the admin API: counted, and written to the audit log once a minute.

A row for each refused call would let everybody with a token fill the audit log and the disk. So one
row says what one caller was refused for within a minute: how often, from when to when, and which
calls.

    at          2026-11-27 10:01:00
    actor       token:5f0c9a1e
    action      access.deny
    object      POST /api/v1/rules
    detail      37 times from 2026-11-27T10:00:00Z to 2026-11-27T10:00:59Z: that needs an admin of
                the platform (POST /api/v1/rules 30, GET /api/v1/audit 7)

A process that is killed loses the counts of its last minute; a process that stops writes them. The
log of requests has each call at once.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from app import logs
from app.core.errors import DatabaseBusyError, StorageFullError
from app.core.principal import Principal
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.services.clock import Now

WINDOW = timedelta(seconds=60)
_MAX_WINDOWS = 1000  # then all are written: no count is lost, and each caller has an audited token
_MAX_CALLS = 8  # different calls that a row names
_MAX_CALL_CHARS = 300
_log = logs.get("audit")


class Refusal(StrEnum):
    """Why calls are refused; the values are actions of audit rows."""

    DENIED = "access.deny"
    MALFORMED = "access.malformed"


@dataclass(slots=True)
class _Window:
    """What one caller was refused for, for one kind of reason.

    Attributes:
        first: time of the first refused call, UTC.
        last: time of the last one.
        why: the reason of the first one.
        calls: how often each call was refused: "POST /api/v1/rules".
        others: refused calls beyond those that a row names.
    """

    first: datetime
    last: datetime
    why: str
    calls: Counter[str] = field(default_factory=Counter)
    others: int = 0

    def add(self, call: str, at: datetime, times: int = 1) -> None:
        self.last = at
        if call in self.calls or len(self.calls) < _MAX_CALLS:
            self.calls[call] += times
        else:
            self.others += times

    def absorb(self, later: "_Window") -> None:
        """Add what a later window of the same caller counted."""
        for call, times in later.calls.items():
            self.add(call, later.last, times)
        self.others += later.others

    @property
    def detail(self) -> str:
        """The row's detail, one line."""
        count = self.calls.total() + self.others
        if count == 1:
            return f"once at {_iso(self.first)}: {self.why}"
        calls = [f"{call} {times}" for call, times in self.calls.most_common()]
        if self.others:
            calls.append(f"other calls {self.others}")
        return (
            f"{count} times from {_iso(self.first)} to {_iso(self.last)}: {self.why} "
            f"({', '.join(calls)})"
        )


class RefusalCounter:
    """The refused calls of this process that are not written yet."""

    def __init__(self, db: Database, now: Now) -> None:
        self._db = db
        self._now = now
        self._windows: dict[tuple[str, Refusal], _Window] = {}

    async def count(self, who: Principal, kind: Refusal, call: str, why: str) -> None:
        """Count one refused call.

        Args:
            who: the caller; never nobody, since whoever reaches the port could fill the log.
            kind: the kind of reason.
            call: method and path: "POST /api/v1/rules".
            why: the reason, for a reader.
        """
        at = self._now()
        if len(self._windows) >= _MAX_WINDOWS:
            await self.flush(all_windows=True)
        window = self._windows.setdefault((who.actor, kind), _Window(at, at, why))
        window.add(call[:_MAX_CALL_CHARS], at)

    async def flush(self, *, all_windows: bool = False) -> None:
        """Write the windows that have ended, or all; after a failure they stay for the next time.

        A window that begins in the future has ended, too: a clock was ahead.
        """
        at = self._now()
        ended = {
            key: window
            for key, window in self._windows.items()
            if all_windows or not timedelta() <= at - window.first < WINDOW
        }
        if not ended:
            return
        for key in ended:
            del self._windows[key]

        def work(session: Session) -> None:
            audit = AuditLog(session)
            for (actor, kind), window in ended.items():
                audit.append(at, actor, kind, next(iter(window.calls)), window.detail)

        try:
            await self._db.write(work)
        except (DatabaseBusyError, StorageFullError) as error:
            _log.warning("refused calls not recorded yet", callers=len(ended), error=str(error))
            for key, window in ended.items():
                if (later := self._windows.get(key)) is not None:
                    window.absorb(later)
                self._windows[key] = window


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
