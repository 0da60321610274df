"""What changes rollouts, grants and nodes within a transaction: results, gates, new grants.

Every method runs in a transaction of `changes.locked`, reads what it decides on in that very
transaction, and leaves audit rows and messages to webhooks beside the change. So a rollout that is
halted gives no grant from the commit on, in whatever process.

Not here: what is gathered in memory (`checkins`), operators' use cases (`rollouts`, `nodes`).
"""

import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from app.core import fleetnode
from app.core.channel import MAX_REASON_CHARS, Choice, RecordedChannel, RevisionState
from app.core.fleetnode import Node
from app.core.principal import Principal
from app.core.rollout import Participant, Rollout, advanced, gate_of, refusals
from app.core.rolloutplan import RolloutPlan
from app.core.rolloutstate import Outcome, RolloutState
from app.db.audit import AuditLog
from app.db.channels import ChannelTable, SignedRevision
from app.db.engine import Session
from app.db.generation import FLEET, bump_generation, current_generation
from app.db.grants import Grant, GrantTable
from app.db.nodes import NodeEvent, NodeEventTable, NodeTable, SeenNode, Standing
from app.db.rollouts import RolloutTable
from app.db.webhooks import WebhookTable
from app.services.fleet.revisions import Revisions

SYSTEM = Principal("system")
_FOLLOWING = RolloutPlan()
"""Limits of grants outside a rollout: how many are out at once, and how long."""

_LOOKED_AT = 20
"""Failures among which the trace id of a halt is looked for."""
_ACTIONS = {
    RolloutState.PAUSED: "rollout.pause",
    RolloutState.HALTED: "rollout.halt",
    RolloutState.PROMOTED: "rollout.promote",
    RolloutState.ROLLED_BACK: "rollout.roll-back",
    RolloutState.ABANDONED: "rollout.abandon",
}


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
class Asking:
    """A node that may get a grant, with what it says of itself."""

    node: str
    current: str
    seen_revision: int
    is_drifted: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a node that may get a grant: a grant with its manifest, or why there is none.

    Attributes:
        manifest: the signed note of the grant's revision; b"" without a grant.
    """

    reason: str
    grant: Grant | None = None
    manifest: bytes = b""


@dataclass(slots=True)
class Written:
    """What a transaction did, for counters after its commit.

    Attributes:
        rollouts: channel and audit action of each change of a rollout.
        results: channel and outcome of each grant that ended.
        granted: channel of each new grant.
        participants: of each rollout that is still open, by its id, as its gates saw them.
    """

    rollouts: list[tuple[str, str]] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    granted: list[str] = field(default_factory=list)
    answers: dict[str, Answered] = field(default_factory=dict)
    participants: dict[str, list[Participant]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of a rollout, a grant or a node was changed."""
        return not (self.rollouts or self.results or self.granted)


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


