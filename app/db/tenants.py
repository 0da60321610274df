"""Rows of tenants, with the host names that lead to them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Select, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.tenant import RecordedTenant, TenantLimits
from app.db.base import (
    Base,
    Revisions,
    WordSet,
    chunks,
    columns_for,
    insert_all,
    inserted_ids,
    is_one_of,
    revisions_of,
    save_revisions,
    values_for,
)


class TenantRow(Base):
    """One tenant."""

    __tablename__ = "tenants"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    default: Mapped[str] = mapped_column("default_effect")
    anonymous_read: Mapped[bool]
    enabled: Mapped[bool]
    private_hosts: Mapped[list[str]] = mapped_column(WordSet, server_default="")
    streams: Mapped[int | None] = mapped_column("max_streams")
    cold: Mapped[int | None] = mapped_column("max_cold")
    rate: Mapped[int | None] = mapped_column("max_rate")
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    toolchains: Mapped[str | None]
    revision: Mapped[int]
    created_at: Mapped[datetime]


class TenantHostRow(Base):
    """A host name that leads to one tenant."""

    __tablename__ = "tenant_hosts"

    host: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), index=True)


class TenantTable:
    """The repository of tenants."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, names: Collection[str] | None = None) -> list[RecordedTenant]:
        """Return every tenant, or those of some names, by name."""
        return self._tenants(select(TenantRow.id).where(is_one_of(TenantRow.name, names)))

    def page(self, *, after: str | None, limit: int | None) -> list[RecordedTenant]:
        """Return the tenants that follow a name, in the order of their names.

        Args:
            after: the last name of the page before; None begins the list.
            limit: how many at most; None takes all.
        """
        query = select(TenantRow.id).order_by(TenantRow.name).limit(limit)
        return self._tenants(query if after is None else query.where(TenantRow.name > after))

    def get(self, name: str) -> RecordedTenant | None:
        """Return one tenant."""
        query = select(TenantRow.id).where(TenantRow.name == name)
        return next(iter(self._tenants(query)), None)

    def _tenants(self, ids: Select[Any]) -> list[RecordedTenant]:
        hosts: dict[int, list[str]] = {}
        of_hosts = select(TenantHostRow.tenant_id, TenantHostRow.host)
        of_hosts = of_hosts.where(TenantHostRow.tenant_id.in_(ids))
        for tenant_id, host in self._session.execute(of_hosts):
            hosts.setdefault(tenant_id, []).append(host)
        columns = *columns_for(TenantRow, RecordedTenant), *columns_for(TenantRow, TenantLimits)
        query = select(*columns).where(TenantRow.id.in_(ids)).order_by(TenantRow.name)
        rows = self._session.execute(query).mappings()
        return [_tenant(dict(row), hosts.get(row["id"], [])) for row in rows]

    def is_empty(self) -> bool:
        """Whether there is no tenant at all."""
        return self._session.execute(select(TenantRow.id).limit(1)).first() is None

    def ids_of(self, names: Collection[str]) -> dict[str, int]:
        """Return the ids of those of the named tenants that exist, by name."""
        ids: dict[str, int] = {}
        for chunk in chunks(names):
            query = select(TenantRow.name, TenantRow.id).where(TenantRow.name.in_(chunk))
            ids |= {row.name: row.id for row in self._session.execute(query)}
        return ids

    def following(self, channel: str) -> list[str]:
        """Return the names of the tenants that take their toolchains from a channel."""
        query = select(TenantRow.name).where(TenantRow.toolchains == channel)
        return list(self._session.execute(query.order_by(TenantRow.name)).scalars())

    def taken_host(self, hosts: Collection[str], *, besides: int) -> str | None:
        """Return the first of some hosts that leads to another tenant than `besides`, an id."""
        query = select(TenantHostRow.host).where(
            TenantHostRow.host.in_(hosts), TenantHostRow.tenant_id != besides
        )
        return self._session.execute(query.order_by(TenantHostRow.host).limit(1)).scalar()

    def revisions(self) -> Revisions:
        """Return what tells whether any tenant was added, changed or removed."""
        return revisions_of(self._session, TenantRow)

    def add_all(self, tenants: Sequence[RecordedTenant]) -> list[int]:
        """Record new tenants; return the ids that the database gave them."""
        values = [_values(tenant) for tenant in tenants]
        ids = inserted_ids(self._session, TenantRow, values, [TenantRow.name])
        self._add_hosts(dict(zip(ids, tenants, strict=True)))
        return ids

    def save_all(self, tenants: Sequence[RecordedTenant]) -> None:
        """Record changed tenants under their ids."""
        if not tenants:
            return
        values = [_values(tenant) | {"id": tenant.id} for tenant in tenants]
        save_revisions(self._session, TenantRow, values)
        by_id = {tenant.id: tenant for tenant in tenants}
        # All hosts go before one comes: a host may move from a tenant to another.
        self._remove_hosts(by_id)
        self._add_hosts(by_id)

    def _add_hosts(self, tenants: Mapping[int, RecordedTenant]) -> None:
        rows = [
            {"host": host, "tenant_id": tenant_id}
            for tenant_id, tenant in tenants.items()
            for host in tenant.hosts
        ]
        insert_all(self._session, TenantHostRow, rows)

    def _remove_hosts(self, tenant_ids: Collection[int]) -> None:
        for chunk in chunks(tenant_ids):
            self._session.execute(delete(TenantHostRow).where(TenantHostRow.tenant_id.in_(chunk)))

    def remove_all(self, tenant_ids: Collection[int]) -> None:
        """Remove tenants, after everything that names them."""
        self._remove_hosts(tenant_ids)
        for chunk in chunks(tenant_ids):
            self._session.execute(delete(TenantRow).where(TenantRow.id.in_(chunk)))


def _values(tenant: RecordedTenant) -> dict[str, Any]:
    return values_for(TenantRow, tenant) | values_for(TenantRow, tenant.limits)


def _tenant(row: dict[str, Any], hosts: list[str]) -> RecordedTenant:
    limits = {name: row.pop(name) for name in TenantLimits.model_fields}
    return RecordedTenant.model_validate({**row, "hosts": hosts, "limits": limits})
