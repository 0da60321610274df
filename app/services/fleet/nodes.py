"""Nodes as operators see them, and what operators do to them.

Not here: how machines become nodes (`enrolment`), check-ins (`checkins`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from app.core import fleetnode
from app.core.errors import BadInputError, ConflictError, UnknownError
from app.core.fleetnode import Node, NodeState, hold_reason, state_of
from app.core.principal import Principal
from app.core.rolloutplan import check_group
from app.core.rolloutstate import Outcome
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.enroltokens import EnrolTokenTable
from app.db.generation import FLEET, NODES, bump_generation
from app.db.grants import Grant, GrantTable
from app.db.nodeevents import NodeEvent, NodeEventTable
from app.db.nodes import NodeTable
from app.db.room import Room
from app.services.authorization import require_admin
from app.services.changes import denial_room, locked
from app.services.clock import Now
from app.services.fleet.channels import channel_named
from app.services.fleet.progress import next_generation
from app.services.fleet.view import NO_CHANNEL, ChannelView, FleetView

_SHOWN = 50
_KEPT = timedelta(days=90)
"""How long events of nodes stay."""
MOST_KEPT = 1000
"""Events of a node that stay, and grants outside rollouts."""


@dataclass(frozen=True, slots=True)
class SeenState:
    """A node with its state.

    Attributes:
        offered: the release that it should run; "" where its channel has none.
        held: why it gets no grants, or none of that release; "" if it may get some.
    """

    node: Node
    state: NodeState
    offered: str
    held: str


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """How many nodes there are.

    Attributes:
        by_state: by channel and state.
        declining: by channel; nodes that decline what they are offered, and nothing else holds.
    """

    by_state: dict[tuple[str, str], int]
    declining: dict[str, int]


@dataclass(frozen=True, slots=True)
class NodeHistory:
    """A node with its latest grants and events, the newest first."""

    seen: SeenState
    grants: list[Grant]
    events: list[NodeEvent]


class NodeService:
    """Use cases about nodes.

    Args:
        interval_s: seconds between two check-ins of a node.
    """

    def __init__(
        self,
        db: Database,
        view: FleetView,
        now: Now,
        interval_s: float,
    ) -> None:
        self._db = db
        self._view = view
        self._now = now
        self._interval_s = interval_s

    async def page(
        self,
        who: Principal,
        *,
        channel: str | None = None,
        group: str | None = None,
        state: NodeState | None = None,
        after: tuple[str, str] | None = None,
        limit: int | None = None,
    ) -> list[SeenState]:
        """Return nodes in the order of name and id.

        Args:
            who: a platform admin.
            channel: only those of one channel.
            group: only those of one group.
            state: only those in one state; None takes all but retired ones.
            after: name and id of the last node of the page before.
            limit: how many at most; None takes all.

        Raises:
            DeniedError: who is no platform admin.
        """
        require_admin(who, None)
        channels = (await self._view.load()).channels
        at, nodes = self._now(), list[SeenState]()
        while limit is None or len(nodes) < limit:
            page = await self._db.read(partial(_page, channel=channel, group=group, after=after))
            nodes += [
                seen
                for node in page
                if _is_shown(seen := self._state(node, channels.get(node.channel), at), state)
            ]
            if len(page) < _PAGE:
                break
            after = (page[-1].name, page[-1].id)
        return nodes[:limit]

    async def show(self, node_id: str, who: Principal) -> NodeHistory:
        """Return a node with its latest grants and events.

        Args:
            node_id: its id; or its name, if one node has it.
            who: a platform admin.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError: there is none of that id.
            ConflictError: several nodes have the name.
        """
        require_admin(who, None)
        channels = (await self._view.load()).channels
        at = self._now()

        def work(session: Session) -> NodeHistory:
            node = _named(session, node_id)
            return NodeHistory(
                self._state(node, channels.get(node.channel), at),
                GrantTable(session).of_node(node.id, _SHOWN),
                NodeEventTable(session).of(node.id, _SHOWN),
            )

        return await self._db.read(work)

    async def hold(self, node_id: str, who: Principal, *, reason: str) -> SeenState:
        """Hold a node: it gets no grants until it is released.

        Raises:
            DeniedError: who is no platform admin.
            BadInputError: the reason is empty, or no line.
            UnknownError, ConflictError: as `show`.
        """
        if not reason.strip() or not reason.isprintable() or len(reason) > 500:
            raise BadInputError("holding a node needs a reason of one line")
        return await self._change(
            node_id, who, "node.hold", reason, lambda _s, node, _at: replace(node, held=reason)
        )

    async def release(self, node_id: str, who: Principal) -> SeenState:
        """Let a node get grants again; its failures in a row are forgotten.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError, ConflictError: as `show`.
        """
        return await self._change(
            node_id, who, "node.release", "", lambda _s, node, _at: fleetnode.released(node)
        )

    async def move(
        self,
        node_id: str,
        who: Principal,
        *,
        group: str | None = None,
        channel: str | None = None,
    ) -> SeenState:
        """Move a node to another group, to another channel, or both; the next check-in says so.

        Raises:
            DeniedError: who is no platform admin.
            BadInputError: neither is named, or the group's name can't be.
            UnknownError, ConflictError: as `show`; or there is no such channel.
        """
        if group is None and channel is None:
            raise BadInputError("name a group, a channel, or both")
        if group is not None:
            check_group(group)
        detail = ", ".join(
            f"to {what} {name}" for what, name in (("channel", channel), ("group", group)) if name
        )

        def change(session: Session, node: Node, _: datetime) -> Node:
            if channel is not None:
                channel_named(session, channel)
            if channel not in (None, node.channel):  # its revisions have numbers of their own
                node = replace(node, released_revision=0)
            return replace(node, group=group or node.group, channel=channel or node.channel)

        return await self._change(node_id, who, "node.move", detail, change)

    async def retire(self, node_id: str, who: Principal) -> SeenState:
        """Retire a node for good: its token stops working within a second.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError, ConflictError: as `show`.
        """
        return await self._change(
            node_id, who, "node.retire", "", lambda _s, node, at: replace(node, retired_at=at)
        )

    async def tidy(self) -> None:
        """Remove old events, and tokens that expired long ago; the leader calls this hourly.

        A node decides by itself how much it says: of each, the newest events and grants stay.
        """
        before = self._now() - _KEPT

        def work(session: Session) -> None:
            NodeEventTable(session).forget_before(before)
            EnrolTokenTable(session).forget_before(before)

        await self._db.write(work, room=Room.BELOW_FLOOR)
        for table in (NodeEventTable, GrantTable):
            for node_id in await self._db.read(partial(_above, table)):
                await self._db.write(partial(_thin, table, node_id), room=Room.BELOW_FLOOR)

    async def count(self) -> NodeCounts:
        """Return how many nodes there are, of those that are not retired."""
        loaded = await self._view.load()
        at = self._now()
        states = [state for state in NodeState if state is not NodeState.RETIRED]
        counts = {(channel, state.value): 0 for channel in loaded.channels for state in states}
        declining = dict.fromkeys(loaded.channels, 0)
        after = ""
        while True:
            # In pieces: between two of them other threads get their turn.
            page = await self._db.read(partial(_brief_page, after=after))
            for node in page:
                seen = self._state(node, loaded.channels.get(node.channel), at)
                if seen.state is NodeState.RETIRED:
                    continue
                key = (node.channel, seen.state.value)
                counts[key] = counts.get(key, 0) + 1
                if seen.held and not node.held:
                    declining[node.channel] = declining.get(node.channel, 0) + 1
            if len(page) < _COUNTED_AT_ONCE:
                return NodeCounts(counts, declining)
            after = page[-1].id

    def _state(self, node: Node, channel: ChannelView | None, at: datetime) -> SeenState:
        offered = (channel or NO_CHANNEL).offered_to(node.id)
        state = state_of(node, offered, at, self._interval_s)
        return SeenState(node, state, offered.version, hold_reason(node, offered))

    async def _change(
        self,
        node_id: str,
        who: Principal,
        action: str,
        detail: str,
        change: Callable[[Session, Node, datetime], Node],
    ) -> SeenState:
        require_admin(who, None)
        at = self._now()

        def work(session: Session) -> Node:
            node = _named(session, node_id)
            if node.retired_at is not None:
                raise ConflictError(f"node {node.name} ({node.id}) is retired")
            after = change(session, node, at)
            scopes = [FLEET]
            if after.channel != node.channel or after.retired_at is not None:
                _withdraw_grant(session, node, at)
                scopes.append(NODES)
            NodeTable(session).save(after, next_generation(session))
            text = f"{node.name}: {detail}" if detail else node.name
            AuditLog(session).append(at, who.actor, action, f"node:{node.id}", text)
            bump_generation(session, scopes)
            return after

        # Holding and retiring are denials: they work on a full disk.
        node = await self._db.write(locked(work), room=denial_room(who))
        channels = (await self._view.load()).channels
        return self._state(node, channels.get(node.channel), at)


_PAGE = 1000
_COUNTED_AT_ONCE = 250


def _page(
    session: Session,
    *,
    channel: str | None,
    group: str | None,
    after: tuple[str, str] | None,
) -> list[Node]:
    return NodeTable(session).page(channel=channel, group=group, after=after, limit=_PAGE)


def _brief_page(session: Session, *, after: str) -> list[Node]:
    return NodeTable(session).brief_page(after=after, limit=_COUNTED_AT_ONCE)


def _above(table: type[NodeEventTable | GrantTable], session: Session) -> list[str]:
    return table(session).nodes_above(MOST_KEPT)


def _thin(table: type[NodeEventTable | GrantTable], node_id: str, session: Session) -> None:
    table(session).thin(node_id, MOST_KEPT)


def _is_shown(seen: SeenState, state: NodeState | None) -> bool:
    if state is None:
        return seen.state is not NodeState.RETIRED
    return seen.state is state


def _withdraw_grant(session: Session, node: Node, at: datetime) -> None:
    grant = GrantTable(session).out_of([node.id]).get(node.id)
    if grant is not None:
        ended = replace(grant, outcome=Outcome.WITHDRAWN, outcome_at=at)
        GrantTable(session).end(ended)


def _named(session: Session, node_id: str) -> Node:
    """Return a node by its id, or by its name if one node has it.

    Raises:
        UnknownError: there is none.
        ConflictError: several nodes have the name.
    """
    # PostgreSQL takes no NUL in a text, and the id may be anybody's.
    if not node_id.isprintable():
        raise UnknownError("no node has this id; see `moorage node list`")
    node = NodeTable(session).get(node_id)
    if node is not None:
        return node
    named = NodeTable(session).named(node_id)
    if len(named) > 1:
        ids = ", ".join(node.id for node in named[:5])
        raise ConflictError(f"{len(named)} nodes have the name {node_id[:100]!a}: {ids}; use an id")
    if not named:
        raise UnknownError(f"no node has the id or name {node_id[:100]!a}; see `moorage node list`")
    return named[0]
