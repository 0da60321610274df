"""Rows that count: what was downloaded by whom on which day, and when a token was last used."""

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
    """How often a token (or "" for nobody) of a tenant got one module version's zip on a day (UTC).

    Names instead of keys: the count outlives the tenant and the token.
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
    """What was downloaded, by whom, on which day (UTC); `token` is an id or ""."""

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
        """Add to the counts of days; rows appear as they are needed."""
        insert = sqlite_insert
        if self._session.get_bind().dialect.name == "postgresql":
            insert = postgresql_insert  # type: ignore[assignment]
        # In order, lest two processes wait for each other's rows.
        for what, count in sorted(counts.items()):
            statement = insert(DownloadRow).values(
                day=what.day,
                tenant=what.tenant,
                token=what.token,
                module=what.module,
                version=what.version,
                count=count,
            )
            self._session.execute(
                statement.on_conflict_do_update(
                    index_elements=["day", "tenant", "token", "module", "version"],
                    set_={"count": DownloadRow.count + statement.excluded.count},
                )
            )

    def mark_used(self, token_ids: Mapping[str, date]) -> None:
        """Record the day on which tokens were last used."""
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
        """Return how many downloads were counted in all."""
        return int(self._session.execute(select(func.sum(DownloadRow.count))).scalar() or 0)
