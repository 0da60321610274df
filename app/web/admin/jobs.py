"""`/api/v1/jobs/…`: how work that was asked for goes."""

from typing import Any

from fastapi import APIRouter

from app.web.admin.context import PlatformAdmin, Site
from app.web.admin.models.releases import JobOut, job_out

_PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {}}}

router = APIRouter(tags=["jobs"])


@router.get(
    "/jobs/{job_id}",
    responses={
        401: {**_PROBLEM, "description": "No valid token"},
        403: {**_PROBLEM, "description": "Not an admin"},
        404: {**_PROBLEM, "description": "No such job"},
    },
)
async def show_job(services: Site, _: PlatformAdmin, job_id: str) -> JobOut:
    """Show one job and, once it has ended, what it did."""
    return job_out(await services.upkeep.jobs.get(job_id))
