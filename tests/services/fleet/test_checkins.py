"""Check-ins: what is answered from memory, whose token does what, what is gathered."""

import asyncio
from datetime import timedelta

import pytest

from app.core.channel import Choice
from app.core.errors import DeniedError, OverloadedError, UnauthenticatedError
from app.core.fleetmessages import Enrolment
from app.core.fleetnode import NodeState
from app.core.principal import OPERATOR
from app.core.token import make_token
from app.services.fleet import checkins
from app.services.fleet.checkins import Action
from tests.services.bench import audited
from tests.services.fleet.conftest import VERIFIED, Fleet
from tests.services.fleet.herd import TRACEPARENT, Machine, enrol, settle
from tests.statements import watched

RELEASE = VERIFIED[1]


async def one(fleet: Fleet) -> Machine:
    """Return a node that runs its channel's release."""
    await fleet.channel("stable", RELEASE)
    [machine] = await enrol(fleet.services, ["web-1"])
    assert (await machine.update()).action is Action.UPDATE
    await machine.check()
    await settle(fleet.services)
    return machine


async def test_a_stay_asks_no_database_and_a_hundred_are_one_transaction(fleet: Fleet) -> None:
    machine = await one(fleet)
    others = await enrol(fleet.services, [f"web-{n}" for n in range(100)])
    for other in others:
        other.current = RELEASE
        await other.check()
    await settle(fleet.services)
    with watched(fleet.services.shared.db) as seen:
        for node in (machine, *others):
            assert (await node.check()).action is Action.STAY
    assert seen.sent == []
    with watched(fleet.services.shared.db) as seen:
        await fleet.services.fleet.check_ins.flush()
    assert [text.split(" SET")[0] for text, _ in seen.sent if "SELECT" not in text] == [
        "UPDATE nodes"
    ]


async def test_a_node_that_asks_twice_at_once_gets_one_grant_and_spoils_no_other_answer(
    fleet: Fleet,
) -> None:
    await fleet.channel("stable", RELEASE)
    machine, other = await enrol(fleet.services, ["web-1", "web-2"])
    await machine.report("drift", "")
    answers = await asyncio.gather(machine.check(), machine.check(), other.check())
    assert [answer.action for answer in answers] == [Action.UPDATE] * 3
    first, again, others = (answer.grant for answer in answers)
    assert first == again != others
    history = await fleet.services.fleet.nodes.show(machine.id, OPERATOR)
    assert ([grant.id for grant in history.grants], len(history.events)) == ([first], 1)


async def test_a_token_is_one_nodes_and_no_other_token_is(fleet: Fleet) -> None:
    machine = await one(fleet)
    [other] = await enrol(fleet.services, ["web-2"])
    check_ins = fleet.services.fleet.check_ins
    node = await check_ins.node_of(other.token)
    with pytest.raises(DeniedError):
        await check_ins.check(node, machine.message())
    _, admin = await fleet.services.tenants.tokens.create("ops")
    for token in (None, "x", make_token(b"u" * 32), admin):
        with pytest.raises(UnauthenticatedError):
            await check_ins.node_of(token)
    # And the other way round: no other part of the service knows a node's token.
    with pytest.raises(UnauthenticatedError):
        await fleet.services.tenants.tokens.authenticate(machine.token)


async def test_a_result_of_another_nodes_grant_changes_nothing(fleet: Fleet) -> None:
    machine = await one(fleet)
    [other] = await enrol(fleet.services, ["web-2"])
    grant = (await other.check()).grant
    await machine.check(last={"grant": grant, "result": "failed"})
    await machine.report("failed", grant)
    await settle(fleet.services)
    [seen] = await fleet.services.fleet.nodes.page(OPERATOR, state=NodeState.UPDATING)
    assert (seen.node.id, seen.node.failures) == (other.id, 0)


