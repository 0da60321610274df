"""`/api/v1/jobs…`: how work that was asked for goes."""

from datetime import UTC, datetime

from fastapi import APIRouter

from app.core.cursor import key_of
from app.core.errors import BadInputError
from app.web.admin.answers import MALFORMED, REFUSED, UNKNOWN
from app.web.admin.context import PlatformAdmin, Site
from app.web.admin.models.base import Page
from app.web.admin.models.releases import JobOut, job_out
from app.web.admin.paging import Cursor, Limit, page_from

router = APIRouter(tags=["jobs"])


@router.get("/jobs", responses={**REFUSED, **MALFORMED})
async def list_jobs(
    services: Site, _: PlatformAdmin, cursor: Cursor = None, limit: Limit = 50
) -> Page[JobOut]:
    """List jobs, newest first, with the progress of the one that runs."""
    after = None if cursor is None else _last_job(cursor)
    jobs = [job_out(job) for job in await services.upkeep.jobs.page(after=after, limit=limit + 1)]
    return page_from(jobs, lambda job: (job.created_at.isoformat(), job.id), limit)


def _last_job(cursor: str) -> tuple[datetime, str]:
    """Return what the cursor of a list of jobs stands for: time and id of the last one."""
    at, job_id = map(str, key_of(cursor, str, str))
    try:
        return datetime.fromisoformat(at).astimezone(UTC), job_id
    except (ValueError, OverflowError) as error:
        raise BadInputError("that is not a cursor of this list") from error


@router.get("/jobs/{job_id}", responses={**REFUSED, **UNKNOWN})
async def show_job(services: Site, _: PlatformAdmin, job_id: str) -> JobOut:
    """Show one job and its progress; once it has ended, what it did."""
    return job_out(await services.upkeep.jobs.get(job_id))
