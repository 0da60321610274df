"""`/api/v1/audit…`: the record of changes, and what was downloaded and denied."""

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query

from app.core.cursor import cursor_of, key_of
from app.core.errors import BadInputError
from app.services.assembly import Services
from app.web.admin.answers import MALFORMED, REFUSED, TAKEN
from app.web.admin.context import PlatformAdmin, Site, TokenHolder
from app.web.admin.models.audit import (
    AuditOut,
    DenialOut,
    DownloadOut,
    VerifiedOut,
    denial_out,
    download_out,
)
from app.web.admin.models.base import Page
from app.web.admin.paging import Cursor, Limit, page_from

router = APIRouter(tags=["audit"])

_Words = Annotated[str | None, Query(max_length=400, pattern=r"^[\x21-\x7e]+$")]


@router.get("/audit", responses={**REFUSED, **MALFORMED})
async def list_changes(
    services: Site,
    _: PlatformAdmin,
    cursor: Cursor = None,
    limit: Limit = 50,
    action: _Words = None,
    actor: _Words = None,
    since: date | None = None,
    newest: Annotated[bool, Query(description="The newest first")] = False,
) -> Page[AuditOut]:
    """List changes, oldest first; of one action, by actors that begin so, from a day (UTC) on."""
    after = None if cursor is None else int(key_of(cursor, int)[0])
    rows = await services.shared.audit.list(
        after=after,
        limit=limit + 1,
        action=action,
        actor=actor,
        since=None if since is None else datetime(since.year, since.month, since.day, tzinfo=UTC),
        newest=newest,
    )
    page = rows[:limit]
    more = cursor_of((page[-1].seq,)) if len(rows) > limit else None
    return Page[AuditOut](items=[AuditOut.of(record) for record in page], next_cursor=more)


@router.get("/audit/verify", responses=REFUSED)
async def verify(services: Site, _: PlatformAdmin) -> VerifiedOut:
    """Check the hash chain, and that no older database was restored."""
    return await _verified(services)


@router.post("/audit/recover", responses={**REFUSED, **TAKEN})
async def recover(services: Site, admin: PlatformAdmin) -> VerifiedOut:
    """Go on after an older database was restored; 409 if nothing is wrong."""
    await services.shared.audit_head.recover(admin)
    return await _verified(services)


async def _verified(services: Services) -> VerifiedOut:
    rows, first_break = await services.shared.audit.verify()
    problem = await services.shared.audit_head.problem()
    intact = first_break is None and problem is None
    return VerifiedOut(rows=rows, intact=intact, first_break=first_break, problem=problem or "")


@router.get("/audit/downloads", responses={**REFUSED, **MALFORMED})
async def list_downloads(
    services: Site,
    caller: TokenHolder,
    module: _Words = None,
    version: _Words = None,
    tenant: _Words = None,
    since: date | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DownloadOut]:
    """List who downloaded what on which day (UTC); a tenant's admin sees that tenant's."""
    downloads = await services.shared.usage.downloads(
        caller,
        module=module,
        version=version,
        tenant=tenant or caller.tenant,
        since=since,
        limit=limit + 1,
        after=None if cursor is None else _last_counted(cursor),
    )
    page = downloads[:limit]
    more = None
    if len(downloads) > limit:
        last = page[-1][0]
        key = (last.day.isoformat(), last.tenant, last.token, last.module, last.version)
        more = cursor_of(key)
    return Page[DownloadOut](items=[download_out(*one) for one in page], next_cursor=more)


@router.get("/audit/denials", responses={**REFUSED, **MALFORMED})
async def list_denials(
    services: Site,
    caller: TokenHolder,
    tenant: _Words = None,
    token: _Words = None,
    module: _Words = None,
    since: date | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DenialOut]:
    """List what was refused to whom, newest day (UTC) first; a tenant's admin sees its own."""
    counts = await services.shared.denials.denials(
        caller,
        tenant=tenant or caller.tenant,
        token=token,
        module=module,
        since=since,
        limit=limit + 1,
        after=None if cursor is None else _last_counted(cursor),
    )
    denials = [denial_out(*one) for one in counts]
    return page_from(
        denials, lambda d: (d.day.isoformat(), d.tenant, d.token, d.module, d.rule), limit
    )


def _last_counted(cursor: str) -> tuple[date, str, str, str, str]:
    """Return what the cursor of a list of daily counts stands for: the key of the last one."""
    day, tenant, token, module, last = map(str, key_of(cursor, str, str, str, str, str))
    try:
        return date.fromisoformat(day), tenant, token, module, last
    except ValueError as error:
        raise BadInputError("that is not a cursor of this list") from error
