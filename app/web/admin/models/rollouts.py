"""Rollouts as the admin API shows them."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.core.channel import Choice
from app.core.noun import line
from app.core.rollout import Rollout
from app.core.rolloutplan import RolloutPlan
from app.core.rolloutstate import RolloutState
from app.db.grants import Grant
from app.services.fleet.rollouts import RolloutStatus
from app.web.admin.models.base import In, Out


class RolloutIn(Choice):
    """A new rollout: what a channel's nodes are to get, and in which steps."""

    plan: RolloutPlan = RolloutPlan()


class ReasonIn(In):
    """Why an operator does something."""

    reason: Annotated[str, *line("reason", 500)] = ""


class RolloutOut(Out):
    """A rollout.

    step: 1 for the first.
    from_revision: what everybody else sees meanwhile; 0 before the first revision.
    reached_at: when the step had enough successes; its soak time runs from then on.
    """

    id: str
    channel: str
    state: RolloutState
    step: int
    steps: int
    from_revision: int
    to_revision: int
    reason: str
    started_at: datetime
    changed_at: datetime
    reached_at: datetime | None
    plan: RolloutPlan


class FailureOut(Out):
    """A grant that failed; trace is the trace id of the node's report, "" without one."""

    node: str
    name: str
    grant: str
    at: datetime
    stage: str
    reason: str
    trace: str


class RolloutStatusOut(RolloutOut):
    """A rollout with the results of its present step.

    size: nodes of the present step; the next four numbers are parts of it.
    waiting: nodes of the step without a grant.
    total: nodes that the whole rollout is about.
    gate: "waiting", "passed" or "failed".
    """

    version: str
    size: int
    succeeded: int
    failed: int
    out: int
    waiting: int
    total: int
    gate: str
    failures: Annotated[list[FailureOut], Field(max_length=100)]


def rollout_out(rollout: Rollout) -> RolloutOut:
    """Return one rollout for people and programs."""
    return RolloutOut.of(rollout, step=rollout.step + 1, steps=len(rollout.plan.steps))


def status_out(status: RolloutStatus) -> RolloutStatusOut:
    """Return one rollout with its results."""
    return RolloutStatusOut(
        **dict(rollout_out(status.rollout)),
        version=status.version,
        size=status.gate.size,
        succeeded=status.gate.succeeded,
        failed=status.gate.failed,
        out=status.gate.out,
        waiting=status.waiting,
        total=status.total,
        gate=status.gate.verdict,
        failures=[_failure(name, grant) for name, grant in status.failures],
    )


def _failure(name: str, grant: Grant) -> FailureOut:
    return FailureOut.of(grant, name=name, grant=grant.id, at=grant.outcome_at)
