"""A rollout as a pure state machine: which nodes belong to a step, gates, grants, operators.

    running ──pause──▶ paused ──resume──▶ running
    running, paused ──gate or halt──▶ halted (on_halt = hold), rolled-back (on_halt = rollback)
    halted ──resume──▶ running        failures until then count no more
    running ──last gate──▶ promoted
    running, paused, halted ──promote──▶ promoted ──abandon──▶ abandoned ──roll-back──▶ rolled-back

(The last line: from each of the three states, each of the three actions.)

The caller reads rollout and participants, calls `advanced` and `refusals`, and writes the results
and the grants in one transaction. So a grant is given only by a rollout that is running in the very
transaction, and a halted rollout gives none from the moment its own transaction commits.

Not here: rows, clocks, manifests, and what a node does with a grant.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from app.core.errors import ConflictError
from app.core.rolloutplan import RolloutPlan, Step
from app.core.rolloutstate import OnHalt, Outcome, RolloutAction, RolloutState
from app.core.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A channel's way from one revision to the next.

    Attributes:
        id: 16 random hex characters.
        from_revision: the revision that all others see until the rollout is promoted.
        to_revision: the revision that nodes get.
        step: index of the present step in the plan.
        changed_at: UTC; when state or step changed last.
        reached_at: UTC; when the step had enough successes, the start of its soak time.
        forgiven_at: UTC; failures up to this moment count no more, since an operator resumed a
            halted rollout then.
        reason: why the state is what it is, one line.
    """

    id: str
    channel: str
    from_revision: int
    to_revision: int
    plan: RolloutPlan
    state: RolloutState = RolloutState.RUNNING
    step: int = 0
    started_at: datetime
    changed_at: datetime
    reached_at: datetime | None = None
    forgiven_at: datetime | None = None
    reason: str = ""


class Participant(NamedTuple):
    """A node of the channel, as a rollout sees it. Retired nodes are none.

    A tuple, since each transaction that gives grants makes one for every node.

    Attributes:
        is_live: it is not silent.
        is_held: it gets no grants.
        needs_change: it does not run what the rollout brings.
        outcome: of its latest grant of this rollout; None without a grant.
        outcome_at: UTC; when the outcome became known, or the grant was given.
        is_declining: the release was rolled back by hand on it, and nobody released it since. It
            gets no grant and is waited for as a held node is; its outcomes count.
    """

    node: str
    group: str
    is_live: bool = True
    is_held: bool = False
    needs_change: bool = True
    outcome: Outcome | None = None
    outcome_at: datetime | None = None
    is_declining: bool = False

    @property
    def is_able(self) -> bool:
        """Whether it needs the change and may get a grant."""
        return self.needs_change and not self.is_held and not self.is_declining


class Verdict(StrEnum):
    """What the gate of a step says."""

    WAITING = "waiting"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Gate:
    """The results of a step, and what follows from them.

    Attributes:
        size: nodes of the step.
        failed: nodes whose latest grant failed, without those that are forgiven.
        out: nodes that have a grant and no result.
    """

    verdict: Verdict
    size: int
    succeeded: int
    failed: int
    out: int

    def __str__(self) -> str:
        """Return the results as one line: "2 of 3 results failed (67 %)"."""
        results = self.succeeded + self.failed
        if self.failed:
            share = 100 * self.failed // results
            return f"{self.failed} of {results} results failed ({share} %)"
        return f"{self.succeeded} of {self.size} nodes succeeded"


@lru_cache(maxsize=16_384)  # of one rollout, asked for by each of its transactions; some 5 MB
def rank(rollout_id: str, node: str) -> bytes:
    """Return what orders the nodes of a rollout: other rollouts begin with other nodes."""
    return hashlib.sha256(f"{rollout_id}\n{node}".encode()).digest()


