"""Rollouts over enrolled nodes: grants, halts, operators, restarts."""

import json

import pytest

from app.core.channel import Choice
from app.core.errors import ConflictError
from app.core.principal import OPERATOR
from app.core.rolloutplan import RolloutPlan, parse_steps
from app.core.rolloutstate import OnHalt, RolloutAction, RolloutState
from app.db.webhooks import WebhookTable
from app.services.fleet.checkins import Action
from app.services.fleet.rollouts import RolloutStatus
from tests.services.bench import audit_rows, count_of
from tests.services.fleet.conftest import VERIFIED, Fleet
from tests.services.fleet.herd import TRACE, TRACEPARENT, Machine, enrol, settle
from tests.statements import watched

NEW, OLD = VERIFIED[0], VERIFIED[1]
STEPS = "1/0, 30%/0, 100%/0"


async def begin(fleet: Fleet, count: int = 10, **plan: object) -> list[Machine]:
    """Return nodes that run the channel's release."""
    await fleet.channel("stable", OLD)
    machines = await enrol(fleet.services, [f"web-{n}" for n in range(count)])
    for machine in machines:
        machine.current, machine.seen = OLD, 1
        await machine.check()
    await settle(fleet.services)
    return machines


async def start(fleet: Fleet, steps: str = STEPS, **plan: object) -> RolloutStatus:
    values = RolloutPlan(steps=parse_steps(steps)).model_dump() | plan
    status = await fleet.services.fleet.rollouts.start(
        "stable", Choice(current=NEW), RolloutPlan.model_validate(values), OPERATOR
    )
    await settle(fleet.services)
    return status


async def show(fleet: Fleet) -> RolloutStatus:
    return await fleet.services.fleet.rollouts.show("stable", OPERATOR)


async def round_of(fleet: Fleet, machines: list[Machine]) -> None:
    for machine in machines:
        await machine.update(TRACEPARENT)
    await settle(fleet.services)


async def test_a_good_release_reaches_everybody_step_by_step(fleet: Fleet) -> None:
    machines = await begin(fleet)
    await start(fleet)
    sizes = []
    for _ in range(6):
        await round_of(fleet, machines)
        sizes.append(sum(m.current == NEW for m in machines))
    assert sizes[-1] == 10
    assert sizes == sorted(sizes)
    assert sizes[0] < 10
    status = await show(fleet)
    assert (status.rollout.state, status.gate.succeeded) == (RolloutState.PROMOTED, 10)
    offered = await fleet.offered()
    assert offered.current is not None
    assert offered.current.revision.current == NEW
    assert (await machines[0].check()).action is Action.STAY


async def test_two_failing_canaries_of_three_halt_it_and_nobody_else_gets_a_grant(
    fleet: Fleet,
) -> None:
    machines = await begin(fleet)
    await fleet.services.upkeep.webhooks.add("https://hooks.example/", OPERATOR)
    await start(fleet)
    await round_of(fleet, machines)
    [first] = [m for m in machines if m.grants]
    await first.check()
    await settle(fleet.services)
    for machine in machines:
        machine.fails = machine is not first
    for machine in machines:
        await machine.update(TRACEPARENT)
    await settle(fleet.services)
    status = await show(fleet)
    assert status.rollout.state is RolloutState.HALTED
    assert status.rollout.reason == "step 2: 2 of 3 results failed (66 %)"
    assert {f.trace for _, f in status.failures} == {TRACE}
    granted = [m for m in machines if m.grants]
    assert len(granted) == 3
    for _ in range(3):
        await round_of(fleet, machines)
        fleet.clock.advance(minutes=10)
    assert [m for m in machines if m.grants] == granted
    assert [(await m.check()).action for m in machines] == [Action.HOLD] * 10
    # Audit log, webhook and metrics have the same story, with the trace id of the node.
    rows = [row for row in await audit_rows(fleet.services) if row.action == "rollout.halt"]
    assert len(rows) == 1
    assert rows[0].detail.endswith(f"trace {TRACE}")
    messages = await fleet.services.shared.db.read(
        lambda s: [json.loads(d.body) for d in WebhookTable(s).waiting()]
    )
    assert [m["event"] for m in messages] == ["rollout.start", "rollout.step", "rollout.halt"]
    assert messages[-1]["trace"] == TRACE
    assert messages[-1]["rollout"]["gate"]["failed"] == 2
    labels = {"channel": "stable", "change": "rollout.halt"}
    assert count_of("moorage_fleet_rollout_changes_total", **labels) >= 1


async def test_a_rollback_after_a_halt_brings_the_nodes_back_by_a_newer_revision(
    fleet: Fleet,
) -> None:
    machines = await begin(fleet, 4)
    await start(fleet, "1/0, 100%/0")
    machines[0].fails = machines[1].fails = machines[2].fails = False
    await round_of(fleet, machines)
    [first] = [m for m in machines if m.current == NEW]
    await fleet.services.fleet.rollouts.act("stable", RolloutAction.HALT, OPERATOR, reason="bad")
    revision = await fleet.services.fleet.channels.rollback("stable", OPERATOR, reason="bad")
    assert (revision.revision, revision.current, revision.restores) == (3, OLD, 1)
    await settle(fleet.services)
    await round_of(fleet, machines)
    assert (first.current, first.seen) == (OLD, 3)
    assert (await show(fleet)).rollout.state is RolloutState.ROLLED_BACK
    assert sum(len(m.grants) for m in machines) == 2 + len(
        [m for m in machines if m is not first and m.seen == 3]
    )


