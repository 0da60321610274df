"""`/api/v1/ownership…`: prefixes of module paths that belong to one tenant."""

from fastapi import APIRouter, Response

from app.web.admin.answers import MALFORMED, REFUSED, STALE, UNKNOWN
from app.web.admin.context import Admin, Site
from app.web.admin.models.base import Page
from app.web.admin.models.ownership import OwnershipIn, OwnershipOut
from app.web.admin.operations import ownership as operations
from app.web.admin.paging import Cursor, Limit
from app.web.admin.revisions import IfMatch, put_etag

router = APIRouter(tags=["ownership"])


@router.get("/ownership", responses={**REFUSED, **MALFORMED})
async def list_owned(
    services: Site, admin: Admin, cursor: Cursor = None, limit: Limit = 50
) -> Page[OwnershipOut]:
    """List the owned prefixes."""
    return await operations.list_owned(services, admin, cursor=cursor, limit=limit)


@router.put("/ownership/{prefix:path}", responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE})
async def put_owned(
    services: Site,
    admin: Admin,
    prefix: str,
    wanted: OwnershipIn,
    revision: IfMatch,
    response: Response,
) -> OwnershipOut:
    """Close a prefix to all tenants but its owner and those granted."""
    recorded = await operations.put_owned(services, admin, prefix, wanted, revision)
    put_etag(response, recorded.revision)
    return recorded


@router.delete(
    "/ownership/{prefix:path}",
    status_code=204,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE},
)
async def remove_owned(services: Site, admin: Admin, prefix: str, revision: IfMatch) -> None:
    """Give a prefix back to everybody."""
    await operations.remove_owned(services, admin, prefix, revision)
