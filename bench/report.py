"""Ratios and how they are shown."""

from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """One quantity of Moorage and of the reference, in turns of the same run.

    Attributes:
        what: for people.
        unit: of ours and theirs; more is better.
        ours, theirs: one figure a turn, taken alternately.
        aim: the ratio aimed at.
    """

    what: str
    reference: str
    unit: str
    ours: list[float]
    theirs: list[float]
    aim: float

    @property
    def ratio(self) -> float:
        """The median over turns of ours / theirs: neighbours in time share the machine's mood."""
        return median(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "what": self.what,
            "reference": self.reference,
            "unit": self.unit,
            "ours": self.ours,
            "theirs": self.theirs,
            "ratio": round(self.ratio, 3),
            "aim": self.aim,
        }


def render(results: list[Comparison]) -> str:
    """Return a Markdown table."""
    lines = [
        "| what | Moorage (median) | reference (median) | ratio (min–max) | aim |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        turns = [a / b for a, b in zip(result.ours, result.theirs, strict=True)]
        lines.append(
            f"| {result.what} | {median(result.ours):,.0f} {result.unit} "
            f"| {result.reference} {median(result.theirs):,.0f} {result.unit} "
            f"| **{result.ratio:.2f}×** ({min(turns):.2f}–{max(turns):.2f}) | {result.aim}× |"
        )
    return "\n".join(lines)
