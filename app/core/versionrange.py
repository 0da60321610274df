"""Ranges of module versions, as rules write them: ">=v1.2.0 <v2.0.0-0 || v3".

Order is that of `semver`. Retractions and queries such as "latest" are not here. Alternatives are
separated by "||"; an alternative is one or more terms separated by blanks or commas, all of which
must hold. A term is

    >=v1.2.3  >v1.2.3  <=v1.2.3  <v1.2.3    by order; pre-releases precede their release, so that
                                            <v2.0.0 holds v2.0.0-rc.1 and <v2.0.0-0 does not
    v1.2.3  or  =v1.2.3                     that version; of build only "+incompatible" counts
    v1  or  v1.2                            all of that major or minor: also pre-releases,
                                            pseudo-versions and "+incompatible" ones
    >=go1.25.3  <go1.27  go1.26  go1.25.3   versions of golang.org/toolchain, by Go's own order
                                            and on every platform; "go1.26" is a whole line

Versions of golang.org/toolchain need terms of their own: by semver v0.0.1-go1.9 is above
v0.0.1-go1.10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from app.core import goversion, semver
from app.core.errors import BadInputError
from app.core.module import canonical_version

MAX_RANGE_CHARS = 512
_SHOWN_CHARS = 100

_TERM = re.compile(r"(>=|>|<=|<|=|)(v[0-9A-Za-z.+-]*)")
_TERM_WITHOUT_V = re.compile(r"(>=|>|<=|<|=|)([0-9]+(?:\.[0-9]+){0,2}(?:-[0-9A-Za-z.-]+)?)")
_GO_TERM = re.compile(r"(>=|>|<=|<|=|)go([0-9a-z.]+)")
_TOOLCHAIN = re.compile(r"v0\.0\.1-go([0-9][0-9A-Za-z.-]*)\.[a-z0-9]+-[a-z0-9]+")


class RangeOperator(StrEnum):
    """The relation to a version that a term demands."""

    AT_LEAST = ">="
    ABOVE = ">"
    AT_MOST = "<="
    BELOW = "<"
    EQUAL = "="
    LINE = "line"


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: (AT_LEAST, "v1.2.0"), (EQUAL, "v2.0.0+incompatible"), (LINE, "v1.2").

    `version` is canonical; for LINE it is "vX" or "vX.Y".
    """

    operator: RangeOperator
    version: str
    _limit: semver.Precedence = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_limit", semver.precedence(self.version))

    def __str__(self) -> str:
        bare = self.operator in {RangeOperator.EQUAL, RangeOperator.LINE}
        return self.version if bare else f"{self.operator}{self.version}"

    def holds(self, version: str, precedence: semver.Precedence) -> bool:
        """Whether a valid version with this precedence fulfils the term."""
        match self.operator:
            case RangeOperator.AT_LEAST:
                return precedence >= self._limit
            case RangeOperator.ABOVE:
                return precedence > self._limit
            case RangeOperator.AT_MOST:
                return precedence <= self._limit
            case RangeOperator.BELOW:
                return precedence < self._limit
            case RangeOperator.EQUAL:
                return canonical_version(version) == self.version
            case RangeOperator.LINE:
                return self.version in {semver.major(version), semver.major_minor(version)}


@dataclass(frozen=True, slots=True)
class GoTerm:
    """One condition on the Go version of a toolchain: (AT_LEAST, "1.25.3"), (LINE, "1.26")."""

    operator: RangeOperator
    version: str

    def __str__(self) -> str:
        bare = self.operator in {RangeOperator.EQUAL, RangeOperator.LINE}
        return f"go{self.version}" if bare else f"{self.operator}go{self.version}"

    def holds(self, version: str, _precedence: semver.Precedence) -> bool:
        """Whether a version of golang.org/toolchain fulfils the term; false for other versions."""
        match = _TOOLCHAIN.fullmatch(version)
        if match is None:
            return False
        go = goversion.from_name(f"go{match[1]}")
        order = goversion.compare(go, self.version)
        match self.operator:
            case RangeOperator.AT_LEAST:
                return order >= 0
            case RangeOperator.ABOVE:
                return order > 0
            case RangeOperator.AT_MOST:
                return order <= 0
            case RangeOperator.BELOW:
                return order < 0
            case RangeOperator.EQUAL:
                return order == 0
            case RangeOperator.LINE:
                return goversion.minor_of(f"go{go}") == self.version


_Bound = tuple[semver.Precedence, bool]
"""The version at one end of a range, and a flag.

For a lower bound the flag says that the version itself is not in the range; for an upper bound it
says that the version is in the range. So the tightest of several lower bounds is the greatest, and
the tightest of several upper bounds is the least.
"""


def _lower(term: Term) -> _Bound | None:
    if term.operator in {RangeOperator.AT_MOST, RangeOperator.BELOW}:
        return None
    if term.operator is RangeOperator.LINE:
        # "-0" is the lowest pre-release of a version.
        return semver.precedence(f"{semver.canonical(term.version)}-0"), False
    return semver.precedence(term.version), term.operator is RangeOperator.ABOVE


