"""Nodes and the tokens by which machines enrol, as the admin API shows them."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StrictInt

from app.core.fleetnode import DEFAULT_GROUP, NodeState
from app.core.noun import line
from app.services.fleet.enrolment import MAX_HOURS, MAX_USES
from app.services.fleet.nodes import NodeHistory, SeenState
from app.web.admin.models.base import In, Out


class HoldIn(In):
    """Why a node gets no grants."""

    reason: Annotated[str, *line("reason", 500), Field(min_length=1)]


class MoveIn(In):
    """Where a node goes; what is left out stays."""

    group: Annotated[str | None, Field(max_length=63)] = None
    channel: Annotated[str | None, Field(max_length=63)] = None


class EnrolTokenIn(In):
    """A new token by which machines enrol.

    uses: how many machines may enrol with it.
    hours: how long it is valid.
    """

    channel: Annotated[str, Field(max_length=63)]
    group: Annotated[str, Field(max_length=63)] = DEFAULT_GROUP
    uses: Annotated[StrictInt, Field(ge=1, le=MAX_USES)] = 1
    hours: Annotated[StrictInt, Field(ge=1, le=MAX_HOURS)] = 24


class EnrolTokenOut(Out):
    """A token by which machines enrol."""

    id: str
    channel: str
    group: str
    uses_left: int
    created_at: datetime
    expires_at: datetime


class EnrolTokenMadeOut(EnrolTokenOut):
    """A new token with its secret, which is shown this once and never stored."""

    token: str


class NodeOut(Out):
    """A node.

    offered: the release that it should run; "" where its channel has none.
    current: the release that it runs; "" before the first.
    clock_off_s: seconds by which its clock was ahead of the server's.
    held: why it gets no grants, or none of that release; "" if it may get some.
    grant: id of its grant without a result; "" for none.
    """

    id: str
    name: str
    channel: str
    group: str
    state: NodeState
    current: str
    offered: str
    installed: list[str]
    seen_revision: int
    seen_at: datetime | None
    enrolled_at: datetime
    clock_off_s: float
    failures: int
    failure: str
    held: str
    grant: str
    retired_at: datetime | None
    facts: dict[str, str]


class GrantOut(Out):
    """A grant and what became of it: out, succeeded, failed or withdrawn."""

    id: str
    rollout: str | None
    revision: int
    version: str
    given_at: datetime
    expires_at: datetime
    outcome: str
    outcome_at: datetime
    stage: str
    reason: str
    trace: str


class NodeEventOut(Out):
    """An event that a node reported; seconds are those of each stage."""

    at: datetime
    event: str
    grant: str
    version: str
    stage: str
    reason: str
    seconds: dict[str, float]
    traceparent: str


class NodeHistoryOut(NodeOut):
    """A node with its latest grants and events, the newest first."""

    grants: list[GrantOut]
    events: list[NodeEventOut]


def node_out(seen: SeenState) -> NodeOut:
    """Return one node for people and programs."""
    return NodeOut.of(seen.node, state=seen.state, offered=seen.offered, held=seen.held)


def history_out(history: NodeHistory) -> NodeHistoryOut:
    """Return one node with its grants and events."""
    return NodeHistoryOut.of(
        history.seen.node,
        state=history.seen.state,
        offered=history.seen.offered,
        held=history.seen.held,
        grants=history.grants,
        events=history.events,
    )
