"""Figures, and how they are shown."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any

OURS = "Moorage"
BARE = "bare proxy"
PEERS = ("goproxy", "nginx", BARE, "direct")


@dataclass(frozen=True)
class Comparison:
    """One quantity of Moorage and of the reference, in turns of the same run.

    Attributes:
        what: for people.
        unit: of ours and theirs.
        ours, theirs: one figure a turn, taken alternately.
        aim: the ratio aimed at: at least, or at most where less is better.
        less_is_better: the figures are times, not rates.
    """

    what: str
    reference: str
    unit: str
    ours: list[float]
    theirs: list[float]
    aim: float
    less_is_better: bool = False

    @property
    def ratio(self) -> float:
        """The median over turns of ours / theirs: neighbours in time share the machine's mood."""
        return median(self._turns)

    @property
    def _turns(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

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
            "less_is_better": self.less_is_better,
        }

    def row(self) -> str:
        """Return its line of the Markdown table."""
        return (
            f"| {self.what} | {_shown(median(self.ours))} {self.unit} "
            f"| {self.reference} {_shown(median(self.theirs))} {self.unit} "
            f"| **{self.ratio:.2f}×** ({min(self._turns):.2f}–{max(self._turns):.2f}) "
            f"| {'≤' if self.less_is_better else '≥'} {self.aim}× |"
        )


@dataclass(frozen=True)
class Standing:
    """One quantity of Moorage and of each of its peers, in turns of the same run.

    Attributes:
        what: for people.
        unit: of all figures.
        figures: one figure a turn, by server; Moorage is one of them, a peer may be missing.
        aims: by peer, the ratio aimed at: at least, or at most where less is better.
        less_is_better: the figures are times, not rates.
    """

    what: str
    unit: str
    figures: dict[str, list[float]]
    aims: dict[str, float] = field(default_factory=dict)
    less_is_better: bool = True

    def ratios(self, peer: str) -> list[float]:
        """Return Moorage / peer, for each turn."""
        pairs = zip(self.figures[OURS], self.figures[peer], strict=True)
        return [ours / theirs for ours, theirs in pairs if theirs]

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "what": self.what,
            "unit": self.unit,
            "figures": self.figures,
            "ratios": {peer: round(median(self.ratios(peer)), 3) for peer in self._peers},
            "aims": self.aims,
            "less_is_better": self.less_is_better,
        }

    @property
    def _peers(self) -> list[str]:
        return [name for name in self.figures if name != OURS and self.ratios(name)]

    def row(self, peers: list[str]) -> str:
        """Return its line of a Markdown table with a column for each of these peers."""
        cells = [self._cell(peer) if peer in self._peers else "" for peer in peers]
        sign = "≤" if self.less_is_better else "≥"
        aims = ", ".join(
            f"{sign} {aim:g}× {peer}" for peer, aim in self.aims.items() if peer in peers
        )
        ours = _span(self.figures[OURS], self.unit)
        return f"| {self.what} | {ours} | {' | '.join(cells)} | {aims} |"

    def _cell(self, peer: str) -> str:
        ratios = self.ratios(peer)
        spread = f"**{median(ratios):.2f}×** ({min(ratios):.2f}–{max(ratios):.2f})"
        return f"{_shown(median(self.figures[peer]))}: {spread}"


@dataclass(frozen=True)
class Bound:
    """One quantity that is to stay below a limit, whatever a reference needs.

    Attributes:
        what: for people.
        unit: of all figures.
        ours: one figure a turn.
        most: the limit aimed at.
        reference: what theirs are of; "" without one.
        theirs: the reference's figures of the same run, to tell the machine from the program.
    """

    what: str
    unit: str
    ours: list[float]
    most: float
    reference: str = ""
    theirs: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours,
            "most": self.most,
            "reference": self.reference,
            "theirs": self.theirs,
        }

    def row(self) -> str:
        """Return its line of the Markdown table."""
        theirs = f"{self.reference} {_span(self.theirs, self.unit)}" if self.theirs else ""
        return f"| {self.what} | {_span(self.ours, self.unit)} | {theirs} | < {self.most:g} |"


