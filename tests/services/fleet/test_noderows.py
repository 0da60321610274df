"""A node that contradicts itself at every check-in can not fill the audit log."""

from typing import Any

import pytest

from app.core.errors import OverloadedError
from app.core.principal import OPERATOR
from app.services.fleet import checkins, nodes
from app.services.fleet.checkins import Action
from tests.services.bench import audited
from tests.services.fleet.conftest import VERIFIED, Fleet
from tests.services.fleet.herd import Machine, enrol, settle

NEW, OLD = VERIFIED[:2]


async def following(fleet: Fleet, *names: str) -> list[Machine]:
    """Return nodes that were updated by their channel."""
    await fleet.channel("stable", NEW)
    machines = await enrol(fleet.services, list(names))
    for machine in machines:
        assert (await machine.update()).action is Action.UPDATE
        await machine.check()
    await settle(fleet.services)
    return machines


async def says(fleet: Fleet, machine: Machine, **more: Any) -> None:
    await machine.check(**more)
    await settle(fleet.services)
    fleet.clock.advance(seconds=60)
    await fleet.services.fleet.node_rows.flush()


@pytest.mark.parametrize("action", ["node.decline", "node.fail"])
async def test_what_a_node_takes_back_and_says_again_is_counted(fleet: Fleet, action: str) -> None:
    [machine, other] = await following(fleet, "web-1", "web-2")
    assert machine.last is not None
    flips: dict[str, list[dict[str, Any]]] = {
        "node.decline": [{"declined": {"version": NEW, "revision": 1}, "current": OLD}, {}],
        "node.fail": [{"last": {**machine.last, "result": "failed", "reason": "boo"}}, {}],
    }
    for _ in range(62):  # two hours, and a little more
        for said in flips[action]:
            await says(fleet, machine, **said)
    rows = await audited(fleet.services, action)
    assert {row.object for row in rows} == {f"node:{machine.id}"}
    first, counted = rows[:3], rows[3:]
    assert all(row.detail.startswith("web-1: ") for row in first)
    assert [row.detail.split(" from ")[0] for row in counted] == ["27 times", "30 times"]
    assert all("web-1" in row.detail for row in counted)
    assert len({row.detail.partition(": ")[2] for row in first}) == 1
    # Another node is not concerned; and a process that stops writes what it has counted.
    assert other.last is not None
    await says(fleet, other, **flips[action][0] | {"last": {**other.last, "result": "failed"}})
    assert (await audited(fleet.services, action))[-1].object == f"node:{other.id}"
    await fleet.services.fleet.node_rows.flush(all_windows=True)
    last = (await audited(fleet.services, action))[-1]
    assert (last.object, last.detail.split(" ")[0]) == (f"node:{machine.id}", "2")


async def test_after_a_quiet_hour_a_node_has_its_rows_again(fleet: Fleet) -> None:
    [machine] = await following(fleet, "web-1")
    declining = {"declined": {"version": NEW, "revision": 1}, "current": OLD}
    for _ in range(5):
        await says(fleet, machine, **declining)
        await says(fleet, machine)
    assert len(await audited(fleet.services, "node.decline")) == 3
    fleet.clock.advance(hours=1)
    await says(fleet, machine)
    assert len(await audited(fleet.services, "node.decline")) == 4
    fleet.clock.advance(hours=1)
    await says(fleet, machine)
    await says(fleet, machine, **declining)
    rows = await audited(fleet.services, "node.decline")
    assert [row.detail.split(" ")[0] for row in rows] == [
        "web-1:",
        "web-1:",
        "web-1:",
        "2",
        "web-1:",
    ]


async def test_of_a_node_that_reports_without_end_the_newest_events_and_grants_stay(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "MOST_KEPT", 3)
    [machine, other] = await following(fleet, "web-1", "web-2")
    for number in range(5):
        await machine.report("drift", "", stage=f"{number}")
        # It says that it has the release, and at once that it runs another one.
        answer = await machine.check(current=OLD)
        assert answer.action is Action.UPDATE
        machine.last = {"grant": answer.grant, "result": "succeeded"}
    await fleet.services.fleet.check_ins.flush()
    await fleet.services.fleet.nodes.tidy()
    shown = await fleet.services.fleet.nodes.show(machine.id, OPERATOR)
    assert [event.stage for event in shown.events] == ["4", "3", "2"]
    assert [grant.id for grant in shown.grants] == machine.grants[:-4:-1]
    shown = await fleet.services.fleet.nodes.show(other.id, OPERATOR)
    assert (len(shown.events), len(shown.grants)) == (1, 1)


async def test_results_that_wait_to_be_written_are_bounded(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    [machine] = await following(fleet, "web-1")
    monkeypatch.setattr(checkins, "MAX_WAITING", 3)
    for number in range(3):
        await machine.check(last={"grant": f"{number:016x}", "result": "failed"})
    with pytest.raises(OverloadedError):
        await machine.check()
    await fleet.services.fleet.check_ins.flush()
    assert (await machine.check()).action is Action.STAY