def _upper(term: Term) -> _Bound | None:
    if term.operator in {RangeOperator.AT_LEAST, RangeOperator.ABOVE}:
        return None
    if term.operator is RangeOperator.LINE:
        return semver.precedence(f"{semver.canonical(_next_line(term.version))}-0"), False
    return semver.precedence(term.version), term.operator is not RangeOperator.BELOW


def _next_line(line: str) -> str:
    """Return the line after "vX" or "vX.Y", numbers of any length: "v1.10" after "v1.9"."""
    stem = line.rstrip("9")
    zeros = "0" * (len(line) - len(stem))
    if not stem[-1].isdecimal():
        return f"{stem}1{zeros}"
    return f"{stem[:-1]}{int(stem[-1]) + 1}{zeros}"


def _can_hold(terms: tuple[Term, ...]) -> bool:
    """Whether a version can fulfil all terms."""
    lower = max(filter(None, map(_lower, terms)), default=None)
    upper = min(filter(None, map(_upper, terms)), default=None)
    if len({term.version for term in terms if term.operator is RangeOperator.EQUAL}) > 1:
        return False
    if lower is None or upper is None or lower[0] != upper[0]:
        return lower is None or upper is None or lower[0] < upper[0]
    return not lower[1] and upper[1]


def _malformed(text: str, reason: str) -> BadInputError:
    return BadInputError(f"malformed version range {text[:_SHOWN_CHARS]!a}: {reason}")


def _parse_go_term(operator: str, version: str, text: str) -> GoTerm:
    if not goversion.is_valid(version):
        raise _malformed(text, f"go{version[:_SHOWN_CHARS]} is no Go version such as go1.25.3")
    if goversion.minor_of(f"go{version}") == version and not operator:
        return GoTerm(RangeOperator.LINE, version)
    return GoTerm(RangeOperator(operator or "="), version)


def _parse_term(token: str, text: str) -> Term | GoTerm:
    of_go = _GO_TERM.fullmatch(token)
    if of_go is not None:
        return _parse_go_term(of_go[1], of_go[2], text)
    match = _TERM.fullmatch(token)
    if match is None:
        raise _malformed(
            text,
            f"{token[:_SHOWN_CHARS]!a} is not a term such as >=v1.2.3, v1.2 or v1{_meant(token)}",
        )
    operator, version = match.groups()
    line = version in {semver.major(version), semver.major_minor(version)}
    if line and not operator:
        return Term(RangeOperator.LINE, version)
    if canonical_version(version) != version:
        example = f"{operator}{canonical_version(version) or 'v1.2.3'}"
        reason = f"{token[:_SHOWN_CHARS]!a} needs a full version, such as {example[:_SHOWN_CHARS]}"
        raise _malformed(text, reason)
    return Term(RangeOperator(operator or "="), version)


def _meant(token: str) -> str:
    """Return what a term without its "v" should have been: "<1.2" gives "; … <v1.2.0?"."""
    match = _TERM_WITHOUT_V.fullmatch(token)
    if match is None:
        return ""
    operator, version = match[1], f"v{match[2]}"
    full = canonical_version(version) if operator else version
    return f"; did you mean {operator}{full[:_SHOWN_CHARS]}?" if full else ""


def _parse_terms(alternative: str, text: str) -> tuple[Term | GoTerm, ...]:
    tokens: list[str] = []
    for part in alternative.split(","):
        words = part.split()
        if not words:
            raise _malformed(text, 'nothing before or after a comma or a "||"')
        tokens += words
    terms = tuple(_parse_term(token, text) for token in tokens)
    if not _can_hold(tuple(term for term in terms if isinstance(term, Term))):
        raise _malformed(
            text, f'no version fulfils "{alternative.strip()}"; alternatives need "||"'
        )
    return terms


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Alternatives; each is a tuple of terms that must all hold. No tuple is empty.

    `str` gives the canonical text, ">=v1.2.0 <v2.0.0-0||v3". The canonical text parses to an equal
    range, and is never longer than the parsed text.
    """

    alternatives: tuple[tuple[Term | GoTerm, ...], ...]

    def __str__(self) -> str:
        return "||".join(" ".join(map(str, terms)) for terms in self.alternatives)

    @classmethod
    def parse(cls, text: str) -> VersionRange:
        """Return the range of a text of at most 512 characters.

        Raises:
            BadInputError: text is empty or too long, a term is malformed, a comparison has no full
                canonical version (">=v1.2"), or no version can fulfil an alternative ("v1, v2");
                the message has the reason.
        """
        if len(text) > MAX_RANGE_CHARS:
            raise _malformed(text, f"longer than {MAX_RANGE_CHARS} characters")
        if not text.isascii() or not text.isprintable():
            raise _malformed(text, "has a character that is not printable ASCII")
        if not text.strip():
            raise _malformed(text, "empty")
        return cls(tuple(_parse_terms(part, text) for part in text.split("||")))

    def contains(self, version: str) -> bool:
        """Whether version fulfils all terms of an alternative; false for an invalid version.

        ">=v1.2.0 <v2.0.0-0" contains "v1.9.0-rc.1" and neither "v1.2.0-rc.1" nor "master".
        """
        if not semver.is_valid(version):
            return False
        precedence = semver.precedence(version)
        return any(
            all(term.holds(version, precedence) for term in terms) for terms in self.alternatives
        )
