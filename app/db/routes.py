"""Rows of routes and their upstreams: where the modules of a tenant come from."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Select, UniqueConstraint, delete, false, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.routing import RecordedRoute, RecordedUpstream
from app.db.base import (
    Base,
    Revisions,
    WordSet,
    chunks,
    columns_for,
    insert_all,
    inserted_ids,
    is_one_of,
    revisions_of,
    save_revisions,
    values_for,
)
from app.db.credentials import CredentialRow
from app.db.origins import OriginTable, origin_key
from app.db.tenants import TenantRow


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
    log: Mapped[str] = mapped_column("log_policy")
    note: Mapped[str]
    revision: Mapped[int]
    created_at: Mapped[datetime]


class RouteUpstreamRow(Base):
    """One upstream of a route, in its place."""

    __tablename__ = "route_upstreams"

    route_id: Mapped[int] = mapped_column(ForeignKey("routes.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    origin_id: Mapped[int] = mapped_column(ForeignKey("origins.id"), index=True)
    url: Mapped[str]
    credential_id: Mapped[int | None] = mapped_column(ForeignKey("credentials.id"), index=True)
    on_absent: Mapped[str]
    redirect_to: Mapped[list[str]] = mapped_column(WordSet)
    connect_s: Mapped[float]
    metadata_s: Mapped[float]
    zip_s: Mapped[float]
    ca_pem: Mapped[str]
    host_keys: Mapped[str] = mapped_column(server_default="")
    vanity: Mapped[bool] = mapped_column(server_default=false())
    is_platforms: Mapped[bool]


class RouteTable:
    """The repository of routes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, tenant_ids: Collection[int] | None = None) -> list[RecordedRoute]:
        """Return every route, or those of some tenants, oldest first."""
        return self._routes(select(RouteRow.id).where(is_one_of(RouteRow.tenant_id, tenant_ids)))

    def page(self, tenant_id: int, *, after: int, limit: int | None) -> list[RecordedRoute]:
        """Return the routes of a tenant whose ids are above one, oldest first."""
        query = select(RouteRow.id).where(RouteRow.tenant_id == tenant_id, RouteRow.id > after)
        return self._routes(query.order_by(RouteRow.id).limit(limit))

    def get(self, tenant_id: int, route_id: int) -> RecordedRoute | None:
        """Return one route of a tenant."""
        query = select(RouteRow.id)
        query = query.where(RouteRow.tenant_id == tenant_id, RouteRow.id == route_id)
        return next(iter(self._routes(query)), None)

    def with_pattern(self, tenant_id: int, pattern: str) -> int | None:
        """Return the id of the tenant's route of a pattern."""
        query = select(RouteRow.id)
        query = query.where(RouteRow.tenant_id == tenant_id, RouteRow.pattern == pattern)
        return self._session.execute(query).scalar()

    def with_credential(self, credential_id: int) -> int | None:
        """Return the id of the oldest route that uses a credential."""
        query = select(RouteUpstreamRow.route_id)
        query = query.where(RouteUpstreamRow.credential_id == credential_id)
        return self._session.execute(query.order_by(RouteUpstreamRow.route_id).limit(1)).scalar()

    def tenants_asking(self, origin_id: int) -> set[str]:
        """Return the names of the tenants that have a route to an origin."""
        query = select(TenantRow.name).join(RouteRow, RouteRow.tenant_id == TenantRow.id)
        query = query.join(RouteUpstreamRow, RouteUpstreamRow.route_id == RouteRow.id)
        return set(
            self._session.execute(
                query.where(RouteUpstreamRow.origin_id == origin_id).distinct()
            ).scalars()
        )

    def count(self, tenant_id: int) -> int:
        """Return how many routes a tenant has."""
        query = select(func.count()).select_from(RouteRow).where(RouteRow.tenant_id == tenant_id)
        return self._session.execute(query).scalar_one()

    def revisions(self) -> Revisions:
        """Return what tells whether any route was added, changed or removed."""
        return revisions_of(self._session, RouteRow)

    def _routes(self, ids: Select[Any]) -> list[RecordedRoute]:
        upstreams = self._upstreams(ids)
        columns = *columns_for(RouteRow, RecordedRoute), TenantRow.name.label("tenant")
        query = select(*columns).join_from(RouteRow, TenantRow).where(RouteRow.id.in_(ids))
        rows = self._session.execute(query.order_by(RouteRow.id)).mappings()
        return [
            RecordedRoute.model_validate({**row, "upstreams": upstreams[row["id"]]}) for row in rows
        ]

    def _upstreams(self, ids: Select[Any]) -> dict[int, list[dict[str, Any]]]:
        """Return the upstreams of routes, in their order, by the routes' ids."""
        columns = columns_for(RouteUpstreamRow, RecordedUpstream)
        query = (
            select(RouteUpstreamRow.route_id, *columns, CredentialRow.name.label("credential"))
            .outerjoin(CredentialRow)
            .where(RouteUpstreamRow.route_id.in_(ids))
            .order_by(RouteUpstreamRow.route_id, RouteUpstreamRow.position)
        )
        upstreams: dict[int, list[dict[str, Any]]] = {}
        for row in self._session.execute(query).mappings():
            upstream = dict(row)
            upstreams.setdefault(upstream.pop("route_id"), []).append(upstream)
        return upstreams

    def add_all(self, routes: Sequence[RecordedRoute], tenant_ids: Mapping[str, int]) -> list[int]:
        """Record new routes; return the ids that the database gave them.

        Args:
            routes: their own ids, and those of their origins, count for nothing.
            tenant_ids: the tenants' ids by name.
        """
        values = [
            values_for(RouteRow, route) | {"tenant_id": tenant_ids[route.tenant]}
            for route in routes
        ]
        key = [RouteRow.tenant_id, RouteRow.pattern]
        ids = inserted_ids(self._session, RouteRow, values, key)
        self._add_upstreams(dict(zip(ids, routes, strict=True)))
        return ids

    def save_all(self, routes: Sequence[RecordedRoute]) -> None:
        """Record changed routes under their ids; the ids of their origins count for nothing."""
        if not routes:
            return
        values = [values_for(RouteRow, route) | {"id": route.id} for route in routes]
        save_revisions(self._session, RouteRow, values)
        self._remove_upstreams([route.id for route in routes])
        self._add_upstreams({route.id: route for route in routes})

    def _add_upstreams(self, routes: Mapping[int, RecordedRoute]) -> None:
        keys = {origin_key(route, u) for route in routes.values() for u in route.upstreams}
        origins = OriginTable(self._session).ids_of(keys)
        rows = [
            values_for(RouteUpstreamRow, upstream)
            | {
                "route_id": route_id,
                "position": position,
                "origin_id": origins[origin_key(route, upstream)],
                "credential_id": upstream.credential_id,
                "is_platforms": upstream.is_platforms,
            }
            for route_id, route in routes.items()
            for position, upstream in enumerate(route.upstreams)
        ]
        insert_all(self._session, RouteUpstreamRow, rows)

    def _remove_upstreams(self, route_ids: Collection[int]) -> None:
        for chunk in chunks(route_ids):
            self._session.execute(
                delete(RouteUpstreamRow).where(RouteUpstreamRow.route_id.in_(chunk))
            )

    def remove_of(self, tenant_ids: Collection[int]) -> None:
        """Remove the routes of tenants that are being removed."""
        for chunk in chunks(tenant_ids):
            query = select(RouteRow.id).where(RouteRow.tenant_id.in_(chunk))
            self.remove_all(list(self._session.execute(query).scalars()))

    def remove_all(self, route_ids: Collection[int]) -> None:
        """Remove routes; what they brought in stays stored under its origins."""
        self._remove_upstreams(route_ids)
        for chunk in chunks(route_ids):
            self._session.execute(delete(RouteRow).where(RouteRow.id.in_(chunk)))
