"""Why a module may be used or not, where it comes from, and what is stored of it."""

from datetime import datetime

from app.core.explain import ExplainedStep
from app.core.routing import RecordedRoute, RecordedUpstream
from app.db.modules import ModuleConflict, ModuleFile
from app.services.modules.toolchains import ORIGIN
from app.services.tenants.explain import Explanation
from app.web.admin.models.base import Out


class StepOut(Out):
    """One step towards the decision.

    outcome: "denies", "allows" or "does not apply", by itself; the first one that decides counts.
    """

    stage: str
    what: str
    outcome: str
    reason: str
    decides: bool


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

    is_query: upstream resolves the version, and what it resolves to is authorised again.
    by: what decides: "rule 7", "platform rule 3", "ownership of corp.example", "default", "tenant".
    private: what makes the name private; null for a public one.
    routes: those whose pattern matches; the first of them is taken.
    route_refusal: why no upstream may be asked; "" where one may.
    upstreams: those of the route that is taken, in order.
    mirrored: the mirror itself serves it, from its release archives; no route is taken.
    """

    tenant: str
    module: str
    version: str | None
    is_query: bool
    allowed: bool
    by: str
    reason: str
    steps: list[StepOut]
    private: str | None
    routes: list[RecordedRoute]
    route_refusal: str
    upstreams: list[RecordedUpstream]
    stored: list[StoredOut]
    conflicts: list[RefusedOut]
    mirrored: bool


def explain_out(found: Explanation) -> ExplainOut:
    """Return an explanation for people and programs."""
    urls = {upstream.origin_id: upstream.url for upstream in found.upstreams}
    return ExplainOut(
        tenant=found.tenant,
        module=found.module,
        version=found.version,
        is_query=found.is_query,
        allowed=found.decision.allowed,
        by=found.decision.by,
        reason=found.decision.reason,
        steps=[_step(line) for line in found.steps],
        private=found.private,
        routes=list(found.routes),
        route_refusal=found.route_refusal,
        upstreams=list(found.upstreams),
        stored=[_stored(file, urls.get(file.origin_id, ORIGIN)) for file in found.stored],
        conflicts=[_refused(one, urls[one.origin_id]) for one in found.conflicts],
        mirrored=found.mirrored,
    )


def _step(line: ExplainedStep) -> StepOut:
    return StepOut(
        stage=line.stage,
        what=line.what,
        outcome=line.outcome,
        reason=line.reason,
        decides=line.decides,
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
