"""`/api/v1/audit…`: what was changed by whom, whether the record is whole, who downloaded what."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from app.web.admin.answers import MALFORMED, REFUSED
from app.web.admin.context import Admin, Caller, Site
from app.web.admin.models.audit import AuditOut, DownloadOut, VerifiedOut
from app.web.admin.models.base import Page
from app.web.admin.operations import audit as operations
from app.web.admin.paging import Cursor, Limit

router = APIRouter(tags=["audit"])

_Words = Annotated[str | None, Query(max_length=400, pattern=r"^[\x21-\x7e]+$")]


@router.get("/audit", responses={**REFUSED, **MALFORMED})
async def list_changes(
    services: Site,
    _: Admin,
    cursor: Cursor = None,
    limit: Limit = 50,
    action: _Words = None,
    actor: _Words = None,
) -> Page[AuditOut]:
    """List changes, oldest first; of one action, or by actors that begin so."""
    return await operations.list_changes(
        services, cursor=cursor, limit=limit, action=action, actor=actor
    )


@router.get("/audit/verify", responses=REFUSED)
async def verify(services: Site, _: Admin) -> VerifiedOut:
    """Check the hash chain."""
    return await operations.verify(services)


@router.get("/audit/downloads", responses={**REFUSED, **MALFORMED})
async def list_downloads(
    services: Site,
    caller: Caller,
    module: _Words = None,
    version: _Words = None,
    tenant: _Words = None,
    since: date | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DownloadOut]:
    """List who downloaded what on which day (UTC); a tenant's admin sees that tenant's."""
    asked = operations.DownloadsAsked(module, version, tenant, since)
    return await operations.list_downloads(services, caller, asked, cursor=cursor, limit=limit)
