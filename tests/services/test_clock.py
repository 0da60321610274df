"""F96: the wall clock is set while the process runs, or is behind the release of the program."""

from datetime import timedelta

import pytest

from app import RELEASED
from app.services.clock import MAX_PART_S, ClockWatch
from tests.services.bench import Stopwatch, WallClock


def test_clocks_that_go_on_together_are_no_jump() -> None:
    wall, seconds = WallClock(), Stopwatch()
    watch = ClockWatch(wall, seconds)
    for _ in range(100):
        wall.advance(seconds=3600)
        seconds.seconds += 3600
        assert watch.look() == 0


@pytest.mark.parametrize(
    ("by_s", "jumps"),
    [(86_400, 1), (-86_400, 1), (MAX_PART_S + 0.5, 1), (MAX_PART_S - 0.5, 0)],
)
def test_F96_a_step_of_the_wall_clock_is_noticed_once(by_s: float, jumps: int) -> None:
    wall, seconds, calls = WallClock(), Stopwatch(), []
    watch = ClockWatch(wall, seconds)
    watch.on_jump(lambda: calls.append("forget"))
    wall.advance(seconds=by_s)
    assert [watch.look(), watch.look()] == [jumps, jumps]
    assert calls == ["forget"] * jumps


def test_F96_small_steps_add_up() -> None:
    wall = WallClock()
    watch = ClockWatch(wall, Stopwatch())
    for _ in range(3):
        wall.advance(seconds=0.4)
        watch.look()
    assert watch.jumps == 1


@pytest.mark.parametrize(("by_s", "is_wrong"), [(-1, True), (0, False), (1e9, False)])
def test_F96_a_clock_before_the_release_of_this_program_is_wrong(
    by_s: float, is_wrong: bool
) -> None:
    watch = ClockWatch(WallClock(RELEASED + timedelta(seconds=by_s)), Stopwatch())
    assert (watch.trouble() is not None) is is_wrong
