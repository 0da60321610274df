"""`/api/v1/jobs/…`: how work that was asked for goes."""

from fastapi import APIRouter

from app.web.admin import operations
from app.web.admin.context import Admin, Context
from app.web.admin.models import JobOut

router = APIRouter(tags=["jobs"])


@router.get(
    "/jobs/{job_id}",
    responses={404: {"content": {"application/problem+json": {}}, "description": "No such job"}},
)
async def show_job(context: Context, _: Admin, job_id: str) -> JobOut:
    """Show one job and, once it has ended, what it did."""
    return await operations.show_job(context, job_id)
