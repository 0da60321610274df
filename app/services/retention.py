"""Letting go of module zips that nobody uses, by the rules of the settings.

A zip's row stays with its hashes: when somebody asks for the version again, it is fetched again and
compared with them, as a damaged one is. The bytes themselves are garbage from then on.
"""

from app import logs
from app.core.retention import RetentionPolicy, StoredZip, let_go
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.retention import RetentionTable
from app.db.room import Room
from app.services.clock import Now

_BATCH = 1000
_log = logs.get("gc")


class Retention:
    """Applies the rules of retention to module zips."""

    def __init__(self, db: Database, policy: RetentionPolicy, now: Now) -> None:
        self._db = db
        self._policy = policy
        self._now = now

    async def plan(self) -> list[tuple[StoredZip, str]]:
        """Return what the rules let go now, each with the reason."""
        if not self._policy.is_on:
            return []
        return let_go(
            await self._db.read(lambda s: RetentionTable(s).zips()), self._policy, self._now()
        )

    async def run(self, plan: list[tuple[StoredZip, str]], actor: str) -> int:
        """Let zips go; return how many."""
        count = 0
        for start in range(0, len(plan), _BATCH):
            ids = [one.id for one, _ in plan[start : start + _BATCH]]
            count += await self._db.write(
                lambda s: self._evict(s, ids, actor),  # noqa: B023 (awaited)
                room=Room.BELOW_FLOOR,
            )
        if count:
            _log.info("module zips let go", count=count)
        return count

    def _evict(self, session: Session, ids: list[int], actor: str) -> int:
        count = RetentionTable(session).evict(ids)
        if count:
            detail = f"{count} zips; they are fetched again when asked for"
            AuditLog(session).append(self._now(), actor, "module.evict", "modules", detail)
            bump_generation(session)
        return count
