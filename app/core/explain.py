"""Why a tenant may use a module, or not: the steps of `acl` in words, none of them left out.

The order and the outcomes are those of `ModuleAccess.steps`, from which decisions come, too; here
they only get words. Where the module comes from is told by services/tenants/explain.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from app.core.acl import ModuleAccess, Ownership, RecordedRule, Stage, Step
from app.core.channel import newest_first


class Outcome(StrEnum):
    """What one step says of a version."""

    DENIES = "denies"
    ALLOWS = "allows"
    PASSES = "does not apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedStep:
    """One step in words.

    Attributes:
        what: "rule 7: allow example.com/x <v2.0.0".
        outcome: what it says by itself; only the first that says anything counts.
        reason: why, in one line; "" where `what` tells it.
        decides: whether this is the step that counts.
    """

    stage: Stage
    what: str
    outcome: Outcome
    reason: str
    decides: bool


_NONE_IS_ABOUT_IT = {
    Stage.PLATFORM: "no platform rule is about this module",
    Stage.OWNERSHIP: "no owned prefix covers this module",
    Stage.DENY: "no deny rule is about this module",
    Stage.ALLOW: "no allow rule is about this module",
}
_BEHIND_A_CHANNEL = {Stage.ALLOW, Stage.DEFAULT}


def explain(
    access: ModuleAccess, version: str | None, *, names_others: bool = True
) -> list[ExplainedStep]:
    """Return every step towards `access.decide(version)`, in order; one of them decides.

    A stage without a step has a line that says so, except for channels: only a few tenants have
    one, and where a channel decides no later stage is looked at. Steps behind the one that decides
    tell what they would say.

    Args:
        access: of the tenant to the module.
        version: None for the module as a whole.
        names_others: whether the lines may name other tenants.
    """
    lines: list[ExplainedStep] = []
    is_open = True
    steps = list(access.steps(version))
    skipped = {Stage.CHANNEL} if access.toolchains is None else _BEHIND_A_CHANNEL
    for stage in Stage:
        if stage in skipped:
            continue
        of_stage = [s for s in steps if s.stage is stage]
        if not of_stage:
            lines.append(
                ExplainedStep(
                    stage=stage,
                    what=_NONE_IS_ABOUT_IT[stage],
                    outcome=Outcome.PASSES,
                    reason="",
                    decides=False,
                )
            )
        for line in _lines(of_stage, access, version, is_open=is_open, names_others=names_others):
            is_open = is_open and not line.decides
            lines.append(line)
    return lines


def _lines(
    steps: list[Step],
    access: ModuleAccess,
    version: str | None,
    *,
    is_open: bool,
    names_others: bool,
) -> Iterator[ExplainedStep]:
    for step in steps:
        what = _what(step, access, names_others=names_others)
        if step.decision is None:
            yield ExplainedStep(
                stage=step.stage,
                what=what,
                outcome=Outcome.PASSES,
                reason=_passed(step, version),
                decides=False,
            )
            continue
        outcome = Outcome.ALLOWS if step.decision.allowed else Outcome.DENIES
        yield ExplainedStep(
            stage=step.stage, what=what, outcome=outcome, reason=_reason(step), decides=is_open
        )
        is_open = False


def _what(step: Step, access: ModuleAccess, *, names_others: bool) -> str:
    subject = step.subject
    if isinstance(subject, RecordedRule):
        name = "platform rule" if step.stage is Stage.PLATFORM else "rule"
        until = f" until {subject.expires_at:%Y-%m-%d %H:%M} UTC" if subject.expires_at else ""
        return f"{name} {subject.id}: {subject}{until}"
    if isinstance(subject, Ownership) and not names_others:
        is_own = subject.tenant == access.tenant
        return f"{subject.prefix} belongs to {access.tenant if is_own else 'another tenant'}"
    if isinstance(subject, Ownership):
        granted = f", granted to {' '.join(sorted(subject.granted))}" if subject.granted else ""
        return f"{subject.prefix} belongs to {subject.tenant}{granted}"
    if access.toolchains is not None:
        offered = " ".join(newest_first(access.toolchains.versions)) or "nothing yet"
        return f"channel {access.toolchains.channel} offers {offered}"
    if step.stage is Stage.ALLOW:
        return "the rules above allow other versions, so this one is not allowed"
    return f"default of {access.tenant}: {access.default}"


def _reason(step: Step) -> str:
    if isinstance(step.subject, RecordedRule):
        return step.subject.reason
    return ""


def _passed(step: Step, version: str | None) -> str:
    if isinstance(step.subject, Ownership):
        return "open to this tenant"
    return "it is about some versions only" if version is None else "it is about other versions"
