"""`/api/v1/nodes…`: machines that enrolled, and the tokens by which they do."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.core.cursor import key_of
from app.core.fleetnode import NodeState
from app.web.admin.answers import MALFORMED, REFUSED, TAKEN, UNKNOWN
from app.web.admin.context import PlatformAdmin, Site
from app.web.admin.models.base import Page
from app.web.admin.models.nodes import (
    EnrolTokenIn,
    EnrolTokenMadeOut,
    EnrolTokenOut,
    HoldIn,
    MoveIn,
    NodeHistoryOut,
    NodeOut,
    history_out,
    node_out,
)
from app.web.admin.paging import Cursor, Limit, page_from, page_of

router = APIRouter(tags=["nodes"])

_NodeId = Annotated[
    str, Path(max_length=100, description="The node's id; or its name, if one node has it")
]
_ONE = {**REFUSED, **UNKNOWN, **TAKEN}


@router.get("/nodes", responses={**REFUSED, **MALFORMED})
async def list_nodes(
    services: Site,
    admin: PlatformAdmin,
    channel: Annotated[str | None, Query(max_length=63)] = None,
    group: Annotated[str | None, Query(max_length=63)] = None,
    state: NodeState | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[NodeOut]:
    """List nodes by name; without a state, all but retired ones."""
    after = None
    if cursor is not None:
        name, node_id = map(str, key_of(cursor, str, str))
        after = (name, node_id)
    nodes = await services.fleet.nodes.page(
        admin, channel=channel, group=group, state=state, after=after, limit=limit + 1
    )
    page = page_from(nodes, lambda seen: (seen.node.name, seen.node.id), limit)
    return Page[NodeOut](
        items=[node_out(seen) for seen in page.items], next_cursor=page.next_cursor
    )


@router.get("/nodes/{node}", responses={**_ONE})
async def show_node(services: Site, admin: PlatformAdmin, node: _NodeId) -> NodeHistoryOut:
    """Show a node with its latest grants and events."""
    return history_out(await services.fleet.nodes.show(node, admin))


@router.post("/nodes/{node}/hold", responses={**_ONE, **MALFORMED})
async def hold_node(services: Site, admin: PlatformAdmin, node: _NodeId, body: HoldIn) -> NodeOut:
    """Hold a node: it gets no grants until it is released."""
    return node_out(await services.fleet.nodes.hold(node, admin, reason=body.reason))


@router.post("/nodes/{node}/release", responses={**_ONE})
async def release_node(services: Site, admin: PlatformAdmin, node: _NodeId) -> NodeOut:
    """Let a node get grants again; its failures in a row are forgotten."""
    return node_out(await services.fleet.nodes.release(node, admin))


@router.post("/nodes/{node}/move", responses={**_ONE, **MALFORMED})
async def move_node(services: Site, admin: PlatformAdmin, node: _NodeId, body: MoveIn) -> NodeOut:
    """Move a node to another group, to another channel, or both."""
    return node_out(
        await services.fleet.nodes.move(node, admin, group=body.group, channel=body.channel)
    )


@router.post("/nodes/{node}/retire", responses={**_ONE})
async def retire_node(services: Site, admin: PlatformAdmin, node: _NodeId) -> NodeOut:
    """Retire a node for good: its token stops working."""
    return node_out(await services.fleet.nodes.retire(node, admin))


@router.get("/enroll-tokens", responses={**REFUSED, **MALFORMED})
async def list_enrolment_tokens(
    services: Site, admin: PlatformAdmin, cursor: Cursor = None, limit: Limit = 50
) -> Page[EnrolTokenOut]:
    """List the tokens by which machines enrol, oldest first."""
    return page_of(
        await services.fleet.enrolment.tokens(admin),
        lambda t: (t.created_at.isoformat(), t.id),
        EnrolTokenOut.of,
        kinds=(str, str),
        cursor=cursor,
        limit=limit,
    )


@router.post("/enroll-tokens", status_code=201, responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def create_enrolment_token(
    services: Site, admin: PlatformAdmin, body: EnrolTokenIn
) -> EnrolTokenMadeOut:
    """Make a token by which machines enrol; its secret is in this answer and nowhere else."""
    token, secret = await services.fleet.enrolment.create_token(
        admin, body.channel, group=body.group, uses=body.uses, hours=body.hours
    )
    return EnrolTokenMadeOut.of(token, token=secret)


@router.delete("/enroll-tokens/{token_id}", status_code=204, responses={**REFUSED, **UNKNOWN})
async def remove_enrolment_token(services: Site, admin: PlatformAdmin, token_id: str) -> None:
    """Remove a token by which machines enrol; nodes that used it stay."""
    await services.fleet.enrolment.remove_token(token_id, admin)