class Progress:
    """Writes results, moves rollouts on, and gives grants.

    Args:
        revisions: writes the revisions of channels.
        interval_s: seconds between two check-ins of a node.
    """

    def __init__(self, revisions: Revisions, interval_s: float) -> None:
        self._revisions = revisions
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
        NodeTable(session).see(gathered.seen)
        NodeEventTable(session).add(gathered.events)
        results = [*gathered.results, *_arrived(session, asking)]
        self._end_grants(session, results, at, written)
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
        self._end_grants(session, results, at, written)
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
        target = self.version_of(session, rollout)
        outcomes = GrantTable(session).outcomes(rollout.id)
        live_after = fleetnode.live_after(at, self._interval_s)
        return [
            _participant(standing, outcomes.get(standing.id), target)
            for standing in NodeTable(session).standings(rollout.channel, live_after)
        ]

    def version_of(self, session: Session, rollout: Rollout) -> str:
        """Return the release that a rollout brings; "" if its revision is gone."""
        channel = ChannelTable(session).get(rollout.channel)
        revision = channel and ChannelTable(session).revision(channel, rollout.to_revision)
        return revision.current if revision else ""

    def _finish(self, session: Session, written: Written) -> Written:
        if not written.is_empty:
            bump_generation(session, [FLEET])
        return written

    def _end_grants(
        self, session: Session, results: Collection[Result], at: datetime, written: Written
    ) -> None:
        """Record results; one that is recorded already changes nothing, so a node may repeat it."""
        grants = GrantTable(session).get({result.grant for result in results})
        for result in results:
            grant = grants.get(result.grant)
            if grant is None or grant.node != result.node or grant.outcome is result.outcome:
                continue
            ended = replace(
                grant,
                outcome=result.outcome,
                outcome_at=at,
                stage=result.stage,
                reason=result.reason,
                trace=result.trace,
            )
            grants[grant.id] = ended
            GrantTable(session).end(ended)
            written.results.append((grant.channel, result.outcome))
            latest = GrantTable(session).of_node(grant.node, 1)[0]
            if latest.id == grant.id and grant.outcome is not Outcome.WITHDRAWN:
                self._count(session, result, at)

    def _count(self, session: Session, result: Result, at: datetime) -> None:
        """Record what a result says about its node: failures in a row hold the node."""
        table = NodeTable(session)
        node = table.get(result.node)
        if node is None:
            return
        if result.outcome is Outcome.SUCCEEDED:
            table.save(fleetnode.succeeded(node), next_generation(session))
            return
        failed = fleetnode.failed(node, at, str(result))
        table.save(failed, next_generation(session))
        audit = AuditLog(session)
        detail = f"{node.name}: grant {result.grant}: {result}{_traced(result.trace)}"
        audit.append(at, SYSTEM.actor, "node.fail", f"node:{node.id}", detail)
        if failed.held and not node.held:
            audit.append(at, SYSTEM.actor, "node.hold", f"node:{node.id}", failed.held)
            tell(session, node.channel, "node.held", at, _about(failed), trace=result.trace)

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
        nodes = {one.node: NodeTable(session).get(one.node) for one in asking}
        signed = {channel.name: (channel, r) for channel, r in ChannelTable(session).signed()}
        by_channel: dict[str, list[tuple[Asking, Node]]] = {}
        for one in asking:
            node = nodes[one.node]
            if node is None or node.retired_at is not None or node.channel not in signed:
                written.answers[one.node] = Answered("this node is retired, or has no channel")
            else:
                by_channel.setdefault(node.channel, []).append((one, node))
        for name, askers in by_channel.items():
            channel, revisions = signed[name]
            giving = _Giving(session, channel, revisions, at, written, self)
            giving.answer(askers)


@dataclass(slots=True)
class _Giving:
    """Answers the nodes of one channel in one transaction."""

    session: Session
    channel: RecordedChannel
    revisions: list[SignedRevision]
    at: datetime
    written: Written
    progress: Progress

    def answer(self, askers: list[tuple[Asking, Node]]) -> None:
        grants = GrantTable(self.session)
        rollout = RolloutTable(self.session).open_of(self.channel.name)
        others: list[tuple[Asking, Node]] = []
        for one, node in askers:
            grant = grants.out_of(node.id)
            if node.held:
                self._say(node, f"this node is held: {node.held}")
            elif grant is not None and self._settles(one, grant, rollout):
                continue
            elif (until := fleetnode.retry_at(node)) is not None and self.at < until:
                self._say(node, f"it failed; it may try again at {until:%H:%M:%S} UTC")
            else:
                others.append((one, node))
        out = grants.count_out().get(self.channel.name, 0)
        others = self._by_rollout(rollout, others, out)
        self._by_following(others)

    def _settles(self, one: Asking, grant: Grant, rollout: Rollout | None) -> bool:
        """Answer a node that has a grant without a result; False if it may ask for another."""
        grants = GrantTable(self.session)
        signed = self._signed(grant.revision)
        if signed is None:
            grants.end(replace(grant, outcome=Outcome.WITHDRAWN, outcome_at=self.at))
            self.written.results.append((grant.channel, Outcome.WITHDRAWN))
            return False
        is_running = rollout is not None and rollout.state is RolloutState.RUNNING
        if grant.rollout is not None and not is_running:
            state = rollout.state if rollout else "over"
            self.written.answers[one.node] = Answered(f"rollout {grant.rollout} is {state}")
        else:
            self.written.answers[one.node] = Answered("as granted before", grant, signed.manifest)
        return True

    def _by_rollout(
        self, rollout: Rollout | None, askers: list[tuple[Asking, Node]], out: int
    ) -> list[tuple[Asking, Node]]:
        """Give the grants of a rollout; return the askers that it does not concern."""
        if rollout is None:
            return askers
        signed = self._signed(rollout.to_revision)
        participants = self.written.participants.get(rollout.id)
        if participants is None:
            participants = self.progress.participants(self.session, rollout, self.at)
        tried = {p.node for p in participants if p.outcome is not None}
        target = signed.revision.current if signed else ""
        inside = [(one, node) for one, node in askers if one.current != target]
        reasons = refusals(
            rollout, participants, [one.node for one, _ in inside], out=out, now=self.at
        )
        left = []
        for one, node in askers:
            reason = reasons.get(one.node, "this node has the release")
            if reason is None and signed is not None and signed.manifest:
                self._give(node, rollout, signed, rollout.plan.grant_s)
                continue
            self._say(node, reason or "the manifest is not signed yet")
            if one.node not in tried and one.current != target:
                left.append((one, node))
        return left

    def _by_following(self, askers: list[tuple[Asking, Node]]) -> None:
        """Give grants for the channel's current revision to nodes that don't run it."""
        signed = next((r for r in self.revisions if _is_current(r)), None)
        out = GrantTable(self.session).count_out().get(self.channel.name, 0)
        for one, node in askers:
            if signed is None or not signed.manifest:
                self._say(node, f"channel {self.channel.name} offers nothing yet")
            elif one.current == signed.revision.current:
                self.written.answers.setdefault(node.id, Answered("this node has the release"))
            elif one.seen_revision > signed.revision.revision:
                self._say(
                    node,
                    f"this node has seen revision {one.seen_revision}, and the channel offers "
                    f"{signed.revision.revision}; the next revision moves it",
                )
            elif out >= _FOLLOWING.max_parallel:
                self._say(node, f"{out} nodes are changing, as many as may at once")
            else:
                self._give(node, None, signed, _FOLLOWING.grant_s)
                out += 1

    def _give(
        self, node: Node, rollout: Rollout | None, signed: SignedRevision, grant_s: int
    ) -> None:
        grant = Grant(
            id=secrets.token_hex(8),
            node=node.id,
            rollout=rollout.id if rollout else None,
            channel=self.channel.name,
            revision=signed.revision.revision,
            version=signed.revision.current,
            given_at=self.at,
            expires_at=self.at + timedelta(seconds=grant_s),
            outcome=Outcome.OUT,
            outcome_at=self.at,
        )
        GrantTable(self.session).add(grant)
        NodeTable(self.session).save(node, next_generation(self.session))
        step = f"step {rollout.step + 1} of rollout {rollout.id}" if rollout else "the channel"
        reason = f"{step} brings revision {grant.revision} ({grant.version})"
        self.written.answers[node.id] = Answered(reason, grant, signed.manifest)
        self.written.granted.append(self.channel.name)

    def _signed(self, number: int) -> SignedRevision | None:
        return next((r for r in self.revisions if r.revision.revision == number), None)

    def _say(self, node: Node, reason: str) -> None:
        self.written.answers[node.id] = Answered(reason)


