"""Nodes as the server sees them: states, failures in a row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.core import fleetnode
from app.core.fleetnode import NOTHING, Node, NodeState, Target, state_of

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
INTERVAL_S = 60.0
TARGET = Target("go1.23.1", 7)
NODE = Node(
    id="ab",
    name="web-1",
    channel="stable",
    enrolled_at=NOW - timedelta(days=1),
    seen_at=NOW,
    current="go1.23.1",
)


DECLINING = {"current": "go1.22.0", "declined_version": "go1.23.1", "declined_revision": 7}


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, NodeState.CURRENT),
        ({"current": "go1.22.0"}, NodeState.BEHIND),
        ({"current": ""}, NodeState.BEHIND),
        ({"current": "go1.22.0", "failures": 1}, NodeState.FAILED),
        ({"current": "go1.22.0", "failures": 1, "grant": "1"}, NodeState.UPDATING),
        ({"is_drifted": True}, NodeState.DRIFTED),
        ({"seen_at": NOW - timedelta(seconds=180)}, NodeState.CURRENT),
        ({"seen_at": NOW - timedelta(seconds=181)}, NodeState.SILENT),
        ({"seen_at": None}, NodeState.SILENT),
        ({"seen_at": None, "enrolled_at": NOW}, NodeState.CURRENT),
        ({"held": "by an admin", "seen_at": None}, NodeState.HELD),
        (DECLINING, NodeState.HELD),
        (DECLINING | {"failures": 1, "grant": "1", "is_drifted": True}, NodeState.HELD),
        (DECLINING | {"current": "go1.23.1"}, NodeState.CURRENT),
        (DECLINING | {"declined_revision": 6}, NodeState.BEHIND),
        (DECLINING | {"declined_version": "go1.23.0"}, NodeState.BEHIND),
        (DECLINING | {"released_revision": 7}, NodeState.BEHIND),
        ({"held": "by an admin", "retired_at": NOW}, NodeState.RETIRED),
    ],
)
def test_a_node_has_one_state(change: dict[str, Any], state: NodeState) -> None:
    assert state_of(replace(NODE, **change), TARGET, NOW, INTERVAL_S) is state


def test_a_channel_without_a_release_leaves_nodes_current() -> None:
    assert state_of(replace(NODE, current=""), NOTHING, NOW, INTERVAL_S) is NodeState.CURRENT


def test_three_failures_in_a_row_hold_a_node_until_it_is_released() -> None:
    node = NODE
    for number in (1, 2):
        node = fleetnode.failed(node, NOW, "tested: exit 1")
        assert (node.failures, node.held) == (number, "")
    node = fleetnode.failed(node, NOW, "tested: exit 1")
    assert node.held == "3 failures in a row; the last: tested: exit 1"
    node = fleetnode.released(node)
    assert (node.held, node.failures, fleetnode.retry_at(node)) == ("", 0, None)


def test_a_success_ends_the_row() -> None:
    node = fleetnode.failed(fleetnode.failed(NODE, NOW, "x"), NOW, "x")
    node = fleetnode.failed(fleetnode.succeeded(node), NOW, "x")
    assert (node.failures, node.held) == (1, "")


def test_the_next_grant_waits_longer_after_each_failure() -> None:
    once = fleetnode.failed(NODE, NOW, "x")
    assert fleetnode.retry_at(once) == NOW + timedelta(minutes=5)
    assert fleetnode.retry_at(fleetnode.failed(once, NOW, "x")) == NOW + timedelta(minutes=10)


def test_an_admins_hold_keeps_its_reason() -> None:
    node = replace(NODE, held="by an admin")
    for _ in range(3):
        node = fleetnode.failed(node, NOW, "x")
    assert node.held == "by an admin"


def test_a_node_that_declines_waits_and_says_for_what() -> None:
    node = fleetnode.failed(replace(NODE, **DECLINING), NOW, "x")
    said = fleetnode.refusal(node, TARGET, NOW)
    assert said == (
        "go1.23.1 was rolled back by hand on this node: it waits for a revision of channel stable "
        "after 7, for `moorage node release ab`, or for `moorage-node install go1.23.1` on the "
        "machine"
    )
    assert fleetnode.hold_reason(node, TARGET) == said
    held = replace(node, held="by an admin")
    assert fleetnode.refusal(held, TARGET, NOW) == "this node is held: by an admin"
    # The next revision waits for nothing but the pause after a failure.
    newer = TARGET._replace(revision=8)
    assert fleetnode.hold_reason(node, newer) == ""
    assert "failed at" in (fleetnode.refusal(node, newer, NOW) or "")
    assert fleetnode.refusal(node, newer, NOW + timedelta(minutes=5)) is None


def test_a_release_of_a_node_holds_until_it_took_the_release_or_took_it_back_again() -> None:
    node = fleetnode.released(replace(NODE, **DECLINING))
    assert fleetnode.refusal(node, TARGET, NOW) is None
    failed = fleetnode.failed(node, NOW, "unpacked: disk full")
    assert not fleetnode.declines(failed, TARGET)
    again = fleetnode.failed(node, NOW, "rolled-back", is_rolled_back=True)
    assert fleetnode.declines(again, TARGET)
    taken = replace(fleetnode.succeeded(node), current="go1.23.1")
    assert not fleetnode.declines(taken, TARGET)
    assert fleetnode.declines(replace(taken, current="go1.22.0"), TARGET)
