"""The module zip of a folder: the same bytes each time. Follows x/mod/zip, CreateFromDir.

Which files are in it is `gitzip.chosen`'s rule; links and the folders of version control are left
out, as there. Not here: checking the result (`modzip`).
"""

import io
import zipfile
from collections.abc import Callable, Iterable
from typing import IO

from app.core.gitzip import TreeFile, chosen
from app.core.gomodlines import go_version

VERSION_CONTROL = frozenset({".bzr", ".git", ".hg", ".svn"})
"""Folders that are left out, at whatever depth."""

_CHUNK_BYTES = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_source_zip(
    target: IO[bytes],
    name: str,
    files: Iterable[TreeFile],
    go_mod: bytes,
    open_file: Callable[[str], IO[bytes]],
) -> int:
    """Write the zip of a folder's files; return how many files are in it.

    Args:
        target: seekable.
        name: "corp.example/x@v1.0.0".
        files: of the folder.
        go_mod: the content of the root go.mod; b"" if the folder has none.
        open_file: opens a file by its path below the folder.

    Raises:
        BadInputError: the files can't be a module zip.
    """
    kept = sorted(chosen(list(files), go_version(go_mod)), key=lambda file: file.path)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in kept:
            entry = zipfile.ZipInfo(f"{name}/{file.path}", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.file_size = file.size_bytes
            with open_file(file.path) as source, archive.open(entry, "w") as sink:
                while chunk := source.read(_CHUNK_BYTES):
                    sink.write(chunk)
    return len(kept)


def name_in(archive: IO[bytes]) -> str:
    """Return the name that a module zip's entries begin with: "corp.example/x@v1.0.0"; "" for none.

    archive: seekable.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            first = next(iter(opened.namelist()), "")
    except (zipfile.BadZipFile, io.UnsupportedOperation, ValueError):
        return ""
    module, at, rest = first.partition("@")
    return f"{module}@{rest.partition('/')[0]}" if at else ""
