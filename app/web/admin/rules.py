"""`/api/v1/rules…` and `/api/v1/tenants/{tenant}/rules…`: which modules may be used."""

from fastapi import APIRouter, Response

from app.core.acl import RecordedRule, Rule
from app.core.cursor import key_of
from app.core.principal import Principal
from app.services.assembly import Services
from app.web.admin.answers import MALFORMED, REFUSED, STALE, TAKEN, UNKNOWN, RecordId, TenantName
from app.web.admin.context import PlatformAdmin, Site, TokenHolder
from app.web.admin.models.base import Page
from app.web.admin.paging import Cursor, Limit, page_from
from app.web.admin.revisions import IfMatch, put_etag

router = APIRouter(tags=["rules"])


@router.get("/rules", responses={**REFUSED, **MALFORMED})
async def list_platform_rules(
    services: Site, admin: PlatformAdmin, cursor: Cursor = None, limit: Limit = 50
) -> Page[RecordedRule]:
    """List the rules of the platform, which hold for every tenant, oldest first."""
    return await _page(services, admin, None, cursor, limit)


@router.post("/rules", status_code=201, responses={**REFUSED, **MALFORMED, **TAKEN})
async def create_platform_rule(
    services: Site, admin: PlatformAdmin, body: Rule, response: Response
) -> RecordedRule:
    """Deny something to every tenant."""
    made = await services.tenants.rules.create(None, body, admin)
    put_etag(response, made.revision)
    return made


@router.get("/rules/{rule_id}", responses={**REFUSED, **UNKNOWN})
async def show_platform_rule(
    services: Site, admin: PlatformAdmin, rule_id: RecordId, response: Response
) -> RecordedRule:
    """Show one rule of the platform."""
    recorded = await services.tenants.rules.get(None, rule_id, admin)
    put_etag(response, recorded.revision)
    return recorded


@router.put("/rules/{rule_id}", responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE})
async def update_platform_rule(
    services: Site,
    admin: PlatformAdmin,
    rule_id: RecordId,
    body: Rule,
    revision: IfMatch,
    response: Response,
) -> RecordedRule:
    """Put a rule of the platform in other words."""
    changed = await services.tenants.rules.update(None, rule_id, body, admin, revision=revision)
    put_etag(response, changed.revision)
    return changed


@router.delete(
    "/rules/{rule_id}", status_code=204, responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE}
)
async def remove_platform_rule(
    services: Site, admin: PlatformAdmin, rule_id: RecordId, revision: IfMatch
) -> None:
    """Remove a rule of the platform."""
    await services.tenants.rules.remove(None, rule_id, admin, revision=revision)


@router.get("/tenants/{tenant}/rules", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def list_rules(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[RecordedRule]:
    """List a tenant's rules, oldest first."""
    return await _page(services, caller, tenant, cursor, limit)


@router.post(
    "/tenants/{tenant}/rules",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN},
)
async def create_rule(
    services: Site, caller: TokenHolder, tenant: TenantName, body: Rule, response: Response
) -> RecordedRule:
    """Allow or deny something to a tenant."""
    made = await services.tenants.rules.create(tenant, body, caller)
    put_etag(response, made.revision)
    return made


@router.get("/tenants/{tenant}/rules/{rule_id}", responses={**REFUSED, **UNKNOWN})
async def show_rule(
    services: Site, caller: TokenHolder, tenant: TenantName, rule_id: RecordId, response: Response
) -> RecordedRule:
    """Show one rule of a tenant."""
    recorded = await services.tenants.rules.get(tenant, rule_id, caller)
    put_etag(response, recorded.revision)
    return recorded


@router.put(
    "/tenants/{tenant}/rules/{rule_id}",
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE},
)
async def update_rule(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    rule_id: RecordId,
    body: Rule,
    revision: IfMatch,
    response: Response,
) -> RecordedRule:
    """Put a rule of a tenant in other words."""
    changed = await services.tenants.rules.update(tenant, rule_id, body, caller, revision=revision)
    put_etag(response, changed.revision)
    return changed


@router.delete(
    "/tenants/{tenant}/rules/{rule_id}",
    status_code=204,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE},
)
async def remove_rule(
    services: Site, caller: TokenHolder, tenant: TenantName, rule_id: RecordId, revision: IfMatch
) -> None:
    """Remove a rule of a tenant."""
    await services.tenants.rules.remove(tenant, rule_id, caller, revision=revision)


async def _page(
    services: Services, who: Principal, tenant: str | None, cursor: str | None, limit: int
) -> Page[RecordedRule]:
    """Return a page of a tenant's rules; a tenant of None stands for the platform."""
    after = 0 if cursor is None else int(key_of(cursor, int)[0])
    rules = await services.tenants.rules.page(tenant, who, after=after, limit=limit + 1)
    return page_from(rules, lambda rule: (rule.id,), limit)
