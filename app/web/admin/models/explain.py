"""Why a module may be used or not, where it comes from, and what is stored of it."""

from datetime import datetime

from app.core.explain import ExplainedStep
from app.core.routing import RecordedRoute, RecordedUpstream
from app.db.moduleconflicts import ModuleConflict
from app.db.modules import ModuleFile
from app.services.modules.toolchains import ORIGIN
from app.services.tenants.explain import Cause, Explanation
from app.web.admin.models.base import Out

_STATUS: dict[Cause, int | None] = {
    Cause.QUARANTINED: 502,
    Cause.STORED: 200,
    Cause.MIRROR: None,
    Cause.UPSTREAM: None,
}


class StoredOut(Out):
    """A stored file of the version; origin is the URL that it came from."""

    kind: str
    sha256: str
    size_bytes: int
    h1: str
    log_state: str
    stored_at: datetime
    damaged: bool
    origin: str


class RefusedOut(Out):
    """Bytes that contradicted what is stored; refused, and kept as evidence."""

    kind: str
    recorded: str
    seen: str
    detail: str
    seen_at: datetime
    origin: str


class ExplainOut(Out):
    """How a tenant stands to a module, or to one version of it.

    status: what a request gets; null where upstream's answer decides.
    cause: what decides the status: "rules", "no-route", "private-name", "stored", "upstream", ….
    is_query: upstream resolves the version, and what it resolves to is authorised again.
    by: what decides: "rule 7", "platform rule 3", "ownership of corp.example", "default", "tenant".
    private: what makes the name private; null for a public one.
    routes: those whose pattern matches; the first of them is taken.
    route_refusal: why no upstream may be asked; "" where one may.
    upstreams: those of the route that is taken, in order.
    mirrored: the mirror itself serves it, from its release archives; no route is taken.
    gone: upstream has the module no more; its list has the versions that are stored.
    """

    tenant: str
    module: str
    version: str | None
    is_query: bool
    status: int | None
    cause: Cause
    allowed: bool
    by: str
    reason: str
    steps: list[ExplainedStep]
    private: str | None
    routes: list[RecordedRoute]
    route_refusal: str
    upstreams: list[RecordedUpstream]
    stored: list[StoredOut]
    conflicts: list[RefusedOut]
    mirrored: bool
    gone: bool


def explain_out(explanation: Explanation) -> ExplainOut:
    """Return an explanation for people and programs."""
    urls = {upstream.origin_id: upstream.url for upstream in explanation.upstreams}
    return ExplainOut(
        tenant=explanation.tenant,
        module=explanation.module,
        version=explanation.version,
        is_query=explanation.is_query,
        status=_STATUS.get(explanation.cause, 403),
        cause=explanation.cause,
        allowed=explanation.decision.allowed,
        by=explanation.decision.by,
        reason=explanation.decision.reason,
        steps=list(explanation.steps),
        private=explanation.private,
        routes=list(explanation.routes),
        route_refusal=explanation.route_refusal,
        upstreams=list(explanation.upstreams),
        stored=[_stored(file, urls.get(file.origin_id, ORIGIN)) for file in explanation.stored],
        conflicts=[_refused(one, urls[one.origin_id]) for one in explanation.conflicts],
        mirrored=explanation.mirrored,
        gone=explanation.gone,
    )


def _stored(file: ModuleFile, origin: str) -> StoredOut:
    return StoredOut(
        kind=file.kind,
        sha256=file.sha256.hex,
        size_bytes=file.size_bytes,
        h1=file.h1,
        log_state=file.log_state,
        stored_at=file.stored_at,
        damaged=file.damaged,
        origin=origin,
    )


def _refused(conflict: ModuleConflict, origin: str) -> RefusedOut:
    return RefusedOut(
        kind=conflict.kind,
        recorded=conflict.recorded,
        seen=conflict.seen,
        detail=conflict.detail,
        seen_at=conflict.seen_at,
        origin=origin,
    )
