"""A release that was rolled back by hand is left alone, and the server is told why."""

import json
from collections.abc import Callable

import pytest

from app.node.cli import main
from tests.node.conftest import V1, V2, Node


@pytest.fixture
def declining(enrolled: Node) -> Node:
    """A node on which the second release was rolled back by hand."""
    enrolled.fleet.put_release(V2)
    enrolled.fleet.revision = 2
    enrolled.fleet.order_update()
    assert enrolled.run("update").value["version"] == V2
    assert enrolled.run("rollback").value["version"] == V1
    enrolled.fleet.check_ins.clear()
    return enrolled


def line(node: Node) -> str:
    return (
        f"{V2} was rolled back by hand on this node; a newer revision of channel "
        f"{node.fleet.channel}, `moorage node release` on the server or "
        f"`moorage-node install {V2}` here changes that"
    )


def test_each_check_in_says_what_this_node_declines(declining: Node) -> None:
    for _ in range(2):
        declining.fleet.orders.append({"action": "hold", "reason": "x"})
        assert declining.run("update").code == 4
    assert [one["declined"] for one in declining.fleet.check_ins] == 2 * [
        {"version": V2, "revision": 2}
    ]
    last = declining.fleet.check_ins[-1]["last"]
    assert (last["result"], last["stage"]) == ("failed", "rolled-back")
    assert declining.run("status").value["declined"] == {"version": V2, "revision": 2}


def test_status_says_it_in_words(declining: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--root", str(declining.root)]) == 0
    assert f"declined   {line(declining)}\n" in capsys.readouterr().out


def test_the_same_revision_is_not_taken_from_a_server_that_orders_it(declining: Node) -> None:
    declining.fleet.order_update()
    declined = declining.run("update")
    assert (declined.code, line(declining) in declined.stderr) == (4, True)
    assert declining.current == V1


def test_a_hold_names_the_nodes_own_reason_once(declining: Node) -> None:
    failed = "node web-1 failed at 12:00:00 UTC"
    rolled_back = f"{V2} was rolled back by hand on this node: it waits"
    reasons = {failed: f"{failed}; {line(declining)}", rolled_back: rolled_back}
    for reason, whole in reasons.items():
        declining.fleet.orders.append({"action": "hold", "reason": reason})
        held = declining.run("update")
        said = f"the server holds this node: {whole}"
        assert (held.code, held.value["reason"]) == (4, said)


def newer(node: Node) -> None:
    node.fleet.revision = 3
    node.fleet.order_update()
    assert node.run("update").value["version"] == V2


def released(node: Node) -> None:
    node.fleet.order_update(released=True)
    assert node.run("update").value["version"] == V2


def installed(node: Node) -> None:
    assert node.install(V2).value["result"] == "switched"


def switched(node: Node) -> None:
    assert node.run("rollback", V2).value["version"] == V2


@pytest.mark.parametrize("way", [newer, released, installed, switched])
def test_what_ends_it_leaves_nothing_declined_and_a_success(
    declining: Node, way: Callable[[Node], None]
) -> None:
    way(declining)
    declining.fleet.check_ins.clear()
    assert declining.run("update").code == 0
    [said] = declining.fleet.check_ins
    assert (said["current"], said["last"]["result"]) == (V2, "succeeded")
    # To switch by hand between the two is to leave the other one.
    declined = {"version": V1, "revision": 2} if way is switched else None
    assert said["declined"] == declining.run("status").value["declined"] == declined
    declining.fleet.orders.append({"action": "hold", "reason": "broken disk"})
    assert f"{V2} was rolled back by hand" not in declining.run("update").stderr


def test_a_grant_that_failed_before_is_not_the_one_that_was_rolled_back(enrolled: Node) -> None:
    assert enrolled.install(V2).code == 1  # the server does not have it yet
    enrolled.fleet.put_release(V2)
    assert enrolled.install(V2).value["version"] == V2
    enrolled.run("rollback")
    enrolled.run("update")
    [said] = enrolled.fleet.check_ins
    assert said["declined"]["version"] == V2
    # The last grant brought the first release, which runs again.
    assert (said["last"]["version"], said["last"]["result"]) == (V1, "succeeded")


def test_a_state_of_an_earlier_program_is_read(declining: Node) -> None:
    path = declining.root / ".moorage" / "state.json"
    state = json.loads(path.read_text())
    del state["declined"]["channel"], state["last"]["version"]
    path.write_text(json.dumps(state))
    declining.run("update")
    assert declining.fleet.check_ins[-1]["declined"] == {"version": V2, "revision": 2}
    assert declining.run("rollback", V2).code == 0


def test_another_channels_numbers_decline_nothing(declining: Node) -> None:
    declining.fleet.orders.append({"action": "stay", "reason": "", "channel": "next"})
    declining.run("update")
    declining.run("update")
    assert declining.fleet.check_ins[-1]["declined"] is None