def _arrived(session: Session, asking: Collection[Asking]) -> list[Result]:
    """Return the results of nodes that run what their grant brings, and have not said so."""
    results = []
    for one in asking:
        grant = GrantTable(session).out_of(one.node)
        if grant is not None and one.current == grant.version and not one.is_drifted:
            results.append(Result(grant=grant.id, node=one.node, outcome=Outcome.SUCCEEDED))
    return results


def next_generation(session: Session) -> int:
    """Return the generation that the transaction will have after its bump; see `NodeRow.changed`.

    The transaction holds the lock of all changes, so nobody else takes the number.
    """
    return current_generation(session) + 1


def tell(
    session: Session,
    channel: str,
    event: str,
    at: datetime,
    about: Mapping[str, object],
    *,
    trace: str = "",
) -> None:
    """Record a message to the webhooks of a channel, in the transaction of what it is about."""
    message = {"id": secrets.token_hex(8), "event": event, "channel": channel, "trace": trace}
    body = json.dumps(message | {"at": at.isoformat(timespec="seconds"), **about})
    WebhookTable(session).enqueue(channel, body, at)


def describe(rollout: Rollout) -> dict[str, object]:
    """Return a rollout as messages show it."""
    return {
        "id": rollout.id,
        "state": rollout.state,
        "step": rollout.step + 1,
        "steps": len(rollout.plan.steps),
        "from_revision": rollout.from_revision,
        "to_revision": rollout.to_revision,
        "reason": rollout.reason,
    }


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


def _about(node: Node) -> dict[str, object]:
    return {"node": {"id": node.id, "name": node.name, "group": node.group, "held": node.held}}


def _last_trace(session: Session, rollout: Rollout) -> str:
    """Return the trace id of the latest failure that has one."""
    failures = GrantTable(session).failures(rollout.id, _LOOKED_AT)
    return next((grant.trace for grant in failures if grant.trace), "")


def _is_current(signed: SignedRevision) -> bool:
    return signed.revision.state is RevisionState.CURRENT


def _participant(
    standing: Standing, outcome: tuple[Outcome, datetime] | None, target: str
) -> Participant:
    return Participant(
        node=standing.id,
        group=standing.group,
        is_live=bool(standing.is_live),
        is_held=bool(standing.is_held),
        needs_change=standing.current != target,
        outcome=outcome[0] if outcome else None,
        outcome_at=outcome[1] if outcome else None,
    )