async def test_a_rollout_that_rolls_back_by_itself(fleet: Fleet) -> None:
    machines = await begin(fleet, 3)
    for machine in machines:
        machine.fails = True
    await start(fleet, "1/0, 100%/0", on_halt=OnHalt.ROLLBACK)
    await round_of(fleet, machines)
    status = await show(fleet)
    assert status.rollout.state is RolloutState.ROLLED_BACK
    offered = await fleet.offered()
    assert offered.current is not None
    assert (offered.current.revision.revision, offered.candidate) == (3, None)


async def test_a_halted_rollout_gives_no_grant_to_a_process_that_has_not_noticed(
    fleet: Fleet,
) -> None:
    """Another process halted the rollout; the view of this one still says that it runs."""
    machines = await begin(fleet)
    await start(fleet, "100%/0")
    await fleet.services.fleet.rollouts.act("stable", RolloutAction.HALT, OPERATOR)
    loaded = await fleet.services.fleet.view.current()
    rollout = loaded.channels["stable"].rollout
    assert rollout is not None
    assert rollout.state is RolloutState.RUNNING
    answers = [await machine.check() for machine in machines]
    assert {answer.action for answer in answers} == {Action.HOLD}
    assert not any(machine.grants for machine in machines)


async def test_the_same_grant_is_told_again_until_its_result(fleet: Fleet) -> None:
    machines = await begin(fleet, 2)
    await start(fleet, "100%/0")
    first, again = await machines[0].check(), await machines[0].check()
    assert first.grant == again.grant
    await settle(fleet.services)
    assert (await machines[0].check()).grant == first.grant
    await fleet.services.fleet.rollouts.act("stable", RolloutAction.PAUSE, OPERATOR)
    assert (await machines[0].check()).action is Action.STAY


async def test_a_result_that_a_restart_lost_is_said_again(fleet: Fleet) -> None:
    machines = await begin(fleet, 1)
    await start(fleet, "100%/0")
    await machines[0].update()
    check_ins = fleet.services.fleet.check_ins
    check_ins._seen, check_ins._events, check_ins._results = {}, [], {}  # killed before the write
    assert (await show(fleet)).gate.succeeded == 0
    await machines[0].check()
    await settle(fleet.services)
    assert (await show(fleet)).rollout.state is RolloutState.PROMOTED


async def test_a_grant_without_a_result_counts_as_failed_after_its_time(fleet: Fleet) -> None:
    machines = await begin(fleet, 2)
    await start(fleet, "1/0, 100%/0", grant_s=60)
    for machine in machines:
        await machine.check()
    fleet.clock.advance(seconds=61)
    await settle(fleet.services)
    status = await show(fleet)
    assert status.rollout.state is RolloutState.HALTED
    assert status.failures[0][1].reason.startswith("no result until")


async def test_a_node_that_fails_three_times_is_held_and_can_be_released(fleet: Fleet) -> None:
    machines = await begin(fleet, 1)
    machines[0].current, machines[0].fails = "", True
    for _ in range(3):
        assert (await machines[0].update()).action is Action.UPDATE
        await settle(fleet.services)
        assert (await machines[0].check()).action is not Action.UPDATE  # it waits
        fleet.clock.advance(minutes=20)
    answer = await machines[0].check()
    assert (answer.action, len(machines[0].grants)) == (Action.HOLD, 3)
    assert "3 failures in a row" in answer.reason
    machines[0].fails = False
    await fleet.services.fleet.nodes.release("web-0", OPERATOR)
    await settle(fleet.services)
    assert (await machines[0].update()).action is Action.UPDATE


async def test_a_new_node_gets_the_current_release_while_a_rollout_runs(fleet: Fleet) -> None:
    await begin(fleet, 3)
    await start(fleet, "1/600, 100%/0")
    [late] = await enrol(fleet.services, ["late"])
    await settle(fleet.services)
    answer = await late.update()
    assert answer.action is Action.UPDATE
    assert late.current in (OLD, NEW)


async def test_a_step_takes_the_nodes_that_are_heard_of(fleet: Fleet) -> None:
    machines = await begin(fleet, 4)
    fleet.clock.advance(seconds=181)
    await machines[2].check()
    await settle(fleet.services)
    await start(fleet, "1/600, 100%/0")
    await round_of(fleet, [machines[2], *machines])
    assert [m.current == NEW for m in machines] == [False, False, True, False]


async def test_what_is_looked_for_each_second_is_found_by_an_index(fleet: Fleet) -> None:
    await begin(fleet, 1)
    await start(fleet, "100%/0")
    fleet.clock.advance(seconds=10)
    with watched(fleet.services.shared.db) as seen:
        await fleet.services.fleet.rollouts.step()
        await fleet.services.fleet.check_ins.flush()
        await fleet.services.fleet.view.load()
    scans = seen.scans(fleet.services.shared.db)
    # Channels, rollouts and webhooks are few; of grants and events there are ever more.
    whole = [s for s in scans if s.startswith(("SCAN node_grants:", "SCAN node_events:"))]
    assert whole == []


async def test_a_channel_has_one_rollout_at_a_time(fleet: Fleet) -> None:
    await begin(fleet, 1)
    await start(fleet)
    with pytest.raises(ConflictError):
        await start(fleet)
    with pytest.raises(ConflictError):
        await fleet.services.fleet.channels.set("stable", Choice(current=NEW), OPERATOR)
    await fleet.services.fleet.rollouts.act("stable", RolloutAction.ABANDON, OPERATOR)
    assert (await start(fleet)).rollout.to_revision == 3