def members(
    rollout_id: str, steps: Collection[Step], participants: Collection[Participant]
) -> frozenset[str]:
    """Return the nodes of the last of some steps, which contains the nodes of those before.

    A node that has had a grant of the rollout is always a member. The others follow in the order of
    sha256(rollout id, node id); silent nodes come last, so that a step waits for a silent node only
    where no other is left. Without a grant, held nodes, nodes that decline the release and those
    that need no change are no members.
    """
    able = [p for p in participants if p.outcome is not None or p.is_able]
    chosen = {p.node for p in able if p.outcome is not None}
    for step in steps:
        if step.group is not None:
            chosen.update(p.node for p in able if p.group == step.group)
            continue
        left = [p for p in able if p.node not in chosen]
        places = max(step.size_of(len(able)) - len(chosen), 0)
        if 0 < places < len(left):  # else the order decides nothing
            left.sort(key=lambda p: (not p.is_live, rank(rollout_id, p.node)))
        chosen.update(p.node for p in left[:places])
    return frozenset(chosen)


def present_members(rollout: Rollout, participants: Collection[Participant]) -> frozenset[str]:
    """Return the nodes of the present step."""
    return members(rollout.id, rollout.plan.steps[: rollout.step + 1], participants)


def gate_of(rollout: Rollout, participants: Collection[Participant]) -> Gate:
    """Return the gate of the present step.

    A step without nodes passes only if no node needs the change: held nodes, and those that decline
    the release, keep it waiting.
    """
    plan = rollout.plan
    inside = present_members(rollout, participants)
    outcomes = [_counted(rollout, p) for p in participants if p.node in inside]
    size, succeeded = len(inside), outcomes.count(Outcome.SUCCEEDED)
    failed, out = outcomes.count(Outcome.FAILED), outcomes.count(Outcome.OUT)
    results = succeeded + failed
    enough = results >= min(plan.min_results, size)
    if enough and failed * 100 > plan.max_failure_percent * results:
        verdict = Verdict.FAILED
    elif size == 0:
        is_needed = any(p.needs_change for p in participants)
        verdict = Verdict.WAITING if is_needed else Verdict.PASSED
    elif succeeded * 100 >= plan.min_success_percent * size:
        verdict = Verdict.PASSED
    else:
        verdict = Verdict.WAITING
    return Gate(verdict, size, succeeded, failed, out)


def _counted(rollout: Rollout, participant: Participant) -> Outcome | None:
    """Return an outcome as the gate counts it: a forgiven failure is none."""
    since, at = rollout.forgiven_at, participant.outcome_at
    if participant.outcome is not Outcome.FAILED or since is None or at is None:
        return participant.outcome
    return None if at <= since else participant.outcome


def advanced(rollout: Rollout, participants: Collection[Participant], now: datetime) -> Rollout:
    """Return the rollout after its gates: halted, a step further, promoted, or as it was.

    Only a running rollout changes. Called again with the same arguments, it changes nothing more.
    """
    while rollout.state is RolloutState.RUNNING:
        gate = gate_of(rollout, participants)
        if gate.verdict is Verdict.FAILED:
            return _halted(rollout, now, f"step {rollout.step + 1}: {gate}")
        if gate.verdict is Verdict.WAITING:
            return replace(rollout, reached_at=None)
        if rollout.reached_at is None:
            rollout = replace(rollout, reached_at=now)
        reached_at = rollout.reached_at or now
        if now < reached_at + timedelta(seconds=rollout.plan.steps[rollout.step].soak_s):
            return rollout
        if rollout.step + 1 == len(rollout.plan.steps):
            return _changed(rollout, RolloutState.PROMOTED, now, f"all steps: {gate}")
        rollout = replace(
            rollout, step=rollout.step + 1, reached_at=None, changed_at=now, reason=f"{gate}"
        )
    return rollout


