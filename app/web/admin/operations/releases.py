"""What admins can do with releases, keys and jobs."""

import json
from contextlib import suppress

from app.core.errors import (
    BadInputError,
    KeyringError,
    NotYetError,
    UnknownError,
    VerificationError,
)
from app.core.goversion import sort_key
from app.core.job import Job
from app.services.assembly import Services
from app.services.jobs import SYNC
from app.services.releases.keyring import read_export, signing_subkeys
from app.services.releases.policy import Report
from app.services.releases.sync import SyncResult
from app.upstream.gpg import builtin_key
from app.web.admin.models.base import Page
from app.web.admin.models.releases import (
    FileOut,
    JobOut,
    KeyringChangeOut,
    KeyringIn,
    KeyringOut,
    PlanOut,
    ReleaseOut,
    change_out,
    file_out,
    job_out,
    plan_out,
    release_out,
    subkey_out,
)

PAGE_MAX = 200


async def list_releases(
    services: Services, *, cursor: str | None, limit: int, offered_only: bool
) -> Page[ReleaseOut]:
    """Return releases, newest first; the cursor is the last version of the page before.

    Raises:
        BadInputError: the cursor is not one that a page gave.
    """
    catalog = await services.releases.catalog.current(fresh=True)
    groups = catalog.releases if offered_only else catalog.all_releases
    versions = [r.version for r in groups]
    if cursor is not None:
        if all(r.version != cursor for r in catalog.all_releases):
            raise BadInputError(f"{cursor[:40]!r} is not a cursor of this list")
        versions = [v for v in versions if sort_key(v) < sort_key(cursor)]
    page = [r for v in versions[:limit] if (r := release_out(catalog, v)) is not None]
    more = len(versions) > limit
    return Page[ReleaseOut](items=page, next_cursor=page[-1].version if more and page else None)


async def show_release(services: Services, version: str) -> ReleaseOut:
    """Return one release; "1.27.1" and "go1.27.1" are the same.

    Raises:
        UnknownError: no index ever named it.
    """
    catalog = await services.releases.catalog.current(fresh=True)
    name = version if version.startswith("go") else f"go{version}"
    found = release_out(catalog, name)
    if found is None:
        raise UnknownError(
            f"no release {name[:40]} in the index as it was last read; "
            "`moorage releases list --all` shows what is, `moorage releases plan` reads it anew"
        )
    return found


async def show_file(services: Services, filename: str) -> FileOut:
    """Return one file as it stands this moment, with the evidence kept about it.

    Raises:
        UnknownError: no index ever named it.
    """
    found = await services.releases.catalog.file(filename)
    if found is None:
        raise UnknownError(f"no release file {filename[:100]} in the index")
    record, conflicts = found
    return file_out(await services.releases.catalog.current(fresh=True), record, conflicts)


async def plan(services: Services) -> PlanOut:
    """Return what a sync would do; reads the index first."""
    planned, index_error = await services.releases.sync.plan()
    return plan_out(planned, index_error)


async def sync_now(services: Services, actor: str, report: Report) -> SyncResult:
    """Mirror the selection in this process."""
    return await services.releases.sync.sync(actor=actor, report=report)


async def ask_for_sync(services: Services, actor: str) -> JobOut:
    """Queue a sync for the leader."""
    return _job(await services.upkeep.jobs.ask_for(SYNC, actor))


async def show_job(services: Services, job_id: str) -> JobOut:
    """Return one job.

    Raises:
        UnknownError: there is none with this id.
    """
    return _job(await services.upkeep.jobs.get(job_id))


def _job(job: Job) -> JobOut:
    return job_out(job, json.loads(job.result))


async def verify_file(services: Services, filename: str, actor: str) -> FileOut:
    """Ingest a file, or judge it again if it is held back; return how it stands then.

    A file that stays held back is no error here: its state says so.

    Raises:
        UnknownError: no index ever named it.
        UpstreamError: it can't be had.
    """
    # Where it stays held back, the state and its reason are the answer.
    with suppress(NotYetError, VerificationError):
        await services.releases.ingestion.ensure(filename, forced=True, actor=actor)
    return await show_file(services, filename)


async def show_keyring(services: Services) -> KeyringOut:
    """Return the active keyring."""
    recorded, keyring = (
        await services.releases.keyring.recorded(),
        await services.releases.keyring.active(),
    )
    return KeyringOut(
        sha256=recorded.digest.hex,
        source=recorded.source,
        taken_at=recorded.taken_at,
        primary=sorted({key.primary for key in keyring.subkeys}),
        subkeys=[subkey_out(key) for key in signing_subkeys(keyring)],
    )


async def refresh_keyring(services: Services, wanted: KeyringIn, actor: str) -> KeyringChangeOut:
    """Take over another export, and judge again what was held back for want of it.

    Raises:
        KeyringError: the export is unusable, or none was given and none is configured.
        ConflictError: it looks older than the active one.
    """
    armored = await _export(services, wanted)
    change = await services.releases.keyring.take_over(armored, actor, replace=wanted.replace)
    return change_out(change, await services.releases.ingestion.judge_again(actor))


async def _export(services: Services, wanted: KeyringIn) -> bytes:
    if wanted.armored is not None:
        return wanted.armored.encode()
    if wanted.fetch:
        if services.shared.settings.releases.keyring_url is None:
            raise KeyringError("MOORAGE_RELEASES__KEYRING_URL is not set")
        return await services.releases.godev.key_export(
            services.shared.settings.releases.keyring_url
        )
    if services.shared.settings.releases.keyring is None:
        return builtin_key()
    return await read_export(services.shared.settings.releases.keyring)
