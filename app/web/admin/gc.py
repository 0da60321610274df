"""`/api/v1/gc`: collecting what nobody needs."""

from fastapi import APIRouter

from app.services.collection import GC
from app.web.admin.answers import REFUSED
from app.web.admin.context import PlatformAdmin, Site
from app.web.admin.models.releases import JobOut, job_out

router = APIRouter(tags=["gc"])


@router.get("/gc", responses={**REFUSED})
async def plan_gc(services: Site, _: PlatformAdmin) -> dict[str, object]:
    """Tell what a collection would condemn and delete now, and what waits for its day to pass."""
    return await services.upkeep.collection.plan()


@router.post("/gc", status_code=202, responses={**REFUSED})
async def run_gc(services: Site, admin: PlatformAdmin) -> JobOut:
    """Queue a collection; ask for the job to see how it goes."""
    return job_out(await services.upkeep.jobs.ask_for(GC, admin.actor))
