"""Patterns over module paths, as in GOPRIVATE. Follows MatchPrefixPatterns of x/mod's module.go.

A pattern with N elements is matched, by the rules of Go's path.Match, against the first N elements
of a path: "corp.example/team" covers "corp.example/team/x" and not "corp.example/teamevil". In it
"*" is any run of characters but "/", "?" any one but "/", "[a-z]" and "[^a]" are classes, and a
backslash takes the next character as it is. Not here: what a tenant may use (`acl`), where a path
is fetched from (`routing`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from app.core.errors import BadInputError

MAX_PATTERN_CHARS = 256
_SHOWN_CHARS = 100

# One term of a glob, by path.Match: a class, "?", stars, an escaped or an ordinary character.
_CLASS_CHAR = r"(?:\\.|[^\\\-\]])"
_TERM = re.compile(
    rf"\[(?P<negated>\^?+)(?P<class>(?:{_CLASS_CHAR}(?:-{_CLASS_CHAR})?)+)\]"
    r"|(?P<any>\?)|(?P<stars>\*+)|\\(?P<escaped>.)|(?P<literal>[^\[\\])",
    re.DOTALL,
)
_CLASS_RANGE = re.compile(rf"({_CLASS_CHAR})(?:-({_CLASS_CHAR}))?", re.DOTALL)
_IN_NO_PATH = re.compile(r"[^A-Za-z0-9\-._~/]")


@dataclass(frozen=True)
class _Glob:
    """A parsed glob: its regular expression, number of slashes and literal characters.

    The expression is compiled when it is first matched: few of a tenant's many rules ever are.
    """

    text: str
    slashes: int
    literals: str

    @cached_property
    def expression(self) -> re.Pattern[str]:
        """The compiled expression."""
        return re.compile(self.text)

    @cached_property
    def folded(self) -> re.Pattern[str]:
        """As `expression`, but ASCII letters of both cases are the same."""
        return re.compile(self.text, re.ASCII | re.IGNORECASE)

    def matches(self, target: str) -> bool:
        prefix = self._prefix(target)
        return prefix is not None and self.expression.fullmatch(prefix) is not None

    def matches_folded(self, target: str) -> bool:
        prefix = self._prefix(target)
        if prefix is None:
            return False
        # "[^A-Z]" matches "a" exactly, and not where case is ignored: either is a match.
        return bool(self.folded.fullmatch(prefix) or self.expression.fullmatch(prefix))

    def _prefix(self, target: str) -> str | None:
        """Return as many leading elements as the glob has; None where there are fewer."""
        elements = target.split("/", self.slashes + 1)
        if len(elements) <= self.slashes:
            return None
        return "/".join(elements[: self.slashes + 1])


def _class_expression(negated: bool, ranges: str) -> str:
    """Return the expression of a class; a range that runs backwards matches nothing, as in Go."""
    parts = []
    for low, high in _CLASS_RANGE.findall(ranges):
        first, last = low[-1], (high or low)[-1]
        if first <= last:
            parts.append(f"{re.escape(first)}-{re.escape(last)}")
    if not parts:
        return "(?s:.)" if negated else "(?!)"
    return f"[{'^' if negated else ''}{''.join(parts)}]"


@lru_cache(maxsize=4096)
def _parse_glob(glob: str) -> _Glob | None:
    """Return the parsed glob, None where path.Match calls the glob malformed.

    As in path.Match, "*" takes the shortest run after which the terms up to the next "*" match, and
    never looks back. Atomic groups do the same; so the time is proportional to the product of both
    lengths.
    """
    chunks, literals, at = [""], [], 0
    while at < len(glob):
        term = _TERM.match(glob, at)
        if term is None:
            return None
        at = term.end()
        if term["stars"]:
            chunks.append("")
        elif term["any"]:
            chunks[-1] += "[^/]"
        elif term["class"]:
            chunks[-1] += _class_expression(bool(term["negated"]), term["class"])
        else:
            literal = term["escaped"] or term["literal"]
            literals.append(literal)
            chunks[-1] += re.escape(literal)
    first, *others = chunks
    last = f"[^/]*?{others.pop()}" if others else ""
    middle = "".join(f"(?>[^/]*?{chunk})" for chunk in others)
    return _Glob(first + middle + last, glob.count("/"), "".join(literals))


def _pattern_trouble(text: str) -> str | None:
    """Return why text is not a pattern for a rule or route; None if it is a pattern."""
    if not text:
        return "empty"
    if len(text) > MAX_PATTERN_CHARS:
        return f"longer than {MAX_PATTERN_CHARS} characters"
    if not text.isascii():
        return "not ASCII"
    if not text.isprintable() or " " in text:
        return "has white space or a control character"
    if "," in text:
        return "has a comma; write one pattern for each"
    if "!" in text:
        return "has an exclamation mark; write the plain path, with its capitals"
    if text[0] == "/" or text[-1] == "/":
        return "begins or ends with a slash"
    if not {"", ".", ".."}.isdisjoint(text.split("/")):
        return 'an element is empty, "." or ".."; write a module path, not a URL'
    if "..." in text.split("/"):
        return 'no module path has an element "..."; a pattern covers all that is below it'
    parsed = _parse_glob(text)
    if parsed is None:
        return 'not a glob: an open "[", an empty class, or a "\\" with nothing after it'
    if impossible := _IN_NO_PATH.search(parsed.literals):
        return f"no module path has a {impossible[0]!a}"
    return None


@dataclass(frozen=True, slots=True)
class Pattern:
    """One GOPRIVATE pattern without a comma: "corp.example", "*.corp.example/team", "x.y/[a-m]*".

    Plain, at most 256 ASCII characters, no slash at either end. Stricter than Go, which accepts
    everything: a pattern that can match no module path is refused.
    """

    text: str
    _matcher: _Glob = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parsed = None if _pattern_trouble(self.text) else _parse_glob(self.text)
        if parsed is None:
            shown = ascii(self.text[:_SHOWN_CHARS])
            raise BadInputError(f"malformed pattern {shown}: {_pattern_trouble(self.text)}")
        object.__setattr__(self, "_matcher", parsed)

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Return the pattern of its text.

        Raises:
            BadInputError: empty, too long, not ASCII, a comma, white space or "!" in it, an empty,
                "." or ".." element, a malformed glob, or a literal that is in no module path.
        """
        return cls(text)

    @property
    def elements(self) -> int:
        """The number of leading path elements that it is about."""
        return self._matcher.slashes + 1

    def matches(self, path: str) -> bool:
        """Whether the leading elements of a plain path match, as MatchPrefixPatterns decides.

        "*.io" matches "rsc.io/quote"; "rsc" and "*quo*" don't.
        """
        return self._matcher.matches(path)

    def matches_folded(self, path: str) -> bool:
        """Whether some spelling of the path in capitals and small letters matches.

        "corp.example/team" matches "corp.example/Team/x": for what must not be got around, since
        GitHub and others serve one repository under many spellings. Only ASCII letters fold; a
        module path has no others.
        """
        return self._matcher.matches_folded(path)

    @property
    def specificity(self) -> tuple[int, int]:
        """Number of elements and of literal characters; the greater pair is the longer prefix.

        (2, 17) for "corp.example/team", (2, 13) for "corp.example/*".
        """
        return (self._matcher.slashes + 1, len(self._matcher.literals))


def match_prefix_patterns(globs: str, target: str) -> bool:
    """Whether any glob of a comma-separated list matches the leading elements of target.

    Go's MatchPrefixPatterns: empty and malformed globs match nothing, one slash at a glob's end
    is ignored. Go matches bytes and this function characters; only a target beyond ASCII shows the
    difference.
    """
    for listed in globs.split(","):
        glob = listed.removesuffix("/")
        parsed = _parse_glob(glob) if glob else None
        if parsed is not None and parsed.matches(target):
            return True
    return False
