"""Writing rules, of tenants and of the platform; and who owns which prefix."""

from app.core.acl import Ownership, Rule
from app.core.errors import BadInputError, ConflictError, UnknownError
from app.core.principal import Principal
from app.core.tenant import Tenant
from app.db.engine import Database, Session
from app.db.rules import OwnershipTable, RecordedOwnership, RecordedRule, RuleTable
from app.db.tenants import TenantTable
from app.services.authorization import require_admin
from app.services.changes import check_revision, record, tenant_named
from app.services.clock import Now
from app.services.tenants.drafts import RuleDraft, check_prefix

MAX_RULES = 1000


class RuleService:
    """Use cases about rules. A tenant of None stands for the platform."""

    def __init__(self, db: Database, now: Now) -> None:
        self._db = db
        self._now = now

    async def all(self, tenant: str | None, who: Principal) -> list[RecordedRule]:
        """Return the rules of a tenant or of the platform, oldest first."""
        require_admin(who, tenant)
        return await self._db.read(lambda s: RuleTable(s).of(_tenant(s, tenant)))

    async def get(self, tenant: str | None, rule_id: int, who: Principal) -> RecordedRule:
        """Return one rule.

        Raises:
            UnknownError: the tenant has no such rule.
        """
        require_admin(who, tenant)
        return await self._db.read(lambda s: _rule(s, _tenant(s, tenant), rule_id))

    async def create(self, tenant: str | None, draft: RuleDraft, who: Principal) -> RecordedRule:
        """Return a new rule.

        Raises:
            BadInputError: it is malformed.
            ConflictError: the same rule is there already, or there are too many.
        """
        require_admin(who, tenant)
        return await self._db.write(lambda s: self.create_in(s, _tenant(s, tenant), draft, who))

    def create_in(
        self, session: Session, tenant: Tenant | None, draft: RuleDraft, who: Principal
    ) -> RecordedRule:
        """Create within a transaction; see `create`."""
        at = self._now()
        rule = draft.rule(0, tenant.name if tenant else None, at)
        table = RuleTable(session)
        present = table.of(tenant)
        if len(present) >= MAX_RULES:
            raise ConflictError(f"there are {MAX_RULES} rules already")
        _check_new(rule, present)
        made = table.add(rule, tenant, at)
        record(session, at, who, "rule.create", _object(made.rule), _shown(made.rule))
        return made

    async def update(
        self,
        tenant: str | None,
        rule_id: int,
        draft: RuleDraft,
        who: Principal,
        *,
        revision: int | None = None,
    ) -> RecordedRule:
        """Return the rule, changed to what the draft says.

        Raises:
            BadInputError: it is malformed.
            UnknownError: the tenant has no such rule.
            ConflictError: another rule says the same.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, tenant)

        def work(session: Session) -> RecordedRule:
            of_tenant = _tenant(session, tenant)
            before = _rule(session, of_tenant, rule_id)
            check_revision(before.revision, revision, f"rule {rule_id}")
            return self.update_in(session, of_tenant, before, draft, who)

        return await self._db.write(work)

    def update_in(
        self,
        session: Session,
        tenant: Tenant | None,
        before: RecordedRule,
        draft: RuleDraft,
        who: Principal,
    ) -> RecordedRule:
        """Change within a transaction; what is so already is left as it is. See `update`."""
        rule_id, at = before.rule.id, self._now()
        rule = draft.rule(rule_id, tenant.name if tenant else None, at)
        if rule == before.rule:
            return before
        table = RuleTable(session)
        _check_new(rule, [r for r in table.of(tenant) if r.rule.id != rule_id])
        after = table.save(rule, tenant)
        detail = f"{_shown(after.rule)}, before: {_shown(before.rule)}"
        record(session, at, who, "rule.update", _object(rule), detail)
        return after

    async def remove(
        self, tenant: str | None, rule_id: int, who: Principal, *, revision: int | None = None
    ) -> None:
        """Remove a rule.

        Raises:
            UnknownError: the tenant has no such rule.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, tenant)

        def work(session: Session) -> None:
            found = _rule(session, _tenant(session, tenant), rule_id)
            check_revision(found.revision, revision, f"rule {rule_id}")
            self.remove_in(session, found.rule, who)

        await self._db.write(work)

    def remove_in(self, session: Session, rule: Rule, who: Principal) -> None:
        """Remove within a transaction; see `remove`."""
        RuleTable(session).remove(rule.id)
        record(session, self._now(), who, "rule.remove", _object(rule), _shown(rule))


