"""A node of a fleet as the server sees it: facts, results, state.

A node is one of a channel and of a group. It is identified by an id that the server made at its
enrolment; its name is what people call it. Not here: rollouts (`rollout`), messages
(`fleetmessages`).
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

MAX_FAILURES = 3
"""Failures in a row that hold a node."""
SILENT_INTERVALS = 3
"""Intervals between check-ins without one, after which a node is silent."""
RETRY = timedelta(minutes=5)
"""Pause after a failure until the next grant; twice as long after the second failure in a row."""
DEFAULT_GROUP = "default"


class NodeState(StrEnum):
    """A node's state; of several that hold, the first of RETIRED, HELD, SILENT … is shown."""

    CURRENT = "current"
    BEHIND = "behind"
    UPDATING = "updating"
    FAILED = "failed"
    HELD = "held"
    DRIFTED = "drifted"
    SILENT = "silent"
    RETIRED = "retired"


class Target(NamedTuple):
    """What a node is to run: a release, and the number of the revision that says so.

    Attributes:
        version: "go1.27.1"; "" where the channel has none.
    """

    version: str
    revision: int


NOTHING = Target("", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One enrolled machine.

    Attributes:
        id: 16 random hex characters; given once, and never to another.
        name: what people call it; not unique.
        facts: what the node says of itself: os, arch, hostname, python, program.
        current: the release that it runs, "go1.27.1"; "" before the first.
        installed: releases that it has.
        seen_revision: the newest revision of whose manifest it knows; 0 before the first.
        is_drifted: its last check of the files found a difference.
        declined_version: the release that was rolled back by hand on it; "" for none.
        declined_revision: the revision that had brought that release; 0 for none.
        released_revision: the declined revision that an operator has the node take again; 0 for
            none.
        seen_at: UTC; the last check-in.
        clock_off_s: seconds by which the node's clock was ahead of the server's at the last
            check-in.
        failures: failed grants in a row.
        failed_at: UTC; the last failure; None after a success.
        failure: release, stage and reason of that failure, one line.
        held: why it gets no grants; "" if it may get some.
        grant: id of the grant without a result; "" for none.
        retired_at: UTC; when its token stopped working.
    """

    id: str
    name: str
    channel: str
    group: str = DEFAULT_GROUP
    enrolled_at: datetime
    facts: dict[str, str] = field(default_factory=dict)
    current: str = ""
    installed: tuple[str, ...] = ()
    seen_revision: int = 0
    is_drifted: bool = False
    declined_version: str = ""
    declined_revision: int = 0
    released_revision: int = 0
    seen_at: datetime | None = None
    clock_off_s: float = 0.0
    failures: int = 0
    failed_at: datetime | None = None
    failure: str = ""
    held: str = ""
    grant: str = ""
    retired_at: datetime | None = None


def is_silent(
    seen_at: datetime | None, enrolled_at: datetime, now: datetime, interval_s: float
) -> bool:
    """Whether a node has not checked in for three intervals."""
    return (seen_at or enrolled_at) < live_after(now, interval_s)


def live_after(now: datetime, interval_s: float) -> datetime:
    """Return the moment since which a node was heard of if it is not silent."""
    return now - timedelta(seconds=SILENT_INTERVALS * interval_s)


def declines(node: Node, target: Target) -> bool:
    """Whether a node does not take its target: it was rolled back by hand on the node.

    A newer revision is another target, and so is one that an operator released the node for.
    """
    return (
        target.version not in ("", node.current)
        and target == (node.declined_version, node.declined_revision)
        and target.revision != node.released_revision
    )


def hold_reason(node: Node, target: Target) -> str:
    """Return why a node gets no grant until something else is done; "" if it may get one.

    Either what the node is held for, or that it declines its target.
    """
    if node.held or not declines(node, target):
        return node.held
    return decline_reason(node, target)


def decline_reason(node: Node, target: Target) -> str:
    """Return why a node that declines its target gets no grant of it, and what ends that."""
    return (
        f"{target.version} was rolled back by hand on this node: it waits for a revision of "
        f"channel {node.channel} after {target.revision}, for `moorage node release {node.id}`, "
        f"or for `moorage-node install {target.version}` on the machine"
    )


def state_of(node: Node, offered: Target, now: datetime, interval_s: float) -> NodeState:
    """Return a node's state.

    Args:
        node: as recorded.
        offered: what it should run.
        now: UTC.
        interval_s: seconds between two check-ins of a node.
    """
    if node.retired_at is not None:
        return NodeState.RETIRED
    if hold_reason(node, offered):
        return NodeState.HELD
    if is_silent(node.seen_at, node.enrolled_at, now, interval_s):
        return NodeState.SILENT
    if node.is_drifted:
        return NodeState.DRIFTED
    if node.grant:
        return NodeState.UPDATING
    if node.failures:
        return NodeState.FAILED
    return NodeState.CURRENT if offered.version in ("", node.current) else NodeState.BEHIND


def succeeded(node: Node) -> Node:
    """Return a node after a grant that succeeded."""
    return replace(node, failures=0, failed_at=None, failure="", grant="", released_revision=0)


def failed(node: Node, at: datetime, failure: str, *, is_rolled_back: bool = False) -> Node:
    """Return a node after a grant that failed; the third failure in a row holds the node.

    Args:
        node: before.
        at: UTC.
        failure: release, stage and reason, one line.
        is_rolled_back: the release was current and was taken back. An operator who released the
            node before that did not know it.
    """
    failures = node.failures + 1
    held = node.held
    if failures >= MAX_FAILURES and not held:
        held = f"{failures} failures in a row; the last: {failure}"
    return replace(
        node,
        failures=failures,
        failed_at=at,
        failure=failure,
        grant="",
        held=held,
        released_revision=0 if is_rolled_back else node.released_revision,
    )


def released(node: Node) -> Node:
    """Return a node that may get grants again, of what it declines, too; failures are forgotten."""
    return replace(
        node,
        held="",
        failures=0,
        failed_at=None,
        failure="",
        released_revision=node.declined_revision,
    )


def refusal(node: Node, target: Target, at: datetime) -> str | None:
    """Return why a node gets no grant of its target now; None: it may get one.

    A line for whoever reads it on the machine: the node, what failed and when, what to do.
    """
    if node.held:
        return f"this node is held: {node.held}"
    if declines(node, target):
        return decline_reason(node, target)
    until = retry_at(node)
    if node.failed_at is None or until is None or at >= until:
        return None
    return (
        f"node {node.name} failed at {node.failed_at:%H:%M:%S} UTC ({node.failure}) and gets its "
        f"next grant after {until:%H:%M:%S} UTC; `moorage node release {node.id}` ends the wait"
    )


def retry_at(node: Node) -> datetime | None:
    """Return the moment from which a node that failed may get its next grant; None is any time."""
    if node.failed_at is None:
        return None
    return node.failed_at + RETRY * node.failures
