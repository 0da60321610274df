"""`/api/v1/tenants/{tenant}/published…`: the versions that a tenant has published."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.core.cursor import key_of
from app.web.admin.answers import MALFORMED, REFUSED, UNKNOWN, TenantName
from app.web.admin.context import Site, TokenHolder
from app.web.admin.models.base import Page
from app.web.admin.models.published import PublishedOut, RetireIn, published_out
from app.web.admin.paging import Cursor, Limit, page_from

router = APIRouter(tags=["modules"])


@router.get("/tenants/{tenant}/published", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def list_published(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    module: Annotated[
        str | None, Query(max_length=2000, description="Only this module path, plain")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[PublishedOut]:
    """List the published versions, retired ones too, by module and version."""
    after = ("", "") if cursor is None else key_of(cursor, str, str)
    rows = await services.sumdb.published_versions.page(
        tenant, caller, module=module, after=(str(after[0]), str(after[1])), limit=limit + 1
    )
    page = [published_out(row) for row in rows]
    return page_from(page, lambda one: (one.module, one.version), limit)


@router.post("/tenants/{tenant}/published/retire", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def retire(
    services: Site, caller: TokenHolder, tenant: TenantName, body: RetireIn
) -> PublishedOut:
    """Take a version out of lists and @latest; with `gone`, answer 410 for ever."""
    return published_out(
        await services.sumdb.published_versions.retire(
            tenant, body.module, body.version, body.reason, caller, is_gone=body.gone
        )
    )
