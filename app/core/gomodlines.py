"""The lines of a go.mod that say which versions are retracted, and the Go version.

Follows golang.org/x/mod/modfile, ParseLax: lines of another kind are not read. Not here: the
module that a go.mod names (`gomod`).
"""

import re
from collections.abc import Iterator

from app.core import module as modules

_COMMENT = re.compile(r"//.*")
_INTERVAL = re.compile(r"\[\s*([^\s,\[\]]+)\s*,\s*([^\s,\[\]]+)\s*\]")
_GO = re.compile(r"v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(?![0-9])")


def retractions(text: bytes) -> list[tuple[str, str]]:
    """Return the intervals of retracted versions, both ends included; what is malformed is left."""
    intervals = []
    for words in _directives(text, "retract"):
        interval = _INTERVAL.fullmatch(words)
        low, high = interval.groups() if interval else (words, words)
        low, high = (modules.canonical_version(_plain(version)) for version in (low, high))
        if low and high:
            intervals.append((low, high))
    return intervals


def go_version(text: bytes) -> tuple[int, int]:
    """Return major and minor of the line "go 1.24.1": (1, 24); (0, 0) if there is none."""
    for words in _directives(text, "go"):
        match = _GO.match(_plain(words))
        if match:
            return int(match[1]), int(match[2])
    return (0, 0)


def _directives(text: bytes, verb: str) -> Iterator[str]:
    """Yield what follows a verb, alone or in a block."""
    in_block = False
    for raw in text.decode("utf-8", "replace").splitlines():
        words = _COMMENT.sub("", raw).strip()
        if in_block:
            if words.startswith(")"):
                in_block = False
            elif words:
                yield words
        elif re.match(rf"{verb}\s*\(", words):
            in_block = not words.endswith(")")
        elif re.match(rf"{verb}[\s\[]", words):
            yield words[len(verb) :].strip()


def _plain(word: str) -> str:
    return word.strip("\"'`")
