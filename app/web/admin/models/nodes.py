"""Nodes and the tokens by which machines enrol, as the admin API shows them."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StrictInt

from app.core.fleetnode import DEFAULT_GROUP, NodeState
from app.core.noun import line
from app.db.grants import Grant
from app.db.nodes import EnrolToken, NodeEvent
from app.services.fleet.nodes import MAX_HOURS, MAX_USES, NodeHistory, SeenState
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
    held: why it gets no grants; "" if it may get some.
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


def enrol_token_out(token: EnrolToken) -> EnrolTokenOut:
    """Return one token by which machines enrol."""
    return EnrolTokenOut(
        id=token.id,
        channel=token.channel,
        group=token.group,
        uses_left=token.uses_left,
        created_at=token.created_at,
        expires_at=token.expires_at,
    )


def node_out(seen: SeenState) -> NodeOut:
    """Return one node for people and programs."""
    node = seen.node
    return NodeOut(
        id=node.id,
        name=node.name,
        channel=node.channel,
        group=node.group,
        state=seen.state,
        current=node.current,
        offered=seen.offered,
        installed=list(node.installed),
        seen_revision=node.seen_revision,
        seen_at=node.seen_at,
        enrolled_at=node.enrolled_at,
        clock_off_s=node.clock_off_s,
        failures=node.failures,
        failure=node.failure,
        held=node.held,
        grant=node.grant,
        retired_at=node.retired_at,
        facts=node.facts,
    )


def history_out(history: NodeHistory) -> NodeHistoryOut:
    """Return one node with its grants and events."""
    return NodeHistoryOut(
        **dict(node_out(history.seen)),
        grants=[_grant_out(grant) for grant in history.grants],
        events=[_event_out(event) for event in history.events],
    )


def _grant_out(grant: Grant) -> GrantOut:
    return GrantOut(
        id=grant.id,
        rollout=grant.rollout,
        revision=grant.revision,
        version=grant.version,
        given_at=grant.given_at,
        expires_at=grant.expires_at,
        outcome=grant.outcome,
        outcome_at=grant.outcome_at,
        stage=grant.stage,
        reason=grant.reason,
        trace=grant.trace,
    )


def _event_out(event: NodeEvent) -> NodeEventOut:
    return NodeEventOut(
        at=event.at,
        event=event.event,
        grant=event.grant,
        version=event.version,
        stage=event.stage,
        reason=event.reason,
        seconds=dict(event.seconds),
        traceparent=event.traceparent,
    )
