"""Which of many patterns match a module path, without trying each of them.

Each pattern is filed under one of its literal pieces and the place of that piece in a path: a path
that lacks the piece there can't match. "github.com/acme/*" is filed under "github.com/acme" in the
elements 0 to 1, "*.corp.example" under ".corp.example" at the end of element 0. Of several pieces
the one that the fewest patterns are filed under is taken, else the longest. Only patterns whose
piece is in the path are tried; those without any usable piece, such as "*", always are.

Not here: how a pattern matches (`modulepattern`), and what a match means (`acl`, `routing`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from app.core.modulepattern import Pattern

T = TypeVar("T")

_RUN = re.compile(r"[^*?]+")
_WHOLE = -1


class _Place(NamedTuple):
    """Where a literal piece stands in each path that matches.

    Attributes:
        first: the number of the element that the piece begins in.
        tail: how many characters at that element's end belong to the piece; _WHOLE for all.
        last: the number of the element that the piece ends in.
        head: how many characters at that element's beginning belong to the piece; _WHOLE for all.
    """

    first: int
    tail: int
    last: int
    head: int

    def piece_of(self, elements: list[str]) -> str | None:
        """Return what a path has at this place; None where the path is too short."""
        if self.last >= len(elements):
            return None
        parts = elements[self.first : self.last + 1]
        if self.tail != _WHOLE:
            parts[0] = parts[0][-self.tail :]
        if self.head != _WHOLE:
            parts[-1] = parts[-1][: self.head]
        return "/".join(parts)


_Entry = tuple[int, Pattern, T]


class PatternIndex(Generic[T]):
    """Values by patterns.

    Args:
        entries: each pattern with its value.
        folded: whether patterns match without regard to case; see `Pattern.matches_folded`.
    """

    def __init__(self, entries: Iterable[tuple[Pattern, T]], *, folded: bool) -> None:
        self._folded = folded
        self._unfiled: list[_Entry[T]] = []
        self._filed: dict[_Place, dict[str, list[_Entry[T]]]] = {}
        for number, (pattern, value) in enumerate(entries):
            self._file((number, pattern, value))

    def _file(self, entry: _Entry[T]) -> None:
        pieces = sorted(_pieces(entry[1].text), key=lambda one: -len(one[0]))
        folded = [(p.lower() if self._folded else p, place) for p, place in pieces]
        if folded:
            piece, place = min(folded, key=lambda one: len(self._filed_under(*one)))
            self._filed.setdefault(place, {}).setdefault(piece, []).append(entry)
        else:
            self._unfiled.append(entry)

    def _filed_under(self, piece: str, place: _Place) -> Sequence[_Entry[T]]:
        return self._filed.get(place, {}).get(piece, ())

    def matching(self, path: str) -> list[T]:
        """Return the values of the patterns that match a plain path, in the order of entries."""
        elements = (path.lower() if self._folded else path).split("/")
        candidates = list(self._unfiled)
        for place, pieces in self._filed.items():
            piece = place.piece_of(elements)
            if piece in pieces:
                candidates += pieces[piece]
        # Entries of one place are in order, those of several are not.
        candidates.sort(key=lambda entry: entry[0])
        if self._folded:
            return [value for _, pattern, value in candidates if pattern.matches_folded(path)]
        return [value for _, pattern, value in candidates if pattern.matches(path)]


def _pieces(text: str) -> Iterator[tuple[str, _Place]]:
    """Yield the literal pieces of a pattern whose places are known, with their places.

    A class may match a slash, so what follows a class has no known place.
    """
    plain = re.split(r"[\[\\]", text, maxsplit=1)[0]
    for run in _RUN.finditer(plain):
        parts = run[0].split("/")
        first = plain.count("/", 0, run.start())
        last = first + len(parts) - 1
        tail = _WHOLE if run.start() == 0 else len(parts[0])
        head = _WHOLE if run.end() == len(text) else len(parts[-1])
        if tail == 0:
            parts, first, tail = parts[1:], first + 1, _WHOLE
        if head == 0:
            parts, last, head = parts[:-1], last - 1, _WHOLE
        is_in_the_middle = first == last and _WHOLE not in (tail, head)
        if parts and not is_in_the_middle:
            yield "/".join(parts), _Place(first, tail, last, head)
