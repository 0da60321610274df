"""The list of an archive's files, served as `<file>.tree`, and the reading of an archive for it.

The format: one JSON object a line, keys sorted, no spaces, UTF-8, each line ended by a newline. The
lines are sorted by the bytes of `path`; each path comes once, without a final "/":

    {"mode":493,"path":"go/bin","type":"dir"}
    {"mode":493,"path":"go/bin/go","sha256":"<hex>","size":123,"type":"file"}

`mode` is decimal and has the nine permission bits. Folders that the archive needs and does not list
are in the list, too. The format also has links, `{"path":"go/x","target":"y","type":"link"}`;
`goarchive` refuses archives with links, so no list that is made here has one.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.core.archiverules import FOLDER_MODE, ArchiveEntry, ArchiveFile, ArchiveFolder, shown
from app.core.errors import BadInputError
from app.core.slices import sorted_in_slices

KEPT_BYTES = 4096
"""How much of a kept file's content `Tree.kept` has at most, less one byte."""
_PIECE_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A regular file of an archive; `sha256` is the digest of its content, 32 bytes."""

    path: str
    mode: int
    size_bytes: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Tree:
    """Every file of an archive, in the archive's order.

    Attributes:
        folders: mode by path, of the folders that the archive lists.
        kept: the first KEPT_BYTES + 1 bytes of the one file whose content is kept; None if the
            archive does not have the file.
    """

    files: tuple[TreeFile, ...]
    folders: dict[str, int]
    kept: bytes | None = None


def read_tree(entries: Iterable[ArchiveEntry], *, keep: str = "") -> Tree:
    """Return the tree of an archive. Each content is read once, and hashed.

    Args:
        entries: all of the archive, from `goarchive.iter_entries`.
        keep: the path of the file whose content is kept: "go/VERSION".

    Raises:
        BadInputError: see `goarchive.iter_entries`.
    """
    files: list[TreeFile] = []
    folders: dict[str, int] = {}
    kept: bytes | None = None
    for entry in entries:
        if isinstance(entry, ArchiveFolder):
            folders[entry.name] = entry.mode  # listed twice: unpacking leaves the last mode
            continue
        digest, start = _read_file(entry, kept_bytes=KEPT_BYTES + 1 if entry.name == keep else 0)
        kept = start if entry.name == keep else kept
        files.append(TreeFile(entry.name, entry.mode, entry.size_bytes, digest))
    return Tree(tuple(files), folders, kept)


def _read_file(file: ArchiveFile, *, kept_bytes: int) -> tuple[bytes, bytes]:
    """Return the digest of a file's content, and its first bytes."""
    content_hash, start = hashlib.sha256(), bytearray()
    for chunk in file.chunks:
        content_hash.update(chunk)
        start += chunk[: kept_bytes - len(start)]
    return content_hash.digest(), bytes(start)


def render_tree(tree: Tree) -> Iterator[bytes]:
    """Yield the bytes of the `.tree` file, in pieces of some 256 KiB.

    Raises:
        BadInputError: a path is both a file and a folder.
    """
    buffer = bytearray()
    for _, fields in sorted_in_slices(_lines(tree)):
        line = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        buffer += line.encode() + b"\n"
        if len(buffer) >= _PIECE_BYTES:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def _lines(tree: Tree) -> list[tuple[str, dict[str, object]]]:
    """Return (path, fields) of every line, in any order; no path comes twice.

    Text sorts by code points, which is the order of its UTF-8 bytes.
    """
    needed: set[str] = set()
    for path in (*(file.path for file in tree.files), *tree.folders):
        for parent in _parents(path):
            if parent in needed:
                break  # and so are the folders above it
            needed.add(parent)
    folders = dict.fromkeys(needed, FOLDER_MODE) | tree.folders
    lines: list[tuple[str, dict[str, object]]] = [
        (path, {"mode": mode, "path": path, "type": "dir"}) for path, mode in folders.items()
    ]
    for file in tree.files:
        if file.path in folders:
            raise BadInputError(f"{shown(file.path)} is both a file and a folder in the archive")
        fields = {"mode": file.mode, "path": file.path, "sha256": file.sha256.hex()}
        lines.append((file.path, {**fields, "size": file.size_bytes, "type": "file"}))
    return lines


def _parents(path: str) -> Iterator[str]:
    """Yield the folders above a path, the nearest first: "go/bin", "go" of "go/bin/go"."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
