import math
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.upstream.breaker import (
    MAX_BREAKERS,
    Breaker,
    Breakers,
    BreakerState,
    Verdict,
    Window,
)

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
SUCCESS, FAILURE = Verdict.SUCCESS, Verdict.FAILURE


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Even(Random):
    """No spread: the middle of every range."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def make(random: Random | None = None) -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(clock=clock, random=random or Even()), clock


def calls(breaker: Breaker, **verdicts: int) -> None:
    for name, times in verdicts.items():
        for _ in range(times):
            permit = breaker.enter()
            assert permit is not None
            breaker.leave(permit, Verdict(name))


def opened(random: Random | None = None) -> tuple[Breaker, Clock]:
    breaker, clock = make(random)
    calls(breaker, failure=20)
    assert breaker.state is OPEN
    return breaker, clock


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ({"success": 8, "failure": 12}, CLOSED),
        ({"success": 7, "failure": 13}, OPEN),
        ({"failure": 19}, CLOSED),
        ({"failure": 20}, OPEN),
        ({"failure": 19, "success": 1}, OPEN),
        ({"failure": 19, "throttle": 100}, CLOSED),
        ({"failure": 19, "ignored": 100}, CLOSED),
        ({"success": 400, "failure": 600}, CLOSED),
        ({"success": 400, "failure": 601}, OPEN),
    ],
)
def test_opens_above_60_percent_of_at_least_20_judged_calls(verdicts, state):
    breaker, _ = make()
    calls(breaker, **verdicts)
    assert breaker.state is state


@pytest.mark.parametrize(("later_s", "state"), [(299.0, OPEN), (300.0, CLOSED)])
def test_failures_older_than_the_window_do_not_count(later_s, state):
    breaker, clock = make()
    calls(breaker, failure=19)
    clock.now += later_s
    calls(breaker, failure=1)
    assert breaker.state is state


@pytest.mark.parametrize(
    ("added", "now", "count"),
    [(0.0, 299.9, 1), (0.0, 300.0, 0), (9.9, 299.9, 1), (9.9, 300.0, 0), (10.0, 300.0, 1)],
)
def test_an_event_leaves_the_window_with_its_bucket(added, now, count):
    clock = Clock(added)
    window = Window(clock)
    window.add("call")
    clock.now = now
    assert window.count("call") == count


def test_open_refuses_and_tells_the_remaining_whole_seconds():
    breaker, clock = opened()
    assert breaker.enter() is None
    assert breaker.retry_after_s() == 30
    clock.now += 28.5
    assert breaker.retry_after_s() == 2
    clock.now += 1.49
    assert breaker.state is OPEN
    assert breaker.retry_after_s() == 1
    clock.now += 0.01
    assert breaker.state is HALF_OPEN


def test_half_open_lets_two_trials_run_at_once_and_five_in_all():
    breaker, clock = opened()
    clock.now += 30
    first, second = breaker.enter(), breaker.enter()
    assert first is not None
    assert second is not None
    assert breaker.enter() is None
    assert breaker.retry_after_s() == 1
    breaker.leave(first, SUCCESS)
    calls(breaker, success=3)
    assert breaker.enter() is None  # four judged and one running are five
    assert breaker.state is HALF_OPEN
    breaker.leave(second, SUCCESS)
    assert breaker.state is CLOSED


@pytest.mark.parametrize(("failures", "state"), [(0, CLOSED), (3, CLOSED), (4, OPEN), (5, OPEN)])
def test_trials_are_judged_by_the_same_rate(failures, state):
    breaker, clock = opened()
    clock.now += 30
    calls(breaker, failure=failures, success=5 - failures)
    assert breaker.state is state


@pytest.mark.parametrize("verdict", [Verdict.IGNORED, Verdict.THROTTLE])
def test_a_cancelled_or_throttled_trial_gives_its_place_back(verdict):
    breaker, clock = opened()
    clock.now += 30
    for _ in range(20):
        permit = breaker.enter()
        assert permit is not None
        breaker.leave(permit, verdict)
    assert breaker.state is HALF_OPEN
    calls(breaker, success=5)
    assert breaker.state is CLOSED


def test_reopening_doubles_the_time_up_to_300_s():
    breaker, clock = opened()
    times = []
    for _ in range(6):
        times.append(breaker.retry_after_s())
        clock.now += breaker.retry_after_s()
        calls(breaker, failure=5)
    assert times == [30, 60, 120, 240, 300, 300]


def test_closing_resets_window_and_time():
    breaker, clock = opened()
    clock.now += 30
    calls(breaker, failure=5)
    clock.now += 60
    calls(breaker, success=5)
    calls(breaker, failure=19)
    assert breaker.state is CLOSED
    calls(breaker, failure=1)
    assert breaker.retry_after_s() == 30


def test_the_open_time_is_spread_by_20_percent():
    times = {opened(Random(seed))[0].retry_after_s() for seed in range(200)}
    assert 24 <= min(times) < 26
    assert 34 < max(times) <= 36


def test_a_call_from_an_earlier_period_is_forgotten():
    breaker, clock = make()
    late = [breaker.enter() for _ in range(30)]
    calls(breaker, failure=20)
    clock.now += 30
    for permit in late:
        assert permit is not None
        breaker.leave(permit, FAILURE)
    assert breaker.state is HALF_OPEN
    calls(breaker, success=5)
    assert breaker.state is CLOSED


def test_a_change_is_told_when_it_opens_and_when_it_closes_but_not_in_between():
    changes: list[bool] = []
    clock = Clock()
    breaker = Breaker(clock=clock, random=Even(), on_change=changes.append)
    calls(breaker, failure=20)
    assert changes == [True]
    clock.now += 30
    calls(breaker, failure=5)
    assert (breaker.state, changes) == (OPEN, [True])
    clock.now += 60
    calls(breaker, success=5)
    assert (breaker.state, changes) == (CLOSED, [True, False])


def make_breakers() -> tuple[Breakers, list[tuple[str, bool]]]:
    changes: list[tuple[str, bool]] = []
    tell = lambda name, is_open: changes.append((name, is_open))  # noqa: E731
    return Breakers(clock=Clock(), random=Even(), on_change=tell), changes


def test_each_name_has_its_own_breaker():
    breakers, changes = make_breakers()
    calls(breakers.of("bad"), failure=20)
    calls(breakers.of("good"), success=20)
    assert breakers.of("bad") is breakers.of("bad")
    assert breakers.states() == {"bad": OPEN, "good": CLOSED}
    assert changes == [("bad", True)]


def test_past_1024_names_the_least_recently_used_is_forgotten_and_told_as_closed():
    breakers, changes = make_breakers()
    calls(breakers.of("old"), failure=20)
    calls(breakers.of("kept"), failure=20)
    for number in range(MAX_BREAKERS - 2):
        breakers.of(str(number))
    breakers.of("kept")
    assert changes == [("old", True), ("kept", True)]
    breakers.of("one more")
    assert changes[2:] == [("old", False)]
    breakers.of("and another")
    assert changes[3:] == []  # a closed one was forgotten
    assert len(breakers.states()) == MAX_BREAKERS
    assert breakers.of("old").state is CLOSED


class BreakerMachine(RuleBasedStateMachine):
    """Any mix of calls and time: what is let through never breaks the promises."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(clock=self.clock, random=Random(7))
        self.running: list = []
        self.opened_at: float | None = None

    def leave_and_note(self, permit, verdict: Verdict) -> None:
        before = self.breaker.state
        self.breaker.leave(permit, verdict)
        if before is not OPEN and self.breaker.state is OPEN:
            assert verdict in (SUCCESS, FAILURE)
            self.opened_at = self.clock.now

    @rule(times=st.integers(1, 25), verdict=st.sampled_from(Verdict))
    def call(self, times: int, verdict: Verdict) -> None:
        for _ in range(times):
            permit = self.breaker.enter()
            if permit is not None:
                self.leave_and_note(permit, verdict)

    @rule()
    def begin(self) -> None:
        state = self.breaker.state
        permit = self.breaker.enter()
        assert (permit is not None) or state is not CLOSED
        assert (permit is None) or state is not OPEN
        if permit is not None:
            self.running.append(permit)

    @precondition(lambda self: self.running)
    @rule(verdict=st.sampled_from(Verdict))
    def end(self, verdict: Verdict) -> None:
        self.leave_and_note(self.running.pop(0), verdict)

    @rule(seconds=st.sampled_from([0.5, 9.9, 24.0, 36.0, 120.0, 361.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def it_always_recovers(self) -> None:
        for permit in self.running:
            self.leave_and_note(permit, Verdict.IGNORED)
        self.running.clear()
        self.clock.now += self.breaker.retry_after_s()
        if self.breaker.state is HALF_OPEN:
            while self.breaker.state is HALF_OPEN:
                permit = self.breaker.enter()
                assert permit is not None
                self.leave_and_note(permit, SUCCESS)

    @invariant()
    def at_most_two_trials_run(self) -> None:
        if self.breaker.state is HALF_OPEN:
            now = [permit for permit in self.running if permit.period == self.breaker._period]
            assert len(now) <= 2

    @invariant()
    def open_lasts_24_to_360_s(self) -> None:
        if self.breaker.state is OPEN:
            assert self.opened_at is not None
            assert self.clock.now - self.opened_at < 360
            assert 1 <= self.breaker.retry_after_s() <= 360
        elif self.breaker.state is HALF_OPEN:
            assert self.opened_at is not None
            assert math.ceil(self.clock.now - self.opened_at) >= 24


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40)
