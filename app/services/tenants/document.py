"""Making the state match one document: tenants, their rules and routes, owned prefixes.

    tenants that the document names     exactly as it says, their rules and routes too
    tenants that it does not name       left alone; removed with `prune`
    owned prefixes, platform rules      exactly as it says, where it has that table; else left alone
    tokens, credentials                 not in a document, so that it holds no secret

All of it is one transaction: every part holds, or nothing was changed. What is so already is left
as it is and leaves no audit row. How a document is written is the admin API's; the facts that
changes are told in are `snapshot`'s.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from app.core.acl import Ownership
from app.core.errors import BadInputError, ConflictError, DeniedError, UnknownError
from app.core.principal import Principal
from app.core.tenant import Tenant
from app.db.engine import Database, Session
from app.db.routes import RouteTable
from app.db.rules import OwnershipTable, RuleTable
from app.db.tenants import TenantTable
from app.services.authorization import require_admin
from app.services.tenants.drafts import RouteDraft, RuleDraft, TenantDraft
from app.services.tenants.routes import RouteService
from app.services.tenants.rules import OwnershipService, RuleService
from app.services.tenants.snapshot import Change, differences, snapshot
from app.services.tenants.tenants import TenantService

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TenantPart:
    """All that a document says of one tenant."""

    draft: TenantDraft
    rules: tuple[RuleDraft, ...] = ()
    routes: tuple[RouteDraft, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """The state as an admin wants it.

    Attributes:
        ownership: None leaves it as it is.
        rules: of the platform; None leaves them as they are.
    """

    tenants: tuple[TenantPart, ...] = ()
    ownership: tuple[Ownership, ...] | None = None
    rules: tuple[RuleDraft, ...] | None = None


class DocumentService:
    """Applies documents."""

    def __init__(
        self,
        db: Database,
        tenants: TenantService,
        rules: RuleService,
        ownership: OwnershipService,
        routes: RouteService,
    ) -> None:
        self._db = db
        self._tenants = tenants
        self._rules = rules
        self._ownership = ownership
        self._routes = routes

    async def apply(
        self, document: Document, who: Principal, *, dry_run: bool = False, prune: bool = False
    ) -> list[Change]:
        """Return what was changed so that the state is that of the document.

        Args:
            document: the state that is wanted.
            who: a platform admin.
            dry_run: change nothing, and tell what would be.
            prune: remove the tenants that the document does not name.

        Raises:
            DeniedError: who is no platform admin.
            BadInputError: something in it is malformed; the message says where.
            UnknownError: it names a credential or a tenant that is not there.
            ConflictError: it contradicts itself.
        """
        require_admin(who, None)

        def work(session: Session) -> list[Change]:
            before = snapshot(session)
            self._apply(session, document, who, prune=prune)
            changes = differences(before, snapshot(session))
            if dry_run:
                session.rollback()
            return changes

        return await self._db.write(work)

    def _apply(self, session: Session, document: Document, who: Principal, *, prune: bool) -> None:
        if prune:
            self._prune(session, document, who)
        ordered = _releasing_first(session, document)
        parts = [(part, self._tenant(session, part, who)) for part in ordered]
        if document.ownership is not None:
            self._own(session, document.ownership, who)
        if document.rules is not None:
            self._rule(session, None, document.rules, who)
        for part, tenant in parts:
            self._rule(session, tenant, part.rules, who)
            self._route(session, tenant, part.routes, who)

    def _prune(self, session: Session, document: Document, who: Principal) -> None:
        named = {part.draft.name for part in document.tenants}
        for tenant in TenantTable(session).all():
            if tenant.name not in named:
                self._tenants.remove_in(session, tenant, who)

    def _tenant(self, session: Session, part: TenantPart, who: Principal) -> Tenant:
        with _within(f"tenants.{part.draft.name[:80]}"):
            part.draft.check()
            if TenantTable(session).get(part.draft.name) is not None:
                return self._tenants.update_in(session, part.draft, who)
            return self._tenants.create_in(session, part.draft, who, catch_all=False)

    def _own(self, session: Session, wanted: Sequence[Ownership], who: Principal) -> None:
        prefixes = [o.prefix for o in wanted]
        for recorded in OwnershipTable(session).all():
            if recorded.ownership.prefix not in prefixes:
                self._ownership.remove_in(session, recorded, who)
        for number, ownership in enumerate(wanted):
            with _within(f"ownership[{number}]"):
                if ownership.prefix in prefixes[:number]:
                    raise ConflictError(f"the prefix {ownership.prefix} comes twice")
                self._ownership.put_in(session, ownership, who)

    def _rule(
        self, session: Session, tenant: Tenant | None, wanted: Sequence[RuleDraft], who: Principal
    ) -> None:
        where = f"tenants.{tenant.name}.rules" if tenant else "rules"
        keys: list[str] = []
        for number, draft in enumerate(wanted):
            with _within(f"{where}[{number}]"):
                # A rule that has expired since it was written down is still the same rule.
                key = str(draft.rule(0, tenant.name if tenant else None, _LONG_AGO))
                if key in keys:
                    raise ConflictError(f"the rule {key} comes twice")
                keys.append(key)
        present = {str(r.rule): r for r in RuleTable(session).of(tenant)}
        for key, recorded in present.items():
            if key not in keys:
                self._rules.remove_in(session, recorded.rule, who)
        for number, (key, draft) in enumerate(zip(keys, wanted, strict=True)):
            with _within(f"{where}[{number}]"):
                there = present.get(key)
                if there is None:
                    self._rules.create_in(session, tenant, draft, who)
                elif (there.rule.reason, there.rule.expires_at) != (draft.reason, draft.expires_at):
                    self._rules.update_in(session, tenant, there, draft, who)

    def _route(
        self, session: Session, tenant: Tenant, wanted: Sequence[RouteDraft], who: Principal
    ) -> None:
        patterns = [draft.pattern for draft in wanted]
        present = {r.route.pattern.text: r for r in RouteTable(session).of(tenant)}
        for pattern, recorded in present.items():
            if pattern not in patterns:
                self._routes.remove_in(session, recorded.route, who)
        for number, draft in enumerate(wanted):
            with _within(f"tenants.{tenant.name}.routes[{number}]"):
                if draft.pattern in patterns[:number]:
                    raise ConflictError(f"the pattern {draft.pattern[:80]!a} comes twice")
                there = present.get(draft.pattern)
                if there is None:
                    self._routes.create_in(session, tenant, draft, who)
                else:
                    self._routes.update_in(session, tenant, there, draft, who)


def _releasing_first(session: Session, document: Document) -> list[TenantPart]:
    """Return the tenants so that a host is given up before another tenant takes it."""
    names = [part.draft.name for part in document.tenants]
    if len(set(names)) < len(names):
        raise ConflictError("a tenant comes twice")
    hosts = {t.name: set(t.hosts) for t in TenantTable(session).all()}

    def takes(part: TenantPart) -> bool:
        return not set(part.draft.hosts) <= hosts.get(part.draft.name, set())

    return sorted(document.tenants, key=takes)


@contextmanager
def _within(where: str) -> Iterator[None]:
    """Have what is refused say where in the document it stands."""
    try:
        yield
    except (BadInputError, UnknownError, ConflictError, DeniedError) as error:
        raise type(error)(f"{where}: {error}") from error
