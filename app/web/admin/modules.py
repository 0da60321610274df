"""`/api/v1/tenants/{tenant}/explain` and `…/refresh`: what a tenant may have of a module."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.web.admin.answers import (
    MALFORMED,
    PROBLEM,
    REFUSED,
    TAKEN,
    UNKNOWN,
    Responses,
    TenantName,
)
from app.web.admin.context import Site, TokenHolder
from app.web.admin.models.explain import ExplainOut, explain_out
from app.web.admin.models.refresh import RefreshIn, RefreshOut, compared_out

_UPSTREAM: Responses = {
    502: {**PROBLEM, "description": "Upstream sends something else today, or nothing usable"},
    503: {**PROBLEM, "description": "Upstream is down, or the secret of its credential is lost"},
    504: {**PROBLEM, "description": "Upstream gave no answer in time"},
}

router = APIRouter(tags=["modules"])


@router.get("/tenants/{tenant}/explain", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def explain(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    module: Annotated[str, Query(max_length=2000, description="A module path, plain")],
    version: Annotated[
        str | None, Query(max_length=500, description="A version, or a query such as master")
    ] = None,
) -> ExplainOut:
    """Tell which rule and which route decide, in order, and what is stored of the version."""
    return explain_out(await services.tenants.explain.explain(tenant, module, version, caller))


@router.post(
    "/tenants/{tenant}/refresh",
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **_UPSTREAM},
)
async def refresh(
    services: Site, caller: TokenHolder, tenant: TenantName, body: RefreshIn
) -> RefreshOut:
    """Forget a module's list, @latest and queries; or compare a stored version with upstream."""
    module, version = body.module, body.version
    if version is None:
        await services.modules.refresh.forget(tenant, module, caller)
        return RefreshOut(module=module, version=None, files=[])
    compared = await services.modules.refresh.compare(tenant, module, version, caller)
    return RefreshOut(module=module, version=version, files=[compared_out(c) for c in compared])
