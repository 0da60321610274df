"""A release that was rolled back by hand on a node is not brought again by the same revision."""

from app.core.channel import Choice
from app.core.fleetnode import NodeState
from app.core.principal import OPERATOR
from app.core.rolloutplan import RolloutPlan, parse_steps
from app.core.rolloutstate import RolloutAction
from app.services.fleet.checkins import Action, CheckAnswer
from app.services.fleet.nodes import SeenState
from tests.services.bench import audited
from tests.services.fleet.conftest import VERIFIED, Fleet
from tests.services.fleet.herd import Machine, enrol, settle

NEW, OLD = VERIFIED[:2]


async def updated(fleet: Fleet, *versions: str) -> Machine:
    """Return a node that followed its channel through revisions of these versions."""
    await fleet.channel("stable")
    [machine] = await enrol(fleet.services, ["web-1"])
    for version in versions:
        await fleet.services.fleet.channels.set("stable", Choice(current=version), OPERATOR)
        await settle(fleet.services)
        assert (await machine.update()).action is Action.UPDATE
        await machine.check()
        await settle(fleet.services)
    return machine


def roll_back(machine: Machine, to: str) -> None:
    """Do what `moorage-node rollback` does, without a server."""
    machine.declined = {"version": machine.current, "revision": machine.seen}
    assert machine.last is not None
    machine.last = {**machine.last, "result": "failed", "stage": "rolled-back", "reason": "by hand"}
    machine.current = to


async def shown(fleet: Fleet) -> SeenState:
    return (await fleet.services.fleet.nodes.show("web-1", OPERATOR)).seen


def reason(machine: Machine, revision: int, version: str = NEW) -> str:
    return (
        f"{version} was rolled back by hand on this node: it waits for a revision of channel "
        f"stable after {revision}, for `moorage node release {machine.id}`, or for "
        f"`moorage-node install {version}` on the machine"
    )


def assert_declined(answer: CheckAnswer, machine: Machine, revision: int) -> None:
    assert (answer.action, answer.reason) == (Action.HOLD, reason(machine, revision))
    assert answer.grant == ""


async def test_a_declined_revision_is_no_grant_however_long_and_the_next_one_is(
    fleet: Fleet,
) -> None:
    machine = await updated(fleet, OLD, NEW)
    roll_back(machine, OLD)
    for _ in range(4):  # three failures would hold it
        assert_declined(await machine.check(), machine, 2)
        await settle(fleet.services)
        fleet.clock.advance(minutes=30)
    seen = await shown(fleet)
    assert (seen.state, seen.held, seen.node.held) == (NodeState.HELD, reason(machine, 2), "")
    assert seen.node.failures == 1
    [row] = await audited(fleet.services, "node.decline")
    assert (row.object, row.detail) == (f"node:{machine.id}", f"web-1: {reason(machine, 2)}")
    counts = await fleet.services.fleet.nodes.count()
    assert counts.by_state["stable", "held"] == counts.declining["stable"] == 1
    await fleet.services.fleet.channels.set("stable", Choice(current=NEW, also=(OLD,)), OPERATOR)
    await settle(fleet.services)
    answer = await machine.update()
    assert (answer.action, answer.is_released) == (Action.UPDATE, False)
    machine.declined = None
    await machine.check()
    await settle(fleet.services)
    seen = await shown(fleet)
    assert (seen.state, seen.held, seen.node.failures) == (NodeState.CURRENT, "", 0)
    assert (seen.node.declined_version, seen.node.declined_revision) == ("", 0)
    assert (await fleet.services.fleet.nodes.count()).declining == {"stable": 0}


async def test_a_release_of_the_node_is_an_order_to_take_the_release(fleet: Fleet) -> None:
    machine = await updated(fleet, OLD, NEW)
    roll_back(machine, OLD)
    await machine.check()
    await settle(fleet.services)
    await fleet.services.fleet.nodes.release("web-1", OPERATOR)
    await settle(fleet.services)
    for _ in range(2):  # the second one is the same grant again
        answer = await machine.check()
        assert (answer.action, answer.is_released) == (Action.UPDATE, True)
        await settle(fleet.services)
    await machine.obey(answer)
    machine.declined = None
    assert (await machine.check()).action is Action.STAY
    await settle(fleet.services)
    # Once more, before the next check-in: the operator's word was about the first time.
    roll_back(machine, OLD)
    assert_declined(await machine.check(), machine, 2)
    await settle(fleet.services)
    assert_declined(await machine.check(), machine, 2)
    assert len(await audited(fleet.services, "node.decline")) == 2


