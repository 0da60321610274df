"""`/api/v1/rules…` and `/api/v1/tenants/{tenant}/rules…`: which modules may be used."""

from fastapi import APIRouter, Response

from app.web.admin.answers import MALFORMED, REFUSED, STALE, TAKEN, UNKNOWN, RecordId, TenantName
from app.web.admin.context import Admin, Caller, Site
from app.web.admin.models.base import Page
from app.web.admin.models.rules import RuleIn, RuleOut
from app.web.admin.operations import rules as operations
from app.web.admin.paging import Cursor, Limit
from app.web.admin.revisions import IfMatch, put_etag

router = APIRouter(tags=["rules"])


@router.get("/rules", responses={**REFUSED, **MALFORMED})
async def list_platform_rules(
    services: Site, admin: Admin, cursor: Cursor = None, limit: Limit = 50
) -> Page[RuleOut]:
    """List the rules of the platform, which hold for every tenant, oldest first."""
    return await operations.list_rules(services, admin, None, cursor=cursor, limit=limit)


@router.post("/rules", status_code=201, responses={**REFUSED, **MALFORMED, **TAKEN})
async def create_platform_rule(
    services: Site, admin: Admin, wanted: RuleIn, response: Response
) -> RuleOut:
    """Deny something to every tenant."""
    made = await operations.create_rule(services, admin, None, wanted)
    put_etag(response, made.revision)
    return made


@router.get("/rules/{rule_id}", responses={**REFUSED, **UNKNOWN})
async def show_platform_rule(
    services: Site, admin: Admin, rule_id: RecordId, response: Response
) -> RuleOut:
    """Show one rule of the platform."""
    found = await operations.show_rule(services, admin, None, rule_id)
    put_etag(response, found.revision)
    return found


@router.put("/rules/{rule_id}", responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE})
async def update_platform_rule(
    services: Site,
    admin: Admin,
    rule_id: RecordId,
    wanted: RuleIn,
    revision: IfMatch,
    response: Response,
) -> RuleOut:
    """Put a rule of the platform in other words."""
    changed = await operations.update_rule(services, admin, None, rule_id, wanted, revision)
    put_etag(response, changed.revision)
    return changed


@router.delete(
    "/rules/{rule_id}", status_code=204, responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE}
)
async def remove_platform_rule(
    services: Site, admin: Admin, rule_id: RecordId, revision: IfMatch
) -> None:
    """Remove a rule of the platform."""
    await operations.remove_rule(services, admin, None, rule_id, revision)


@router.get("/tenants/{tenant}/rules", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def list_rules(
    services: Site,
    caller: Caller,
    tenant: TenantName,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[RuleOut]:
    """List a tenant's rules, oldest first."""
    return await operations.list_rules(services, caller, tenant, cursor=cursor, limit=limit)


@router.post(
    "/tenants/{tenant}/rules",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN},
)
async def create_rule(
    services: Site, caller: Caller, tenant: TenantName, wanted: RuleIn, response: Response
) -> RuleOut:
    """Allow or deny something to a tenant."""
    made = await operations.create_rule(services, caller, tenant, wanted)
    put_etag(response, made.revision)
    return made


@router.get("/tenants/{tenant}/rules/{rule_id}", responses={**REFUSED, **UNKNOWN})
async def show_rule(
    services: Site, caller: Caller, tenant: TenantName, rule_id: RecordId, response: Response
) -> RuleOut:
    """Show one rule of a tenant."""
    found = await operations.show_rule(services, caller, tenant, rule_id)
    put_etag(response, found.revision)
    return found


@router.put(
    "/tenants/{tenant}/rules/{rule_id}",
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE},
)
async def update_rule(
    services: Site,
    caller: Caller,
    tenant: TenantName,
    rule_id: RecordId,
    wanted: RuleIn,
    revision: IfMatch,
    response: Response,
) -> RuleOut:
    """Put a rule of a tenant in other words."""
    changed = await operations.update_rule(services, caller, tenant, rule_id, wanted, revision)
    put_etag(response, changed.revision)
    return changed


@router.delete(
    "/tenants/{tenant}/rules/{rule_id}",
    status_code=204,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE},
)
async def remove_rule(
    services: Site, caller: Caller, tenant: TenantName, rule_id: RecordId, revision: IfMatch
) -> None:
    """Remove a rule of a tenant."""
    await operations.remove_rule(services, caller, tenant, rule_id, revision)
