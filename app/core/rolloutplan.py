"""The plan of a rollout: its steps, gates, windows, and what happens when a gate fails.

Not here: which nodes belong to a step, and what a gate decides (`rollout`).
"""

import re
from typing import Annotated, Self

from app.core.errors import BadInputError
from app.core.noun import AfterValidator, Field, Noun, StrictInt, model_validator, passes, refuse
from app.core.rolloutstate import OnHalt
from app.core.window import MAX_WINDOW_CHARS, Window

MAX_STEPS = 20
MAX_WINDOWS = 20
DAY_S = 86_400
DEFAULT_SOAK_S = 300
_GROUP = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_STEP = re.compile(r"(?P<size>[^/]+?)(?: */ *(?P<soak>[0-9]{1,7})(?P<unit>[smhd]?))?")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": DAY_S}


def check_group(name: str) -> None:
    """Return if name can be that of a group of nodes: lower-case, digits, ".", "_", "-".

    Raises:
        BadInputError: it can't.
    """
    if not _GROUP.fullmatch(name) or name.isdigit():
        raise BadInputError(
            f"{name[:70]!a} is no name of a group: 1 to 63 lower-case letters, digits, '.', '_' "
            "and '-', beginning and ending with a letter or digit, and not only digits"
        )


def _check_window(text: str) -> None:
    Window.parse(text)


GroupName = Annotated[str, Field(max_length=63), AfterValidator(passes(check_group))]
_WindowText = Annotated[
    str, Field(max_length=MAX_WINDOW_CHARS), AfterValidator(passes(_check_window))
]
_Percent = Annotated[StrictInt, Field(ge=0, le=100)]


class Step(Noun):
    """How far a rollout goes before it waits: a group, a number of nodes, or a share of all.

    group: every node of a group.
    nodes: this many nodes in all.
    percent: this share of all nodes of the channel, rounded up.
    soak_s: seconds that pass between enough successes and the next step.
    """

    group: GroupName | None = None
    nodes: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None
    percent: Annotated[StrictInt, Field(ge=1, le=100)] | None = None
    soak_s: Annotated[StrictInt, Field(ge=0, le=30 * DAY_S)] = DEFAULT_SOAK_S

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if sum(size is not None for size in (self.group, self.nodes, self.percent)) != 1:
            raise refuse("a step has exactly one of group, nodes and percent")
        return self

    def size_of(self, population: int) -> int:
        """Return how many nodes of a population the step has; 0 for the step of a group.

        5 % of 10 nodes are 1 node: a share is rounded up.
        """
        if self.percent is not None:
            return -(-population * self.percent // 100)
        return min(self.nodes or 0, population)

    def __str__(self) -> str:
        """Return the step as people write it: "canary", "1 node", "25 %"."""
        if self.group is not None:
            return self.group
        if self.percent is not None:
            return f"{self.percent} %"
        return f"{self.nodes} node{'s' if self.nodes != 1 else ''}"


DEFAULT_STEPS = (Step(nodes=1), Step(percent=5), Step(percent=25), Step(percent=100))


class RolloutPlan(Noun):
    """All that an operator decides about a rollout before it starts.

    steps: in their order; each contains the nodes of those before it. The last one has to be 100 %,
        so that a promoted rollout was tried everywhere.
    max_failure_percent: a larger share of failures among the results of a step halts the rollout.
    min_results: results that the share needs; all of a smaller step.
    min_success_percent: share of a step's nodes that must have succeeded before the next step.
    max_parallel: grants that are out at once.
    grant_s: seconds after which a grant without a result counts as failed.
    windows: grants are given only inside one of them; an empty list is always open.
    on_halt: whether a halted rollout waits for a decision, or goes back by itself.
    """

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=MAX_STEPS)] = DEFAULT_STEPS
    max_failure_percent: _Percent = 5
    min_results: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 3
    min_success_percent: _Percent = 90
    max_parallel: Annotated[StrictInt, Field(ge=1, le=100_000)] = 50
    grant_s: Annotated[StrictInt, Field(ge=60, le=7 * DAY_S)] = 3600
    windows: Annotated[tuple[_WindowText, ...], Field(max_length=MAX_WINDOWS)] = ()
    on_halt: OnHalt = OnHalt.HOLD

    @model_validator(mode="after")
    def _ends_everywhere(self) -> Self:
        if self.steps[-1].percent != 100:
            raise refuse("the last step has to be 100 %")
        return self


def parse_steps(text: str) -> tuple[Step, ...]:
    """Return the steps that a line writes: "1, canary/10m, 30%/1h, 100%".

    A number is a number of nodes, with "%" a share, a word is a group. "/10m" is the soak time of
    the step (s, m, h or d; without a letter seconds).

    Raises:
        BadInputError: a step is written otherwise.
    """
    return tuple(_step(part.strip()) for part in text.split(","))


def _step(text: str) -> Step:
    match = _STEP.fullmatch(text)
    if match is None:
        raise BadInputError(
            f'{text[:60]!a} is no step: write a number of nodes, a share as "5%" or a group, and '
            'after "/" how long to wait: "1/10m, canary/1h, 25%, 100%"'
        )
    size = match["size"].strip()
    soak_s = DEFAULT_SOAK_S if match["soak"] is None else int(match["soak"]) * _UNITS[match["unit"]]
    if soak_s > 30 * DAY_S:
        raise BadInputError(f"{text[:60]!a}: a step waits for 30 days at most")
    number = size.removesuffix("%").strip()
    if not (number.isascii() and number.isdigit()):
        check_group(size)
        return Step(group=size, soak_s=soak_s)
    if len(number) > 6 or int(number) < 1 or (size.endswith("%") and int(number) > 100):
        raise BadInputError(f"{text[:60]!a}: a step has 1 to 999999 nodes, or 1 % to 100 %")
    if size.endswith("%"):
        return Step(percent=int(number), soak_s=soak_s)
    return Step(nodes=int(number), soak_s=soak_s)