def refusals(
    rollout: Rollout,
    participants: Collection[Participant],
    asking: Collection[str],
    *,
    out: int,
    now: datetime,
) -> dict[str, str | None]:
    """Return for each node that asks why it gets no new grant now; None means that it gets one.

    Args:
        rollout: after `advanced`, read in the transaction that writes the grants.
        participants: all nodes of the channel.
        asking: ids of nodes, in the order in which free places are given.
        out: grants of the channel without a result.
        now: UTC.
    """
    by_node = {p.node: p for p in participants}
    inside = present_members(rollout, participants)
    common = _common_refusal(rollout, now)
    answers: dict[str, str | None] = {}
    for node in asking:
        refusal = common or _refusal(rollout, by_node.get(node), is_inside=node in inside)
        if refusal is None and out >= rollout.plan.max_parallel:
            refusal = f"{out} nodes are changing, as many as may at once"
        if refusal is None:
            out += 1
        answers[node] = refusal
    return answers


def _common_refusal(rollout: Rollout, now: datetime) -> str | None:
    """Return why no node gets a grant now, or None."""
    if rollout.state is not RolloutState.RUNNING:
        return f"rollout {rollout.id} is {rollout.state}"
    if not is_open(rollout.plan, now):
        return f"rollout {rollout.id} is outside its windows: {'; '.join(rollout.plan.windows)}"
    return None


def _refusal(rollout: Rollout, participant: Participant | None, *, is_inside: bool) -> str | None:
    """Return why one node gets no grant, whatever the others do, or None."""
    if participant is None or participant.is_held:
        return "this node is held, or is not one of the channel"
    if not participant.needs_change or participant.outcome is Outcome.SUCCEEDED:
        return "this node has the release"
    if participant.outcome is Outcome.OUT:
        return "this node has a grant"
    if participant.is_declining:
        return "this node declines the release: it was rolled back by hand there"
    if not is_inside:
        step = rollout.plan.steps[rollout.step]
        return f"rollout {rollout.id} is at step {rollout.step + 1} ({step}), without this node"
    return None


def is_open(plan: RolloutPlan, now: datetime) -> bool:
    """Whether a plan lets nodes change at this moment."""
    return not plan.windows or any(Window.parse(text).is_open(now) for text in plan.windows)


_OPEN = frozenset({RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.HALTED})
_FROM = {
    RolloutAction.PAUSE: frozenset({RolloutState.RUNNING}),
    RolloutAction.RESUME: frozenset({RolloutState.PAUSED, RolloutState.HALTED}),
    RolloutAction.HALT: frozenset({RolloutState.RUNNING, RolloutState.PAUSED}),
    RolloutAction.PROMOTE: _OPEN,
    RolloutAction.ABANDON: _OPEN,
    RolloutAction.ROLL_BACK: _OPEN,
}
_TO = {
    RolloutAction.PAUSE: RolloutState.PAUSED,
    RolloutAction.PROMOTE: RolloutState.PROMOTED,
    RolloutAction.ABANDON: RolloutState.ABANDONED,
    RolloutAction.ROLL_BACK: RolloutState.ROLLED_BACK,
}


def acted(rollout: Rollout, action: RolloutAction, now: datetime, reason: str = "") -> Rollout:
    """Return the rollout after an operator's action.

    Raises:
        ConflictError: the action is not one for the rollout's state.
    """
    if rollout.state not in _FROM[action]:
        states = " or ".join(sorted(_FROM[action]))
        raise ConflictError(
            f"rollout {rollout.id} is {rollout.state}: `{action}` is for one that is {states}"
        )
    if action is RolloutAction.HALT:
        return _halted(rollout, now, reason or "by an operator")
    if action is RolloutAction.RESUME:
        was_halted = rollout.state is RolloutState.HALTED
        forgiven_at = now if was_halted else rollout.forgiven_at
        return replace(
            _changed(rollout, RolloutState.RUNNING, now, reason), forgiven_at=forgiven_at
        )
    return _changed(rollout, _TO[action], now, reason)


def _halted(rollout: Rollout, now: datetime, reason: str) -> Rollout:
    if rollout.plan.on_halt is OnHalt.ROLLBACK:
        return _changed(rollout, RolloutState.ROLLED_BACK, now, f"halted: {reason}")
    return _changed(rollout, RolloutState.HALTED, now, reason)


def _changed(rollout: Rollout, state: RolloutState, now: datetime, reason: str) -> Rollout:
    return replace(rollout, state=state, changed_at=now, reached_at=None, reason=reason)
