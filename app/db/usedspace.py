"""How much is stored for each tenant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, case, func, or_, select
from sqlalchemy.orm import Session

from app.core.goproxy import RequestKind
from app.db.modules import ModuleFileRow
from app.db.tenants import TenantRow


@dataclass(frozen=True, slots=True)
class TenantSpace:
    """What is stored for one tenant.

    Attributes:
        tenant: the name; None for what was brought in for nobody: before quotas were counted, for
            a tenant that is gone, or by Moorage itself.
        files: number of module files.
        zips: how many of them are zips.
        size_bytes: of all of them.
        quota_bytes: None for no quota.
    """

    tenant: str | None
    files: int
    zips: int
    size_bytes: int
    quota_bytes: int | None


class UsedSpace:
    """The repository of what is stored for tenants."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of_tenant(self, name: str) -> int:
        """Return the bytes that are stored for a tenant."""
        query = select(func.coalesce(func.sum(ModuleFileRow.size_bytes), 0)).where(
            ModuleFileRow.tenant_id.in_(select(TenantRow.id).where(TenantRow.name == name)),
            _IS_STORED,
        )
        return int(self._session.execute(query).scalar_one())

    def by_tenant(self, name: str | None = None) -> list[TenantSpace]:
        """Return what is stored for every tenant, by name, and last for nobody; or for one."""
        query: Select[str | None, int | None, int, int, int] = (
            select(
                TenantRow.name,
                TenantRow.quota_bytes,
                func.count(ModuleFileRow.id),
                func.coalesce(func.sum(_IS_ZIP), 0),
                func.coalesce(func.sum(ModuleFileRow.size_bytes), 0),
            )
            .select_from(ModuleFileRow)
            .outerjoin(TenantRow, TenantRow.id == ModuleFileRow.tenant_id)
            .where(_IS_STORED)
            .group_by(TenantRow.name, TenantRow.quota_bytes)
        )
        used = {row[0]: row for row in self._session.execute(query)}
        named = select(TenantRow.name, TenantRow.quota_bytes).order_by(TenantRow.name)
        tenants = self._session.execute(named)
        spaces = [
            TenantSpace(row.name, *_counts(used.get(row.name)), row.quota_bytes)
            for row in tenants
            if name in (None, row.name)
        ]
        if name is None and None in used:
            spaces.append(TenantSpace(None, *_counts(used[None]), None))
        return spaces


_IS_STORED = or_(ModuleFileRow.body.is_not(None), ModuleFileRow.blob_sha256.is_not(None))
_IS_ZIP = case((ModuleFileRow.kind == RequestKind.ZIP, 1), else_=0)


def _counts(row: Sequence[Any] | None) -> tuple[int, int, int]:
    return (0, 0, 0) if row is None else (int(row[2]), int(row[3]), int(row[4]))
