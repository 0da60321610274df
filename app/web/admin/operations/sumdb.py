"""What admins can do with checksum databases."""

from collections.abc import Callable

from app.core import module as modules
from app.core.errors import BadInputError
from app.core.gosum import parse_go_sum
from app.core.principal import Principal
from app.services.assembly import Services
from app.services.sumdb.prefetch import PrefetchRequest
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
from app.web.admin.paging import page_of

Progress = Callable[[int, int], None]


async def show_log(services: Services, who: Principal, tenant: str) -> TenantLogOut:
    """Return a tenant's own log.

    Raises:
        UnknownError: there is no such tenant, or it has no log.
    """
    return tenant_log_out(tenant, await services.sumdb.status.of_tenant(tenant, who))


async def create_log(services: Services, who: Principal, tenant: str) -> tuple[TenantLogOut, bool]:
    """Return a tenant's own log, and whether it was made now.

    Raises:
        UnknownError: there is no such tenant.
    """
    was_there = await services.sumdb.logs.of(tenant, who) is not None
    await services.sumdb.logs.create(tenant, who)
    return await show_log(services, who, tenant), not was_there


async def prove(
    services: Services, who: Principal, tenant: str, module: str, version: str
) -> ProofOut:
    """Return the proof that a module version is in a tenant's log.

    Raises:
        BadInputError: module or version is malformed, or the version is a query.
        UnknownError: there is no such tenant, log or record.
    """
    modules.check(module, version)
    if not modules.is_canonical_for(module, version):
        raise BadInputError(f"{version[:80]!a} is not a canonical version of {module[:200]}")
    log = (await services.sumdb.status.of_tenant(tenant, who)).log
    return proof_out(await services.sumdb.logs.prove(log, module, version), module, version)


async def verify(
    services: Services, who: Principal, tenant: str, progress: Progress | None = None
) -> LogReportOut:
    """Return what is wrong with a tenant's log, checked from the first record to the head.

    Raises:
        UnknownError: there is no such tenant, or it has no log.
    """
    log = (await services.sumdb.status.of_tenant(tenant, who)).log
    return report_out(await services.sumdb.fsck.run(log, progress))


async def recover(
    services: Services, who: Principal, tenant: str, wanted: RecoverIn
) -> TenantLogOut:
    """Return a tenant's log, in working order after an older database was restored.

    Raises:
        UnknownError: there is no such tenant, or it has no log.
        ConflictError: nothing is wrong with the log.
    """
    await services.sumdb.logs.recover(tenant, who, accept=wanted.accept)
    return await show_log(services, who, tenant)


async def prefetch(
    services: Services,
    who: Principal,
    tenant: str,
    wanted: PrefetchIn,
    progress: Progress | None = None,
) -> PrefetchOut:
    """Return how it went to ask the logs beforehand.

    Raises:
        BadInputError: go.sum is malformed, or there are too many versions.
        UnknownError: there is no such tenant.
        ConflictError: there is no log to ask.
    """
    asked = PrefetchRequest(parse_go_sum(wanted.go_sum), wanted.modules, wanted.toolchains)
    return prefetch_out(await services.sumdb.prefetch.run(tenant, asked, who, progress))


async def list_relayed(
    services: Services, who: Principal, *, cursor: str | None, limit: int
) -> Page[RelayedLogOut]:
    """Return the relayed logs, by name.

    Raises:
        BadInputError: the cursor is not one that a page gave.
    """
    found = await services.sumdb.status.relayed(who)
    return page_of(
        found, lambda o: (o.name,), relayed_out, kinds=(str,), cursor=cursor, limit=limit
    )


async def list_evidence(
    services: Services, who: Principal, log: str, *, cursor: str | None, limit: int
) -> Page[EvidenceOut]:
    """Return what is kept against a relayed log, oldest first.

    Raises:
        BadInputError: the cursor is not one that a page gave.
        UnknownError: no such log is relayed, and there is no evidence.
    """
    found = list(enumerate(await services.sumdb.status.evidence(log, who)))
    return page_of(
        found,
        lambda o: (o[0],),
        lambda o: evidence_out(o[1]),
        kinds=(int,),
        cursor=cursor,
        limit=limit,
    )
