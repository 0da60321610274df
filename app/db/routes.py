"""Rows of routes, of the origins they lead to, and of credentials for upstreams."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from app.core.modulepattern import Pattern
from app.core.routing import LogPolicy, OnAbsent, Route, Upstream
from app.core.tenant import Tenant
from app.db.base import Base
from app.db.tenants import TenantTable


class CredentialRow(Base):
    """A credential for an upstream; `secret` is sealed by services/secrets.py."""

    __tablename__ = "credentials"
    # An origin is known by its credential's id, which must never come again.
    __table_args__ = (UniqueConstraint("tenant_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    kind: Mapped[str]
    username: Mapped[str]
    secret: Mapped[bytes]
    revision: Mapped[int]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class OriginRow(Base):
    """An upstream as identity, under which content is stored; never deleted.

    `key` is the URL, with "#<credential id>" where one is sent: an id is never used again; and with
    " forks" where content may declare another name, which a route without `forks` must not serve.
    """

    __tablename__ = "origins"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)


class RouteRow(Base):
    """One route."""

    __tablename__ = "routes"
    __table_args__ = (UniqueConstraint("tenant_id", "pattern"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"))
    pattern: Mapped[str]
    private: Mapped[bool]
    off: Mapped[bool]
    forks: Mapped[bool]
    ttl_s: Mapped[int]
    log_policy: Mapped[str]
    revision: Mapped[int]
    created_at: Mapped[datetime]

    upstreams: Mapped[list["RouteUpstreamRow"]] = relationship(
        lazy="raise", order_by="RouteUpstreamRow.position", cascade="all, delete-orphan"
    )


class RouteUpstreamRow(Base):
    """One upstream of a route, in its place; `redirect_to` are words separated by spaces."""

    __tablename__ = "route_upstreams"

    route_id: Mapped[int] = mapped_column(ForeignKey("routes.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    origin_id: Mapped[int] = mapped_column(ForeignKey("origins.id"), index=True)
    url: Mapped[str]
    credential_id: Mapped[int | None] = mapped_column(ForeignKey("credentials.id"), index=True)
    on_absent: Mapped[str]
    redirect_to: Mapped[str]
    connect_s: Mapped[float]
    metadata_s: Mapped[float]
    zip_s: Mapped[float]
    ca_pem: Mapped[str]

    credential: Mapped[CredentialRow | None] = relationship(lazy="raise")


@dataclass(frozen=True, slots=True)
class RecordedCredential:
    """A credential as recorded.

    Attributes:
        kind: "basic" or "bearer".
        sealed: the secret, encrypted.
    """

    id: int
    tenant: str
    name: str
    kind: str
    username: str
    sealed: bytes
    revision: int
    changed_at: datetime


class CredentialTable:
    """The repository of credentials for upstreams."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[RecordedCredential]:
        """Return every credential, by tenant and name."""
        names = TenantTable(self._session).names()
        rows = self._session.execute(
            select(CredentialRow).order_by(CredentialRow.tenant_id, CredentialRow.name)
        ).scalars()
        return [
            RecordedCredential(
                row.id,
                names[row.tenant_id],
                row.name,
                row.kind,
                row.username,
                row.secret,
                row.revision,
                row.changed_at,
            )
            for row in rows
        ]

    def get(self, tenant: Tenant, name: str) -> RecordedCredential | None:
        """Return one credential of a tenant."""
        return next((c for c in self.all() if (c.tenant, c.name) == (tenant.name, name)), None)

    def save(
        self, tenant: Tenant, name: str, *, kind: str, username: str, sealed: bytes, at: datetime
    ) -> None:
        """Record a credential, or the next secret of one that is there: its id stays."""
        row = self._session.execute(
            select(CredentialRow).where(
                CredentialRow.tenant_id == tenant.id, CredentialRow.name == name
            )
        ).scalar_one_or_none()
        if row is None:
            row = CredentialRow(tenant_id=tenant.id, name=name, created_at=at, revision=0)
            self._session.add(row)
        row.kind, row.username, row.secret = kind, username, sealed
        row.changed_at = at
        row.revision += 1
        self._session.flush()

    def routes_of(self, credential_id: int) -> list[int]:
        """Return the ids of the routes that use a credential."""
        found = self._session.execute(
            select(RouteUpstreamRow.route_id).where(RouteUpstreamRow.credential_id == credential_id)
        ).scalars()
        return sorted(set(found))

    def remove_of(self, tenant: Tenant) -> None:
        """Remove the credentials of a tenant that is being removed, after its routes."""
        self._session.execute(delete(CredentialRow).where(CredentialRow.tenant_id == tenant.id))

    def remove(self, credential_id: int) -> None:
        """Remove a credential."""
        self._session.execute(delete(CredentialRow).where(CredentialRow.id == credential_id))


