"""Rows of the audit log that somebody could cause without end: counted, and written in one row.

What a caller may repeat at will would fill the audit log and the disk with a row each time. So the
first few of them in a window leave a row at once, and one row at the end of the window says how
often more came, from when to when, and what they were.

    at          2026-11-27 10:01:00
    actor       token:5f0c9a1e
    action      access.deny
    object      POST /api/v1/rules
    detail      37 times from 2026-11-27T10:00:00Z to 2026-11-27T10:00:59Z: that needs an admin of
                the platform (POST /api/v1/rules 30, GET /api/v1/audit 7)

A process that is killed loses the counts of its last window; a process that stops writes them.

Not here: what is counted: refused calls (`refusals`), what nodes say of themselves
(`fleet/noderows`).
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from app import logs
from app.core.errors import DatabaseBusyError, StorageFullError
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.services.clock import Now

_MAX_SUBJECTS = 8  # different subjects that a row names
_MAX_SUBJECT_CHARS = 300
_log = logs.get("audit")


class Source(NamedTuple):
    """Whose rows are counted together.

    Attributes:
        actor: of the row.
        action: of the row.
        object: of the row; "" takes the first subject.
    """

    actor: str
    action: str
    object: str = ""


@dataclass(slots=True)
class _Window:
    """What one source caused within a window.

    Attributes:
        since: when the window began, UTC.
        rows: how many rows were written at once.
        why: the reason of the first one that is counted.
        first: time of the first one that is counted, UTC.
        last: time of the last one.
        subjects: how often each was counted: "POST /api/v1/rules".
        others: those beyond the subjects that a row names.
    """

    since: datetime
    rows: int = 0
    why: str = ""
    first: datetime | None = None
    last: datetime | None = None
    subjects: Counter[str] = field(default_factory=Counter)
    others: int = 0

    @property
    def count(self) -> int:
        return self.subjects.total() + self.others

    def add(self, subject: str, why: str, at: datetime, times: int = 1) -> None:
        if self.first is None:
            self.first, self.why = at, why
        self.last = at
        if subject in self.subjects or len(self.subjects) < _MAX_SUBJECTS:
            self.subjects[subject] += times
        else:
            self.others += times

    def absorb(self, later: "_Window") -> None:
        """Add what a later window of the same source counted."""
        self.rows += later.rows
        for subject, times in later.subjects.items():
            self.add(subject, later.why, later.last or later.since, times)
        self.others += later.others

    def detail(self, source: Source) -> str:
        """Return the row's detail, one line."""
        first, last = _iso(self.first or self.since), _iso(self.last or self.since)
        if self.count == 1:
            shown = f" ({next(iter(self.subjects))})" if source.object else ""
            return f"once at {first}: {self.why}{shown}"
        subjects = [f"{subject} {times}" for subject, times in self.subjects.most_common()]
        if self.others:
            subjects.append(f"others {self.others}")
        return f"{self.count} times from {first} to {last}: {self.why} ({', '.join(subjects)})"


class AuditWindows:
    """What the sources of this process caused and no row says yet.

    Args:
        length: of a window.
        at_once: rows that a source may write at once in a window. A window that follows on one
            with counts has none: a source that goes on costs one row a window.
        most: sources; beyond them all are written, and no count is lost.
    """

    def __init__(
        self, db: Database, now: Now, length: timedelta, *, at_once: int = 0, most: int = 1000
    ) -> None:
        self._db = db
        self._now = now
        self._length = length
        self._at_once = at_once
        self._most = most
        self._windows: dict[Source, _Window] = {}

    def rows_left(self, source: Source) -> int:
        """Return how many rows a source may still write at once; asked by threads, too."""
        window = self._windows.get(source)
        return self._at_once - (window.rows if window is not None else 0)

    def note_row(self, source: Source) -> None:
        """Note a row that was written at once, after its transaction."""
        self._windows.setdefault(source, _Window(self._now())).rows += 1

    async def count(self, source: Source, subject: str, why: str) -> None:
        """Count what leaves no row of its own.

        Args:
            source: whose it is.
            subject: what it was about: "POST /api/v1/rules".
            why: the reason, for a reader.
        """
        at = self._now()
        if source not in self._windows and len(self._windows) >= self._most:
            await self.flush(all_windows=True)
        window = self._windows.setdefault(source, _Window(at))
        window.add(subject[:_MAX_SUBJECT_CHARS], why, at)

    async def flush(self, *, all_windows: bool = False) -> None:
        """Write the windows that have ended, or all; after a failure they stay for the next time.

        A window that begins in the future has ended, too: a clock was ahead.
        """
        at = self._now()
        ended = {
            source: window
            for source, window in self._windows.items()
            if all_windows or not timedelta() <= at - window.since < self._length
        }
        for source in ended:
            del self._windows[source]
        counted = {source: window for source, window in ended.items() if window.count}
        if not counted:
            return
        if self._at_once:
            self._windows |= {source: _Window(at, rows=self._at_once) for source in counted}

        def work(session: Session) -> None:
            audit = AuditLog(session)
            for source, window in counted.items():
                obj = source.object or next(iter(window.subjects))
                audit.append(at, source.actor, source.action, obj, window.detail(source))

        try:
            await self._db.write(work)
        except (DatabaseBusyError, StorageFullError) as error:
            _log.warning("counted rows not written yet", sources=len(counted), error=str(error))
            for source, window in counted.items():
                if (later := self._windows.get(source)) is not None:
                    window.absorb(later)
                self._windows[source] = window


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
