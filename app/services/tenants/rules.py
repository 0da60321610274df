"""Writing rules, of tenants and of the platform."""

from app.core.acl import RecordedRule, Rule
from app.core.effect import Effect
from app.core.errors import ConflictError, UnknownError
from app.core.principal import Principal
from app.db.engine import Database, Session
from app.db.room import Room
from app.db.rules import RuleTable
from app.services.authorization import require_admin
from app.services.changes import check_revision, denial_room, locked, tenant_id_named
from app.services.clock import Now
from app.services.tenants.checks import check_rule
from app.services.tenants.edits import Edit, write

MAX_RULES = 1000


class RuleService:
    """Use cases about rules. A tenant of None stands for the platform."""

    def __init__(self, db: Database, now: Now) -> None:
        self._db = db
        self._now = now

    async def page(
        self, tenant: str | None, who: Principal, *, after: int = 0, limit: int | None = None
    ) -> list[RecordedRule]:
        """Return rules of a tenant or of the platform, oldest first.

        Args:
            tenant: whose.
            who: an admin of it.
            after: the last id of the page before.
            limit: how many at most; None takes all.
        """
        require_admin(who, tenant)
        return await self._db.read(
            lambda s: RuleTable(s).page(_tenant_id(s, tenant), after=after, limit=limit)
        )

    async def get(self, tenant: str | None, rule_id: int, who: Principal) -> RecordedRule:
        """Return one rule.

        Raises:
            UnknownError: the tenant has no such rule.
        """
        require_admin(who, tenant)
        return await self._db.read(lambda s: _rule(s, tenant, rule_id))

    async def create(self, tenant: str | None, rule: Rule, who: Principal) -> RecordedRule:
        """Return a new rule.

        Raises:
            BadInputError: it can't be recorded.
            ConflictError: the same rule is recorded already, or there are too many.
        """
        require_admin(who, tenant)

        def work(session: Session) -> RecordedRule:
            tenant_id, at = _tenant_id(session, tenant), self._now()
            check_rule(rule, tenant, at)
            if RuleTable(session).count(tenant_id) >= MAX_RULES:
                raise ConflictError(f"there are {MAX_RULES} rules already")
            _check_new(session, tenant_id, rule)
            after = RecordedRule.first(rule, at, tenant=tenant)
            [rule_id] = write(session, [Edit(None, after)], who, at)
            return after.model_copy(update={"id": rule_id})

        return await self._db.write(locked(work), room=_room_for(rule, who))

    async def update(
        self,
        tenant: str | None,
        rule_id: int,
        rule: Rule,
        who: Principal,
        *,
        revision: int | None = None,
    ) -> RecordedRule:
        """Return the rule, changed to other words; the same words change nothing.

        Raises:
            BadInputError: it can't be recorded.
            UnknownError: the tenant has no such rule.
            ConflictError: another rule says the same.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, tenant)

        def work(session: Session) -> RecordedRule:
            before, at = _rule(session, tenant, rule_id), self._now()
            check_revision(before.revision, revision, f"rule {rule_id}")
            check_rule(rule, tenant, at)
            if before.says(rule):
                return before
            _check_new(session, _tenant_id(session, tenant), rule, besides=rule_id)
            after = RecordedRule.first(rule, at, tenant=tenant).succeeding(before)
            write(session, [Edit(before, after)], who, at)
            return after

        return await self._db.write(locked(work), room=_room_for(rule, who))

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
            before = _rule(session, tenant, rule_id)
            check_revision(before.revision, revision, f"rule {rule_id}")
            write(session, [Edit(before, None)], who, self._now())

        await self._db.write(locked(work))


def _room_for(rule: Rule, who: Principal) -> Room:
    """Return the room of a rule's change: denying works on a full disk."""
    return denial_room(who) if rule.effect is Effect.DENY else Room.ABOVE_FLOOR


def _tenant_id(session: Session, name: str | None) -> int | None:
    return None if name is None else tenant_id_named(session, name)


def _rule(session: Session, tenant: str | None, rule_id: int) -> RecordedRule:
    rule = RuleTable(session).get(_tenant_id(session, tenant), rule_id)
    if rule is None:
        whose = f"tenant {tenant}" if tenant else "the platform"
        raise UnknownError(f"{whose} has no rule {rule_id}; see `moorage rule list`")
    return rule


def _check_new(
    session: Session, tenant_id: int | None, rule: Rule, *, besides: int | None = None
) -> None:
    same = RuleTable(session).same_as(tenant_id, rule)
    if same not in (None, besides):
        raise ConflictError(f"rule {same} says that already: {rule}")
