"""Writing routes: where the modules of a tenant come from."""

from app.core.errors import ConflictError, UnknownError
from app.core.principal import Principal
from app.core.routing import RecordedRoute, Route
from app.core.tenant import RecordedTenant
from app.db.credentials import CredentialTable
from app.db.engine import Database, Session
from app.db.ownership import OwnershipTable
from app.db.routes import RouteTable
from app.services.authorization import require_admin
from app.services.changes import check_revision, locked, tenant_named
from app.services.clock import Now
from app.services.tenants.checks import RouteCheck, check_private
from app.services.tenants.edits import Edit, write

MAX_ROUTES = 200


class RouteService:
    """Use cases about a tenant's routes."""

    def __init__(self, db: Database, check: RouteCheck, now: Now) -> None:
        self._db = db
        self._check = check
        self._now = now

    async def page(
        self, tenant: str, who: Principal, *, after: int = 0, limit: int | None = None
    ) -> list[RecordedRoute]:
        """Return routes of a tenant, oldest first.

        Args:
            tenant: whose.
            who: an admin of it.
            after: the last id of the page before.
            limit: how many at most; None takes all.
        """
        require_admin(who, tenant)
        return await self._db.read(
            lambda s: RouteTable(s).page(tenant_named(s, tenant).id, after=after, limit=limit)
        )

    async def get(self, tenant: str, route_id: int, who: Principal) -> RecordedRoute:
        """Return one route.

        Raises:
            UnknownError: the tenant has no such route.
        """
        require_admin(who, tenant)
        return await self._db.read(lambda s: _route(s, tenant_named(s, tenant), route_id))

    async def create(self, tenant: str, route: Route, who: Principal) -> RecordedRoute:
        """Return a new route.

        Raises:
            BadInputError: it is malformed.
            DeniedError: it would make names private that are not the tenant's.
            UnknownError: the tenant has no credential of a name.
            ConflictError: there is a route of that pattern, or there are too many.
        """
        require_admin(who, tenant)

        def work(session: Session) -> RecordedRoute:
            of_tenant = tenant_named(session, tenant)
            if RouteTable(session).count(of_tenant.id) >= MAX_ROUTES:
                raise ConflictError(f"there are {MAX_ROUTES} routes already")
            return self._save(session, of_tenant, None, route, who)

        return await self._db.write(locked(work))

    async def update(
        self,
        tenant: str,
        route_id: int,
        route: Route,
        who: Principal,
        *,
        revision: int | None = None,
    ) -> RecordedRoute:
        """Return the route, changed as a whole. If nothing differs, nothing is written.

        Raises:
            BadInputError: it is malformed.
            DeniedError: it would make names private that are not the tenant's.
            UnknownError: the tenant has no such route, or no credential of a name.
            ConflictError: another route has the pattern.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, tenant)

        def work(session: Session) -> RecordedRoute:
            of_tenant = tenant_named(session, tenant)
            before = _route(session, of_tenant, route_id)
            check_revision(before.revision, revision, f"route {route_id}")
            return self._save(session, of_tenant, before, route, who)

        return await self._db.write(locked(work))

    def _save(
        self,
        session: Session,
        tenant: RecordedTenant,
        before: RecordedRoute | None,
        route: Route,
        who: Principal,
    ) -> RecordedRoute:
        same = RouteTable(session).with_pattern(tenant.id, route.pattern.text)
        if same is not None and (before is None or same != before.id):
            raise ConflictError(
                f"route {same} has the pattern {route.pattern.text} already; change that one"
            )
        if route.private:
            owned = OwnershipTable(session).prefixes_of(tenant.id)
            check_private(route.pattern, tenant.name, owned, who)
        credentials, at = CredentialTable(session).ids_of(tenant.id), self._now()
        recordable = self._check.recordable(
            route, tenant, credentials, at, before=before, is_platforms=who.is_platform_admin
        )
        after = recordable.succeeding(before)
        if before is not None and before.says(after):
            return before
        [route_id] = write(session, [Edit(before, after)], who, at)
        return _route(session, tenant, route_id)

    async def remove(
        self, tenant: str, route_id: int, who: Principal, *, revision: int | None = None
    ) -> None:
        """Remove a route; what it brought in stays stored.

        Raises:
            UnknownError: the tenant has no such route.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, tenant)

        def work(session: Session) -> None:
            before = _route(session, tenant_named(session, tenant), route_id)
            check_revision(before.revision, revision, f"route {route_id}")
            write(session, [Edit(before, None)], who, self._now())

        await self._db.write(locked(work))


def _route(session: Session, tenant: RecordedTenant, route_id: int) -> RecordedRoute:
    route = RouteTable(session).get(tenant.id, route_id)
    if route is None:
        raise UnknownError(
            f"tenant {tenant.name} has no route {route_id}; see `moorage route list`"
        )
    return route
