"""`/api/v1/releases…`: what is mirrored, how it was verified, and mirroring more."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.web.admin.context import Admin, Site
from app.web.admin.models.base import Page
from app.web.admin.models.releases import (
    FileOut,
    JobOut,
    KeyringChangeOut,
    KeyringIn,
    KeyringOut,
    PlanOut,
    ReleaseOut,
)
from app.web.admin.operations import releases as operations

_Responses = dict[int | str, dict[str, Any]]
_PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {}}}
_REFUSED: _Responses = {
    401: {**_PROBLEM, "description": "No valid token"},
    403: {**_PROBLEM, "description": "Not an admin"},
}
_UNKNOWN: _Responses = {404: {**_PROBLEM, "description": "No index ever named it"}}
_UPSTREAM: _Responses = {
    status: {**_PROBLEM, "description": "The upstream could not be used"}
    for status in (502, 503, 504)
}

router = APIRouter(tags=["releases"])


@router.get("/releases", responses={400: {**_PROBLEM, "description": "Not a cursor"}})
async def list_releases(
    services: Site,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=operations.PAGE_MAX)] = 20,
    offered: Annotated[bool, Query(description="Only what is offered")] = False,
) -> Page[ReleaseOut]:
    """List releases, newest first."""
    return await operations.list_releases(
        services, cursor=cursor, limit=limit, offered_only=offered
    )


@router.get("/releases/plan", responses={**_REFUSED, **_UPSTREAM})
async def plan(services: Site, _: Admin) -> PlanOut:
    """Tell what a sync would fetch, and why; reads the index first."""
    return await operations.plan(services)


@router.post("/releases/sync", status_code=202, responses=_REFUSED)
async def sync(services: Site, admin: Admin) -> JobOut:
    """Queue a sync of the selection; ask for the job to see how it goes."""
    return await operations.ask_for_sync(services, admin.actor)


@router.get("/releases/keys")
async def show_keyring(services: Site) -> KeyringOut:
    """Show the active keyring."""
    return await operations.show_keyring(services)


@router.post(
    "/releases/keys",
    responses={
        **_REFUSED,
        **_UPSTREAM,
        409: {**_PROBLEM, "description": "An older export"},
        422: {**_PROBLEM, "description": "Not a usable export of the pinned key"},
    },
)
async def refresh_keyring(services: Site, admin: Admin, wanted: KeyringIn) -> KeyringChangeOut:
    """Take over another export of the pinned key, and judge again what was held back."""
    return await operations.refresh_keyring(services, wanted, admin.actor)


@router.get("/releases/files/{filename}", responses=_UNKNOWN)
async def show_file(services: Site, filename: str) -> FileOut:
    """Show one file: state, verdict, provenance."""
    return await operations.show_file(services, filename)


@router.post("/releases/files/{filename}/verify", responses={**_REFUSED, **_UNKNOWN, **_UPSTREAM})
async def verify_file(services: Site, admin: Admin, filename: str) -> FileOut:
    """Ingest a file, or judge it again if it is held back."""
    return await operations.verify_file(services, filename, admin.actor)


@router.get("/releases/{version}", responses=_UNKNOWN)
async def show_release(services: Site, version: str) -> ReleaseOut:
    """Show one release and all of its files."""
    return await operations.show_release(services, version)
