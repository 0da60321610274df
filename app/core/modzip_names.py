"""The paths of a module zip as one tree, which refuses two paths that no disk can hold together.

Follows collisionChecker and strToFold of golang.org/x/mod/zip. Not here: whether a single name is
allowed (`module.check_file_path`).
"""

from dataclasses import dataclass
from enum import StrEnum

from app.core.archiverules import shown
from app.core.errors import BadInputError

# Deep paths cost time for each of their elements, also for the ones that they share: 2,000,000
# elements take seconds. A path of a Go toolchain has 5 elements.
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
    """All admitted paths and their directories.

    In a tree, a path costs memory in proportion to its length; in a set of all its directories it
    would cost the square. Nodes are counted, because one name can create hundreds of directories.
    """

    def __init__(self, max_paths: int) -> None:
        self._max_paths = max_paths
        self._elements_left = max_paths * _ELEMENTS_PER_PATH
        self._nodes: dict[tuple[int, str], _Node] = {}

    def admit(self, path: str, *, is_directory: bool) -> None:
        """Add a path, "internal/a.go"; a directory's path comes without its last "/".

        Raises:
            BadInputError: the path comes twice, equals another path but for upper and lower case,
                or is both a file and a directory; or there are more than max_paths paths or too
                many deep ones.
        """
        *directories, last = path.split("/")
        self._elements_left -= len(directories) + 1
        if self._elements_left < 0:
            raise BadInputError("the zip has too many deep paths")
        parent = 0
        for element in directories:
            node = self._node(parent, element, _NodeKind.IMPLIED, path)
            if node.kind is _NodeKind.FILE:
                raise _file_and_directory(path)
            parent = node.number
        kind = _NodeKind.DIRECTORY if is_directory else _NodeKind.FILE
        count = len(self._nodes)
        node = self._node(parent, last, kind, path)
        if len(self._nodes) > count:
            return
        if (node.kind is _NodeKind.FILE) != (kind is _NodeKind.FILE):
            raise _file_and_directory(path)
        # Go accepts a directory that comes twice, but then hashes two equal lines into the h1.
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
    """Return the text in a form that is equal for two texts if Go's strings.EqualFold is true.

    The form is Unicode's simple case folding: "Straße" gives "straße", K (U+212A) gives "k".
    Python's casefold is the full folding, for which "ß" equals "ss".
    """
    if text.isascii():
        return text.lower()
    return "".join(map(_folded_character, text))


# Unicode 15.1 added these three pairs; Python 3.11 has older tables.
_LATER = {"\u1fd3": "\u0390", "\u1fe3": "\u03b0", "\ufb05": "\ufb06"}


def _folded_character(character: str) -> str:
    full = character.casefold()
    if len(full) == 1:
        return full
    lower = character.lower()  # for U+1E9E: its full folding is "ss", its simple one U+00DF
    simple = lower if len(lower) == 1 else character
    return _LATER.get(simple, simple)


def _file_and_directory(path: str) -> BadInputError:
    return BadInputError(f"{shown(path)} makes one path of the zip both a file and a directory")