@dataclass(frozen=True)
class Rate:
    """One quantity of Moorage alone, with no aim.

    Attributes:
        what: for people.
        unit: of the figures.
        ours: one figure a turn.
    """

    what: str
    unit: str
    ours: list[float]

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {"what": self.what, "unit": self.unit, "ours": self.ours}

    def row(self) -> str:
        """Return its line of the Markdown table."""
        return f"| {self.what} | {_span(self.ours, self.unit)} | | |"


@dataclass(frozen=True)
class Disturbance:
    """How long a victim waits alone and beside something, in turns of the same run.

    Attributes:
        what: for people.
        p99_ms, max_ms: the limits aimed at beside it; None without an aim.
        alone, beside: for each turn, p50, p99 and maximum in milliseconds.
    """

    what: str
    p99_ms: float | None
    max_ms: float | None
    alone: list[list[float]] = field(default_factory=list)
    beside: list[list[float]] = field(default_factory=list)

    def add(self, alone: list[float], beside: list[float]) -> None:
        """Add a turn: the milliseconds of its samples."""
        self.alone.append(_quantiles(alone))
        self.beside.append(_quantiles(beside))

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "what": self.what,
            "unit": "ms",
            "quantiles": ["p50", "p99", "max"],
            "alone": self.alone,
            "beside": self.beside,
            "p99_ms": self.p99_ms,
            "max_ms": self.max_ms,
        }

    def row(self) -> str:
        """Return its line of the Markdown table: the median of each quantile over the turns."""
        alone, beside = (
            [median(figures) for figures in zip(*turns, strict=True)]
            for turns in (self.alone, self.beside)
        )
        cells = [f"{a:.2f} → **{b:.2f}**" for a, b in zip(alone, beside, strict=True)]
        aims = [
            f"{name} < {aim:g}"
            for name, aim in (("p99", self.p99_ms), ("max", self.max_ms))
            if aim is not None
        ]
        return f"| {self.what} | {' | '.join(cells)} | {', '.join(aims)} |"


def _quantiles(waits_ms: list[float]) -> list[float]:
    """Return p50, p99 and maximum."""
    ordered = sorted(waits_ms)
    return [ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1]]


Result = Comparison | Standing | Bound | Rate | Disturbance


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


def _span(figures: list[float], unit: str) -> str:
    middle = f"{_shown(median(figures))} {unit}"
    return f"**{middle}** ({_shown(min(figures))}–{_shown(max(figures))})"


def render(results: list[Result]) -> str:
    """Return Markdown tables: ratios, peers, what a victim waits, figures of Moorage alone."""
    ratios = [result.row() for result in results if isinstance(result, Comparison)]
    standings = [result for result in results if isinstance(result, Standing)]
    waits = [result.row() for result in results if isinstance(result, Disturbance)]
    bounds = [result.row() for result in results if isinstance(result, Bound | Rate)]
    lines: list[str] = []
    if ratios:
        lines += [
            "| what | Moorage (median) | reference (median) | ratio (min–max) | aim |",
            "|---|---|---|---|---|",
            *ratios,
        ]
    if standings:
        peers = [peer for peer in PEERS if any(peer in one.figures for one in standings)]
        columns = "".join(f"| {peer}: {OURS} / {peer} (min–max) " for peer in peers)
        lines += [
            *([""] if lines else []),
            f"| what | {OURS}, median (min–max) {columns}| aim |",
            f"|{'---|' * (len(peers) + 3)}",
            *(one.row(peers) for one in standings),
        ]
    if waits:
        lines += [
            *([""] if lines else []),
            "| the victim, alone → beside it (ms) | p50 | p99 | max | aim |",
            "|---|---|---|---|---|",
            *waits,
        ]
    if bounds:
        lines += [
            *([""] if lines else []),
            "| what | Moorage, median (min–max) | reference | aim |",
            "|---|---|---|---|",
            *bounds,
        ]
    return "\n".join(lines)
