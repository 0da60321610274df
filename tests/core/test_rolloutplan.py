"""Plans of rollouts: the default, the written form of steps, what is refused."""

import pytest

from app.core.errors import BadInputError
from app.core.noun import checked
from app.core.rolloutplan import DEFAULT_SOAK_S, RolloutPlan, Step, check_group, parse_steps
from app.core.rolloutstate import OnHalt


def test_the_default_plan_is_the_documented_one() -> None:
    plan = RolloutPlan()
    assert [str(step) for step in plan.steps] == ["1 node", "5 %", "25 %", "100 %"]
    assert (plan.max_failure_percent, plan.min_results, plan.min_success_percent) == (5, 3, 90)
    assert (plan.max_parallel, plan.windows, plan.on_halt) == (50, (), OnHalt.HOLD)


def test_steps_are_read_from_a_line() -> None:
    assert parse_steps("1, canary/10m,30% / 1h,100%/0") == (
        Step(nodes=1, soak_s=DEFAULT_SOAK_S),
        Step(group="canary", soak_s=600),
        Step(percent=30, soak_s=3600),
        Step(percent=100, soak_s=0),
    )


@pytest.mark.parametrize(
    "text", ["", "1,,100%", "0", "0%", "101%", "-1", "1/x", "1/10w", "Canary", "1/99d", "9999999"]
)
def test_a_malformed_step_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_steps(text)


@pytest.mark.parametrize(
    ("percent", "population", "size"),
    [(5, 10, 1), (30, 10, 3), (25, 500, 125), (5, 0, 0), (100, 7, 7), (1, 101, 2)],
)
def test_a_share_is_rounded_up(percent: int, population: int, size: int) -> None:
    assert Step(percent=percent).size_of(population) == size


@pytest.mark.parametrize(
    "values",
    [
        {"steps": []},
        {"steps": [{"nodes": 1}]},  # does not end with all nodes
        {"steps": [{"percent": 100, "nodes": 1}]},
        {"steps": [{}]},
        {"windows": ["Mon 09:00"]},
        {"max_parallel": 0},
        {"max_failure_percent": 101},
        {"min_results": 0},
        {"on_halt": "explode"},
        {"colour": "red"},
        {"steps": [{"percent": True}]},
    ],
)
def test_a_plan_that_cannot_be_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(BadInputError):
        checked(RolloutPlan, values)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "a/b", "12", "a" * 64, "a\n"])
def test_a_group_has_a_plain_name(name: str) -> None:
    with pytest.raises(BadInputError):
        check_group(name)
