"""The groups of nodes."""

from __future__ import annotations

import pytest
from ansible.inventory.data import InventoryData
from ansible_collections.moorage.go.plugins.inventory import fleet


def node(number, **more):
    return {
        "id": f"{number:016x}",
        "name": f"web-{number}",
        "channel": "stable",
        "group": "web",
        "state": "behind",
        "facts": {"arch": "amd64"},
        **more,
    }


def rollout(*steps):
    return {"id": "00ff", "channel": "stable", "state": "running", "plan": {"steps": steps}}


def test_each_step_contains_those_before_and_the_last_has_all():
    nodes = [node(number) for number in range(20)]
    steps = fleet.steps_of(rollout({"nodes": 1}, {"percent": 30}, {"percent": 100}), nodes)
    assert [list(steps.values()).count(number) for number in (1, 2, 3)] == [1, 5, 14]


def test_a_group_is_a_step_and_held_nodes_are_in_none():
    nodes = [node(1, group="canary"), node(2), node(3, state="held"), node(4, state="silent")]
    steps = fleet.steps_of(rollout({"group": "canary"}, {"nodes": 2}, {"percent": 100}), nodes)
    assert steps == {nodes[0]["id"]: 1, nodes[1]["id"]: 2, nodes[3]["id"]: 3}


def test_a_name_that_two_nodes_have_gets_their_ids():
    names = fleet.hostnames([node(1), node(2, name="web-1"), node(3)], "name")
    assert names[node(1)["id"]] == "web-1-0000000000000001"
    assert names[node(3)["id"]] == "web-3"
    assert fleet.hostnames([node(1)], "id") == {node(1)["id"]: node(1)["id"]}


OPTIONS = {"hostname": "name", "strict": False, "compose": {}, "groups": {}, "keyed_groups": []}


@pytest.fixture
def plugin(monkeypatch):
    made = fleet.InventoryModule()
    made.inventory = InventoryData()
    monkeypatch.setattr(made, "get_option", OPTIONS.get)
    return made


def test_hosts_have_groups_and_variables(plugin):
    plugin.fill(
        [node(1, group="berlin-2"), node(2, channel="lts", state="current")],
        {"stable": rollout({"percent": 100})},
    )
    groups = {name: sorted(h.name for h in g.hosts) for name, g in plugin.inventory.groups.items()}
    assert groups["channel_stable"] == groups["state_behind"] == groups["step_1"] == ["web-1"]
    assert groups["group_berlin_2"] == ["web-1"]
    assert groups["channel_lts"] == groups["state_current"] == groups["group_web"] == ["web-2"]
    host = plugin.inventory.get_host("web-1")
    assert host.vars["moorage_node"] == node(1)["id"]
    assert (host.vars["moorage_step"], host.vars["moorage_state"]) == (1, "behind")


def test_all_pages_are_asked_for(plugin, monkeypatch):
    pages = {"cursor=2": {"items": [2], "next_cursor": None}}
    monkeypatch.setattr(
        plugin,
        "_get",
        lambda path: pages.get(path[-8:], {"items": [1], "next_cursor": "2"}),
    )
    assert plugin._pages("nodes", {"channel": "stable"}) == [1, 2]
