"""Rows of owned prefixes, and of the other tenants that may use them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Select, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.acl import RecordedOwnership
from app.db.base import (
    Base,
    Revisions,
    chunks,
    columns_for,
    insert_all,
    inserted_ids,
    revisions_of,
    save_revisions,
    values_for,
)
from app.db.tenants import TenantRow


class OwnedPrefixRow(Base):
    """A module path prefix and the tenant it belongs to."""

    __tablename__ = "owned_prefixes"

    id: Mapped[int] = mapped_column(primary_key=True)
    prefix: Mapped[str] = mapped_column(unique=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), index=True)
    revision: Mapped[int]
    created_at: Mapped[datetime]


class PrefixGrantRow(Base):
    """Another tenant that may use an owned prefix."""

    __tablename__ = "prefix_grants"

    prefix_id: Mapped[int] = mapped_column(ForeignKey("owned_prefixes.id"), primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), primary_key=True, index=True)


class OwnershipTable:
    """The repository of owned prefixes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[RecordedOwnership]:
        """Return every owned prefix, by prefix."""
        return self._owned(select(OwnedPrefixRow.id))

    def page(self, *, after: str | None, limit: int | None) -> list[RecordedOwnership]:
        """Return the owned prefixes that follow a prefix, in their order.

        Args:
            after: the last prefix of the page before; None begins the list.
            limit: how many at most; None takes all.
        """
        query = select(OwnedPrefixRow.id).order_by(OwnedPrefixRow.prefix).limit(limit)
        return self._owned(query if after is None else query.where(OwnedPrefixRow.prefix > after))

    def get(self, prefix: str) -> RecordedOwnership | None:
        """Return one owned prefix."""
        query = select(OwnedPrefixRow.id).where(OwnedPrefixRow.prefix == prefix)
        return next(iter(self._owned(query)), None)

    def other_spelling(self, prefix: str) -> str | None:
        """Return an owned prefix that differs from this one in the case of letters alone."""
        folded = func.lower(OwnedPrefixRow.prefix) == prefix.lower()
        query = select(OwnedPrefixRow.prefix).where(folded, OwnedPrefixRow.prefix != prefix)
        return self._session.execute(query.limit(1)).scalar_one_or_none()

    def prefixes_of(self, tenant_id: int) -> list[str]:
        """Return the prefixes that a tenant owns."""
        query = select(OwnedPrefixRow.prefix).where(OwnedPrefixRow.tenant_id == tenant_id)
        return list(self._session.execute(query).scalars())

    def revisions(self) -> Revisions:
        """Return what tells whether any prefix was added, changed or removed."""
        return revisions_of(self._session, OwnedPrefixRow)

    def _owned(self, ids: Select[Any]) -> list[RecordedOwnership]:
        granted: dict[int, list[str]] = {}
        of_grants = select(PrefixGrantRow.prefix_id, TenantRow.name).join(TenantRow)
        of_grants = of_grants.where(PrefixGrantRow.prefix_id.in_(ids))
        for prefix_id, name in self._session.execute(of_grants):
            granted.setdefault(prefix_id, []).append(name)
        columns = *columns_for(OwnedPrefixRow, RecordedOwnership), TenantRow.name.label("tenant")
        query = select(*columns).join(TenantRow).where(OwnedPrefixRow.id.in_(ids))
        rows = self._session.execute(query.order_by(OwnedPrefixRow.prefix)).mappings()
        return [
            RecordedOwnership.model_validate({**row, "granted": granted.get(row["id"], [])})
            for row in rows
        ]

    def add_all(
        self, owned: Sequence[RecordedOwnership], tenant_ids: Mapping[str, int]
    ) -> list[int]:
        """Record newly owned prefixes; return the ids that the database gave them.

        Args:
            owned: their own ids count for nothing.
            tenant_ids: the tenants' ids by name.
        """
        values = [_values(one, tenant_ids) for one in owned]
        ids = inserted_ids(self._session, OwnedPrefixRow, values, [OwnedPrefixRow.prefix])
        self._grant(dict(zip(ids, owned, strict=True)), tenant_ids)
        return ids

    def save_all(self, owned: Sequence[RecordedOwnership], tenant_ids: Mapping[str, int]) -> None:
        """Record under their ids whose prefixes are from now on, and who may use them."""
        if not owned:
            return
        values = [_values(one, tenant_ids) | {"id": one.id} for one in owned]
        save_revisions(self._session, OwnedPrefixRow, values)
        self._withdraw([one.id for one in owned])
        self._grant({one.id: one for one in owned}, tenant_ids)

    def _grant(self, owned: Mapping[int, RecordedOwnership], tenant_ids: Mapping[str, int]) -> None:
        rows = [
            {"prefix_id": prefix_id, "tenant_id": tenant_ids[name]}
            for prefix_id, one in owned.items()
            for name in one.granted
        ]
        insert_all(self._session, PrefixGrantRow, rows)

    def _withdraw(self, prefix_ids: Collection[int]) -> None:
        for chunk in chunks(prefix_ids):
            self._session.execute(delete(PrefixGrantRow).where(PrefixGrantRow.prefix_id.in_(chunk)))

    def remove_of(self, tenant_ids: Collection[int]) -> None:
        """Remove the prefixes of tenants that are being removed, and what was granted to them."""
        for chunk in chunks(tenant_ids):
            query = select(OwnedPrefixRow.id).where(OwnedPrefixRow.tenant_id.in_(chunk))
            self.remove_all(list(self._session.execute(query).scalars()))
            self._session.execute(delete(PrefixGrantRow).where(PrefixGrantRow.tenant_id.in_(chunk)))

    def remove_all(self, prefix_ids: Collection[int]) -> None:
        """Give prefixes back to everybody."""
        self._withdraw(prefix_ids)
        for chunk in chunks(prefix_ids):
            self._session.execute(delete(OwnedPrefixRow).where(OwnedPrefixRow.id.in_(chunk)))


def _values(owned: RecordedOwnership, tenant_ids: Mapping[str, int]) -> dict[str, Any]:
    return values_for(OwnedPrefixRow, owned) | {"tenant_id": tenant_ids[owned.tenant]}
