"""What nodes said since the last transaction, and what follows from a check-in by itself.

Not here: what results change (`progress`), who gathers them (`checkins`).
"""

from collections.abc import Collection
from dataclasses import dataclass

from app.core.fleetmessages import Event
from app.core.fleetnode import Node, Target, decline_reason, declines
from app.core.rolloutstate import Outcome
from app.db.channels import ChannelTable
from app.db.engine import Session
from app.db.grants import GrantTable
from app.db.nodeevents import NodeEvent
from app.db.nodes import NodeTable, SeenNode
from app.services.fleet.giving import Asking
from app.services.fleet.messages import about_node, tell
from app.services.fleet.noderows import NodeRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a grant.

    Attributes:
        node: id of the node that says so; "" where the server does.
        trace: trace id of the request that said so; "" without one.
    """

    grant: str
    node: str
    outcome: Outcome
    stage: str = ""
    reason: str = ""
    trace: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.stage, self.reason) if part) or "no reason"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What came in since the last transaction.

    Attributes:
        seen: the last check-in of each node.
        results: in the order in which they came.
    """

    seen: Collection[SeenNode] = ()
    events: Collection[NodeEvent] = ()
    results: Collection[Result] = ()


def record_seen(session: Session, seen: Collection[SeenNode], rows: NodeRows) -> list[str]:
    """Record check-ins; return the nodes that decline something that they did not decline before.

    A node declines a release in every revision that is on offer when the server learns of that: the
    node may not know the newest of them. A release that is on offer leaves an audit row and a
    message, since the node gets no grant of it.
    """
    nodes = NodeTable(session)
    said = {
        one.id: Target(one.declined_version, one.declined_revision)
        for one in seen
        if one.declined_version
    }
    before = nodes.get_all(said) if said else {}
    nodes.see(seen)
    new = [node for node in before.values() if not knows_decline(node, said[node.id])]
    offers = _offers(session) if new else {}
    for node in new:
        version, revision = said[node.id]
        on_offer = [n for v, n in offers.get(node.channel, ()) if v == version]
        target = Target(version, max(revision, *on_offer) if on_offer else revision)
        nodes.decline(node.id, target)
        if target.revision in on_offer:
            say_declined(session, node, target, rows)
    return [node.id for node in new]


def say_declined(session: Session, node: Node, target: Target, rows: NodeRows) -> None:
    """Leave an audit row and a message about a node that gets no grant of what it declines."""
    reason = decline_reason(node, target)
    if rows.append("node.decline", node, reason):
        tell(session, node.channel, "node.decline", rows.at, about_node(node, reason))


def knows_decline(node: Node, said: Target) -> bool:
    """Whether a node declines, as it is recorded, what it says, or that in a newer revision."""
    return node.declined_version == said.version and node.declined_revision >= said.revision


def _offers(session: Session) -> dict[str, list[Target]]:
    """Return by channel what its revisions on offer bring: the current one's and a candidate's."""
    return {
        channel.name: [Target(r.revision.current, r.revision.revision) for r in revisions]
        for channel, revisions in ChannelTable(session).signed()
    }


def unsaid(session: Session, asking: Collection[Asking]) -> list[Result]:
    """Return the results that nodes do not know: they run what their grant brings, or decline it.

    A node that was killed before it wrote a result down does not know of its grant.
    """
    results = []
    grants = GrantTable(session).out_of([one.node for one in asking])
    nodes = NodeTable(session).get_all([one.node for one in asking if one.declined.version])
    for one in asking:
        grant, node = grants.get(one.node), nodes.get(one.node)
        if grant is None:
            continue
        if one.current == grant.version and not one.is_drifted:
            results.append(Result(grant=grant.id, node=one.node, outcome=Outcome.SUCCEEDED))
        elif node is not None and declines(node, Target(grant.version, grant.revision)):
            results.append(
                Result(
                    grant=grant.id,
                    node=one.node,
                    outcome=Outcome.FAILED,
                    stage=Event.ROLLED_BACK,
                    reason="rolled back by hand on this node",
                )
            )
    return results
