"""`/api/v1/channels…`: which Go releases nodes and CI are to run; the key that signs that."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.core.channel import (
    Channel,
    ChannelSettings,
    Choice,
    RecordedChannel,
    Revision,
    RevisionDiff,
)
from app.core.cursor import key_of
from app.web.admin.answers import MALFORMED, REFUSED, STALE, TAKEN, UNKNOWN
from app.web.admin.context import PlatformAdmin, Site, TokenHolder
from app.web.admin.models.base import Page
from app.web.admin.models.channels import KeyOut, RollbackIn, key_out
from app.web.admin.paging import Cursor, Limit, page_from
from app.web.admin.revisions import IfMatch, put_etag

router = APIRouter(tags=["channels"])

ChannelName = Annotated[str, Path(description="The channel's name")]
_MAX_NUMBER = (1 << 31) - 1
_Number = Annotated[int, Path(ge=1, le=_MAX_NUMBER, description="The number of a revision")]
_Optional = Annotated[int | None, Query(ge=1, le=_MAX_NUMBER)]


@router.get("/channels", responses={**REFUSED, **MALFORMED})
async def list_channels(
    services: Site, caller: TokenHolder, cursor: Cursor = None, limit: Limit = 50
) -> Page[RecordedChannel]:
    """List channels, by name; to a tenant's admin, those that the tenant may follow."""
    after = None if cursor is None else str(key_of(cursor, str)[0])
    channels = await services.fleet.channels.page(caller, after=after, limit=limit + 1)
    return page_from(channels, lambda channel: (channel.name,), limit)


@router.post("/channels", status_code=201, responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN})
async def create_channel(
    services: Site, admin: PlatformAdmin, body: Channel, response: Response
) -> RecordedChannel:
    """Make a channel; it offers nothing before its first revision."""
    made = await services.fleet.channels.create(body, admin)
    put_etag(response, made.edits)
    return made


@router.get("/channels/{channel}", responses={**REFUSED, **UNKNOWN})
async def show_channel(
    services: Site, caller: TokenHolder, channel: ChannelName, response: Response
) -> RecordedChannel:
    """Show one channel with what it offers."""
    recorded = await services.fleet.channels.get(channel, caller)
    put_etag(response, recorded.edits)
    return recorded


@router.patch(
    "/channels/{channel}", responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE}
)
async def change_channel(
    services: Site,
    admin: PlatformAdmin,
    channel: ChannelName,
    body: ChannelSettings,
    edits: IfMatch,
    response: Response,
) -> RecordedChannel:
    """Change the fields that are given: title, and who may follow the channel."""
    changed = await services.fleet.channels.change(channel, body, admin, edits=edits)
    put_etag(response, changed.edits)
    return changed


@router.delete(
    "/channels/{channel}",
    status_code=204,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE},
)
async def remove_channel(
    services: Site, admin: PlatformAdmin, channel: ChannelName, edits: IfMatch
) -> None:
    """Remove a channel that no tenant follows; its revisions stay recorded."""
    await services.fleet.channels.remove(channel, admin, edits=edits)


@router.get("/channels/{channel}/revisions", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def list_revisions(
    services: Site,
    caller: TokenHolder,
    channel: ChannelName,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Revision]:
    """List a channel's revisions, the newest first."""
    before = None if cursor is None else int(key_of(cursor, int)[0])
    revisions = await services.fleet.channels.history(
        channel, caller, before=before, limit=limit + 1
    )
    return page_from(revisions, lambda revision: (revision.revision,), limit)


@router.post(
    "/channels/{channel}/revisions",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE},
)
async def set_channel(
    services: Site, admin: PlatformAdmin, channel: ChannelName, body: Choice, edits: IfMatch
) -> Revision:
    """Make a revision, which everybody gets at once.

    A release that is not verified refuses it. If the present revision offers just that, it stays.
    """
    return await services.fleet.channels.set(channel, body, admin, edits=edits)


@router.get("/channels/{channel}/revisions/{revision}", responses={**REFUSED, **UNKNOWN})
async def show_revision(
    services: Site, caller: TokenHolder, channel: ChannelName, revision: _Number
) -> Revision:
    """Show one revision of a channel."""
    return await services.fleet.channels.revision(channel, revision, caller)


@router.get("/channels/{channel}/diff", responses={**REFUSED, **UNKNOWN})
async def diff_revisions(
    services: Site,
    caller: TokenHolder,
    channel: ChannelName,
    before: _Optional = None,
    after: _Optional = None,
) -> RevisionDiff:
    """Show what differs between two revisions: without numbers, the current and the one before."""
    return await services.fleet.channels.diff(channel, caller, before=before, after=after)


@router.post(
    "/channels/{channel}/rollback",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE},
)
async def roll_back(
    services: Site, admin: PlatformAdmin, channel: ChannelName, body: RollbackIn, edits: IfMatch
) -> Revision:
    """Make a revision with the content of an older one; no upstream is asked."""
    return await services.fleet.channels.rollback(
        channel, admin, to=body.to, reason=body.reason, edits=edits
    )


@router.get("/channel-key", responses=UNKNOWN)
async def show_key(services: Site) -> KeyOut:
    """Show the public key that signs the manifests of all channels; nodes pin it."""
    return key_out(await services.fleet.manifests.key())


@router.post("/channel-key", status_code=201, responses=REFUSED)
async def new_key(services: Site, admin: PlatformAdmin) -> KeyOut:
    """Make a new key; the one before it signs along, until the next new one."""
    return key_out(await services.fleet.manifests.new_key(admin))
