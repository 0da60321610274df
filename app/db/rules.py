"""Rows of rules and of owned prefixes: which modules a tenant may use."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, delete, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from app.core.acl import Effect, Ownership, Rule
from app.core.modulepattern import Pattern
from app.core.tenant import Tenant
from app.core.versionrange import VersionRange
from app.db.base import Base
from app.db.tenants import TenantTable


class RuleRow(Base):
    """One rule; a platform rule has no tenant."""

    __tablename__ = "rules"
    __table_args__ = ({"sqlite_autoincrement": True},)  # an id in the audit log stays this rule's

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int | None] = mapped_column(ForeignKey("tenants.id"), index=True)
    effect: Mapped[str]
    pattern: Mapped[str]
    versions: Mapped[str]
    reason: Mapped[str]
    expires_at: Mapped[datetime | None]
    revision: Mapped[int]
    created_at: Mapped[datetime]


class OwnedPrefixRow(Base):
    """A module path prefix and the tenant it belongs to."""

    __tablename__ = "owned_prefixes"

    id: Mapped[int] = mapped_column(primary_key=True)
    prefix: Mapped[str] = mapped_column(unique=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), index=True)
    revision: Mapped[int]
    created_at: Mapped[datetime]

    grants: Mapped[list["PrefixGrantRow"]] = relationship(
        lazy="raise", cascade="all, delete-orphan"
    )


class PrefixGrantRow(Base):
    """Another tenant that may use an owned prefix."""

    __tablename__ = "prefix_grants"

    prefix_id: Mapped[int] = mapped_column(ForeignKey("owned_prefixes.id"), primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), primary_key=True)


@dataclass(frozen=True, slots=True)
class RecordedRule:
    """A rule and how often it was changed."""

    rule: Rule
    revision: int
    created_at: datetime


class RuleTable:
    """The repository of rules, those of the platform among them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[RecordedRule]:
        """Return every rule, oldest first."""
        names = TenantTable(self._session).names()
        rows = self._session.execute(select(RuleRow).order_by(RuleRow.id)).scalars()
        return [_rule(row, names) for row in rows]

    def of(self, tenant: Tenant | None) -> list[RecordedRule]:
        """Return the rules of one tenant, or the platform's, oldest first."""
        return [r for r in self.all() if r.rule.tenant == (tenant.name if tenant else None)]

    def add(self, rule: Rule, tenant: Tenant | None, at: datetime) -> RecordedRule:
        """Record a new rule; its id is given by the database."""
        row = RuleRow(tenant_id=tenant.id if tenant else None, created_at=at, revision=0)
        self._fill(row, rule)
        self._session.add(row)
        self._session.flush()
        return _rule(row, {tenant.id: tenant.name} if tenant else {})

    def save(self, rule: Rule, tenant: Tenant | None) -> RecordedRule:
        """Record a changed rule as the next revision."""
        row = self._session.get_one(RuleRow, rule.id)
        self._fill(row, rule)
        self._session.flush()
        return _rule(row, {tenant.id: tenant.name} if tenant else {})

    def _fill(self, row: RuleRow, rule: Rule) -> None:
        row.effect, row.pattern = rule.effect, rule.pattern.text
        row.versions = str(rule.versions) if rule.versions else ""
        row.reason, row.expires_at = rule.reason, rule.expires_at
        row.revision += 1

    def remove_of(self, tenant: Tenant) -> None:
        """Remove the rules of a tenant that is being removed."""
        self._session.execute(delete(RuleRow).where(RuleRow.tenant_id == tenant.id))

    def remove(self, rule_id: int) -> None:
        """Remove a rule."""
        self._session.execute(delete(RuleRow).where(RuleRow.id == rule_id))


def _rule(row: RuleRow, names: dict[int, str]) -> RecordedRule:
    rule = Rule(
        id=row.id,
        effect=Effect(row.effect),
        pattern=Pattern.parse(row.pattern),
        versions=VersionRange.parse(row.versions) if row.versions else None,
        reason=row.reason,
        expires_at=row.expires_at,
        tenant=None if row.tenant_id is None else names[row.tenant_id],
    )
    return RecordedRule(rule, row.revision, row.created_at)


@dataclass(frozen=True, slots=True)
class RecordedOwnership:
    """An owned prefix and how often it was changed."""

    id: int
    ownership: Ownership
    revision: int
    created_at: datetime


class OwnershipTable:
    """The repository of owned prefixes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[RecordedOwnership]:
        """Return every owned prefix, by prefix."""
        names = TenantTable(self._session).names()
        granted: dict[int, set[str]] = {}
        for prefix_id, tenant_id in self._session.execute(
            select(PrefixGrantRow.prefix_id, PrefixGrantRow.tenant_id)
        ):
            granted.setdefault(prefix_id, set()).add(names[tenant_id])
        rows = self._session.execute(select(OwnedPrefixRow).order_by(OwnedPrefixRow.prefix))
        return [
            RecordedOwnership(
                row.id,
                Ownership(row.prefix, names[row.tenant_id], frozenset(granted.get(row.id, ()))),
                row.revision,
                row.created_at,
            )
            for row in rows.scalars()
        ]

    def save(self, ownership: Ownership, ids: dict[str, int], at: datetime) -> None:
        """Record who owns a prefix and who may use it.

        Args:
            ownership: what holds from now on.
            ids: the tenants' ids by name.
            at: UTC.
        """
        row = self._session.execute(
            select(OwnedPrefixRow).where(OwnedPrefixRow.prefix == ownership.prefix)
        ).scalar_one_or_none()
        if row is None:
            row = OwnedPrefixRow(prefix=ownership.prefix, revision=0, created_at=at)
            self._session.add(row)
        row.tenant_id = ids[ownership.tenant]
        row.revision += 1
        self._session.flush()
        self._session.execute(delete(PrefixGrantRow).where(PrefixGrantRow.prefix_id == row.id))
        self._session.add_all(
            PrefixGrantRow(prefix_id=row.id, tenant_id=ids[name]) for name in ownership.granted
        )
        self._session.flush()

    def remove_of(self, tenant: Tenant) -> None:
        """Remove the prefixes and grants of a tenant that is being removed."""
        prefixes = select(OwnedPrefixRow.id).where(OwnedPrefixRow.tenant_id == tenant.id)
        of_tenant = or_(
            PrefixGrantRow.prefix_id.in_(prefixes), PrefixGrantRow.tenant_id == tenant.id
        )
        self._session.execute(delete(PrefixGrantRow).where(of_tenant))
        self._session.execute(delete(OwnedPrefixRow).where(OwnedPrefixRow.tenant_id == tenant.id))

    def remove(self, prefix_id: int) -> None:
        """Give a prefix back to everybody."""
        self._session.execute(delete(PrefixGrantRow).where(PrefixGrantRow.prefix_id == prefix_id))
        self._session.execute(delete(OwnedPrefixRow).where(OwnedPrefixRow.id == prefix_id))