class OwnershipService:
    """Use cases about owned prefixes; all are the platform's."""

    def __init__(self, db: Database, now: Now) -> None:
        self._db = db
        self._now = now

    async def all(self, who: Principal) -> list[RecordedOwnership]:
        """Return every owned prefix, by prefix."""
        require_admin(who, None)
        return await self._db.read(lambda s: OwnershipTable(s).all())

    async def put(
        self, ownership: Ownership, who: Principal, *, revision: int | None = None
    ) -> RecordedOwnership:
        """Return the prefix, recorded as belonging to its tenant.

        Raises:
            BadInputError: the prefix is malformed, or granted to its owner.
            UnknownError: there is no such tenant.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, None)
        return await self._db.write(lambda s: self.put_in(s, ownership, who, revision))

    def put_in(
        self,
        session: Session,
        ownership: Ownership,
        who: Principal,
        revision: int | None = None,
    ) -> RecordedOwnership:
        """Record within a transaction; see `put`."""
        check_prefix(ownership.prefix)
        if ownership.tenant in ownership.granted:
            raise BadInputError("the owner needs no grant")
        ids = {n: i for i, n in TenantTable(session).names().items()}
        for name in (ownership.tenant, *sorted(ownership.granted)):
            if name not in ids:
                raise UnknownError(f"there is no tenant {name[:80]!a}; see `moorage tenant list`")
        before = _owned(session, ownership.prefix)
        check_revision(before.revision if before else 0, revision, ownership.prefix)
        if before is not None and before.ownership == ownership:
            return before
        at = self._now()
        OwnershipTable(session).save(ownership, ids, at)
        granted = f", granted to {' '.join(sorted(ownership.granted))}" if ownership.granted else ""
        detail = f"tenant {ownership.tenant}{granted}"
        record(session, at, who, "ownership.put", f"prefix:{ownership.prefix}", detail)
        after = _owned(session, ownership.prefix)
        if after is None:
            raise AssertionError("the prefix was just recorded")
        return after

    async def remove(self, prefix: str, who: Principal, *, revision: int | None = None) -> None:
        """Give a prefix back to everybody.

        Raises:
            UnknownError: nobody owns it.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, None)

        def work(session: Session) -> None:
            found = _owned(session, prefix)
            if found is None:
                raise UnknownError(
                    f"nobody owns the prefix {prefix[:200]!a}; see `moorage owner list`"
                )
            check_revision(found.revision, revision, prefix)
            self.remove_in(session, found, who)

        await self._db.write(work)

    def remove_in(self, session: Session, found: RecordedOwnership, who: Principal) -> None:
        """Remove within a transaction; see `remove`."""
        OwnershipTable(session).remove(found.id)
        prefix = found.ownership.prefix
        detail = f"was tenant {found.ownership.tenant}'s"
        record(session, self._now(), who, "ownership.remove", f"prefix:{prefix}", detail)


def _owned(session: Session, prefix: str) -> RecordedOwnership | None:
    return next((o for o in OwnershipTable(session).all() if o.ownership.prefix == prefix), None)


def _tenant(session: Session, name: str | None) -> Tenant | None:
    return None if name is None else tenant_named(session, name)


def _rule(session: Session, tenant: Tenant | None, rule_id: int) -> RecordedRule:
    found = next((r for r in RuleTable(session).of(tenant) if r.rule.id == rule_id), None)
    if found is None:
        whose = f"tenant {tenant.name}" if tenant else "the platform"
        raise UnknownError(f"{whose} has no rule {rule_id}; see `moorage rule list`")
    return found


def _check_new(rule: Rule, present: list[RecordedRule]) -> None:
    for other in present:
        if str(other.rule) == str(rule):
            raise ConflictError(f"rule {other.rule.id} says that already: {rule}")


def _object(rule: Rule) -> str:
    return f"rule:{rule.tenant or 'platform'}/{rule.id}"


def _shown(rule: Rule) -> str:
    until = f" until {rule.expires_at:%Y-%m-%d %H:%M}" if rule.expires_at else ""
    return f"{rule}{until}" + (f" ({rule.reason})" if rule.reason else "")
