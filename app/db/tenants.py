"""Rows of tenants, with the host names that lead to them."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ForeignKey, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from app.core.acl import Effect
from app.core.tenant import Tenant, TenantLimits
from app.db.base import Base


class TenantRow(Base):
    """One tenant."""

    __tablename__ = "tenants"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    default_effect: Mapped[str]
    anonymous_read: Mapped[bool]
    enabled: Mapped[bool]
    max_streams: Mapped[int | None]
    max_cold: Mapped[int | None]
    max_rate: Mapped[int | None]
    revision: Mapped[int]
    created_at: Mapped[datetime]

    hosts: Mapped[list["TenantHostRow"]] = relationship(
        lazy="raise", order_by="TenantHostRow.host", cascade="all, delete-orphan"
    )


class TenantHostRow(Base):
    """A host name that leads to one tenant."""

    __tablename__ = "tenant_hosts"

    host: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), index=True)


class TenantTable:
    """The repository of tenants."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def row(self, name: str) -> TenantRow | None:
        """Return a tenant's row."""
        return self._session.execute(
            select(TenantRow).where(TenantRow.name == name)
        ).scalar_one_or_none()

    def row_by_id(self, tenant_id: int) -> TenantRow | None:
        """Return a tenant's row by its id."""
        return self._session.get(TenantRow, tenant_id)

    def names(self) -> dict[int, str]:
        """Return every tenant's name by its id."""
        rows = self._session.execute(select(TenantRow.id, TenantRow.name))
        return {row.id: row.name for row in rows}

    def all(self) -> list[Tenant]:
        """Return every tenant, by name."""
        hosts: dict[int, list[str]] = {}
        for row in self._session.execute(
            select(TenantHostRow).order_by(TenantHostRow.host)
        ).scalars():
            hosts.setdefault(row.tenant_id, []).append(row.host)
        rows = self._session.execute(select(TenantRow).order_by(TenantRow.name)).scalars()
        return [_tenant(row, hosts.get(row.id, [])) for row in rows]

    def get(self, name: str) -> Tenant | None:
        """Return one tenant."""
        row = self.row(name)
        if row is None:
            return None
        hosts = self._session.execute(
            select(TenantHostRow.host)
            .where(TenantHostRow.tenant_id == row.id)
            .order_by(TenantHostRow.host)
        ).scalars()
        return _tenant(row, list(hosts))

    def add(self, tenant: Tenant) -> Tenant:
        """Record a new tenant; its id and revision are given by the database."""
        row = TenantRow(name=tenant.name, created_at=tenant.created_at, revision=0)
        self._session.add(row)
        self._fill(row, tenant)
        return _tenant(row, tenant.hosts)

    def save(self, tenant: Tenant) -> Tenant:
        """Record a changed tenant under its id, as the next revision."""
        row = self._session.get_one(TenantRow, tenant.id)
        self._fill(row, tenant)
        return _tenant(row, tenant.hosts)

    def _fill(self, row: TenantRow, tenant: Tenant) -> None:
        row.title, row.default_effect = tenant.title, tenant.default
        row.anonymous_read, row.enabled = tenant.anonymous_read, tenant.enabled
        row.max_streams, row.max_cold = tenant.limits.streams, tenant.limits.cold
        row.max_rate = tenant.limits.rate
        row.revision += 1
        self._session.flush()
        self._session.execute(delete(TenantHostRow).where(TenantHostRow.tenant_id == row.id))
        self._session.add_all(TenantHostRow(host=h, tenant_id=row.id) for h in tenant.hosts)
        self._session.flush()

    def remove(self, tenant: Tenant) -> None:
        """Remove a tenant, after everything that names it."""
        self._session.execute(delete(TenantHostRow).where(TenantHostRow.tenant_id == tenant.id))
        self._session.execute(delete(TenantRow).where(TenantRow.id == tenant.id))


def _tenant(row: TenantRow, hosts: Sequence[str]) -> Tenant:
    return Tenant(
        id=row.id,
        name=row.name,
        title=row.title,
        default=Effect(row.default_effect),
        anonymous_read=row.anonymous_read,
        enabled=row.enabled,
        hosts=tuple(hosts),
        limits=TenantLimits(row.max_streams, row.max_cold, row.max_rate),
        revision=row.revision,
        created_at=row.created_at,
    )
