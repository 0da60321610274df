"""`.tree`: the list of an archive's files, against which a snapshot is checked.

One JSON object a line, sorted by path:

    {"mode":493,"path":"go/bin/go","sha256":"<hex>","size":123,"type":"file"}
    {"mode":493,"path":"go/bin","type":"dir"}
    {"path":"go/x","target":"y","type":"link"}

A snapshot's folder stands for "go": "go/bin/go" of the tree is "bin/go" of the snapshot. A tree
that could lead out of the snapshot is refused as a whole, whoever signed it.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import Any, NamedTuple

from .errors import RefusedError

MAX_TREE_BYTES = 64 << 20
MAX_ENTRIES = 200_000
MAX_UNPACKED_BYTES = 4 << 30

FILE, FOLDER, LINK = "file", "dir", "link"
_TOP = "go"
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 1024
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ODD = re.compile(r"[\x00-\x1f\x7f\\]")


class Entry(NamedTuple):
    """One path of a snapshot.

    Attributes:
        path: relative to the snapshot, "/" between elements: "bin/go".
        kind: FILE, FOLDER or LINK.
        mode: permission bits; 0 for a link.
        size: bytes of a file, else 0.
        sha256: 32 bytes of a file, else empty.
        target: of a link, else "".
    """

    path: str
    kind: str
    mode: int
    size: int
    sha256: bytes
    target: str


class Tree:
    """The entries of a snapshot by path, in the order of the file.

    Attributes:
        entries: by path.
        size_bytes: of all files together.
    """

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries
        self.size_bytes = sum(entry.size for entry in entries.values())

    def of_kind(self, kind: str) -> list[Entry]:
        """Return the files, folders or links, in order: a folder before what is in it."""
        return [entry for entry in self.entries.values() if entry.kind == kind]


def parse_tree(raw: bytes) -> Tree:
    """Return the tree of a `.tree` file.

    Raises:
        RefusedError: the form is wrong, a path or link leads out of the snapshot, two paths differ
            only in case, something lies below a file or link, or a limit is passed.
    """
    if len(raw) > MAX_TREE_BYTES:
        raise RefusedError(f"the tree has more than {MAX_TREE_BYTES} bytes")
    try:
        lines = raw.decode().splitlines()
        # All lines in one call: 15,000 calls take twice as long.
        objects = json.loads("[" + ",".join(lines) + "]")
    except (ValueError, RecursionError) as error:
        raise RefusedError("the tree can't be read: it is not JSON lines") from error
    if len(lines) > MAX_ENTRIES or len(objects) != len(lines):
        raise RefusedError(f"the tree has more than {MAX_ENTRIES} entries, or broken lines")
    entries: dict[str, Entry] = {}
    for fields in objects:
        entry = _entry(fields)
        if entry is None:
            continue
        if entry.path in entries:
            raise RefusedError(f"the tree has {entry.path!a} twice")
        entries[entry.path] = entry
    _check(entries)
    # In this order a folder comes before what is in it.
    return Tree(dict(sorted(entries.items())))


def _entry(fields: Any) -> Entry | None:
    """Return one line's entry; None for the top folder itself."""
    try:
        path, kind = fields["path"], fields["type"]
        mode = 0 if kind == LINK else fields["mode"]
        size, sha256 = (fields["size"], fields["sha256"]) if kind == FILE else (0, "")
        target = fields["target"] if kind == LINK else ""
    except (TypeError, KeyError) as error:
        raise RefusedError(f"the tree has a line of another form: {str(fields)[:80]!a}") from error
    if not (isinstance(path, str) and isinstance(target, str) and isinstance(sha256, str)):
        raise RefusedError(f"the tree has a line of another form: {str(fields)[:80]!a}")
    if path == _TOP and kind == FOLDER:
        return None
    check_path(path)
    if (
        kind not in (FILE, FOLDER, LINK)
        or type(mode) is not int
        or type(size) is not int
        or mode & ~0o777
        or size < 0
        or (kind == FILE and not _HEX.fullmatch(sha256))
    ):
        raise RefusedError(f"the tree's line of {path[:80]!a} has a wrong type, mode, size or sum")
    inner = path[len(_TOP) + 1 :]
    return Entry(inner, kind, mode, size, bytes.fromhex(sha256), target)


def check_path(path: str) -> None:
    """Accept a clean relative path below "go/".

    Raises:
        RefusedError: path is absolute, has "..", ".", an empty element, a backslash or a control
            character, is too long, or is elsewhere.
    """
    elements = path.split("/")
    try:
        longest = max(len(element.encode()) for element in elements)
        length = len(path.encode())
    except UnicodeEncodeError as error:
        raise RefusedError(f"the path {path[:80]!a} is no text") from error
    if (
        elements[0] != _TOP
        or len(elements) < 2
        or any(element in ("", ".", "..") for element in elements)
        or _ODD.search(path)
        or longest > _MAX_NAME_BYTES
        or length > _MAX_PATH_BYTES
    ):
        raise RefusedError(f"the path {path[:80]!a} is not a clean path below {_TOP}/")


def _check(entries: dict[str, Entry]) -> None:
    folded: dict[str, str] = {}
    for path, entry in entries.items():
        other = folded.setdefault(path.casefold(), path)
        if other != path:
            raise RefusedError(f"the paths {other!a} and {path!a} differ only in case")
        parent = posixpath.dirname(path)
        if parent and (parent not in entries or entries[parent].kind != FOLDER):
            raise RefusedError(f"{path[:80]!a} lies in {parent[:80]!a}, which is no folder")
        if entry.kind == LINK:
            _check_link(entry)
    if sum(entry.size for entry in entries.values()) > MAX_UNPACKED_BYTES:
        raise RefusedError(f"the tree has more than {MAX_UNPACKED_BYTES} bytes")


def _check_link(entry: Entry) -> None:
    """Refuse a link out of the snapshot; links are made last, and nothing lies below them."""
    target = entry.target
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), target))
    if not target or target.startswith("/") or _ODD.search(target) or resolved.startswith(".."):
        raise RefusedError(
            f"the link {entry.path[:80]!a} leads out of the release: {target[:80]!a}"
        )