async def test_a_retired_node_is_refused_after_a_second(fleet: Fleet) -> None:
    machine = await one(fleet)
    await fleet.services.fleet.nodes.retire("web-1", OPERATOR)
    await settle(fleet.services)
    with pytest.raises(UnauthenticatedError):
        await machine.check()


async def test_what_a_node_says_is_shown(fleet: Fleet) -> None:
    machine = await one(fleet)
    at = fleet.clock() + timedelta(seconds=3600)
    await machine.report("repaired", "", TRACEPARENT, stage="verify", reason="1 file")
    await machine.check(
        drift=True, installed=[RELEASE, "go1.98.5"], clock=at.isoformat(), facts={"os": "linux"}
    )
    await settle(fleet.services)
    history = await fleet.services.fleet.nodes.show(machine.id, OPERATOR)
    node = history.seen.node
    assert history.seen.state is NodeState.DRIFTED
    assert node.installed == (RELEASE, "go1.98.5")
    assert node.clock_off_s == 3600.0
    assert node.facts == {"os": "linux", "program": "0.1.0"}
    event = history.events[0]
    assert (event.event, event.reason, event.seconds) == ("repaired", "1 file", {"network": 1.5})
    assert event.traceparent == TRACEPARENT
    assert [grant.outcome for grant in history.grants] == ["succeeded"]


async def test_a_node_is_silent_after_three_intervals(fleet: Fleet) -> None:
    await one(fleet)
    fleet.clock.advance(seconds=181)
    [seen] = await fleet.services.fleet.nodes.page(OPERATOR)
    assert seen.state is NodeState.SILENT


async def test_a_held_node_gets_no_grant_until_it_is_released(fleet: Fleet) -> None:
    machine = await one(fleet)
    await fleet.services.fleet.nodes.hold("web-1", OPERATOR, reason="broken disk")
    await settle(fleet.services)
    machine.current = ""
    answer = await machine.check()
    assert (answer.action, answer.reason) == (Action.HOLD, "this node is held: broken disk")
    await fleet.services.fleet.nodes.release("web-1", OPERATOR)
    await settle(fleet.services)
    assert (await machine.check()).action is Action.UPDATE


async def test_a_node_that_failed_is_told_to_hold_and_why_until_its_wait_is_over(
    fleet: Fleet,
) -> None:
    machine = await one(fleet)
    await fleet.services.fleet.channels.set("stable", Choice(current=VERIFIED[0]), OPERATOR)
    await settle(fleet.services)
    grant = (await machine.check()).grant
    reason = "rolled back by hand on this node, to go1.99.1"
    machine.last = {"grant": grant, "result": "failed", "stage": "rolled-back", "reason": reason}
    failed_at = fleet.clock()
    # The first answer is the transaction's, which learns of the failure; the next is the view's.
    for _ in range(2):
        answer = await machine.check()
        assert answer.action is Action.HOLD
        assert answer.reason == (
            f"node web-1 failed at {failed_at:%H:%M:%S} UTC (go1.99.2: rolled-back: {reason}) and "
            f"gets its next grant after {failed_at + timedelta(minutes=5):%H:%M:%S} UTC; "
            f"`moorage node release {machine.id}` ends the wait"
        )
        await settle(fleet.services)
    # What the node runs is what it should run again: nothing waits.
    await fleet.services.fleet.channels.rollback("stable", OPERATOR)
    await settle(fleet.services)
    assert (await machine.check()).action is Action.STAY
    await fleet.services.fleet.channels.rollback("stable", OPERATOR)
    await settle(fleet.services)
    assert (await machine.check()).action is Action.HOLD
    fleet.clock.advance(minutes=5)
    assert (await machine.check()).action is Action.UPDATE


