"""Rollouts: membership, gates, grants, operators; then every interleaving of all of them.

The machine at the end has a committed state, two processes with results in memory that a restart
loses, nodes that keep their own rules, and operators. Each rule is one transaction of the service:
read, `advanced`, `refusals`, write. Its invariants are those of fleets: a halted rollout gives no
grant, no node goes back to an older revision, at most `max_parallel` grants are out.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from app.core.errors import ConflictError
from app.core.fleetnode import NOTHING, Target
from app.core.rollout import (
    Gate,
    Participant,
    Rollout,
    Verdict,
    acted,
    advanced,
    gate_of,
    members,
    present_members,
    rank,
    refusals,
)
from app.core.rolloutplan import RolloutPlan, Step, parse_steps
from app.core.rolloutstate import OnHalt, Outcome, RolloutAction, RolloutState

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday
IDS = sorted((f"{n:016x}" for n in range(10)), key=lambda node: rank("r", node))


def rollout(steps: str = "1/0, 30%/0, 100%/0", **more: Any) -> Rollout:
    plan = RolloutPlan(steps=parse_steps(steps), **more.pop("plan", {}))
    values: dict[str, Any] = {"id": "r", "channel": "stable", "from_revision": 1, "to_revision": 2}
    return Rollout(**values | {"plan": plan, "started_at": NOW, "changed_at": NOW} | more)


def nodes(outcomes: str = "", count: int = 10, **more: Any) -> list[Participant]:
    """Return nodes in the order of their rank; "s", "f", "o" or "-" is the outcome of each."""
    letters = {"s": Outcome.SUCCEEDED, "f": Outcome.FAILED, "o": Outcome.OUT, "-": None}
    return [
        Participant(
            node=node,
            group=more.get("group", "web"),
            outcome=letters[letter],
            outcome_at=None if letter == "-" else NOW,
        )
        for node, letter in zip(IDS[:count], outcomes.ljust(count, "-"), strict=True)
    ]


def refusal(of: Rollout, participants: list[Participant], node: str, out: int = 0) -> str | None:
    return refusals(of, participants, [node], out=out, now=NOW)[node]


def test_each_step_contains_those_before_in_the_order_of_the_hash() -> None:
    steps = parse_steps("1, 30%, 100%")
    inside = [members("r", steps[: n + 1], nodes()) for n in range(3)]
    assert inside == [{*IDS[:1]}, {*IDS[:3]}, {*IDS}]


def test_another_rollout_begins_with_another_node() -> None:
    firsts = {next(iter(members(f"r{n}", [Step(nodes=1)], nodes()))) for n in range(30)}
    assert len(firsts) > 5


def test_a_node_that_enrols_during_a_step_displaces_nobody_who_has_a_grant() -> None:
    late = [*nodes("--s"), Participant(node="ffffffffffffffff", group="web")]
    assert members("r", parse_steps("1"), late) == {IDS[2]}


def test_a_step_takes_a_silent_node_only_where_no_other_is_left() -> None:
    participants = nodes()
    participants[0] = participants[0]._replace(is_live=False)
    assert members("r", parse_steps("1"), participants) == {IDS[1]}
    assert members("r", parse_steps("100%"), participants) == {*IDS}


def test_held_nodes_and_those_that_need_no_change_are_left_out() -> None:
    participants = nodes()
    participants[0] = participants[0]._replace(is_held=True)
    participants[1] = participants[1]._replace(needs_change=False)
    assert members("r", parse_steps("2"), participants) == {*IDS[2:4]}
    assert len(members("r", parse_steps("100%"), participants)) == 8


def test_a_group_is_a_step_and_later_steps_contain_it() -> None:
    participants = nodes()
    participants[7] = participants[7]._replace(group="canary")
    assert members("r", parse_steps("canary"), participants) == {IDS[7]}
    assert members("r", parse_steps("canary, 30%"), participants) == {IDS[7], *IDS[:2]}


def test_a_node_with_a_grant_stays_in_its_step_when_it_moves_to_another_group() -> None:
    moved = [*nodes("s", 1, group="web"), Participant(node="ffffffffffffffff", group="canary")]
    assert members("r", parse_steps("canary"), moved) == {IDS[0], "ffffffffffffffff"}


@pytest.mark.parametrize(
    ("outcomes", "step", "gate"),
    [
        ("", 0, Gate(Verdict.WAITING, 1, 0, 0, 0)),
        ("o", 0, Gate(Verdict.WAITING, 1, 0, 0, 1)),
        ("s", 0, Gate(Verdict.PASSED, 1, 1, 0, 0)),
        ("f", 0, Gate(Verdict.FAILED, 1, 0, 1, 0)),  # all of a smaller step
        ("sf", 1, Gate(Verdict.WAITING, 3, 1, 1, 0)),  # two results of three
        ("sff", 1, Gate(Verdict.FAILED, 3, 1, 2, 0)),
        ("sso", 1, Gate(Verdict.WAITING, 3, 2, 0, 1)),
        ("sssssssssf", 2, Gate(Verdict.FAILED, 10, 9, 1, 0)),  # 10 % are more than 5 %
        ("sssssssss", 2, Gate(Verdict.PASSED, 10, 9, 0, 0)),  # 90 % are enough
        ("ssssssss", 2, Gate(Verdict.WAITING, 10, 8, 0, 0)),
    ],
)
def test_a_gate_follows_from_the_results_of_its_step(outcomes: str, step: int, gate: Gate) -> None:
    assert gate_of(rollout(step=step), nodes(outcomes)) == gate


def test_a_step_without_nodes_passes_only_if_no_node_needs_the_change() -> None:
    held = [p._replace(is_held=True) for p in nodes()]
    assert gate_of(rollout(), held).verdict is Verdict.WAITING
    assert gate_of(rollout(), []).verdict is Verdict.PASSED
    silent = [p._replace(is_live=False) for p in nodes()]
    assert gate_of(rollout(), silent).verdict is Verdict.WAITING  # after a long stop of the server


def test_two_failing_canaries_of_three_halt_the_rollout() -> None:
    running = rollout(step=1)
    assert advanced(running, nodes("sf"), NOW).state is RolloutState.RUNNING
    halted = advanced(running, nodes("sff"), NOW)
    assert (halted.state, halted.reason) == (
        RolloutState.HALTED,
        "step 2: 2 of 3 results failed (66 %)",
    )
    assert all(refusal(halted, nodes("sff"), node) for node in IDS)


def test_a_halted_rollout_goes_back_where_the_plan_says_so() -> None:
    gone_back = advanced(rollout(plan={"on_halt": OnHalt.ROLLBACK}), nodes("f"), NOW)
    assert gone_back.state is RolloutState.ROLLED_BACK
    by_hand = acted(rollout(plan={"on_halt": OnHalt.ROLLBACK}), RolloutAction.HALT, NOW, "a doubt")
    assert (by_hand.state, by_hand.reason) == (RolloutState.ROLLED_BACK, "halted: a doubt")


def test_a_step_soaks_before_the_next_one() -> None:
    running = rollout("1/600, 100%/0")
    soaking = advanced(running, nodes("s"), NOW)
    assert (soaking.step, soaking.reached_at) == (0, NOW)
    assert advanced(soaking, nodes("s"), NOW + timedelta(seconds=599)).step == 0
    assert advanced(soaking, nodes("s"), NOW + timedelta(seconds=600)).step == 1
    assert advanced(soaking, nodes("f"), NOW + timedelta(seconds=599)).state is RolloutState.HALTED


def test_a_soak_starts_anew_when_the_successes_are_too_few_again() -> None:
    running = rollout("30%/600, 100%", plan={"max_failure_percent": 50})
    soaking = advanced(running, nodes("sss"), NOW)
    again = advanced(soaking, nodes("ssf"), NOW + timedelta(seconds=300))
    assert (again.state, again.reached_at) == (RolloutState.RUNNING, None)


def test_a_rollout_over_all_nodes_is_promoted() -> None:
    assert advanced(rollout(), nodes("s" * 10), NOW).state is RolloutState.PROMOTED


def test_only_as_many_nodes_change_at_once_as_the_plan_says() -> None:
    running = rollout("100%", plan={"max_parallel": 2})
    answers = refusals(running, nodes("o"), IDS[1:], out=1, now=NOW)
    assert [node for node, reason in answers.items() if reason is None] == IDS[1:2]
    assert answers[IDS[2]] == "2 nodes are changing, as many as may at once"


def test_grants_are_given_inside_the_windows_only() -> None:
    running = rollout("100%", plan={"windows": ("Thu 09:00-16:00", "Wed 13:00-14:00")})
    for hour, is_open in ((12, False), (13, True)):
        answers = refusals(running, nodes(), IDS[:1], out=0, now=NOW.replace(hour=hour))
        assert (answers[IDS[0]] is None) is is_open


@pytest.mark.parametrize("letter", ["s", "o"])
def test_a_node_with_a_grant_or_a_success_gets_no_second_grant(letter: str) -> None:
    assert refusal(rollout("100%"), nodes(letter), IDS[0])


def test_a_stranger_and_a_held_node_get_no_grant() -> None:
    assert refusal(rollout("100%"), nodes(), "ffffffffffffffff")
    held = [p._replace(is_held=True) for p in nodes("f")]
    assert refusal(rollout("100%"), held, IDS[0])
    declining = [p._replace(is_declining=True) for p in nodes()]
    assert "declines the release" in (refusal(rollout("100%"), declining, IDS[0]) or "")


_STATES = list(RolloutState)


@pytest.mark.parametrize("state", _STATES)
@pytest.mark.parametrize("action", list(RolloutAction))
def test_an_action_is_one_for_certain_states(state: RolloutState, action: RolloutAction) -> None:
    allowed = {
        RolloutAction.PAUSE: "running",
        RolloutAction.RESUME: "paused halted",
        RolloutAction.HALT: "running paused",
        RolloutAction.PROMOTE: "running paused halted",
        RolloutAction.ABANDON: "running paused halted",
        RolloutAction.ROLL_BACK: "running paused halted",
    }[action]
    if state in allowed.split():
        assert acted(rollout(state=state), action, NOW, "x").reason == "x"
    else:
        with pytest.raises(ConflictError):
            acted(rollout(state=state), action, NOW)


def test_failures_before_a_resume_count_no_more() -> None:
    halted = advanced(rollout(step=1), nodes("sff"), NOW)
    resumed = acted(halted, RolloutAction.RESUME, NOW)
    assert advanced(resumed, nodes("sff"), NOW).state is RolloutState.RUNNING
    assert refusal(resumed, nodes("sff"), IDS[1]) is None  # it may try again
    later = [p._replace(outcome_at=NOW + timedelta(seconds=1)) for p in nodes("sff")]
    assert advanced(resumed, later, NOW).state is RolloutState.HALTED


def test_a_resume_brings_nothing_to_a_node_that_declines_the_release() -> None:
    halted = advanced(rollout(step=1), nodes("sff"), NOW)
    resumed = acted(halted, RolloutAction.RESUME, NOW)
    participants = nodes("sff")
    participants[1] = participants[1]._replace(is_declining=True)
    assert "declines the release" in (refusal(resumed, participants, IDS[1]) or "")
    assert refusal(resumed, participants, IDS[2]) is None


def test_a_node_that_declines_is_left_out_and_one_that_had_a_grant_counts() -> None:
    participants = [p._replace(is_declining=n < 2) for n, p in enumerate(nodes("s"))]
    assert members("r", parse_steps("2"), participants) == {IDS[0], IDS[2]}
    declining = [p._replace(is_declining=True) for p in nodes()]
    assert gate_of(rollout(), declining).verdict is Verdict.WAITING


# The machine.

_CONTENT = ("go1.22.0", "go1.23.0", "go1.23.1")


@dataclass
class Grant:
    number: int
    node: str
    rollout: Rollout  # as it was in the transaction of the grant
    revision: int
    expires_at: datetime
    outcome: Outcome = Outcome.OUT
    outcome_at: datetime = NOW


@dataclass
class Machine:
    """A node: it applies a manifest that is not older than the newest it saw, or nothing."""

    id: str
    group: str
    current: str = _CONTENT[0]
    before: str = _CONTENT[1]
    seen: int = 1
    work: tuple[int, int] | None = None  # grant, revision
    last: tuple[int, Outcome] | None = None
    is_held: bool = False
    declined: Target = NOTHING  # what was rolled back by hand
    released: int = 0  # the declined revision that an operator released it for
    history: list[int] = field(default_factory=list)


class FleetMachine(RuleBasedStateMachine):
    """Transactions, nodes, operators, two processes that restart, two leaders."""

    @initialize(
        count=st.integers(1, 8),
        steps=st.sampled_from(
            ["1/0, 100%/0", "1/60, 50%/60, 100%/0", "canary/0, 100%/60", "100%/0"]
        ),
        parallel=st.integers(1, 3),
        on_halt=st.sampled_from(OnHalt),
        content=st.sampled_from(_CONTENT),
    )
    def start(self, count: int, steps: str, parallel: int, on_halt: OnHalt, content: str) -> None:
        self.now = NOW
        self.machines = {
            id: Machine(id, "canary" if n % 3 == 0 else "web")
            for n, id in enumerate(f"{n:016x}" for n in range(count))
        }
        self.plan = RolloutPlan(
            steps=parse_steps(steps), max_parallel=parallel, on_halt=on_halt, grant_s=60
        )
        self.content = {0: _CONTENT[1], 1: _CONTENT[0]}
        self.published = 1
        self.rollout: Rollout | None = None
        self.grants: list[Grant] = []
        self.pending: list[dict[int, Outcome]] = [{}, {}]
        self.is_up = True
        self.begin(content)

    # Transactions: each reads and writes the committed state in one piece.

    def participants(self) -> list[Participant]:
        assert self.rollout is not None
        latest = {g.node: g for g in self.grants if g.rollout.id == self.rollout.id}
        target = self.content[self.rollout.to_revision]
        return [
            Participant(
                node=m.id,
                group=m.group,
                is_held=m.is_held,
                needs_change=m.current != target,
                outcome=latest[m.id].outcome if m.id in latest else None,
                outcome_at=latest[m.id].outcome_at if m.id in latest else None,
                is_declining=self.declines(m, self.rollout.to_revision),
            )
            for m in self.machines.values()
        ]

    def declines(self, machine: Machine, revision: int) -> bool:
        target = Target(self.content[revision], revision)
        is_wanted = machine.current != target.version
        return is_wanted and machine.declined == target and machine.released != revision

    def on_offer(self) -> list[int]:
        candidate = self.rollout
        is_open = candidate is not None and not candidate.state.is_final
        return [self.published, *([candidate.to_revision] if candidate and is_open else [])]

    def commit(self, after: Rollout) -> None:
        before, self.rollout = self.rollout, after
        if before is None or before.state is after.state:
            return
        if after.state is RolloutState.PROMOTED:
            self.published = after.to_revision
        if after.state is RolloutState.ROLLED_BACK:  # a new revision with the old content
            self.published = max(self.content) + 1
            self.content[self.published] = self.content[after.from_revision]

    def advance(self) -> None:
        if self.rollout is not None:
            for grant in self.out():
                if grant.expires_at <= self.now:
                    grant.outcome, grant.outcome_at = Outcome.FAILED, self.now
            self.commit(advanced(self.rollout, self.participants(), self.now))

    def flush(self, process: int) -> None:
        pending, self.pending[process] = self.pending[process], {}
        for number, outcome in pending.items():
            grant = self.grants[number]
            if grant.outcome is not outcome:
                grant.outcome, grant.outcome_at = outcome, self.now
        self.advance()

    def out(self) -> list[Grant]:
        return [g for g in self.grants if g.outcome is Outcome.OUT]

    def begin(self, content: str) -> None:
        revision = max(self.content) + 1
        self.content[revision] = content
        self.rollout = Rollout(
            id=f"{revision:016x}",
            channel="stable",
            from_revision=self.published,
            to_revision=revision,
            plan=self.plan,
            started_at=self.now,
            changed_at=self.now,
        )

    # Rules.

    processes = st.integers(0, 1)

    def one(self, data: st.DataObject) -> Machine:
        return data.draw(st.sampled_from(list(self.machines.values())))

    @rule(process=processes, data=st.data())
    def check_in(self, process: int, data: st.DataObject) -> None:
        self.ask(self.one(data), process)

    def ask(self, machine: Machine, process: int) -> None:
        if not self.is_up:
            return  # nothing changes on a node
        if machine.last is not None:
            self.pending[process][machine.last[0]] = machine.last[1]
        if machine.work is not None:
            return
        self.flush(process)
        assert self.rollout is not None
        participants = self.participants()
        reason = refusals(
            self.rollout, participants, [machine.id], out=len(self.out()), now=self.now
        )[machine.id]
        if reason is not None:
            return
        assert not self.declines(machine, self.rollout.to_revision)
        inside = present_members(self.rollout, participants)
        assert machine.id in inside
        grant = Grant(
            len(self.grants),
            machine.id,
            self.rollout,
            self.rollout.to_revision,
            self.now + timedelta(seconds=self.plan.grant_s),
            outcome_at=self.now,
        )
        self.grants.append(grant)
        machine.work, machine.last = (grant.number, grant.revision), None
        self.check_step(inside)

    def check_step(self, inside: frozenset[str]) -> None:
        """Every node that ever got a grant of this rollout is in its present step."""
        assert self.rollout is not None
        granted = {g.node for g in self.grants if g.rollout.id == self.rollout.id}
        assert granted <= inside
        step = self.rollout.plan.steps[self.rollout.step]
        if step.nodes is not None:
            assert len(granted) <= step.nodes

    @rule(outcome=st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED]), data=st.data())
    def finish(self, outcome: Outcome, data: st.DataObject) -> None:
        working = [m for m in self.machines.values() if m.work is not None]
        if not working:
            return
        self.end(data.draw(st.sampled_from(working)), outcome)

    def end(self, machine: Machine, outcome: Outcome) -> None:
        assert machine.work is not None
        number, revision = machine.work
        machine.work = None
        if revision < machine.seen:  # the node's own rule: nothing older than it saw
            machine.last = (number, Outcome.FAILED)
            return
        machine.seen = revision
        machine.history.append(revision)
        machine.last = (number, outcome)
        if outcome is Outcome.SUCCEEDED:
            machine.before, machine.current = machine.current, self.content[revision]
            machine.declined, machine.released = NOTHING, 0

    @rule(data=st.data())
    def roll_back_by_hand(self, data: st.DataObject) -> None:
        """On a machine: no server is asked, and the next check-in says that its grant failed."""
        self.go_back(self.one(data))

    def go_back(self, machine: Machine) -> None:
        if machine.work is not None or machine.before == machine.current:
            return
        if machine.last is not None:
            machine.last = (machine.last[0], Outcome.FAILED)
        # In every revision on offer: the machine may not know the newest of them.
        same = [n for n in self.on_offer() if self.content[n] == machine.current]
        machine.declined = Target(machine.current, max(machine.seen, *same, 0))
        machine.released = 0
        machine.current = machine.before

    @rule(process=processes, data=st.data())
    def take_what_is_granted_and_go_back(self, process: int, data: st.DataObject) -> None:
        """A release is rolled back by hand soon after it came, and the server learns of both."""
        machine = self.one(data)
        self.ask(machine, process)
        if machine.work is not None:
            self.end(machine, Outcome.SUCCEEDED)
            self.go_back(machine)
            self.ask(machine, process)

    @rule(data=st.data())
    def release_for_what_it_declines(self, data: st.DataObject) -> None:
        machine = self.one(data)
        machine.released = machine.declined.revision

    @rule(process=processes)
    def write_what_is_gathered(self, process: int) -> None:
        self.flush(process)

    @rule(process=processes)
    def restart(self, process: int) -> None:
        self.pending[process] = {}  # nodes repeat it

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def one_leader_or_another(self) -> None:
        self.advance()
        before = self.rollout
        self.advance()  # the second leader, right after the first: nothing more happens
        assert self.rollout == before

    @rule(action=st.sampled_from(RolloutAction))
    def operate(self, action: RolloutAction) -> None:
        assert self.rollout is not None
        try:
            self.commit(acted(self.rollout, action, self.now))
        except ConflictError:
            return

    @precondition(lambda self: self.rollout.state is RolloutState.HALTED)
    @rule()
    def resume_what_is_halted(self) -> None:
        """Some interleavings begin here, and `operate` seldom leads to them."""
        assert self.rollout is not None
        self.commit(acted(self.rollout, RolloutAction.RESUME, self.now))

    @precondition(lambda self: self.rollout is not None and self.rollout.state.is_final)
    @rule(content=st.sampled_from(_CONTENT))
    def next_rollout(self, content: str) -> None:
        self.begin(content)

    @rule(data=st.data(), is_held=st.booleans())
    def hold_or_release(self, data: st.DataObject, *, is_held: bool) -> None:
        self.one(data).is_held = is_held

    @rule(data=st.data(), group=st.sampled_from(["canary", "web"]))
    def move(self, data: st.DataObject, group: str) -> None:
        self.one(data).group = group

    @rule()
    def stop_or_start_the_server(self) -> None:
        self.is_up = not self.is_up

    # What always holds.

    @invariant()
    def each_grant_is_of_a_rollout_that_was_running(self) -> None:
        assert all(g.rollout.state is RolloutState.RUNNING for g in self.grants)

    @invariant()
    def what_is_declined_is_not_granted_again(self) -> None:
        """What was rolled back by hand comes back by a release of the node alone.

        A step has no place for a node that declines the release, unless the node had a grant.
        """
        if self.rollout is None:
            return
        participants = self.participants()
        declining = {p.node: p.outcome for p in participants if p.is_declining}
        if not declining:
            return
        reasons = refusals(self.rollout, participants, list(declining), out=0, now=self.now)
        assert all(reasons.values())
        inside = present_members(self.rollout, participants)
        assert not [n for n, outcome in declining.items() if outcome is None and n in inside]

    @invariant()
    def no_more_grants_are_out_than_the_plan_allows(self) -> None:
        assert len(self.out()) <= self.plan.max_parallel

    @invariant()
    def no_node_goes_to_an_older_revision(self) -> None:
        for machine in self.machines.values():
            assert machine.history == sorted(machine.history)
            assert machine.current in self.content.values()

    @invariant()
    def others_see_a_revision_only_after_its_rollout(self) -> None:
        if self.rollout is not None and self.rollout.state is not RolloutState.PROMOTED:
            assert self.published != self.rollout.to_revision


FleetMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)
TestEveryInterleaving = FleetMachine.TestCase
