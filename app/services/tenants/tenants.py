"""Making, changing and removing tenants."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from app.core.acl import Effect
from app.core.errors import ConflictError, DeniedError
from app.core.principal import OPERATOR, Principal
from app.core.tenant import DEFAULT_TENANT, Tenant
from app.db.engine import Database, Session
from app.db.routes import CredentialTable, RouteTable
from app.db.rules import OwnershipTable, RuleTable
from app.db.tenantlogs import TenantLogTable
from app.db.tenants import TenantTable
from app.db.tokens import Tokens
from app.services.authorization import require_admin
from app.services.changes import check_revision, record, tenant_named
from app.services.clock import Now
from app.services.tenants.drafts import RouteDraft, TenantDraft, UpstreamDraft, draft_of
from app.services.tenants.routes import RouteService


class TenantService:
    """Use cases about tenants themselves."""

    def __init__(self, db: Database, routes: RouteService, now: Now, public_upstream: str) -> None:
        self._db = db
        self._routes = routes
        self._now = now
        self._public_upstream = public_upstream

    async def all(self, who: Principal) -> list[Tenant]:
        """Return the tenants that an admin may see, by name.

        Raises:
            DeniedError: who is no admin of anything.
        """
        require_admin(who, who.tenant)
        every = await self._db.read(lambda s: TenantTable(s).all())
        return [t for t in every if who.tenant in (None, t.name)]

    async def get(self, name: str, who: Principal) -> Tenant:
        """Return one tenant.

        Raises:
            DeniedError: it is not who's.
            UnknownError: there is none.
        """
        require_admin(who, name)
        return await self._db.read(lambda s: tenant_named(s, name))

    async def create(self, draft: TenantDraft, who: Principal, *, catch_all: bool = True) -> Tenant:
        """Return a new tenant.

        Args:
            draft: what is wanted.
            who: a platform admin.
            catch_all: with a route of everything to the public upstream of the settings.

        Raises:
            BadInputError: the draft is malformed.
            ConflictError: the name or a host is taken.
        """
        require_admin(who, None)
        return await self._db.write(lambda s: self.create_in(s, draft, who, catch_all=catch_all))

    def create_in(
        self, session: Session, draft: TenantDraft, who: Principal, *, catch_all: bool
    ) -> Tenant:
        """Create within a transaction; see `create`."""
        draft.check()
        table, at = TenantTable(session), self._now()
        if table.row(draft.name) is not None:
            raise ConflictError(f"there is a tenant {draft.name} already")
        _check_hosts(session, draft)
        tenant = table.add(_tenant(draft, at))
        record(session, at, who, "tenant.create", _object(tenant), _shown(draft))
        if catch_all:
            route = RouteDraft("*", (UpstreamDraft(self._public_upstream),))
            self._routes.create_in(session, tenant, route, who)
        return tenant

    async def update(
        self, draft: TenantDraft, who: Principal, *, revision: int | None = None
    ) -> Tenant:
        """Return the tenant of draft's name, changed to what the draft says.

        Raises:
            BadInputError: the draft is malformed.
            DeniedError: who is no admin of it, or of the platform where hosts or limits change.
            ConflictError: a host is taken.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, draft.name)
        return await self._db.write(lambda s: self.update_in(s, draft, who, revision))

    async def change(
        self,
        name: str,
        edit: Callable[[TenantDraft], TenantDraft],
        who: Principal,
        *,
        revision: int | None = None,
    ) -> Tenant:
        """Return the tenant, changed to what edit makes of it as it stands; see `update`.

        Args:
            name: the tenant's.
            edit: called within the transaction, so that nobody's change in between is lost.
            who: an admin of it.
            revision: the one that the caller looked at; None for no check.
        """
        require_admin(who, name)
        return await self._db.write(
            lambda s: self.update_in(s, edit(draft_of(tenant_named(s, name))), who, revision)
        )

    def update_in(
        self, session: Session, draft: TenantDraft, who: Principal, revision: int | None = None
    ) -> Tenant:
        """Change within a transaction; see `update`."""
        draft.check()
        before, at = tenant_named(session, draft.name), self._now()
        check_revision(before.revision, revision, f"tenant {before.name}")
        is_platforms = (before.hosts, before.limits, before.enabled) != (
            tuple(sorted(draft.hosts)),
            draft.limits,
            draft.enabled,
        )
        if is_platforms and not who.is_platform_admin:
            raise DeniedError("hosts, limits and enabled are a platform admin's to change")
        _check_hosts(session, draft)
        wanted = replace(_tenant(draft, before.created_at), id=before.id, revision=before.revision)
        if wanted == before:
            return before
        after = TenantTable(session).save(wanted)
        record(session, at, who, "tenant.update", _object(after), _shown(draft))
        return after

    async def remove(self, name: str, who: Principal, *, revision: int | None = None) -> None:
        """Remove a tenant with its tokens, rules and routes; what was stored stays stored.

        Raises:
            UnknownError: there is none.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, None)

        def work(session: Session) -> None:
            tenant = tenant_named(session, name)
            check_revision(tenant.revision, revision, f"tenant {name}")
            self.remove_in(session, tenant, who)

        await self._db.write(work)

    def remove_in(self, session: Session, tenant: Tenant, who: Principal) -> None:
        """Remove within a transaction; see `remove`."""
        tokens = Tokens(session).remove_of(tenant.id)
        RouteTable(session).remove_of(tenant)
        CredentialTable(session).remove_of(tenant)
        RuleTable(session).remove_of(tenant)
        OwnershipTable(session).remove_of(tenant)
        TenantLogTable(session).release_of(tenant.id)
        TenantTable(session).remove(tenant)
        detail = f"with {tokens} tokens"
        record(session, self._now(), who, "tenant.remove", _object(tenant), detail)

    async def create_default(self) -> bool:
        """Make the tenant of a first start, open to everybody; False if there is any tenant."""
        draft = TenantDraft(
            DEFAULT_TENANT, "Made at the first start", Effect.ALLOW, anonymous_read=True
        )

        def work(session: Session) -> bool:
            if TenantTable(session).all():
                return False
            self.create_in(session, draft, replace(OPERATOR, actor="system"), catch_all=True)
            return True

        return await self._db.write(work)


def _tenant(draft: TenantDraft, created_at: datetime) -> Tenant:
    return Tenant(
        id=0,
        name=draft.name,
        title=draft.title,
        default=draft.default,
        anonymous_read=draft.anonymous_read,
        enabled=draft.enabled,
        hosts=tuple(sorted(draft.hosts)),
        limits=draft.limits,
        revision=0,
        created_at=created_at,
    )


def _check_hosts(session: Session, draft: TenantDraft) -> None:
    for tenant in TenantTable(session).all():
        taken = set(tenant.hosts) & set(draft.hosts)
        if taken and tenant.name != draft.name:
            raise ConflictError(f"the host {min(taken)} leads to another tenant already")


def _object(tenant: Tenant) -> str:
    return f"tenant:{tenant.name}"


def _shown(draft: TenantDraft) -> str:
    facts = [f"default {draft.default}"]
    facts.append("anonymous read" if draft.anonymous_read else "tokens only")
    if draft.hosts:
        facts.append(f"hosts {' '.join(sorted(draft.hosts))}")
    limits = {n: getattr(draft.limits, n) for n in ("streams", "cold", "rate")}
    facts += [f"{name} {limit}" for name, limit in limits.items() if limit is not None]
    if not draft.enabled:
        facts.append("switched off")
    if draft.title:
        facts.append(f'"{draft.title}"')
    return ", ".join(facts)
