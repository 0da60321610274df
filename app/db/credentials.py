"""Rows of credentials for upstreams; their secrets are sealed by services/secrets.py."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Select, UniqueConstraint, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.credential import RecordedCredential
from app.db.base import (
    Base,
    Revisions,
    chunks,
    columns_for,
    inserted_ids,
    is_one_of,
    revisions_of,
    save_revisions,
    values_for,
)
from app.db.tenants import TenantRow


class CredentialRow(Base):
    """A credential for an upstream."""

    __tablename__ = "credentials"
    # An origin is known by its credential's id, which must never come again.
    __table_args__ = (UniqueConstraint("tenant_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    kind: Mapped[str]
    username: Mapped[str]
    sealed: Mapped[bytes] = mapped_column("secret")
    revision: Mapped[int]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class CredentialTable:
    """The repository of credentials for upstreams."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, tenant_ids: Collection[int] | None = None) -> list[RecordedCredential]:
        """Return every credential, or those of some tenants, by tenant and name."""
        return self._credentials(_query().where(is_one_of(CredentialRow.tenant_id, tenant_ids)))

    def page(
        self, tenant_id: int, *, after: str | None, limit: int | None
    ) -> list[RecordedCredential]:
        """Return the credentials of a tenant that follow a name, by name.

        Args:
            tenant_id: whose.
            after: the last name of the page before; None begins the list.
            limit: how many at most; None takes all.
        """
        query = _query().where(CredentialRow.tenant_id == tenant_id).limit(limit)
        return self._credentials(
            query if after is None else query.where(CredentialRow.name > after)
        )

    def get(self, tenant_id: int, name: str) -> RecordedCredential | None:
        """Return one credential of a tenant."""
        query = _query().where(CredentialRow.tenant_id == tenant_id, CredentialRow.name == name)
        return next(iter(self._credentials(query)), None)

    def ids_of(self, tenant_id: int) -> dict[str, int]:
        """Return the ids of a tenant's credentials by name."""
        query = select(CredentialRow.name, CredentialRow.id)
        rows = self._session.execute(query.where(CredentialRow.tenant_id == tenant_id))
        return {row.name: row.id for row in rows}

    def revisions(self) -> Revisions:
        """Return what tells whether any credential was added, changed or removed."""
        return revisions_of(self._session, CredentialRow)

    def _credentials(self, query: Select[Any]) -> list[RecordedCredential]:
        rows = self._session.execute(query).mappings()
        return [RecordedCredential.model_validate(dict(row)) for row in rows]

    def add_all(
        self, credentials: Sequence[RecordedCredential], tenant_ids: Mapping[str, int]
    ) -> list[int]:
        """Record new credentials; return the ids that the database gave them.

        Args:
            credentials: their own ids count for nothing.
            tenant_ids: the tenants' ids by name.
        """
        values = [_values(one) | {"tenant_id": tenant_ids[one.tenant]} for one in credentials]
        key = [CredentialRow.tenant_id, CredentialRow.name]
        return inserted_ids(self._session, CredentialRow, values, key)

    def save_all(self, credentials: Sequence[RecordedCredential]) -> None:
        """Record changed credentials under their ids."""
        values = [_values(one) | {"id": one.id} for one in credentials]
        save_revisions(self._session, CredentialRow, values)

    def remove_of(self, tenant_ids: Collection[int]) -> None:
        """Remove the credentials of tenants that are being removed, after their routes."""
        for chunk in chunks(tenant_ids):
            self._session.execute(delete(CredentialRow).where(CredentialRow.tenant_id.in_(chunk)))

    def remove(self, credential_id: int) -> None:
        """Remove a credential."""
        self._session.execute(delete(CredentialRow).where(CredentialRow.id == credential_id))


def _query() -> Select[Any]:
    columns = *columns_for(CredentialRow, RecordedCredential), TenantRow.name.label("tenant")
    query = select(*columns).join_from(CredentialRow, TenantRow)
    return query.order_by(CredentialRow.tenant_id, CredentialRow.name)


def _values(credential: RecordedCredential) -> dict[str, Any]:
    # What no answer shows is no part of the dump.
    hidden = {"sealed": credential.sealed, "created_at": credential.created_at}
    return values_for(CredentialRow, credential) | hidden
