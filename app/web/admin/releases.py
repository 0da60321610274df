"""`/api/v1/releases…`: what is mirrored, how it was verified, and mirroring more."""

import base64
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from app.core.digest import Digest
from app.core.errors import (
    BadInputError,
    KeyringError,
    NotYetError,
    UnknownError,
    VerificationError,
)
from app.core.goversion import sort_key
from app.core.releasename import near_file, near_release
from app.services.assembly import Services
from app.services.jobs import SYNC
from app.services.releases.keyring import read_export, signing_subkeys
from app.services.releases.publishing import Upload
from app.upstream.gpg import builtin_key
from app.web.admin.context import PlatformAdmin, Publisher, Site
from app.web.admin.models.base import Page
from app.web.admin.models.releases import (
    NAMES_MAX,
    FileOut,
    JobOut,
    KeyringChangeOut,
    KeyringIn,
    KeyringOut,
    PlanOut,
    ReleaseName,
    ReleaseOut,
    ReleaseRetireIn,
    SubkeyOut,
    SyncIn,
    WithdrawalOut,
    change_out,
    file_out,
    job_out,
    plan_out,
    release_out,
    withdrawal_out,
)
from app.web.admin.paging import PAGE_MAX
from app.web.requestbody import declared_bytes

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

_CONFLICT: _Responses = {409: {**_PROBLEM, "description": "A channel offers it"}}
_MALFORMED: _Responses = {400: {**_PROBLEM, "description": "Not the name of an own release"}}

_Names = Annotated[
    tuple[ReleaseName, ...],
    Query(max_length=NAMES_MAX, description="Files and releases; without one, the selection"),
]

router = APIRouter(tags=["releases"])


@router.get("/releases", responses={400: {**_PROBLEM, "description": "Not a cursor"}})
async def list_releases(
    services: Site,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 20,
    offered: Annotated[bool, Query(description="Only what is offered")] = False,
) -> Page[ReleaseOut]:
    """List releases, newest first; the cursor is the last version of the page before."""
    catalog = await services.releases.catalog.current(fresh=True)
    groups = catalog.releases if offered else catalog.all_releases
    versions = [r.version for r in groups]
    if cursor is not None:
        if all(r.version != cursor for r in catalog.all_releases):
            raise BadInputError(f"{cursor[:40]!r} is not a cursor of this list")
        versions = [v for v in versions if sort_key(v) < sort_key(cursor)]
    page = [r for v in versions[:limit] if (r := release_out(catalog, v)) is not None]
    more = len(versions) > limit
    return Page[ReleaseOut](items=page, next_cursor=page[-1].version if more and page else None)


@router.get("/releases/plan", responses={**_REFUSED, **_UNKNOWN, **_UPSTREAM})
async def plan(services: Site, _: PlatformAdmin, name: _Names = ()) -> PlanOut:
    """Tell what a sync would fetch, of the selection or of what is named; reads the index first."""
    planned, index_error = await services.releases.sync.plan(name)
    return plan_out(planned, index_error)


@router.post("/releases/sync", status_code=202, responses={**_REFUSED, **_UNKNOWN, **_UPSTREAM})
async def sync(services: Site, admin: PlatformAdmin, body: SyncIn | None = None) -> JobOut:
    """Queue a sync of the selection, or of what is named; ask for the job to see how it goes."""
    names = body.names if body is not None else ()
    if names:
        await services.releases.sync.plan(names)  # what no index has is refused at once
    return job_out(await services.upkeep.jobs.ask_for(SYNC, admin.actor, names))


@router.get("/releases/keys")
async def show_keyring(services: Site) -> KeyringOut:
    """Show the active keyring."""
    ring = services.releases.keyring
    recorded, keyring = await ring.recorded(), await ring.active()
    try:
        own = (await services.releases.own_keyring.active())[1]
    except (KeyringError, NotYetError):
        own = None
    return KeyringOut(
        sha256=recorded.digest.hex,
        source=recorded.source,
        taken_at=recorded.taken_at,
        primary=sorted({key.primary for key in keyring.subkeys}),
        subkeys=[SubkeyOut.of(key) for key in signing_subkeys(keyring)],
        own_primary=sorted({key.primary for key in own.subkeys}) if own else [],
        own_subkeys=[SubkeyOut.of(key) for key in signing_subkeys(own)] if own else [],
    )


@router.post(
    "/releases/keys",
    responses={
        **_REFUSED,
        **_UPSTREAM,
        409: {**_PROBLEM, "description": "An older export"},
        422: {**_PROBLEM, "description": "Not a usable export of the pinned key"},
    },
)
async def refresh_keyring(
    services: Site, admin: PlatformAdmin, body: KeyringIn
) -> KeyringChangeOut:
    """Take over another export of the pinned key, and judge again what was held back."""
    releases = services.releases
    armored = await _export(services, body)
    change = await releases.keyring.take_over(armored, admin.actor, replace=body.replace)
    return change_out(change, await releases.ingestion.judge_again(admin.actor))


