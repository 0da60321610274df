"""Answers that send files derived from archives: `.tree`, `.chunks`, `.zst`, `.zst.chunks`.

Not here: how the files are made (`services/releases`), which archive a request is about
(`downloads`).
"""

from app.core.derived import DerivedFile, DerivedKind
from app.core.errors import NotYetError, UnknownError
from app.core.releasefile import FileRecord
from app.web.responses import IMMUTABLE, LISTING, Answer, file_answer

KINDS = {f".{kind}": kind for kind in DerivedKind}
"""What follows an archive's name in a URL, and the kind of file that it stands for."""

_TYPES = {
    DerivedKind.TREE: b"application/x-ndjson",
    DerivedKind.CHUNKS: b"application/octet-stream",
    DerivedKind.ZST: b"application/zstd",
    DerivedKind.ZST_CHUNKS: b"application/octet-stream",
}
# Compressing once more, after damage, may give other bytes.
_MAY_CHANGE = (DerivedKind.ZST, DerivedKind.ZST_CHUNKS)


def derived_file(record: FileRecord, kind: DerivedKind) -> DerivedFile:
    """Return a file that is derived from a served archive.

    Raises:
        UnknownError: the archive has no such file, or its zstd form is not made.
        NotYetError: the file is made soon.
    """
    file = record.derived.file(kind) if record.derived else None
    if file is not None:
        return file
    filename = record.file.filename
    if kind in _MAY_CHANGE:
        # No 503: whoever can read zstd takes the archive meanwhile, and waits for nothing.
        raise UnknownError(f"there is no {filename}.{kind} here (yet); take {filename}")
    if record.toolchain is None:
        raise UnknownError(f"{filename} has no .{kind}: only archives of Go have one")
    raise NotYetError(f"{filename}.{kind} is being made in the background; ask again")


def derived_answer(record: FileRecord, kind: DerivedKind, file: DerivedFile) -> Answer:
    """Return the answer that sends a derived file."""
    stored_at = record.ingested_at or record.first_seen_at
    caching = LISTING if kind in _MAY_CHANGE else IMMUTABLE
    return file_answer(file.sha256, file.size_bytes, _TYPES[kind], stored_at, caching=caching)
