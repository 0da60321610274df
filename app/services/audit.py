"""Reading the audit log and checking its chain. Each change of state writes its own row."""

from functools import partial

from app.core.audit import FIRST_HASH, AuditRecord, first_break
from app.db.audit import AuditLog
from app.db.engine import Database, Session

_BATCH = 1000


def _rows(after: int, session: Session) -> list[tuple[AuditRecord, str, str]]:
    return AuditLog(session).rows(after, _BATCH)


class AuditReader:
    """The audit log, for admins."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def list(
        self, *, after: int, limit: int, action: str | None = None, actor: str | None = None
    ) -> list[AuditRecord]:
        """Return rows after a sequence number, oldest first.

        Args:
            after: a seq.
            limit: the largest number of rows.
            action: only rows with this action, "token.create".
            actor: only rows whose actor begins with this text, "token:".
        """
        rows = await self._db.read(
            lambda s: AuditLog(s).rows(after, limit, action=action, actor=actor)
        )
        return [record for record, _, _ in rows]

    async def verify(self) -> tuple[int, int | None]:
        """Return the number of valid rows, and the seq of the first invalid row, or None."""
        after, prev_hash = 0, FIRST_HASH
        while True:
            rows = await self._db.read(partial(_rows, after))
            broken = first_break(rows, prev_hash, after)
            if broken is not None:
                return broken - 1, broken
            if not rows:
                return after, None
            after, prev_hash = rows[-1][0].seq, rows[-1][2]
