"""Letting go of release files that the selection does not name any more.

Never: what a channel names, own releases, releases of which an image was pulled, files that the
index does not list any more, and what came in within a week. The row stays with its hash: the file
is fetched again and compared when it is asked for, where settings allow that.
"""

from datetime import timedelta

from app import logs
from app.core.ownrelease import is_own
from app.core.releasefile import FileRecord
from app.db.audit import AuditLog
from app.db.channels import ChannelTable
from app.db.engine import Database, Session
from app.db.generation import RELEASES, STORED, bump_generation
from app.db.imageindexes import ImageIndexes
from app.db.releases import ReleaseTable
from app.db.room import Room
from app.services.clock import Now
from app.services.releases.catalog import CatalogReader
from app.services.releases.sync import ReleaseSync

_MIN_AGE = timedelta(days=7)
_log = logs.get("gc")


class ReleaseRetention:
    """Applies the selection to what is stored; `is_on` False lets nothing go."""

    def __init__(
        self, db: Database, sync: ReleaseSync, catalog: CatalogReader, now: Now, *, is_on: bool
    ) -> None:
        self._db = db
        self._sync = sync
        self._catalog = catalog
        self._now = now
        self._is_on = is_on

    async def plan(self) -> list[FileRecord]:
        """Return the files that would go now, by name.

        Raises:
            UpstreamError: the index was never read.
        """
        if not self._is_on:
            return []
        plan, _ = await self._sync.plan(refresh=False)
        selected = {planned.record.file.filename for planned in plan.files}
        kept = await self._db.read(_kept_releases)
        records = (await self._catalog.current(fresh=True)).records
        before = self._now() - _MIN_AGE
        return [
            record
            for name, record in sorted(records.items())
            if name not in selected
            and record.has_bytes
            and record.served
            and record.listed
            and record.file.version not in kept
            and not is_own(record.file.version)
            and record.ingested_at is not None
            and record.ingested_at < before
        ]

    async def run(self, plan: list[FileRecord], actor: str) -> int:
        """Let files go; return how many."""
        names = [record.file.filename for record in plan]
        return await self._db.write(lambda s: self._let_go(s, names, actor), room=Room.BELOW_FLOOR)

    def _let_go(self, session: Session, names: list[str], actor: str) -> int:
        kept, table, count = _kept_releases(session), ReleaseTable(session), 0
        for name in names:
            record = table.get(name)
            if record is not None and record.file.version not in kept and table.let_go(name):
                AuditLog(session).append(self._now(), actor, "release.evict", f"file:{name}")
                count += 1
        if count:
            bump_generation(session, [RELEASES, STORED])
            _log.info("release files let go", count=count)
        return count


def _kept_releases(session: Session) -> set[str]:
    """Return the releases that channels name, and those of which an image was pulled."""
    return {*ChannelTable(session).pinned(), *ImageIndexes(session).versions()}