@dataclass(frozen=True, slots=True)
class RecordedRoute:
    """A route, the names of its upstreams' credentials, and how often it was changed.

    Attributes:
        credentials: one for each upstream, None where access is anonymous.
    """

    route: Route
    credentials: tuple[str | None, ...]
    revision: int
    created_at: datetime


class RouteTable:
    """The repository of routes and origins."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[RecordedRoute]:
        """Return every route, oldest first."""
        names = TenantTable(self._session).names()
        credentials = {c.id: c.name for c in CredentialTable(self._session).all()}
        upstreams: dict[int, list[RouteUpstreamRow]] = {}
        for row in self._session.execute(
            select(RouteUpstreamRow).order_by(RouteUpstreamRow.route_id, RouteUpstreamRow.position)
        ).scalars():
            upstreams.setdefault(row.route_id, []).append(row)
        rows = self._session.execute(select(RouteRow).order_by(RouteRow.id)).scalars()
        return [_route(row, upstreams.get(row.id, []), names, credentials) for row in rows]

    def of(self, tenant: Tenant) -> list[RecordedRoute]:
        """Return the routes of one tenant, oldest first."""
        return [r for r in self.all() if r.route.tenant == tenant.name]

    def save(self, route: Route, tenant: Tenant, at: datetime) -> int:
        """Record a route, a new one where its id is 0; return its id."""
        row = self._session.get(RouteRow, route.id) if route.id else None
        if row is None:
            row = RouteRow(tenant_id=tenant.id, created_at=at, revision=0)
            self._session.add(row)
        row.pattern, row.private, row.off = route.pattern.text, route.private, route.off
        row.forks, row.ttl_s, row.log_policy = route.forks, route.ttl_s, route.log
        row.revision += 1
        self._session.flush()
        self._session.execute(delete(RouteUpstreamRow).where(RouteUpstreamRow.route_id == row.id))
        for position, upstream in enumerate(route.upstreams):
            self._session.add(self._upstream_row(route, row.id, position, upstream))
        self._session.flush()
        return row.id

    def _upstream_row(
        self, route: Route, route_id: int, position: int, upstream: Upstream
    ) -> RouteUpstreamRow:
        return RouteUpstreamRow(
            route_id=route_id,
            position=position,
            origin_id=self._origin(route, upstream),
            url=upstream.url,
            credential_id=upstream.credential,
            on_absent=upstream.on_absent,
            redirect_to=" ".join(sorted(upstream.redirect_to)),
            connect_s=upstream.connect_s,
            metadata_s=upstream.metadata_s,
            zip_s=upstream.zip_s,
            ca_pem=upstream.ca_pem,
        )

    def _origin(self, route: Route, upstream: Upstream) -> int:
        key = upstream.url
        if upstream.credential is not None:
            key += f"#{upstream.credential}"
        if route.forks:
            key += " forks"
        return self.origin(key)

    def origin(self, key: str) -> int:
        """Return the id of an origin, recording it at its first use."""
        known = self.known_origin(key)
        if known is not None:
            return known
        row = OriginRow(key=key)
        self._session.add(row)
        self._session.flush()
        return row.id

    def known_origin(self, key: str) -> int | None:
        """Return the id of an origin, or None if it was never used."""
        query = select(OriginRow.id).where(OriginRow.key == key)
        return self._session.execute(query).scalar_one_or_none()

    def remove_of(self, tenant: Tenant) -> None:
        """Remove the routes of a tenant that is being removed."""
        for recorded in self.of(tenant):
            self.remove(recorded.route.id)

    def remove(self, route_id: int) -> None:
        """Remove a route; what it brought in stays stored under its origins."""
        self._session.execute(delete(RouteUpstreamRow).where(RouteUpstreamRow.route_id == route_id))
        self._session.execute(delete(RouteRow).where(RouteRow.id == route_id))


def _route(
    row: RouteRow,
    upstreams: list[RouteUpstreamRow],
    names: dict[int, str],
    credentials: dict[int, str],
) -> RecordedRoute:
    route = Route(
        id=row.id,
        tenant=names[row.tenant_id],
        pattern=Pattern.parse(row.pattern),
        upstreams=tuple(_upstream(u) for u in upstreams),
        private=row.private,
        off=row.off,
        forks=row.forks,
        ttl_s=row.ttl_s,
        log=LogPolicy(row.log_policy),
    )
    shown = tuple(
        None if u.credential_id is None else credentials[u.credential_id] for u in upstreams
    )
    return RecordedRoute(route, shown, row.revision, row.created_at)


def _upstream(row: RouteUpstreamRow) -> Upstream:
    return Upstream(
        origin_id=row.origin_id,
        url=row.url,
        on_absent=OnAbsent(row.on_absent),
        credential=row.credential_id,
        redirect_to=frozenset(row.redirect_to.split()),
        connect_s=row.connect_s,
        metadata_s=row.metadata_s,
        zip_s=row.zip_s,
        ca_pem=row.ca_pem,
    )
