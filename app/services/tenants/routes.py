"""Writing routes, and the credentials that their upstreams want."""

from dataclasses import replace

from app.core.acl import Ownership
from app.core.errors import BadInputError, ConflictError, DeniedError, UnknownError
from app.core.modulepattern import Pattern
from app.core.principal import Principal
from app.core.routing import LogPolicy, Route, Upstream
from app.core.tenant import Tenant
from app.db.engine import Database, Session
from app.db.routes import CredentialTable, RecordedCredential, RecordedRoute, RouteTable
from app.db.rules import OwnershipTable
from app.services.authorization import require_admin
from app.services.changes import check_revision, record, tenant_named
from app.services.clock import Now
from app.services.secrets import SecretBox, place_of
from app.services.tenants.drafts import CredentialDraft, RouteDraft, UpstreamDraft
from app.upstream.address import AddressGuard, Url

MAX_ROUTES = 200


class RouteService:
    """Use cases about a tenant's routes."""

    def __init__(self, db: Database, guard: AddressGuard, now: Now) -> None:
        self._db = db
        self._guard = guard
        self._now = now

    async def all(self, tenant: str, who: Principal) -> list[RecordedRoute]:
        """Return the routes of a tenant, oldest first."""
        require_admin(who, tenant)
        return await self._db.read(lambda s: RouteTable(s).of(tenant_named(s, tenant)))

    async def get(self, tenant: str, route_id: int, who: Principal) -> RecordedRoute:
        """Return one route.

        Raises:
            UnknownError: the tenant has no such route.
        """
        require_admin(who, tenant)
        return await self._db.read(lambda s: _route(s, tenant_named(s, tenant), route_id))

    async def create(self, tenant: str, draft: RouteDraft, who: Principal) -> RecordedRoute:
        """Return a new route.

        Raises:
            BadInputError: it is malformed.
            DeniedError: it would make names private that are not the tenant's.
            UnknownError: the tenant has no credential of a name.
            ConflictError: there is a route of that pattern.
        """
        require_admin(who, tenant)
        return await self._db.write(
            lambda s: self.create_in(s, tenant_named(s, tenant), draft, who)
        )

    def create_in(
        self, session: Session, tenant: Tenant, draft: RouteDraft, who: Principal
    ) -> RecordedRoute:
        """Create within a transaction; see `create`."""
        present = RouteTable(session).of(tenant)
        if len(present) >= MAX_ROUTES:
            raise ConflictError(f"there are {MAX_ROUTES} routes already")
        return self._save(session, tenant, draft, who, None)

    async def update(
        self,
        tenant: str,
        route_id: int,
        draft: RouteDraft,
        who: Principal,
        *,
        revision: int | None = None,
    ) -> RecordedRoute:
        """Return the route, changed to what the draft says.

        Raises:
            BadInputError: it is malformed.
            UnknownError: the tenant has no such route.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, tenant)

        def work(session: Session) -> RecordedRoute:
            of_tenant = tenant_named(session, tenant)
            before = _route(session, of_tenant, route_id)
            check_revision(before.revision, revision, f"route {route_id}")
            return self.update_in(session, of_tenant, before, draft, who)

        return await self._db.write(work)

    def update_in(
        self,
        session: Session,
        tenant: Tenant,
        before: RecordedRoute,
        draft: RouteDraft,
        who: Principal,
    ) -> RecordedRoute:
        """Change within a transaction; what is so already is left as it is. See `update`."""
        return self._save(session, tenant, draft, who, before)

    def _save(
        self,
        session: Session,
        tenant: Tenant,
        draft: RouteDraft,
        who: Principal,
        before: RecordedRoute | None,
    ) -> RecordedRoute:
        pattern, at = draft.check(), self._now()
        route_id = before.route.id if before else 0
        self._check_pattern(session, tenant, pattern, route_id)
        if draft.private:
            _check_private(session, tenant, pattern, who)
        upstreams = tuple(self._upstream(session, tenant, u) for u in draft.upstreams)
        log = draft.log or (LogPolicy.OFF if draft.private else LogPolicy.DEFER)
        route = Route(
            route_id,
            tenant.name,
            pattern,
            upstreams,
            draft.private,
            draft.off,
            draft.forks,
            draft.ttl_s,
            log,
        )
        if before is not None and route == _without_origins(before.route):
            return before
        route = replace(route, id=RouteTable(session).save(route, tenant, at))
        action = "route.update" if before else "route.create"
        record(session, at, who, action, _object(route), _shown(route))
        return _route(session, tenant, route.id)

    def _check_pattern(
        self, session: Session, tenant: Tenant, pattern: Pattern, route_id: int
    ) -> None:
        for other in RouteTable(session).of(tenant):
            if other.route.pattern == pattern and other.route.id != route_id:
                raise ConflictError(
                    f"route {other.route.id} has the pattern {pattern.text} already; "
                    "change that one"
                )

    def _upstream(self, session: Session, tenant: Tenant, draft: UpstreamDraft) -> Upstream:
        credential = None
        if draft.credential is not None:
            found = CredentialTable(session).get(tenant, draft.credential)
            if found is None:
                raise UnknownError(
                    f"tenant {tenant.name} has no credential {draft.credential[:80]!a}; "
                    "see `moorage credential set`"
                )
            credential = found.id
        self._check_plain_http(Url.parse(draft.url))
        return draft.upstream(credential)

    def _check_plain_http(self, url: Url) -> None:
        host = "127.0.0.1" if url.host == "localhost" else url.host
        if url.scheme == "http" and not self._guard.is_listed(host, url.port):
            raise BadInputError(
                f"{url.origin}: http:// can be read and changed on its way, so it is accepted only "
                "for an address in MOORAGE_NETWORK__ALLOW; use https://"
            )

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
            found = _route(session, tenant_named(session, tenant), route_id)
            check_revision(found.revision, revision, f"route {route_id}")
            self.remove_in(session, found.route, who)

        await self._db.write(work)

    def remove_in(self, session: Session, route: Route, who: Principal) -> None:
        """Remove within a transaction; see `remove`."""
        RouteTable(session).remove(route.id)
        record(session, self._now(), who, "route.remove", _object(route), _shown(route))


class CredentialService:
    """Use cases about credentials for upstreams; secrets go in and never come out."""

    def __init__(self, db: Database, box: SecretBox, now: Now) -> None:
        self._db = db
        self._box = box
        self._now = now

    async def all(self, tenant: str, who: Principal) -> list[RecordedCredential]:
        """Return the credentials of a tenant, by name."""
        require_admin(who, tenant)

        def work(session: Session) -> list[RecordedCredential]:
            tenant_named(session, tenant)
            return [c for c in CredentialTable(session).all() if c.tenant == tenant]

        return await self._db.read(work)

    async def put(
        self,
        tenant: str,
        draft: CredentialDraft,
        who: Principal,
        *,
        revision: int | None = None,
    ) -> RecordedCredential:
        """Return a new credential, or one that has another secret now.

        Content is kept under the credential and not under its secret: what was stored stays
        reachable when the secret is changed.

        Raises:
            BadInputError: it can't be sent as a header.
            UnknownError: there is no such tenant.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, tenant)
        draft.check()
        sealed = self._box.seal(draft.secret, place_of(tenant, draft.name))

        def work(session: Session) -> RecordedCredential:
            of_tenant, at = tenant_named(session, tenant), self._now()
            table = CredentialTable(session)
            before = table.get(of_tenant, draft.name)
            check_revision(before.revision if before else 0, revision, f"credential {draft.name}")
            table.save(
                of_tenant,
                draft.name,
                kind=draft.kind,
                username=draft.username,
                sealed=sealed,
                at=at,
            )
            detail = f"{draft.kind} {draft.username}".strip()
            record(session, at, who, "credential.put", f"credential:{tenant}/{draft.name}", detail)
            found = table.get(of_tenant, draft.name)
            if found is None:
                raise AssertionError("the credential was just recorded")
            return found

        return await self._db.write(work)

    async def remove(
        self, tenant: str, name: str, who: Principal, *, revision: int | None = None
    ) -> None:
        """Remove a credential that no route uses.

        Raises:
            UnknownError: the tenant has none of that name.
            ConflictError: a route uses it.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, tenant)

        def work(session: Session) -> None:
            table = CredentialTable(session)
            found = table.get(tenant_named(session, tenant), name)
            if found is None:
                raise UnknownError(
                    f"tenant {tenant} has no credential {name[:80]!a}; "
                    "see `moorage credential list`"
                )
            check_revision(found.revision, revision, f"credential {name}")
            used = table.routes_of(found.id)
            if used:
                raise ConflictError(f"route {used[0]} uses the credential {name}; change it first")
            table.remove(found.id)
            record(session, self._now(), who, "credential.remove", f"credential:{tenant}/{name}")

        await self._db.write(work)


def _without_origins(route: Route) -> Route:
    """Return a route as a draft makes it, before its origins are known."""
    return replace(route, upstreams=tuple(replace(u, origin_id=0) for u in route.upstreams))


def _route(session: Session, tenant: Tenant, route_id: int) -> RecordedRoute:
    found = next((r for r in RouteTable(session).of(tenant) if r.route.id == route_id), None)
    if found is None:
        raise UnknownError(
            f"tenant {tenant.name} has no route {route_id}; see `moorage route list`"
        )
    return found


def _check_private(session: Session, tenant: Tenant, pattern: Pattern, who: Principal) -> None:
    """Refuse a tenant's admin who would take public names away from all other tenants."""
    if who.is_platform_admin:
        return
    owned = [o.ownership for o in OwnershipTable(session).all()]
    if not any(o.tenant == tenant.name and _lies_in(pattern, o) for o in owned):
        raise DeniedError(
            "a private route keeps its names from being asked for in public by any tenant, so its "
            f"pattern must lie in a prefix that {tenant.name} owns; a platform admin can add either"
        )


def _lies_in(pattern: Pattern, ownership: Ownership) -> bool:
    return ownership.covers(pattern.text)


def _object(route: Route) -> str:
    return f"route:{route.tenant}/{route.id}"


def _shown(route: Route) -> str:
    words = [route.pattern.text, "->", " ".join(u.url for u in route.upstreams)]
    words += [w for w in ("private", "off", "forks") if getattr(route, w)]
    return " ".join(words)