async def _export(services: Services, body: KeyringIn) -> bytes:
    """Return the armored export that a request has or names; else that of the settings.

    Raises:
        KeyringError: the file can't be read, or no URL is configured.
    """
    settings = services.shared.settings.releases
    if body.armored is not None:
        return body.armored.encode()
    if body.fetch:
        if settings.keyring_url is None:
            raise KeyringError("MOORAGE_RELEASES__KEYRING_URL is not set")
        return await services.releases.godev.key_export(settings.keyring_url)
    if settings.keyring is None:
        return builtin_key()
    return await read_export(settings.keyring)


@router.get("/releases/files/{filename}", responses=_UNKNOWN)
async def show_file(services: Site, filename: str) -> FileOut:
    """Show one file: state, verdict, provenance."""
    return await _file(services, filename)


@router.put(
    "/releases/files/{filename}",
    status_code=201,
    responses={
        **_REFUSED,
        200: {"model": FileOut, "description": "The same bytes were published before"},
        400: {**_PROBLEM, "description": "Not the name of an own release, or refused"},
        413: {**_PROBLEM, "description": "Larger than any release file"},
        409: {**_PROBLEM, "description": "It was published with other bytes, or is retired"},
        410: {**_PROBLEM, "description": "The release was withdrawn for good"},
        422: {**_PROBLEM, "description": "No usable key of your own is pinned"},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"format": "binary"}}},
        }
    },
)
async def publish_file(
    request: Request,
    response: Response,
    services: Site,
    publisher: Publisher,
    filename: str,
    sha256: Annotated[
        str | None,
        Query(pattern="^[0-9a-f]{64}$", description="What the body must have"),
    ] = None,
    x_moorage_signature: Annotated[
        str | None, Header(description="The detached signature (.asc), in base64")
    ] = None,
) -> FileOut:
    """Publish a file of an own release; the body is the file."""
    upload = Upload(
        request.stream(),
        declared_bytes(request.scope["headers"]),
        _signature(x_moorage_signature),
        None if sha256 is None else Digest(sha256),
    )
    published = await services.releases.own.publish(publisher, filename, upload)
    if not published.is_new:
        response.status_code = 200
    return await _file(services, filename)


def _signature(header: str | None) -> bytes | None:
    """Return the signature that a header holds.

    Raises:
        BadInputError: it is not base64.
    """
    if header is None:
        return None
    try:
        return base64.b64decode(header, validate=True)
    except ValueError as error:
        raise BadInputError("X-Moorage-Signature is the .asc file in base64") from error


@router.post("/releases/files/{filename}/verify", responses={**_REFUSED, **_UNKNOWN, **_UPSTREAM})
async def verify_file(services: Site, admin: PlatformAdmin, filename: str) -> FileOut:
    """Ingest a file, or judge it again if it is held back."""
    await _file(services, filename)  # a name that no index has is refused with what may be meant
    # A file that stays held back is no error here: its state and the reason are the answer.
    with suppress(NotYetError, VerificationError):
        await services.releases.ingestion.ensure(filename, forced=True, actor=admin.actor)
    return await _file(services, filename)


async def _file(services: Services, filename: str) -> FileOut:
    """Return a file as it is now, with the evidence kept about it.

    Raises:
        UnknownError: no index ever named it.
    """
    known = await services.releases.catalog.file(filename)
    if known is None:
        raise UnknownError(
            f"no release file {filename[:100]} in the index as it was last read; "
            f"{await _meant(services, filename)}"
        )
    record, conflicts = known
    return file_out(await services.releases.catalog.current(fresh=True), record, conflicts)


async def _meant(services: Services, filename: str) -> str:
    """Return what the wrong name of a file may mean."""
    catalog = await services.releases.catalog.current(fresh=True)
    try:
        nearest = near_file(catalog.all_releases, filename)
    except BadInputError:
        nearest = None
    return f"did you mean {nearest}?" if nearest else "`moorage releases show VERSION` lists them"


@router.get("/releases/{version}", responses=_UNKNOWN)
async def show_release(services: Site, version: str) -> ReleaseOut:
    """Show one release and all of its files; "1.27.1" and "go1.27.1" are the same."""
    catalog = await services.releases.catalog.current(fresh=True)
    name = version if version.startswith("go") else f"go{version}"
    release = release_out(catalog, name)
    if release is None:
        newest = near_release(catalog.all_releases, version)
        meant = f"did you mean {newest}? " if newest else ""
        raise UnknownError(
            f"no release {version[:40]} in the index as it was last read; {meant}"
            "`moorage releases list --all` shows what is, `moorage releases plan` reads it anew"
        )
    return release


@router.post(
    "/releases/{version}/retire",
    responses={**_REFUSED, **_UNKNOWN, **_CONFLICT, **_MALFORMED},
)
async def retire_release(
    services: Site, admin: PlatformAdmin, version: str, body: ReleaseRetireIn
) -> WithdrawalOut:
    """Take an own release out of every list; with `gone`, answer 410 for all of it, for ever."""
    name = version if version.startswith("go") else f"go{version}"
    return withdrawal_out(
        await services.releases.withdrawing.retire(admin, name, body.reason, is_gone=body.gone)
    )
