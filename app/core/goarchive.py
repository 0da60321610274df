"""The files inside a Go release archive, read once from front to back with flat memory.

Stricter than Python's tarfile and zipfile, which end silently at a damaged header, skip gzip's
checksum, and accept ".." and repeated names. Nothing is written to disk. `tararchive` and
`ziparchive` read the formats; `archiverules` has the rules for both. Not here: the list of an
archive's files (`tree`), which of the files make a toolchain module (`toolchain`).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from app.core.archiverules import (
    CHUNK_BYTES,
    ArchiveEntry,
    ArchiveFile,
    ArchiveFolder,
    ArchiveLimits,
)
from app.core.errors import BadInputError
from app.core.tararchive import tar_entries
from app.core.ziparchive import zip_entries

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = [
    "CHUNK_BYTES",
    "ArchiveEntry",
    "ArchiveFile",
    "ArchiveFolder",
    "ArchiveLimits",
    "iter_entries",
    "iter_files",
]

_DEFAULT_LIMITS = ArchiveLimits()


def iter_entries(
    stream: BinaryIO,
    suffix: str,
    limits: ArchiveLimits = _DEFAULT_LIMITS,
    *,
    tar_hash: "_Hash | None" = None,
) -> Iterator[ArchiveEntry]:
    """Yield the regular files and the listed folders of an archive in the archive's order.

    Args:
        stream: at the archive's first byte; a zip must be seekable. It is left open.
        suffix: "tar.gz" or "zip".
        limits: what the archive may hold.
        tar_hash: gets every byte of the tar in a tar.gz, to the end of the last entry and beyond.

    Iterate to the end to know that the archive is whole: only then every checksum of the format is
    compared, and every file has had its declared size.

    Raises:
        BadInputError: the suffix is neither of the two. While iterating (here or over `chunks`):
            the archive is damaged, cut short, over a limit, or has an entry that is not a regular
            file or directory, is encrypted, comes twice, or has an unsafe name.
    """
    if suffix == "tar.gz":
        return tar_entries(stream, limits, tar_hash)
    if suffix == "zip":
        return zip_entries(stream, limits)
    raise BadInputError(f"{suffix[:20]!a} is not the suffix of an archive (tar.gz, zip)")


def iter_files(
    stream: BinaryIO, suffix: str, limits: ArchiveLimits = _DEFAULT_LIMITS
) -> Iterator[ArchiveFile]:
    """Yield the regular files of an archive, without the folders; see `iter_entries`."""
    entries = iter_entries(stream, suffix, limits)
    return (entry for entry in entries if isinstance(entry, ArchiveFile))
