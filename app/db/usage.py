"""Rows of usage: downloads by day, tenant, token and version; the last day of a token's use.

Also which files of which versions a tenant was ever answered.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base, chunks, table_of
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


class ModuleUseRow(Base):
    """What a tenant was answered about a module version: "info", "mod", "zip" or "latest".

    A "list" has the version "".

    `tenant_id` is no foreign key: a use that is written after its tenant was removed is no error.
    The id is never given to another tenant.
    """

    __tablename__ = "module_uses"

    tenant_id: Mapped[int] = mapped_column(primary_key=True)
    module: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)


@dataclass(frozen=True, slots=True, order=True)
class ModuleUse:
    """A tenant, by id, and what it was answered; see `ModuleUseRow`."""

    tenant_id: int
    module: str
    version: str
    kind: str


@dataclass(frozen=True, slots=True, order=True)
class Download:
    """A version, its tenant and token, and the day (UTC); `token` is an id or ""."""

    day: date
    tenant: str
    token: str
    module: str
    version: str


_DOWNLOADS = table_of(DownloadRow)


class Usage:
    """The repository of counts."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _insert(self, row: type[Base]) -> Any:
        """Return an INSERT that may say what to do on a conflict."""
        is_postgresql = self._session.get_bind().dialect.name == "postgresql"
        table = table_of(row)
        return postgresql_insert(table) if is_postgresql else sqlite_insert(table)

    def add(self, counts: Mapping[Download, int]) -> None:
        """Add to the counts of days; missing rows are inserted."""
        if not counts:
            return
        statement = self._insert(DownloadRow)
        key = ["day", "tenant", "token", "module", "version"]
        total = {"count": _DOWNLOADS.c.count + statement.excluded.count}
        # In a fixed order, so that two processes never wait for each other's rows.
        self._session.connection().execute(
            statement.on_conflict_do_update(index_elements=key, set_=total),
            [{**asdict(one), "count": count} for one, count in sorted(counts.items())],
        )

    def add_uses(self, uses: Collection[ModuleUse]) -> None:
        """Record what tenants were answered; what is recorded already stays."""
        if uses:
            # In a fixed order, so that two processes never wait for each other's rows.
            self._session.connection().execute(
                self._insert(ModuleUseRow).on_conflict_do_nothing(),
                [asdict(use) for use in sorted(uses)],
            )

    def has_use(self, use: ModuleUse) -> bool:
        """Whether a tenant was ever answered a file."""
        key = (use.tenant_id, use.module, use.version, use.kind)
        return self._session.get(ModuleUseRow, key) is not None

    def used_versions(self, tenant_id: int, module: str) -> set[str]:
        """Return the versions of a module of which a tenant was ever answered a file."""
        query = select(ModuleUseRow.version).where(
            ModuleUseRow.tenant_id == tenant_id,
            ModuleUseRow.module == module,
            ModuleUseRow.version != "",
        )
        return set(self._session.execute(query.distinct()).scalars())

    def remove_uses_of(self, tenant_ids: Collection[int]) -> None:
        """Remove what tenants that are being removed were answered."""
        for chunk in chunks(tenant_ids):
            self._session.execute(delete(ModuleUseRow).where(ModuleUseRow.tenant_id.in_(chunk)))

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