async def test_the_first_release_that_fails_is_a_hold_and_the_third_failure_is_one_at_once(
    fleet: Fleet,
) -> None:
    await fleet.channel("stable", RELEASE)
    [machine] = await enrol(fleet.services, ["web-1"])
    machine.fails = True
    for failures in (1, 2, 3):
        assert (await machine.update()).action is Action.UPDATE
        answer = await machine.check()
        assert answer.action is Action.HOLD
        await settle(fleet.services)
        assert (await machine.check()).action is Action.HOLD
        fleet.clock.advance(minutes=5 * failures)
    last = f"the last: {RELEASE}: tested: exit 1"
    assert answer.reason == f"this node is held: 3 failures in a row; {last}"


async def test_a_moved_node_is_told_its_channel_and_then_gets_its_release(fleet: Fleet) -> None:
    machine = await one(fleet)
    await fleet.channel("next", VERIFIED[0])
    await fleet.services.fleet.nodes.move("web-1", OPERATOR, channel="next", group="canary")
    await settle(fleet.services)
    answer = await machine.check()
    assert (answer.action, answer.channel) == (Action.STAY, "next")
    machine.node = (await fleet.services.fleet.nodes.show("web-1", OPERATOR)).seen.node
    machine.seen = 0
    await machine.update()
    assert machine.current == VERIFIED[0]
    assert len(await audited(fleet.services, "node.move")) == 1


async def test_no_more_nodes_change_at_once_than_fifty(fleet: Fleet) -> None:
    await fleet.channel("stable", RELEASE)
    machines = await enrol(fleet.services, [f"web-{n}" for n in range(53)])
    for machine in machines:
        await machine.check()
    assert sum(len(machine.grants) for machine in machines) == 50
    await settle(fleet.services)
    assert (await machines[-1].check()).reason == "50 nodes are changing, as many as may at once"


async def test_a_node_that_saw_a_newer_revision_waits_for_the_next(fleet: Fleet) -> None:
    machine = await one(fleet)
    machine.current, machine.seen = "", 9
    answer = await machine.check()
    assert answer.action is Action.STAY
    assert "seen revision 9" in answer.reason


async def test_an_enrolment_token_has_uses_and_hours(fleet: Fleet) -> None:
    await fleet.channel("stable", RELEASE)
    enrolment = fleet.services.fleet.enrolment
    token, secret = await enrolment.create_token(
        OPERATOR, "stable", group="canary", uses=2, hours=1
    )
    machines = [await enrolment.enrol(_enrolment(secret, name)) for name in ("a", "b")]
    assert {m.node.group for m in machines} == {"canary"}
    key = await fleet.services.fleet.manifests.key()
    assert {m.vkey for m in machines} == {key.vkey}
    with pytest.raises(UnauthenticatedError):
        await enrolment.enrol(_enrolment(secret, "c"))
    with watched(fleet.services.shared.db) as seen:  # whoever reaches the port may ask
        for wrong in (secret, make_token(b"u" * 32)):
            with pytest.raises(UnauthenticatedError):
                await enrolment.enrol(_enrolment(wrong, "c"))
    assert not [text for text, _ in seen.sent if "generation" in text]  # the lock of all changes
    _, late = await enrolment.create_token(OPERATOR, "stable", hours=1)
    fleet.clock.advance(hours=1)
    with pytest.raises(UnauthenticatedError):
        await enrolment.enrol(_enrolment(late, "d"))
    await enrolment.remove_token(token.id, OPERATOR)
    assert [t.id for t in await enrolment.tokens(OPERATOR)] != [token.id]


async def test_memory_is_bounded(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = await one(fleet)
    monkeypatch.setattr(checkins, "MAX_EVENTS", 2)
    monkeypatch.setattr(checkins, "MAX_WAITING", 1)
    await machine.report("repaired", "")
    await machine.report("repaired", "")
    with pytest.raises(OverloadedError):
        await machine.report("repaired", "")
    await machine.check()
    with pytest.raises(OverloadedError):
        await machine.check()
    await settle(fleet.services)
    await machine.check()


def _enrolment(token: str, name: str) -> Enrolment:
    return Enrolment(token=token, name=name)
