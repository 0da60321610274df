"""`/api/v1/ownership…`: prefixes of module paths that belong to one tenant."""

from fastapi import APIRouter, Response

from app.core.acl import Owner, Ownership, RecordedOwnership
from app.core.cursor import key_of
from app.core.noun import checked
from app.web.admin.answers import MALFORMED, REFUSED, STALE, UNKNOWN
from app.web.admin.context import PlatformAdmin, Site
from app.web.admin.models.base import Page
from app.web.admin.paging import Cursor, Limit, page_from
from app.web.admin.revisions import IfMatch, put_etag

router = APIRouter(tags=["ownership"])


@router.get("/ownership", responses={**REFUSED, **MALFORMED})
async def list_owned(
    services: Site, admin: PlatformAdmin, cursor: Cursor = None, limit: Limit = 50
) -> Page[RecordedOwnership]:
    """List the owned prefixes."""
    after = None if cursor is None else str(key_of(cursor, str)[0])
    owned = await services.tenants.ownership.page(admin, after=after, limit=limit + 1)
    return page_from(owned, lambda one: (one.prefix,), limit)


@router.put("/ownership/{prefix:path}", responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE})
async def put_owned(
    services: Site,
    admin: PlatformAdmin,
    prefix: str,
    body: Owner,
    revision: IfMatch,
    response: Response,
) -> RecordedOwnership:
    """Close a prefix to all tenants but its owner and those granted."""
    ownership = checked(Ownership, {**dict(body), "prefix": prefix})
    recorded = await services.tenants.ownership.put(ownership, admin, revision=revision)
    put_etag(response, recorded.revision)
    return recorded


@router.delete(
    "/ownership/{prefix:path}",
    status_code=204,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE},
)
async def remove_owned(
    services: Site, admin: PlatformAdmin, prefix: str, revision: IfMatch
) -> None:
    """Give a prefix back to everybody."""
    await services.tenants.ownership.remove(prefix, admin, revision=revision)
