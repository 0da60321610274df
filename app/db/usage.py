"""Rows of usage: downloads by day, tenant, token and version; the last day of a token's use."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sqlalchemy import func, select, tuple_
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base
from app.db.tokens import TokenRow


class DownloadRow(Base):
    """Number of downloads of a module version's zip on a day (UTC), by tenant and token.

    `token` is "" for a request without a token. Names instead of foreign keys: a count stays after
    its tenant and its token are deleted.
    """

    __tablename__ = "downloads"

    day: Mapped[date] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(primary_key=True)
    module: Mapped[str] = mapped_column(primary_key=True, index=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]


@dataclass(frozen=True, slots=True, order=True)
class Download:
    """A version, its tenant and token, and the day (UTC); `token` is an id or ""."""

    day: date
    tenant: str
    token: str
    module: str
    version: str


class Usage:
    """The repository of counts."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, counts: Mapping[Download, int]) -> None:
        """Add to the counts of days; missing rows are inserted."""
        insert = sqlite_insert
        if self._session.get_bind().dialect.name == "postgresql":
            insert = postgresql_insert  # type: ignore[assignment]
        # In a fixed order, so that two processes never wait for each other's rows.
        for download, count in sorted(counts.items()):
            statement = insert(DownloadRow).values(
                day=download.day,
                tenant=download.tenant,
                token=download.token,
                module=download.module,
                version=download.version,
                count=count,
            )
            self._session.execute(
                statement.on_conflict_do_update(
                    index_elements=["day", "tenant", "token", "module", "version"],
                    set_={"count": DownloadRow.count + statement.excluded.count},
                )
            )

    def mark_used(self, token_ids: Mapping[str, date]) -> None:
        """Record the last day on which tokens were used."""
        for token_id, day in sorted(token_ids.items()):
            row = self._session.get(TokenRow, token_id)
            if row is not None and (row.last_used_on is None or row.last_used_on < day):
                row.last_used_on = day

    def of(
        self,
        *,
        module: str | None,
        tenant: str | None,
        version: str | None,
        since: date | None,
        limit: int,
        after: tuple[date, str, str, str, str] | None = None,
    ) -> list[tuple[Download, int]]:
        """Return counts, in order of day, tenant, token, module and version."""
        key = (
            DownloadRow.day,
            DownloadRow.tenant,
            DownloadRow.token,
            DownloadRow.module,
            DownloadRow.version,
        )
        query = select(DownloadRow).order_by(*key).limit(limit)
        if module is not None:
            query = query.where(DownloadRow.module == module)
        if version is not None:
            query = query.where(DownloadRow.version == version)
        if tenant is not None:
            query = query.where(DownloadRow.tenant == tenant)
        if since is not None:
            query = query.where(DownloadRow.day >= since)
        if after is not None:
            query = query.where(tuple_(*key) > tuple_(*after))
        rows = self._session.execute(query).scalars()
        return [(Download(r.day, r.tenant, r.token, r.module, r.version), r.count) for r in rows]

    def total(self) -> int:
        """Return the number of all downloads."""
        return int(self._session.execute(select(func.sum(DownloadRow.count))).scalar() or 0)
