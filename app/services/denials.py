"""Counts of refused requests of tenants: written in batches, off the hot path.

They say what is denied to whom, and how often, without a look into the log. A refusal that is
answered from memory counts, too. What a list leaves out is no refusal and is not counted.

    day            2026-11-27
    tenant         acme
    token          5f0c9a1e
    module         example.com/stolen
    rule           rule 7
    count          37
    last_at        2026-11-27 10:01:00
    last_request   9f86d081884c7d65

A tenant has at most `MOST_ROWS` rows a day and one for all others, and rows stay for `KEPT`: so
nobody fills the disk. With PostgreSQL, processes that write at the same time may each add as many
rows as one batch has. A process that is killed loses the counts of its last seconds; a process that
stops writes them.
"""

from datetime import date, timedelta
from functools import partial

from app import logs
from app.core.errors import DatabaseBusyError, StorageFullError
from app.core.principal import Principal
from app.db.denials import OTHERS, Denial, DenialCount, DenialKey, DenialTable
from app.db.engine import Database, Session
from app.services.authorization import require_admin
from app.services.clock import Now

MOST_ROWS = 1000
KEPT = timedelta(days=90)
_MODULE_CHARS = 255  # the path of a request may be longer than that of any module
_log = logs.get("denials")


class DenialCounter:
    """The denials of this process that are not written yet."""

    def __init__(self, db: Database, now: Now) -> None:
        self._db = db
        self._now = now
        self._tenants: dict[str, dict[Denial, DenialCount]] = {}

    def count(self, denial: Denial, request_id: str) -> None:
        """Count one refused request of a tenant that exists."""
        denial = Denial(denial.tenant, denial.token, denial.module[:_MODULE_CHARS], denial.rule)
        self._add(denial, DenialCount(1, self._now(), request_id))

    def _add(self, denial: Denial, count: DenialCount) -> None:
        counts = self._tenants.setdefault(denial.tenant, {})
        if denial not in counts and len(counts) >= MOST_ROWS:
            denial = Denial(denial.tenant, module=OTHERS)
        counts[denial] = counts[denial].plus(count) if denial in counts else count

    async def flush(self) -> None:
        """Write the counts since the last flush; after a failure they stay for the next one."""
        if not self._tenants:
            return
        tenants, self._tenants = self._tenants, {}
        counts = {denial: count for own in tenants.values() for denial, count in own.items()}
        try:
            await self._db.write(partial(_write, counts, self._now().date()))
        except (DatabaseBusyError, StorageFullError) as error:
            _log.warning("denials not counted yet", error=str(error))
            later, self._tenants = self._tenants, tenants
            for own in later.values():
                for denial, count in own.items():
                    self._add(denial, count)

    async def denials(
        self,
        who: Principal,
        *,
        tenant: str | None = None,
        token: str | None = None,
        module: str | None = None,
        since: date | None = None,
        limit: int = 1000,
        after: DenialKey | None = None,
    ) -> list[tuple[date, Denial, DenialCount]]:
        """Return the counts: the newest day (UTC) first, then by tenant, token, module and rule.

        Raises:
            DeniedError: `who` may not see them.
        """
        require_admin(who, tenant)
        return await self._db.read(
            lambda s: DenialTable(s).of(
                tenant=tenant, token=token, module=module, since=since, limit=limit, after=after
            )
        )


def _write(counts: dict[Denial, DenialCount], today: date, session: Session) -> None:
    table = DenialTable(session)
    table.forget(today - KEPT)
    table.add(today, counts, most=MOST_ROWS)
