"""Reading the audit log and checking its chain. Each change of state writes its own row."""

from datetime import datetime
from functools import partial

from app.core.audit import FIRST_HASH, AuditRecord, first_break
from app.db.audit import AuditLog
from app.db.engine import Database, Session

_BATCH = 1000


def _check(after: int, prev_hash: str, session: Session) -> tuple[int, str, int | None]:
    """Check the next rows; return the seq and the hash of the last one, and where it breaks."""
    rows = AuditLog(session).rows(after, _BATCH)
    broken = first_break(rows, prev_hash, after)
    return (*((rows[-1][0].seq, rows[-1][2]) if rows else (after, prev_hash)), broken)


class AuditReader:
    """The audit log, for admins."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def list(
        self,
        *,
        after: int | None,
        limit: int,
        action: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        newest: bool = False,
    ) -> list[AuditRecord]:
        """Return rows behind a sequence number, oldest first; see `AuditLog.rows`.

        Args:
            after: a seq; None begins with the first row.
            limit: the largest number of rows.
            action: only rows with this action, "token.create".
            actor: only rows whose actor begins with this text, "token:".
            since: only rows of this time or later, UTC.
            newest: the newest first.
        """
        rows = await self._db.read(
            lambda s: AuditLog(s).rows(
                after, limit, action=action, actor=actor, since=since, newest=newest
            )
        )
        return [record for record, _, _ in rows]

    async def verify(self) -> tuple[int, int | None]:
        """Return the number of valid rows, and the seq of the first invalid row, or None."""
        after, prev_hash = 0, FIRST_HASH
        while True:
            last, last_hash, broken = await self._db.read(partial(_check, after, prev_hash))
            if broken is not None:
                return broken - 1, broken
            if last == after:
                return after, None
            after, prev_hash = last, last_hash
