"""`/api/v1/tenants/{tenant}/log…`, `…/sumdb/prefetch` and `/api/v1/sumdb…`: checksum databases."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.web.admin.answers import MALFORMED, REFUSED, TAKEN, UNKNOWN, TenantName
from app.web.admin.context import Admin, Caller, Site
from app.web.admin.models.base import Page
from app.web.admin.models.sumdb import (
    EvidenceOut,
    LogReportOut,
    PrefetchIn,
    PrefetchOut,
    ProofOut,
    RecoverIn,
    RelayedLogOut,
    TenantLogOut,
)
from app.web.admin.operations import sumdb as operations
from app.web.admin.paging import Cursor, Limit

router = APIRouter(tags=["checksum databases"])


@router.get("/tenants/{tenant}/log", responses={**REFUSED, **UNKNOWN})
async def show_log(services: Site, caller: Caller, tenant: TenantName) -> TenantLogOut:
    """Show the tenant's own log: its vkey for GOSUMDB, and its signed head."""
    return await operations.show_log(services, caller, tenant)


@router.post("/tenants/{tenant}/log", status_code=201, responses={**REFUSED, **UNKNOWN})
async def create_log(
    services: Site, caller: Caller, tenant: TenantName, response: Response
) -> TenantLogOut:
    """Make the tenant's own log with a new key; 200 if it is there."""
    log, is_new = await operations.create_log(services, caller, tenant)
    response.status_code = 201 if is_new else 200
    return log


@router.get("/tenants/{tenant}/log/proof", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def prove(
    services: Site,
    caller: Caller,
    tenant: TenantName,
    module: Annotated[str, Query(max_length=2000, description="A module path, plain")],
    version: Annotated[str, Query(max_length=500, description="A canonical version")],
) -> ProofOut:
    """Prove that a module version is in the tenant's log, to whoever has its vkey."""
    return await operations.prove(services, caller, tenant, module, version)


@router.post("/tenants/{tenant}/log/verify", responses={**REFUSED, **UNKNOWN})
async def verify(services: Site, caller: Caller, tenant: TenantName) -> LogReportOut:
    """Check the whole log against itself and what is stored."""
    return await operations.verify(services, caller, tenant)


@router.post("/tenants/{tenant}/log/recover", responses={**REFUSED, **UNKNOWN, **TAKEN})
async def recover(
    services: Site, caller: Caller, tenant: TenantName, wanted: RecoverIn
) -> TenantLogOut:
    """Decide how a log goes on after an older database was restored; 409 if nothing is wrong."""
    return await operations.recover(services, caller, tenant, wanted)


@router.post(
    "/tenants/{tenant}/sumdb/prefetch", responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN}
)
async def prefetch(
    services: Site, caller: Caller, tenant: TenantName, wanted: PrefetchIn
) -> PrefetchOut:
    """Ask the logs now about what clients will verify later; at most 10,000 versions."""
    return await operations.prefetch(services, caller, tenant, wanted)


@router.get("/sumdb", responses={**REFUSED, **MALFORMED})
async def list_relayed(
    services: Site, admin: Admin, cursor: Cursor = None, limit: Limit = 50
) -> Page[RelayedLogOut]:
    """List the relayed logs and their newest heads."""
    return await operations.list_relayed(services, admin, cursor=cursor, limit=limit)


@router.get("/sumdb/{log:path}/evidence", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def list_evidence(
    services: Site, admin: Admin, log: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[EvidenceOut]:
    """List the answers of a relayed log that were refused, with the heads that prove it."""
    return await operations.list_evidence(services, admin, log, cursor=cursor, limit=limit)
