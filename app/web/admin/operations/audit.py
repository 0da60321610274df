"""What admins can ask about the past: changes, and downloads."""

from dataclasses import dataclass
from datetime import date

from app.core.errors import BadInputError
from app.core.principal import Principal
from app.services.assembly import Services
from app.web.admin.models.audit import AuditOut, DownloadOut, VerifiedOut, audit_out, download_out
from app.web.admin.models.base import Page
from app.web.admin.paging import cursor_of, key_of


@dataclass(frozen=True, slots=True)
class DownloadsAsked:
    """Which downloads are asked for; None stands for all. `since` is a day, UTC."""

    module: str | None = None
    version: str | None = None
    tenant: str | None = None
    since: date | None = None


async def list_changes(
    services: Services,
    *,
    cursor: str | None,
    limit: int,
    action: str | None = None,
    actor: str | None = None,
) -> Page[AuditOut]:
    """Return changes, oldest first.

    Args:
        services: of this process.
        cursor: of the page before.
        limit: how many.
        action: only this one, "token.create".
        actor: only actors that begin so, "token:".

    Raises:
        BadInputError: the cursor is not one that a page gave.
    """
    after = 0 if cursor is None else int(key_of(cursor, int)[0])
    rows = await services.shared.audit.list(
        after=after, limit=limit + 1, action=action, actor=actor
    )
    page = rows[:limit]
    more = cursor_of((page[-1].seq,)) if len(rows) > limit else None
    return Page[AuditOut](items=[audit_out(r) for r in page], next_cursor=more)


async def verify(services: Services) -> VerifiedOut:
    """Return whether the hash chain holds."""
    rows, broken = await services.shared.audit.verify()
    return VerifiedOut(rows=rows, intact=broken is None, first_break=broken)


async def list_downloads(
    services: Services,
    who: Principal,
    asked: DownloadsAsked,
    *,
    cursor: str | None,
    limit: int,
) -> Page[DownloadOut]:
    """Return who downloaded what, by day; a tenant's admin sees that tenant's.

    Raises:
        BadInputError: the cursor is not one that a page gave.
        DeniedError: they are not who's to see.
    """
    found = await services.shared.usage.downloads(
        who,
        module=asked.module,
        version=asked.version,
        tenant=asked.tenant or who.tenant,
        since=asked.since,
        limit=limit + 1,
        after=None if cursor is None else _after(cursor),
    )
    page = found[:limit]
    more = None
    if len(found) > limit:
        last = page[-1][0]
        key = (last.day.isoformat(), last.tenant, last.token, last.module, last.version)
        more = cursor_of(key)
    return Page[DownloadOut](items=[download_out(*one) for one in page], next_cursor=more)


def _after(cursor: str) -> tuple[date, str, str, str, str]:
    day, tenant, token, module, version = map(str, key_of(cursor, str, str, str, str, str))
    try:
        return date.fromisoformat(day), tenant, token, module, version
    except ValueError as error:
        raise BadInputError("that is not a cursor of this list") from error