async def test_a_release_that_was_taken_and_rolled_back_between_two_check_ins_is_declined(
    fleet: Fleet,
) -> None:
    machine = await updated(fleet, OLD, NEW)
    roll_back(machine, OLD)
    await machine.check()
    await settle(fleet.services)
    await fleet.services.fleet.nodes.release("web-1", OPERATOR)
    await settle(fleet.services)
    await machine.obey(await machine.check())
    roll_back(machine, OLD)
    assert_declined(await machine.check(), machine, 2)
    assert len(await audited(fleet.services, "node.decline")) == 2


async def test_a_newer_revision_that_the_node_has_not_seen_is_declined_with_it(
    fleet: Fleet,
) -> None:
    machine = await updated(fleet, OLD, NEW)
    # The node runs what revision 3 has it run: it is told to stay, and sees no manifest.
    await fleet.services.fleet.channels.set("stable", Choice(current=NEW, also=(OLD,)), OPERATOR)
    await settle(fleet.services)
    assert (await machine.check()).action is Action.STAY
    roll_back(machine, OLD)
    assert machine.declined == {"version": NEW, "revision": 2}
    for _ in range(2):
        assert_declined(await machine.check(), machine, 3)
        await settle(fleet.services)
        fleet.clock.advance(minutes=30)
    await fleet.services.fleet.nodes.release("web-1", OPERATOR)
    await settle(fleet.services)
    assert (await machine.check()).is_released


async def test_a_grant_that_its_node_does_not_remember_ends_when_the_node_declines_it(
    fleet: Fleet,
) -> None:
    machine = await updated(fleet, OLD)
    before = machine.last
    await fleet.services.fleet.channels.set("stable", Choice(current=NEW), OPERATOR)
    await settle(fleet.services)
    await machine.update()
    await settle(fleet.services)
    roll_back(machine, OLD)
    machine.last = before  # killed after the switch, before it wrote the result down
    assert_declined(await machine.check(), machine, 2)
    history = await fleet.services.fleet.nodes.show("web-1", OPERATOR)
    assert [(g.version, g.outcome, g.stage) for g in history.grants] == [
        (NEW, "failed", "rolled-back"),
        (OLD, "succeeded", "switched"),
    ]


async def test_a_rollout_goes_on_without_a_node_that_declines_what_it_brings(fleet: Fleet) -> None:
    await fleet.channel("stable", OLD)
    machines = await enrol(fleet.services, [f"web-{n}" for n in range(3)])
    for machine in machines:
        await machine.update()
        await machine.check()
    await settle(fleet.services)
    plan = RolloutPlan(steps=parse_steps("1/0,100%/0"), min_success_percent=60)
    rollouts = fleet.services.fleet.rollouts
    await rollouts.start("stable", Choice(current=NEW), plan, OPERATOR)
    await settle(fleet.services)
    answers = [(machine, await machine.update()) for machine in machines]
    [first] = [machine for machine, answer in answers if answer.action is Action.UPDATE]
    roll_back(first, OLD)
    assert_declined(await first.check(), first, 2)
    await settle(fleet.services)
    assert (await rollouts.show("stable", OPERATOR)).rollout.state == "halted"
    await rollouts.act("stable", RolloutAction.PROMOTE, OPERATOR)
    await settle(fleet.services)
    assert_declined(await first.check(), first, 2)


async def test_what_a_node_declines_and_nobody_offers_is_no_event(fleet: Fleet) -> None:
    machine = await updated(fleet, OLD, NEW)
    machine.declined = {"version": "go1.98.5", "revision": 2}
    assert (await machine.check()).action is Action.STAY
    await settle(fleet.services)
    assert await audited(fleet.services, "node.decline") == []
    assert (await shown(fleet)).state is NodeState.CURRENT


async def test_a_node_program_that_says_nothing_is_held_at_its_third_failure(fleet: Fleet) -> None:
    machine = await updated(fleet, OLD, NEW)
    roll_back(machine, OLD)
    machine.declined = None
    answer = await machine.check()
    for minutes in (5, 10):
        assert answer.action is Action.HOLD
        fleet.clock.advance(minutes=minutes)
        await settle(fleet.services)
        answer = await machine.check()
        assert (answer.action, answer.is_released) == (Action.UPDATE, False)
        machine.last = {"grant": answer.grant, "result": "failed", "stage": "verified"}
        answer = await machine.check()
        await settle(fleet.services)
    fleet.clock.advance(hours=1)
    assert "3 failures in a row" in (await machine.check()).reason
