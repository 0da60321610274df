"""`/api/v1/rollouts…`: bringing a revision to a channel's nodes in steps."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.core.channel import Choice
from app.core.cursor import key_of
from app.core.errors import BadInputError, UnknownError
from app.core.rolloutstate import RolloutAction
from app.web.admin.answers import MALFORMED, REFUSED, STALE, TAKEN, UNKNOWN
from app.web.admin.context import PlatformAdmin, Site
from app.web.admin.models.base import Page
from app.web.admin.models.rollouts import (
    ReasonIn,
    RolloutIn,
    RolloutOut,
    RolloutStatusOut,
    rollout_out,
    status_out,
)
from app.web.admin.paging import Cursor, Limit, page_from
from app.web.admin.revisions import IfMatch

router = APIRouter(tags=["rollouts"])

_RolloutId = Annotated[
    str, Path(description="The rollout's id; or a channel's name, for its open or latest rollout")
]


@router.post(
    "/channels/{channel}/rollouts",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE},
)
async def start_rollout(
    services: Site, admin: PlatformAdmin, channel: str, body: RolloutIn, edits: IfMatch
) -> RolloutStatusOut:
    """Start to bring releases to a channel's nodes; everybody else sees them after that."""
    choice = Choice(**body.model_dump(exclude={"plan"}))
    status = await services.fleet.rollouts.start(channel, choice, body.plan, admin, edits=edits)
    return status_out(status)


@router.get("/rollouts", responses={**REFUSED, **MALFORMED})
async def list_rollouts(
    services: Site,
    admin: PlatformAdmin,
    channel: Annotated[str | None, Query(max_length=63)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[RolloutOut]:
    """List rollouts, the newest first."""
    before = None if cursor is None else _last(cursor)
    rollouts = await services.fleet.rollouts.page(
        admin, channel=channel, before=before, limit=limit + 1
    )
    page = page_from(rollouts, lambda r: (r.started_at.isoformat(), r.id), limit)
    return Page[RolloutOut](
        items=[rollout_out(rollout) for rollout in page.items], next_cursor=page.next_cursor
    )


@router.get("/rollouts/{rollout}", responses={**REFUSED, **UNKNOWN})
async def show_rollout(
    services: Site, admin: PlatformAdmin, rollout: _RolloutId
) -> RolloutStatusOut:
    """Show a rollout with the results of its present step."""
    return status_out(await services.fleet.rollouts.show(rollout, admin))


@router.post("/rollouts/{rollout}/{action}", responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN})
async def act_on_rollout(
    services: Site,
    admin: PlatformAdmin,
    rollout: _RolloutId,
    action: Annotated[str, Path(description="pause, resume, promote, halt or abandon")],
    body: ReasonIn,
) -> RolloutStatusOut:
    """Pause, resume, promote, halt or abandon a rollout."""
    if action not in _ACTIONS:
        raise UnknownError(f"a rollout has no action {action[:40]!a}: {', '.join(_ACTIONS)}")
    return status_out(
        await services.fleet.rollouts.act(rollout, RolloutAction(action), admin, reason=body.reason)
    )


_ACTIONS = [a.value for a in RolloutAction if a is not RolloutAction.ROLL_BACK]


def _last(cursor: str) -> tuple[datetime, str]:
    """Return what the cursor of a list of rollouts stands for: the key of the last one."""
    started_at, rollout_id = map(str, key_of(cursor, str, str))
    try:
        return datetime.fromisoformat(started_at).astimezone(UTC), rollout_id
    except (ValueError, OverflowError) as error:
        raise BadInputError("that is not a cursor of this list") from error
