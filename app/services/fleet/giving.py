"""Which nodes of a channel get a grant, within the transaction that asks for their sake.

Not here: results, gates and rollouts (`progress`), which nodes ask at all (`checkins`).
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from app.core import fleetnode
from app.core.channel import RecordedChannel, RevisionState
from app.core.fleetnode import NOTHING, Node, Target
from app.core.rollout import Participant, Rollout, refusals
from app.core.rolloutplan import RolloutPlan
from app.core.rolloutstate import Outcome, RolloutState
from app.db.channels import SignedRevision
from app.db.engine import Session
from app.db.grants import Grant, GrantTable
from app.db.rollouts import RolloutTable
from app.services.fleet.noderows import NodeRow

_FOLLOWING = RolloutPlan()
"""Limits of grants outside a rollout: how many are out at once, and how long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A node that may get a grant, with what it says of itself."""

    node: str
    current: str
    seen_revision: int
    is_drifted: bool
    declined: Target


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a node that may get a grant: a grant with its manifest, or why there is none.

    Attributes:
        is_hold: without a grant: the node may not have what its channel offers, because of what
            happened to the node or to its rollout.
        manifest: the signed note of the grant's revision; b"" without a grant.
        is_released: the grant brings what the node declines, since an operator released the node.
    """

    reason: str
    is_hold: bool = False
    grant: Grant | None = None
    manifest: bytes = b""
    is_released: bool = False


@dataclass(slots=True)
class Written:
    """What a transaction did, for counters after its commit.

    Attributes:
        rollouts: channel and audit action of each change of a rollout.
        results: channel and outcome of each grant that ended.
        granted: channel of each new grant.
        participants: of each rollout that is still open, by its id, as its gates saw them.
        touched: nodes of which something changed that the view of check-ins shows.
        noted: what nodes said of themselves, for the audit log.
    """

    rollouts: list[tuple[str, str]] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    granted: list[str] = field(default_factory=list)
    answers: dict[str, Answered] = field(default_factory=dict)
    participants: dict[str, list[Participant]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    noted: list[NodeRow] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of a rollout, a grant or a node was changed."""
        return not (self.rollouts or self.touched)


@dataclass(slots=True)
class Giving:
    """Answers the nodes of one channel in one transaction.

    Attributes:
        revisions: those of the channel that have a manifest.
        written: gets the answers, and what else was done.
        participants: returns the nodes of the channel as a rollout counts them.
    """

    session: Session
    channel: RecordedChannel
    revisions: list[SignedRevision]
    at: datetime
    written: Written
    participants: Callable[[Rollout], list[Participant]]

    def answer(self, askers: list[tuple[Asking, Node]]) -> None:
        """Answer nodes, in the order in which free places are given."""
        grants = GrantTable(self.session)
        rollout = RolloutTable(self.session).open_of(self.channel.name)
        outs = grants.out_of([node.id for _, node in askers])
        newest = self._target(rollout)
        others: list[tuple[Asking, Node]] = []
        for one, node in askers:
            grant = outs.get(node.id)
            if not node.held and grant is not None and self._settles(one, node, grant, rollout):
                continue
            if (refusal := fleetnode.refusal(node, newest, self.at)) is not None:
                self._say(node, refusal, is_hold=True)
            else:
                others.append((one, node))
        out = grants.count_out().get(self.channel.name, 0)
        others = self._by_rollout(rollout, others, out)
        self._by_following(others)

    def _target(self, rollout: Rollout | None) -> Target:
        """Return what the newest revision on offer brings: an open rollout's, or the current one's.

        A node that declines it waits. A node that declines only the current one may get that of
        a rollout.
        """
        if rollout is None:
            signed = next((r for r in self.revisions if _is_current(r)), None)
        else:
            signed = self._signed(rollout.to_revision)
        return NOTHING if signed is None else _target_of(signed)

    def _settles(self, one: Asking, node: Node, grant: Grant, rollout: Rollout | None) -> bool:
        """Answer a node that has a grant without a result; False if it may ask for another."""
        grants = GrantTable(self.session)
        signed = self._signed(grant.revision)
        if signed is None:
            grants.end(replace(grant, outcome=Outcome.WITHDRAWN, outcome_at=self.at))
            self.written.results.append((grant.channel, Outcome.WITHDRAWN))
            self.written.touched.add(one.node)
            return False
        is_running = rollout is not None and rollout.state is RolloutState.RUNNING
        if grant.rollout is not None and not is_running:
            state = rollout.state if rollout else "over"
            reason = f"rollout {grant.rollout} is {state}"
            self.written.answers[one.node] = Answered(reason, is_hold=is_halted(rollout))
        else:
            self.written.answers[one.node] = Answered(
                "as granted before",
                grant=grant,
                manifest=signed.manifest,
                is_released=_is_released(node, signed),
            )
        return True

    def _by_rollout(
        self, rollout: Rollout | None, askers: list[tuple[Asking, Node]], out: int
    ) -> list[tuple[Asking, Node]]:
        """Give the grants of a rollout; return the askers that it does not concern."""
        if rollout is None:
            return askers
        signed = self._signed(rollout.to_revision)
        participants = self.participants(rollout)
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
            is_hold = is_halted(rollout) and one.current != target
            self._say(node, reason or "the manifest is not signed yet", is_hold=is_hold)
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
            elif fleetnode.declines(node, _target_of(signed)):
                self._say(node, fleetnode.decline_reason(node, _target_of(signed)), is_hold=True)
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
        self.written.touched.add(node.id)
        step = f"step {rollout.step + 1} of rollout {rollout.id}" if rollout else "the channel"
        reason = f"{step} brings revision {grant.revision} ({grant.version})"
        self.written.answers[node.id] = Answered(
            reason,
            grant=grant,
            manifest=signed.manifest,
            is_released=_is_released(node, signed),
        )
        self.written.granted.append(self.channel.name)

    def _signed(self, number: int) -> SignedRevision | None:
        return next((r for r in self.revisions if r.revision.revision == number), None)

    def _say(self, node: Node, reason: str, *, is_hold: bool = False) -> None:
        self.written.answers[node.id] = Answered(reason, is_hold=is_hold)


def is_halted(rollout: Rollout | None) -> bool:
    """Whether a rollout is halted; its nodes are told to hold, not to stay."""
    return rollout is not None and rollout.state is RolloutState.HALTED


def _target_of(signed: SignedRevision) -> Target:
    return Target(signed.revision.current, signed.revision.revision)


def _is_released(node: Node, signed: SignedRevision) -> bool:
    """Whether an operator has the node take a revision that it declines."""
    return node.declined_revision == node.released_revision == signed.revision.revision


def _is_current(signed: SignedRevision) -> bool:
    return signed.revision.state is RevisionState.CURRENT
