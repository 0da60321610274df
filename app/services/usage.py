"""Counts of downloads, and what each tenant was answered: written in batches, off the hot path.

A process that is killed loses the counts of its last seconds; a process that stops writes them.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import date

from app import logs
from app.core import semver
from app.core.errors import DatabaseBusyError, StorageFullError
from app.core.principal import Principal
from app.db.engine import Database, Session
from app.db.modules import ModuleFile
from app.db.usage import Download, ModuleUse, Usage
from app.services.authorization import require_admin
from app.services.clock import Now

FLUSH_S = 5.0
_MAX_PENDING = 50_000  # if the database is down, a larger batch is dropped
_MAX_USES = 10_000  # between two flushes; more are remembered when they are asked for again
_MAX_RECORDED = 20_000  # answers that are known to be recorded, and are not written again
_log = logs.get("usage")


class UsageCounter:
    """The counts of this process that are not written yet."""

    def __init__(self, db: Database, now: Now) -> None:
        self._db = db
        self._now = now
        self._downloads: Counter[tuple[str, str, str, str]] = Counter()
        self._used: set[str] = set()
        self._uses: set[ModuleUse] = set()
        self._recorded: set[ModuleUse] = set()

    def count(self, tenant: str, token: str, module: str, version: str) -> None:
        """Count one download of a zip; token is an id or ""."""
        self._downloads[tenant, token, module, version] += 1

    def used(self, token: str) -> None:
        """Remember that a token was used today."""
        self._used.add(token)

    def answered(self, use: ModuleUse) -> None:
        """Remember what a tenant was answered; called for each answer that is prepared."""
        if use not in self._recorded and len(self._uses) < _MAX_USES:
            self._uses.add(use)

    async def was_answered(self, use: ModuleUse) -> bool:
        """Whether a tenant was ever answered a file of a module version."""
        if use in self._uses or use in self._recorded:
            return True
        return await self._db.read(lambda s: Usage(s).has_use(use))

    async def used_files(
        self, files: Iterable[ModuleFile], tenant_id: int, who: Principal
    ) -> list[ModuleFile]:
        """Return the files of which a tenant's admin may know that they are stored.

        These are the files that the tenant was ever answered; for a platform admin all files. What
        is stored because another tenant uses it is not told.
        """
        return [
            file
            for file in files
            if who.is_platform_admin
            or await self.was_answered(ModuleUse(tenant_id, file.module, file.version, file.kind))
        ]

    async def used_versions(self, tenant_id: int, module: str) -> list[str]:
        """Return the versions of a module that a tenant was ever answered a file of, in order."""
        pending = {
            u.version for u in self._uses if (u.tenant_id, u.module) == (tenant_id, module)
        } - {""}

        def work(session: Session) -> list[str]:
            recorded = Usage(session).used_versions(tenant_id, module)
            return sorted(pending | recorded, key=semver.precedence)

        return await self._db.read(work)

    async def flush(self) -> None:
        """Write the counts since the last flush; after a failure they stay for the next one."""
        if not self._downloads and not self._used and not self._uses:
            return
        downloads, self._downloads = self._downloads, Counter()
        used, self._used = self._used, set()
        uses = frozenset(self._uses)
        today = self._now().date()
        try:
            await self._db.write(lambda s: _write(Usage(s), today, downloads, used, uses))
        except (DatabaseBusyError, StorageFullError) as error:
            _log.warning("downloads not counted yet", error=str(error))
            if len(downloads) < _MAX_PENDING:
                self._downloads.update(downloads)
            self._used |= used
        else:
            self._uses -= uses
            if len(self._recorded) > _MAX_RECORDED:
                self._recorded.clear()
            self._recorded |= uses

    async def downloads(
        self,
        who: Principal,
        *,
        module: str | None = None,
        version: str | None = None,
        tenant: str | None = None,
        since: date | None = None,
        limit: int = 1000,
        after: tuple[date, str, str, str, str] | None = None,
    ) -> list[tuple[Download, int]]:
        """Return the counts by day (UTC), tenant, token, module and version.

        Raises:
            DeniedError: `who` may not see them.
        """
        require_admin(who, tenant)
        return await self._db.read(
            lambda s: Usage(s).of(
                module=module,
                tenant=tenant,
                version=version,
                since=since,
                limit=limit,
                after=after,
            )
        )


def _write(
    usage: Usage,
    today: date,
    downloads: Mapping[tuple[str, str, str, str], int],
    used: set[str],
    uses: Collection[ModuleUse],
) -> None:
    usage.add({Download(today, *key): count for key, count in downloads.items()})
    usage.add_uses(uses)
    usage.mark_used(dict.fromkeys(used, today))
