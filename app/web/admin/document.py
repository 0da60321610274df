"""`/api/v1/apply`: one document for everything."""

from fastapi import APIRouter

from app.web.admin.answers import MALFORMED, REFUSED, TAKEN, UNKNOWN
from app.web.admin.context import PlatformAdmin, Site
from app.web.admin.models.document import AppliedOut, ApplyIn

router = APIRouter(tags=["apply"])


@router.post("/apply", responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN})
async def apply(services: Site, admin: PlatformAdmin, body: ApplyIn) -> AppliedOut:
    """Make tenants, rules, routes and owned prefixes match a document, all or nothing."""
    changes = await services.tenants.documents.apply(
        body.document, admin, dry_run=body.dry_run, prune=body.prune
    )
    return AppliedOut(dry_run=body.dry_run, changes=changes)
