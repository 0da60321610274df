"""Making, changing and removing tenants."""

from dataclasses import replace
from typing import Any

from app.core.effect import Effect
from app.core.errors import ConflictError, DeniedError
from app.core.modulepattern import Pattern
from app.core.principal import OPERATOR, Principal
from app.core.routing import Route, Upstream
from app.core.tenant import DEFAULT_TENANT, RecordedTenant, Tenant, TenantSettings
from app.db.channels import ChannelTable
from app.db.engine import Database, Session
from app.db.room import Room
from app.db.tenants import TenantTable
from app.db.usedspace import TenantSpace, UsedSpace
from app.services.authorization import require_admin
from app.services.changes import check_revision, denial_room, locked, tenant_named
from app.services.clock import Now
from app.services.tenants.checks import RouteCheck, check_toolchains
from app.services.tenants.edits import Edit, write


class TenantService:
    """Use cases about tenants themselves.

    Args:
        db: the database.
        check: checks the catch-all route of a new tenant.
        now: the clock.
        public_upstream: where a catch-all route leads to.
    """

    def __init__(
        self, db: Database, check: RouteCheck, now: Now, public_upstream: Upstream
    ) -> None:
        self._db = db
        self._check = check
        self._now = now
        self._public_upstream = public_upstream

    async def page(
        self, who: Principal, *, after: str | None = None, limit: int | None = None
    ) -> list[RecordedTenant]:
        """Return the tenants that an admin may see, by name.

        Args:
            who: an admin of anything.
            after: the last name of the page before; None begins the list.
            limit: how many at most; None takes all.

        Raises:
            DeniedError: who is no admin of anything.
        """
        require_admin(who, who.tenant)
        if who.tenant is None:
            return await self._db.read(lambda s: TenantTable(s).page(after=after, limit=limit))
        own = who.tenant
        tenant = await self._db.read(lambda s: TenantTable(s).get(own))
        is_listed = tenant is not None and (after is None or tenant.name > after)
        return [tenant] if tenant is not None and is_listed else []

    async def storage(self, name: str, who: Principal) -> TenantSpace:
        """Return what is stored for a tenant.

        Raises:
            UnknownError: there is none of that name.
        """
        require_admin(who, name)

        def work(session: Session) -> TenantSpace:
            return UsedSpace(session).by_tenant(tenant_named(session, name).name)[0]

        return await self._db.read(work)

    async def storage_of_all(self, who: Principal) -> list[TenantSpace]:
        """Return what is stored for each tenant, by name, and last for nobody."""
        require_admin(who, None)
        return await self._db.read(lambda s: UsedSpace(s).by_tenant())

    async def get(self, name: str, who: Principal) -> RecordedTenant:
        """Return one tenant.

        Raises:
            DeniedError: it is not who's.
            UnknownError: there is none.
        """
        require_admin(who, name)
        return await self._db.read(lambda s: tenant_named(s, name))

    async def create(
        self, tenant: Tenant, who: Principal, *, catch_all: bool = True
    ) -> RecordedTenant:
        """Return a new tenant.

        Args:
            tenant: what is recorded.
            who: a platform admin.
            catch_all: with a route of everything to the public upstream of the settings.

        Raises:
            ConflictError: the name or a host is taken, or its channel is not open to it.
            UnknownError: there is no channel of the name in `toolchains`.
        """
        require_admin(who, None)
        return await self._db.write(
            locked(lambda s: self._create(s, tenant, who, catch_all=catch_all))
        )

    def _create(
        self, session: Session, tenant: Tenant, who: Principal, *, catch_all: bool
    ) -> RecordedTenant:
        at = self._now()
        if TenantTable(session).ids_of([tenant.name]):
            raise ConflictError(f"there is a tenant {tenant.name} already")
        _check_hosts(session, tenant, 0)
        _check_channel(session, tenant)
        after = RecordedTenant.first(tenant, at)
        edits = [Edit(None, after)]
        if catch_all:
            route = Route(pattern=Pattern.parse("*"), upstreams=(self._public_upstream,))
            recordable = self._check.recordable(
                route, tenant, {}, at, before=None, is_platforms=True
            )
            edits.append(Edit(None, recordable))
        tenant_id, *_ = write(session, edits, who, at)
        return after.model_copy(update={"id": tenant_id})

    async def change(
        self,
        name: str,
        settings: TenantSettings,
        who: Principal,
        *,
        revision: int | None = None,
    ) -> RecordedTenant:
        """Return a tenant after the fields that `settings` was made with are changed.

        What was left out stays as it is, single limits too: it is filled in within the
        transaction, so that nobody's change in between is lost.

        Args:
            name: the tenant's.
            settings: what to change.
            who: an admin of it.
            revision: the one that the caller looked at; None for no check.

        Raises:
            UnknownError: there is no such tenant, or no channel of the name in `toolchains`.
            DeniedError: who is no admin of it, or of the platform where hosts or limits change.
            ConflictError: a host is taken, or the channel is not open to it.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, name)

        def work(session: Session) -> RecordedTenant:
            before, at = tenant_named(session, name), self._now()
            check_revision(before.revision, revision, f"tenant {name}")
            after = before.model_copy(update=_changes(before, settings))
            is_platforms = any(getattr(before, f) != getattr(after, f) for f in _PLATFORMS)
            if is_platforms and not who.is_platform_admin:
                raise DeniedError(
                    "hosts, private hosts, limits and enabled are a platform admin's to change"
                )
            _check_hosts(session, after, before.id)
            _check_channel(session, after)
            if before.says(after):
                return before
            after = after.succeeding(before)
            write(session, [Edit(before, after)], who, at)
            return after

        # Switching a tenant off works on a full disk.
        room = denial_room(who) if settings.enabled is False else Room.ABOVE_FLOOR
        return await self._db.write(locked(work), room=room)

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
            write(session, [Edit(tenant, None)], who, self._now())

        await self._db.write(locked(work))

    async def create_default(self) -> bool:
        """Make the tenant of a first start, open to everybody; False if there is any tenant."""
        tenant = Tenant(
            name=DEFAULT_TENANT,
            title="Made at the first start",
            default=Effect.ALLOW,
            anonymous_read=True,
        )

        def work(session: Session) -> bool:
            if not TenantTable(session).is_empty():
                return False
            self._create(session, tenant, replace(OPERATOR, actor="system"), catch_all=True)
            return True

        return await self._db.write(locked(work))


_PLATFORMS = ("hosts", "private_hosts", "limits", "enabled")


def _changes(before: RecordedTenant, settings: TenantSettings) -> dict[str, Any]:
    changes = {name: getattr(settings, name) for name in settings.model_fields_set}
    if "limits" in changes:
        limits = {name: getattr(settings.limits, name) for name in settings.limits.model_fields_set}
        changes["limits"] = before.limits.model_copy(update=limits)
    return changes


def _check_channel(session: Session, tenant: Tenant) -> None:
    if tenant.toolchains is not None:
        check_toolchains(tenant, ChannelTable(session).get(tenant.toolchains))


def _check_hosts(session: Session, tenant: Tenant, tenant_id: int) -> None:
    taken = TenantTable(session).taken_host(tenant.hosts, besides=tenant_id)
    if taken is not None:
        raise ConflictError(f"the host {taken} leads to another tenant already")
