"""Nodes as the server sees them: states, failures in a row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.core import fleetnode
from app.core.fleetnode import Node, NodeState, state_of

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
INTERVAL_S = 60.0
NODE = Node(
    id="ab",
    name="web-1",
    channel="stable",
    enrolled_at=NOW - timedelta(days=1),
    seen_at=NOW,
    current="go1.23.1",
)


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
        ({"held": "by an admin", "retired_at": NOW}, NodeState.RETIRED),
    ],
)
def test_a_node_has_one_state(change: dict[str, Any], state: NodeState) -> None:
    assert state_of(replace(NODE, **change), "go1.23.1", NOW, INTERVAL_S) is state


def test_a_channel_without_a_release_leaves_nodes_current() -> None:
    assert state_of(replace(NODE, current=""), "", NOW, INTERVAL_S) is NodeState.CURRENT


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
