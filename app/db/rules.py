"""Rows of rules: which modules a tenant may use."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ForeignKey,
    Index,
    Select,
    delete,
    func,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.acl import RecordedRule, Rule
from app.db.base import (
    Base,
    Revisions,
    chunks,
    columns_for,
    inserted_ids,
    revisions_of,
    save_revisions,
    values_for,
)
from app.db.tenants import TenantRow


class RuleRow(Base):
    """One rule; a platform rule has no tenant."""

    __tablename__ = "rules"
    __table_args__ = (
        Index("ix_rules_tenant_id_pattern", "tenant_id", "pattern"),
        {"sqlite_autoincrement": True},  # an id in the audit log stays this rule's
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int | None] = mapped_column(ForeignKey("tenants.id"), index=True)
    effect: Mapped[str]
    pattern: Mapped[str]
    versions: Mapped[str]
    reason: Mapped[str]
    expires_at: Mapped[datetime | None]
    revision: Mapped[int]
    created_at: Mapped[datetime]


class RuleTable:
    """The repository of rules. A tenant's id of None stands for the platform."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[RecordedRule]:
        """Return every rule, oldest first."""
        return self._rules(_query())

    def of_tenants(
        self, tenant_ids: Collection[int], known: Mapping[int, RecordedRule]
    ) -> list[RecordedRule]:
        """Return the rules of tenants, oldest first; only what changed is read as a whole.

        Args:
            tenant_ids: of the tenants.
            known: rules that were read before, by id.
        """
        query = select(RuleRow.id, RuleRow.revision).where(RuleRow.tenant_id.in_(tenant_ids))
        rows = self._session.execute(query.order_by(RuleRow.id)).all()
        rules = {
            i: known[i] for i, revision in rows if i in known and known[i].revision == revision
        }
        for chunk in chunks(row.id for row in rows if row.id not in rules):
            rules |= {rule.id: rule for rule in self._rules(_query().where(RuleRow.id.in_(chunk)))}
        return [rules[row.id] for row in rows]

    def page(self, tenant_id: int | None, *, after: int, limit: int | None) -> list[RecordedRule]:
        """Return the rules of a tenant whose ids are above one, oldest first."""
        query = _query().where(_is_of(tenant_id), RuleRow.id > after)
        return self._rules(query.limit(limit))

    def get(self, tenant_id: int | None, rule_id: int) -> RecordedRule | None:
        """Return one rule of a tenant."""
        query = _query().where(_is_of(tenant_id), RuleRow.id == rule_id)
        return next(iter(self._rules(query)), None)

    def same_as(self, tenant_id: int | None, rule: Rule) -> int | None:
        """Return the id of the tenant's rule that is about the same versions and says the same."""
        words = values_for(RuleRow, rule)
        query = select(RuleRow.id).where(
            _is_of(tenant_id),
            *(getattr(RuleRow, name) == words[name] for name in ("pattern", "effect", "versions")),
        )
        return self._session.execute(query.limit(1)).scalar()

    def count(self, tenant_id: int | None) -> int:
        """Return how many rules a tenant has."""
        query = select(func.count()).select_from(RuleRow).where(_is_of(tenant_id))
        return self._session.execute(query).scalar_one()

    def revisions(self) -> Revisions:
        """Return what tells whether any rule was added, changed or removed."""
        return revisions_of(self._session, RuleRow)

    def _rules(self, query: Select[Any]) -> list[RecordedRule]:
        rows = self._session.execute(query).mappings()
        return [RecordedRule.model_validate(dict(row)) for row in rows]

    def add_all(self, rules: Sequence[RecordedRule], tenant_ids: Mapping[str, int]) -> list[int]:
        """Record new rules; return the ids that the database gave them.

        Args:
            rules: their own ids count for nothing.
            tenant_ids: the tenants' ids by name.
        """
        values = [
            values_for(RuleRow, rule)
            | {"tenant_id": None if rule.tenant is None else tenant_ids[rule.tenant]}
            for rule in rules
        ]
        key = [RuleRow.tenant_id, RuleRow.effect, RuleRow.pattern, RuleRow.versions]
        return inserted_ids(self._session, RuleRow, values, key)

    def save_all(self, rules: Sequence[RecordedRule]) -> None:
        """Record changed rules under their ids."""
        values = [values_for(RuleRow, rule) | {"id": rule.id} for rule in rules]
        save_revisions(self._session, RuleRow, values)

    def remove_of(self, tenant_ids: Collection[int]) -> None:
        """Remove the rules of tenants that are being removed."""
        for chunk in chunks(tenant_ids):
            self._session.execute(delete(RuleRow).where(RuleRow.tenant_id.in_(chunk)))

    def remove_all(self, rule_ids: Collection[int]) -> None:
        """Remove rules."""
        for chunk in chunks(rule_ids):
            self._session.execute(delete(RuleRow).where(RuleRow.id.in_(chunk)))


def _query() -> Select[Any]:
    tenant = TenantRow.name.label("tenant")
    query = select(*columns_for(RuleRow, RecordedRule), tenant)
    return query.outerjoin(TenantRow, TenantRow.id == RuleRow.tenant_id).order_by(RuleRow.id)


def _is_of(tenant_id: int | None) -> ColumnElement[bool]:
    return RuleRow.tenant_id.is_(None) if tenant_id is None else RuleRow.tenant_id == tenant_id
