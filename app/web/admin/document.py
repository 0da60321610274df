"""`/api/v1/apply`: one document for everything."""

from fastapi import APIRouter

from app.web.admin.answers import MALFORMED, REFUSED, TAKEN, UNKNOWN
from app.web.admin.context import Admin, Site
from app.web.admin.models.document import AppliedOut, ApplyIn
from app.web.admin.operations import document as operations

router = APIRouter(tags=["apply"])


@router.post("/apply", responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN})
async def apply(services: Site, admin: Admin, wanted: ApplyIn) -> AppliedOut:
    """Make tenants, rules, routes and owned prefixes match a document, all or nothing."""
    return await operations.apply(services, admin, wanted)
