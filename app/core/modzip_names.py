"""The paths of a module zip as one tree: which can't lie beside each other on a client's disk.

Follows collisionChecker and strToFold of golang.org/x/mod/zip. Whether a single name is sound is
`module.check_file_path`'s business.
"""

from dataclasses import dataclass
from enum import StrEnum

from app.core.archiverules import shown
from app.core.errors import BadInputError

# Deep paths that differ in the end only cost time by their elements: 2,000,000 take seconds. A Go
# toolchain's have 5 each.
_ELEMENTS_PER_PATH = 10


class _NodeKind(StrEnum):
    IMPLIED = "directory that only its files name"
    DIRECTORY = "directory"
    FILE = "file"


@dataclass(slots=True)
class _Node:
    element: str
    number: int
    kind: _NodeKind


class PathTree:
    """The paths so far, their directories included.

    A tree, because a path of many elements would otherwise cost memory by the square of its
    length; and its nodes are counted, because one name can bring hundreds of directories.
    """

    def __init__(self, max_paths: int) -> None:
        self._max_paths = max_paths
        self._elements_left = max_paths * _ELEMENTS_PER_PATH
        self._nodes: dict[tuple[int, str], _Node] = {}

    def admit(self, path: str, *, is_directory: bool) -> None:
        """Add a path ("internal/a.go"; a directory's without its last "/"), or refuse it.

        Raises:
            BadInputError: it comes twice, equals another but for case, is both a file and a
                directory, or there are more than max_paths paths or too many deep ones.
        """
        *directories, last = path.split("/")
        self._elements_left -= len(directories) + 1
        if self._elements_left < 0:
            raise BadInputError("the zip has too many deep paths")
        parent = 0
        for element in directories:
            node = self._node(parent, element, _NodeKind.IMPLIED, path)
            if node.kind is _NodeKind.FILE:
                raise _both(path)
            parent = node.number
        kind = _NodeKind.DIRECTORY if is_directory else _NodeKind.FILE
        count = len(self._nodes)
        node = self._node(parent, last, kind, path)
        if len(self._nodes) > count:
            return
        if (node.kind is _NodeKind.FILE) != (kind is _NodeKind.FILE):
            raise _both(path)
        # Go lets a directory come twice, but its line is then twice in the h1.
        if node.kind is not _NodeKind.IMPLIED:
            raise BadInputError(f"{shown(path)} comes twice in the zip")
        node.kind = kind

    def _node(self, parent: int, element: str, kind: _NodeKind, path: str) -> _Node:
        key = (parent, folded(element))
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= self._max_paths:
                raise BadInputError(
                    f"the zip has more than {self._max_paths} files and directories"
                )
            node = self._nodes[key] = _Node(element, len(self._nodes) + 1, kind)
        elif node.element != element:
            raise BadInputError(
                f"{shown(path)} has {shown(element)} where another path of the zip has "
                f"{shown(node.element)}: equal but for upper and lower case"
            )
        return node


def folded(text: str) -> str:
    """Return a form that two texts share exactly if Go's strings.EqualFold holds for them.

    That is Unicode's simple case folding: "Straße" gives "straße", K (U+212A) gives "k". Python's
    casefold is the full one, which would also take "ß" for "ss".
    """
    if text.isascii():
        return text.lower()
    return "".join(map(_folded_character, text))


# These three pairs Unicode added in 15.1, after Python 3.11's tables.
_LATER = {"\u1fd3": "\u0390", "\u1fe3": "\u03b0", "\ufb05": "\ufb06"}


def _folded_character(character: str) -> str:
    full = character.casefold()
    if len(full) == 1:
        return full
    lower = character.lower()  # U+1E9E, which fully folds to "ss", and simply to U+00DF
    simple = lower if len(lower) == 1 else character
    return _LATER.get(simple, simple)


def _both(path: str) -> BadInputError:
    return BadInputError(f"{shown(path)} makes one path of the zip both a file and a directory")
