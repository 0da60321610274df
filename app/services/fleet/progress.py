"""What changes rollouts, grants and nodes within a transaction: results, gates, new grants.

Every method runs in a transaction of `changes.locked`, reads what it decides on in that very
transaction, and leaves audit rows and messages to webhooks beside the change. So a rollout that is
halted gives no grant from the commit on, in whatever process.

Not here: what is gathered in memory (`checkins`), operators' use cases (`rollouts`, `nodes`).
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from app import metrics
from app.core import fleetnode
from app.core.channel import MAX_REASON_CHARS, Choice
from app.core.fleetmessages import Event
from app.core.fleetnode import Node, Target
from app.core.principal import Principal
from app.core.rollout import Participant, Rollout, advanced, gate_of
from app.core.rolloutstate import Outcome, RolloutState
from app.db.audit import AuditLog
from app.db.channels import ChannelTable
from app.db.engine import Session
from app.db.generation import FLEET, bump_generation, current_generation
from app.db.grants import GrantTable
from app.db.nodeevents import NodeEventTable
from app.db.nodes import NodeTable
from app.db.rollouts import RolloutTable
from app.services.auditwindows import AuditWindows
from app.services.fleet.giving import Answered, Asking, Giving, Written
from app.services.fleet.messages import about_node, describe, tell
from app.services.fleet.noderows import NodeRows, keep
from app.services.fleet.revisions import Revisions
from app.services.fleet.said import Gathered, Result, record_seen, say_declined, unsaid

SYSTEM = Principal("system")

_NO_OUTCOME = (None, None)
_LOOKED_AT = 20
"""Failures among which the trace id of a halt is looked for."""
_ACTIONS = {
    RolloutState.PAUSED: "rollout.pause",
    RolloutState.HALTED: "rollout.halt",
    RolloutState.PROMOTED: "rollout.promote",
    RolloutState.ROLLED_BACK: "rollout.roll-back",
    RolloutState.ABANDONED: "rollout.abandon",
}


class Progress:
    """Writes results, moves rollouts on, and gives grants.

    Args:
        revisions: writes the revisions of channels.
        interval_s: seconds between two check-ins of a node.
        windows: bounds the audit rows that a node causes by itself.
    """

    def __init__(self, revisions: Revisions, interval_s: float, windows: AuditWindows) -> None:
        self._revisions = revisions
        self._windows = windows
        self._interval_s = interval_s

    def write(
        self,
        session: Session,
        gathered: Gathered,
        at: datetime,
        asking: Collection[Asking] = (),
    ) -> Written:
        """Write what came in, move rollouts on, then answer the nodes that may get a grant."""
        written = Written()
        rows = self._rows(session, at, written)
        written.touched.update(record_seen(session, gathered.seen, rows))
        NodeEventTable(session).add(gathered.events)
        results = [*gathered.results, *unsaid(session, asking)]
        self._end_grants(session, results, rows, written)
        if asking or written.results:
            self._move_on(session, at, written)
        if asking:
            self._answer(session, asking, at, written)
        return self._finish(session, written)

    def advance(self, session: Session, at: datetime) -> Written:
        """End grants whose time is over, and move every open rollout on."""
        written = Written()
        overdue = GrantTable(session).expired(at)
        results = [
            Result(
                grant=grant.id,
                node=grant.node,
                outcome=Outcome.FAILED,
                reason=f"no result until {grant.expires_at:%Y-%m-%d %H:%M} UTC",
            )
            for grant in overdue
        ]
        self._end_grants(session, results, self._rows(session, at, written), written)
        self._move_on(session, at, written)
        return self._finish(session, written)

    def is_due(self, session: Session, at: datetime) -> bool:
        """Whether `advance` would change something."""
        return bool(GrantTable(session).expired(at)) or any(
            advanced(rollout, self.participants(session, rollout, at), at) != rollout
            for rollout in RolloutTable(session).open()
            if rollout.state is RolloutState.RUNNING
        )

    def change(
        self,
        session: Session,
        before: Rollout,
        after: Rollout,
        who: Principal,
        at: datetime,
        *,
        trace: str = "",
    ) -> Written:
        """Record a rollout's change with all that follows from it."""
        written = Written()
        self._change(session, before, after, who, at, written, trace=trace)
        return self._finish(session, written)

    def participants(self, session: Session, rollout: Rollout, at: datetime) -> list[Participant]:
        """Return the nodes of a rollout's channel as the rollout counts them."""
        target = Target(self.version_of(session, rollout), rollout.to_revision)
        outcomes = GrantTable(session).outcomes(rollout.id)
        live_after = fleetnode.live_after(at, self._interval_s)
        standings = NodeTable(session).standings(rollout.channel, live_after, target)
        return [
            Participant(
                node,
                group,
                bool(is_live),
                bool(is_held),
                current != target.version,
                outcome,
                outcome_at,
                bool(is_declining),
            )
            for node, group, current, is_held, is_live, is_declining in standings
            for outcome, outcome_at in (outcomes.get(node, _NO_OUTCOME),)
        ]

    def version_of(self, session: Session, rollout: Rollout) -> str:
        """Return the release that a rollout brings; "" if its revision is gone."""
        channel = ChannelTable(session).get(rollout.channel)
        revision = channel and ChannelTable(session).revision(channel, rollout.to_revision)
        return revision.current if revision else ""

    async def committed(self, written: Written) -> None:
        """Count what a transaction did, after its commit."""
        for channel, action in written.rollouts:
            metrics.count_rollout_change(channel, action)
        for channel, outcome in written.results:
            metrics.count_grant(channel, outcome)
        for channel in written.granted:
            metrics.count_grant(channel, Outcome.OUT)
        await keep(self._windows, written.noted)

    def _rows(self, session: Session, at: datetime, written: Written) -> NodeRows:
        return NodeRows(session, self._windows, at, SYSTEM.actor, written.noted)

    def _finish(self, session: Session, written: Written) -> Written:
        if written.touched:
            NodeTable(session).touch(written.touched, next_generation(session))
        if not written.is_empty:
            bump_generation(session, [FLEET])
        return written

    def _end_grants(
        self, session: Session, results: Collection[Result], rows: NodeRows, written: Written
    ) -> None:
        """Record results; one that is recorded already changes nothing, so a node may repeat it."""
        if not results:
            return
        grants = GrantTable(session).get({result.grant for result in results})
        nodes = [grant.node for grant in grants.values()]
        latest = GrantTable(session).latest_of(nodes)
        counted = NodeTable(session).get_all(nodes)
        for result in results:
            grant = grants.get(result.grant)
            if grant is None or grant.node != result.node or grant.outcome is result.outcome:
                continue
            ended = replace(
                grant,
                outcome=result.outcome,
                outcome_at=rows.at,
                stage=result.stage,
                reason=result.reason,
                trace=result.trace,
            )
            grants[grant.id] = ended
            GrantTable(session).end(ended)
            written.results.append((grant.channel, result.outcome))
            written.touched.add(grant.node)
            node = counted.get(grant.node)
            is_latest = latest[grant.node] == grant.id and grant.outcome is not Outcome.WITHDRAWN
            if is_latest and node is not None:
                counted[node.id] = self._count(session, node, grant.version, result, rows)

    def _count(
        self, session: Session, node: Node, version: str, result: Result, rows: NodeRows
    ) -> Node:
        """Record what a result says about its node: failures in a row hold the node."""
        if result.outcome is Outcome.SUCCEEDED:
            succeeded = fleetnode.succeeded(node)
            if succeeded != node:
                NodeTable(session).save(succeeded, next_generation(session))
            return succeeded
        is_rolled_back = result.stage == Event.ROLLED_BACK
        at = rows.at
        failed = fleetnode.failed(node, at, f"{version}: {result}", is_rolled_back=is_rolled_back)
        NodeTable(session).save(failed, next_generation(session))
        rows.append("node.fail", node, f"grant {result.grant}: {result}{_traced(result.trace)}")
        if node.released_revision and is_rolled_back:  # once more, after an operator's release
            target = Target(node.declined_version, node.declined_revision)
            say_declined(session, node, target, rows)
        if failed.held and not node.held:
            obj = f"node:{node.id}"
            AuditLog(session).append(at, SYSTEM.actor, "node.hold", obj, failed.held)
            tell(
                session,
                node.channel,
                "node.held",
                at,
                about_node(failed, failed.held),
                trace=result.trace,
            )
        return failed

    def _move_on(self, session: Session, at: datetime, written: Written) -> None:
        """Apply the gates of every open rollout."""
        for rollout in RolloutTable(session).open():
            if rollout.state is not RolloutState.RUNNING:
                continue
            participants = self.participants(session, rollout, at)
            written.participants[rollout.id] = participants
            after = advanced(rollout, participants, at)
            if after != rollout:
                trace = _last_trace(session, rollout)
                self._change(session, rollout, after, SYSTEM, at, written, trace=trace)

    def _change(
        self,
        session: Session,
        before: Rollout,
        after: Rollout,
        who: Principal,
        at: datetime,
        written: Written,
        *,
        trace: str,
    ) -> None:
        RolloutTable(session).save(after)
        action = action_of(before, after)
        if action is None:  # the soak time began, or ended early
            return
        if after.state.is_final:
            self._end_candidate(session, after, who, at)
        is_bad = after.state in (RolloutState.HALTED, RolloutState.ROLLED_BACK)
        shown = trace if is_bad else ""
        detail = f"{after.channel} to revision {after.to_revision}: {_where(after)}{_traced(shown)}"
        AuditLog(session).append(at, who.actor, action, f"rollout:{after.id}", detail)
        gate = gate_of(after, self.participants(session, after, at))
        about = describe(after) | {
            "gate": {
                "size": gate.size,
                "succeeded": gate.succeeded,
                "failed": gate.failed,
                "out": gate.out,
            },
            "actor": who.actor,
        }
        tell(session, after.channel, action, at, {"rollout": about}, trace=shown)
        written.rollouts.append((after.channel, action))

    def _end_candidate(
        self, session: Session, rollout: Rollout, who: Principal, at: datetime
    ) -> None:
        """Offer the revision of a promoted rollout to everybody; drop that of another one.

        A rollout that is rolled back leaves a new revision with the content of the one before,
        since nodes refuse numbers below the newest that they saw.
        """
        channel = ChannelTable(session).get(rollout.channel)
        if channel is None or channel.candidate != rollout.to_revision:
            return
        if rollout.state is RolloutState.PROMOTED:
            self._revisions.promote(session, channel, who, at)
            return
        self._revisions.drop(session, channel, who, at)
        channel = ChannelTable(session).get(rollout.channel)
        if channel is None or rollout.state is not RolloutState.ROLLED_BACK:
            return
        older = ChannelTable(session).revision(channel, rollout.from_revision)
        if older is None:  # the rollout brought the first revision
            return
        reason = f"rollout {rollout.id} was rolled back: {rollout.reason}"[:MAX_REASON_CHARS]
        choice = Choice(current=older.current, also=older.also, reason=reason)
        self._revisions.add(session, channel, choice, who, at, restores=older.revision)

    def _answer(
        self, session: Session, asking: Collection[Asking], at: datetime, written: Written
    ) -> None:
        nodes = NodeTable(session).get_all([one.node for one in asking])
        signed = {channel.name: (channel, r) for channel, r in ChannelTable(session).signed()}
        by_channel: dict[str, list[tuple[Asking, Node]]] = {}
        for one in asking:
            node = nodes.get(one.node)
            if node is None or node.retired_at is not None or node.channel not in signed:
                written.answers[one.node] = Answered("this node is retired, or has no channel")
            else:
                by_channel.setdefault(node.channel, []).append((one, node))

        def participants(rollout: Rollout) -> list[Participant]:
            seen = written.participants.get(rollout.id)
            return self.participants(session, rollout, at) if seen is None else seen

        for name, askers in by_channel.items():
            channel, revisions = signed[name]
            Giving(session, channel, revisions, at, written, participants).answer(askers)


def next_generation(session: Session) -> int:
    """Return the generation that the transaction will have after its bump; see `NodeRow.changed`.

    The transaction holds the lock of all changes, so nobody else takes the number.
    """
    return current_generation(session) + 1


def action_of(before: Rollout, after: Rollout) -> str | None:
    """Return the audit action of a change: "rollout.halt"; None for no change that is one."""
    if before.state is not after.state:
        return _ACTIONS.get(after.state, "rollout.resume")
    return "rollout.step" if before.step != after.step else None


def _where(rollout: Rollout) -> str:
    step = f"step {rollout.step + 1} of {len(rollout.plan.steps)}"
    step += f" ({rollout.plan.steps[rollout.step]})"
    return f"{step}; {rollout.reason}" if rollout.reason else step


def _traced(trace: str) -> str:
    return f"; trace {trace}" if trace else ""


def _last_trace(session: Session, rollout: Rollout) -> str:
    """Return the trace id of the latest failure that has one."""
    failures = GrantTable(session).failures(rollout.id, _LOOKED_AT)
    return next((grant.trace for grant in failures if grant.trace), "")
