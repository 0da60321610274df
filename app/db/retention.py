"""Module zips that can be fetched again, and letting their bytes go."""

from collections.abc import Collection
from datetime import UTC, datetime, time

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.core.giturl import is_git
from app.core.goproxy import RequestKind
from app.core.published import is_published
from app.core.retention import StoredZip
from app.db.base import chunks
from app.db.modules import ModuleFileRow
from app.db.routes import RouteRow, RouteUpstreamRow
from app.db.usage import DownloadRow


class RetentionTable:
    """The repository of zips that may be let go."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def zips(self) -> list[StoredZip]:
        """Return the stored zips that a public upstream can give again.

        Those are the zips of an origin that a public route leads to, without a credential, and no
        private route. Published modules, modules from git, and what no route leads to any more are
        none of them.
        """
        used: dict[tuple[str, str], datetime] = {
            (row[0], row[1]): datetime.combine(row[2], time.max, UTC)
            for row in self._session.execute(
                select(DownloadRow.module, DownloadRow.version, func.max(DownloadRow.day)).group_by(
                    DownloadRow.module, DownloadRow.version
                )
            )
        }
        query = select(
            ModuleFileRow.id,
            ModuleFileRow.module,
            ModuleFileRow.version,
            ModuleFileRow.size_bytes,
            ModuleFileRow.stored_at,
        ).where(
            ModuleFileRow.kind == RequestKind.ZIP,
            ModuleFileRow.blob_sha256.is_not(None),
            ModuleFileRow.origin_id.in_(self._public_origins()),
        )
        return [
            StoredZip(*row, used_at=max(row[4], used.get((row[1], row[2]), row[4])))
            for row in self._session.execute(query.order_by(ModuleFileRow.id))
        ]

    def _public_origins(self) -> set[int]:
        query = select(
            RouteUpstreamRow.origin_id,
            RouteUpstreamRow.url,
            RouteUpstreamRow.credential_id,
            RouteRow.private,
        ).join(RouteRow, RouteRow.id == RouteUpstreamRow.route_id)
        public: set[int] = set()
        closed: set[int] = set()
        for origin, url, credential, is_private in self._session.execute(query):
            is_closed = is_private or credential is not None or is_git(url) or is_published(url)
            (closed if is_closed else public).add(origin)
        return public - closed

    def evict(self, ids: Collection[int]) -> int:
        """Let the bytes of zips go; their rows, with all hashes, stay. Return how many had any."""
        count = 0
        for chunk in chunks(ids):
            done = self._session.execute(
                update(ModuleFileRow)
                .where(ModuleFileRow.id.in_(chunk), ModuleFileRow.blob_sha256.is_not(None))
                .values(blob_sha256=None)
                .returning(ModuleFileRow.id),
                execution_options={"synchronize_session": False},
            )
            count += len(done.all())
        return count
