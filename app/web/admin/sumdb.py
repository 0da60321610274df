"""`/api/v1/tenants/{tenant}/log…`, `…/sumdb/prefetch` and `/api/v1/sumdb…`: checksum databases."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.core import module as modules
from app.core.errors import BadInputError
from app.core.gosum import parse_go_sum
from app.core.principal import Principal
from app.services.assembly import Services
from app.services.sumdb.prefetch import PrefetchRequest
from app.web.admin.answers import MALFORMED, REFUSED, TAKEN, UNKNOWN, TenantName
from app.web.admin.context import PlatformAdmin, ShownProgress, Site, TokenHolder
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
    evidence_out,
    prefetch_out,
    proof_out,
    relayed_out,
    report_out,
    tenant_log_out,
)
from app.web.admin.paging import Cursor, Limit, page_of

router = APIRouter(tags=["checksum databases"])


@router.get("/tenants/{tenant}/log", responses={**REFUSED, **UNKNOWN})
async def show_log(services: Site, caller: TokenHolder, tenant: TenantName) -> TenantLogOut:
    """Show the tenant's own log: its vkey for GOSUMDB, and its signed head."""
    return await _log_of(services, tenant, caller)


@router.post("/tenants/{tenant}/log", status_code=201, responses={**REFUSED, **UNKNOWN})
async def create_log(
    services: Site, caller: TokenHolder, tenant: TenantName, response: Response
) -> TenantLogOut:
    """Make the tenant's own log with a new key; 200 if it is there."""
    is_new = await services.sumdb.logs.of(tenant, caller) is None
    await services.sumdb.logs.create(tenant, caller)
    response.status_code = 201 if is_new else 200
    return await _log_of(services, tenant, caller)


@router.get("/tenants/{tenant}/log/proof", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def prove(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    module: Annotated[str, Query(max_length=2000, description="A module path, plain")],
    version: Annotated[str, Query(max_length=500, description="A canonical version")],
) -> ProofOut:
    """Prove that a module version is in the tenant's log, to whoever has its vkey."""
    modules.check(module, version)
    if not modules.is_canonical_for(module, version):
        raise BadInputError(f"{version[:80]!a} is not a canonical version of {module[:200]}")
    log = (await services.sumdb.status.of_tenant(tenant, caller)).log
    return proof_out(await services.sumdb.logs.prove(log, module, version), module, version)


@router.post("/tenants/{tenant}/log/verify", responses={**REFUSED, **UNKNOWN})
async def verify(
    services: Site, caller: TokenHolder, tenant: TenantName, progress: ShownProgress
) -> LogReportOut:
    """Check the whole log against itself and what is stored."""
    log = (await services.sumdb.status.of_tenant(tenant, caller)).log
    return report_out(await services.sumdb.fsck.run(log, progress))


@router.post("/tenants/{tenant}/log/recover", responses={**REFUSED, **UNKNOWN, **TAKEN})
async def recover(
    services: Site, caller: TokenHolder, tenant: TenantName, body: RecoverIn
) -> TenantLogOut:
    """Decide how a log goes on after an older database was restored; 409 if nothing is wrong."""
    await services.sumdb.recovery.recover(tenant, caller, accept=body.accept)
    return await _log_of(services, tenant, caller)


@router.post(
    "/tenants/{tenant}/sumdb/prefetch", responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN}
)
async def prefetch(
    services: Site, caller: TokenHolder, tenant: TenantName, body: PrefetchIn
) -> PrefetchOut:
    """Ask the logs now about what clients will verify later; at most 10,000 versions."""
    summed = await asyncio.to_thread(parse_go_sum, body.go_sum)
    request = PrefetchRequest(summed, body.modules, body.toolchains)
    return prefetch_out(await services.sumdb.prefetch.run(tenant, request, caller))


@router.get("/sumdb", responses={**REFUSED, **MALFORMED})
async def list_relayed(
    services: Site, admin: PlatformAdmin, cursor: Cursor = None, limit: Limit = 50
) -> Page[RelayedLogOut]:
    """List the relayed logs and their newest heads."""
    logs = await services.sumdb.status.relayed(admin)
    return page_of(logs, lambda o: (o.name,), relayed_out, kinds=(str,), cursor=cursor, limit=limit)


@router.get("/sumdb/{log:path}/evidence", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def list_evidence(
    services: Site, admin: PlatformAdmin, log: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[EvidenceOut]:
    """List the answers of a relayed log that were refused, with the heads that prove it."""
    numbered = list(enumerate(await services.sumdb.status.evidence(log, admin)))
    return page_of(
        numbered,
        lambda pair: (pair[0],),
        lambda pair: evidence_out(pair[1]),
        kinds=(int,),
        cursor=cursor,
        limit=limit,
    )


async def _log_of(services: Services, tenant: str, who: Principal) -> TenantLogOut:
    return tenant_log_out(tenant, await services.sumdb.status.of_tenant(tenant, who))
