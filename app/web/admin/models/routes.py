"""Routes and their upstreams; a credential is only ever a name here."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StrictBool, StrictInt, model_validator

from app.core.routing import DEFAULT_TTL_S, LogPolicy, OnAbsent, Upstream
from app.db.routes import RecordedRoute
from app.services.tenants.drafts import MAX_CA_BYTES, MAX_UPSTREAMS, RouteDraft, UpstreamDraft
from app.web.admin.models.base import In, Out
from app.web.admin.models.rules import PatternIn

_TTL_MAX_S = 7 * 24 * 3600
_Host = Annotated[str, Field(max_length=300)]


def _seconds(least: float, most: float) -> Any:
    return Field(ge=least, le=most, allow_inf_nan=False, strict=True)


class UpstreamIn(In):
    """A GOPROXY server; its URL alone stands for one with all defaults.

    credential: the name of one of the tenant's credentials; null sends none.
    on_absent: what its 404 means: ask the "next" upstream, or "stop".
    redirect_to: hosts, or origins such as "https://cdn.example:8443", that it may redirect to.
    ca_pem: certificates trusted for it besides the usual ones.
    connect_s, metadata_s, zip_s: seconds for connecting, for a list, .info or .mod, and for a zip.
    """

    url: Annotated[str, Field(max_length=2000)]
    credential: Annotated[str, Field(max_length=63)] | None = None
    on_absent: OnAbsent = OnAbsent.NEXT
    redirect_to: Annotated[tuple[_Host, ...], Field(max_length=20)] = ()
    ca_pem: Annotated[str, Field(max_length=MAX_CA_BYTES)] = ""
    connect_s: Annotated[float, _seconds(0.1, 60)] = 5.0
    metadata_s: Annotated[float, _seconds(1, 600)] = 60.0
    zip_s: Annotated[float, _seconds(1, 7200)] = 900.0

    @model_validator(mode="before")
    @classmethod
    def _of_url(cls, given: Any) -> Any:
        return {"url": given} if isinstance(given, str) else given


class RouteIn(In):
    """A route; the longest pattern that matches is taken.

    private: its names are asked here and nowhere else, by any tenant.
    off: nothing is fetched; what is stored is served.
    forks: accept modules whose go.mod declares another path, for `replace`.
    ttl_s: seconds for which lists and other answers that change are fresh.
    log: whether a zip has to be in a checksum database: "off", "defer" or "require"; null means
        "off" for a private route, "defer" for others.
    """

    pattern: PatternIn
    upstreams: Annotated[tuple[UpstreamIn, ...], Field(min_length=1, max_length=MAX_UPSTREAMS)]
    private: StrictBool = False
    off: StrictBool = False
    forks: StrictBool = False
    ttl_s: Annotated[StrictInt, Field(ge=0, le=_TTL_MAX_S)] = DEFAULT_TTL_S
    log: LogPolicy | None = None


class UpstreamOut(Out):
    """One upstream of a route."""

    url: str
    credential: str | None
    on_absent: str
    redirect_to: list[str]
    ca_pem: str
    connect_s: float
    metadata_s: float
    zip_s: float


class RouteOut(Out):
    """One route; revision is what its ETag says."""

    id: int
    tenant: str
    pattern: str
    upstreams: list[UpstreamOut]
    private: bool
    off: bool
    forks: bool
    ttl_s: int
    log: str
    revision: int
    created_at: datetime


def route_draft(wanted: RouteIn) -> RouteDraft:
    """Return a route as services take it."""
    return RouteDraft(
        wanted.pattern,
        tuple(_upstream_draft(u) for u in wanted.upstreams),
        wanted.private,
        wanted.off,
        wanted.forks,
        wanted.ttl_s,
        wanted.log,
    )


def _upstream_draft(wanted: UpstreamIn) -> UpstreamDraft:
    return UpstreamDraft(
        url=wanted.url,
        credential=wanted.credential,
        on_absent=wanted.on_absent,
        redirect_to=wanted.redirect_to,
        ca_pem=wanted.ca_pem,
        connect_s=wanted.connect_s,
        metadata_s=wanted.metadata_s,
        zip_s=wanted.zip_s,
    )


def upstream_out(upstream: Upstream, credential: str | None) -> UpstreamOut:
    """Return one upstream for people and programs."""
    return UpstreamOut(
        url=upstream.url,
        credential=credential,
        on_absent=upstream.on_absent,
        redirect_to=sorted(upstream.redirect_to),
        ca_pem=upstream.ca_pem,
        connect_s=upstream.connect_s,
        metadata_s=upstream.metadata_s,
        zip_s=upstream.zip_s,
    )


def route_out(recorded: RecordedRoute) -> RouteOut:
    """Return one route for people and programs."""
    route = recorded.route
    pairs = zip(route.upstreams, recorded.credentials, strict=True)
    return RouteOut(
        id=route.id,
        tenant=route.tenant,
        pattern=route.pattern.text,
        upstreams=[upstream_out(u, credential) for u, credential in pairs],
        private=route.private,
        off=route.off,
        forks=route.forks,
        ttl_s=route.ttl_s,
        log=route.log,
        revision=recorded.revision,
        created_at=recorded.created_at,
    )
