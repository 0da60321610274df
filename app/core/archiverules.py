"""Rules for archives of both formats: limits, names, sizes, and the errors for damage.

The formats are in `tararchive` and `ziparchive`.
"""

import errno
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TypeAlias

from app.core.errors import BadInputError

CHUNK_BYTES = 1 << 20
PERMISSIONS = 0o777
FILE_MODE = 0o644
"""The mode of a file to which the archive gives none."""
FOLDER_MODE = 0o755
"""The mode of a folder to which the archive gives none."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")

# These errors come from the archive, not from the disk: BadGzipFile has no errno; EINVAL is a seek
# to a negative offset, which only a wrong number in a zip causes.
_NOT_THE_DISK = (None, errno.EINVAL)

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,  # zipfile and tarfile: undecodable names, bad numbers, negative offsets
    ArithmeticError,
    LookupError,
    RuntimeError,  # RecursionError (chained tar headers), NotImplementedError (zip features)
)


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an archive may hold: a count, bytes of all content together, bytes of one UTF-8 name.

    Go 1.23.1 for Linux has 14,730 entries and 237 MB.
    """

    entries: int = 200_000
    unpacked_bytes: int = 4 << 30
    name_bytes: int = 1 << 10


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A regular file: its plain name ("go/VERSION"), its size, its content, its mode.

    `chunks` yields at most CHUNK_BYTES at a time, and must be read before the next file. Chunks
    that the consumer does not read are still read and checked. `mode` has the nine permission bits
    only (0o755): never setuid, setgid or sticky.
    """

    name: str
    size_bytes: int
    chunks: Iterator[bytes]
    mode: int


@dataclass(frozen=True, slots=True)
class ArchiveFolder:
    """A directory that the archive lists: its plain name without a final "/", and its mode."""

    name: str
    mode: int


ArchiveEntry: TypeAlias = ArchiveFile | ArchiveFolder


class Census:
    """Counts entries and bytes against the limits, and remembers the names."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._limits = limits
        self._entries = 0
        self._bytes = 0
        self._names: set[str] = set()

    def admit(self, name: str, size_bytes: int, *, is_directory: bool) -> None:
        """Count an entry, or refuse it. A directory may come twice, a file only once."""
        self._entries += 1
        if self._entries > self._limits.entries:
            raise BadInputError(f"the archive has more than {self._limits.entries} entries")
        _check_name(name, self._limits)
        if size_bytes < 0 or (is_directory and size_bytes):
            raise BadInputError(f"{shown(name)} can't have a size of {size_bytes} bytes")
        self._bytes += size_bytes
        if self._bytes > self._limits.unpacked_bytes:
            raise too_large(self._limits.unpacked_bytes)
        if not is_directory and name in self._names:
            raise BadInputError(f"{shown(name)} comes twice in the archive")
        self._names.add(name)


def _check_name(name: str, limits: ArchiveLimits) -> None:
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:  # tarfile hides undecodable bytes as lone surrogates
        raise BadInputError(f"the name {shown(name)} is not UTF-8") from error
    if length > limits.name_bytes:
        raise BadInputError(f"the name {shown(name)} has more than {limits.name_bytes} bytes")
    if name.startswith("/") or _DRIVE.match(name):
        raise BadInputError(f"the name {shown(name)} is absolute")
    if "\\" in name or _CONTROL.search(name):
        raise BadInputError(f"the name {shown(name)} has a backslash or control character")
    # An empty element or "." would be a second spelling of a name, past the check for repeats.
    if any(element in ("", ".", "..") for element in name.split("/")):
        raise BadInputError(f"the name {shown(name)} is not a clean relative path")


@contextmanager
def archive_errors() -> Iterator[None]:
    """Turn every error about the archive into BadInputError; a failing disk stays OSError."""
    try:
        yield
    except (*_BROKEN, OSError) as error:
        # zipfile reports "not a zip file" although the disk failed; the OSError is its context.
        for failure in (error, error.__context__):
            if isinstance(failure, OSError) and failure.errno not in _NOT_THE_DISK:
                raise failure from None
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> BadInputError:
    reason = ascii(str(error)[:120])[1:-1] or type(error).__name__
    return BadInputError(f"the archive can't be read: {reason}")


def too_large(limit_bytes: int) -> BadInputError:
    """Return the error for an archive that unpacks to more than limit_bytes."""
    return BadInputError(f"the archive unpacks to more than {limit_bytes} bytes")


def _chunks(member: IO[bytes], name: str, size_bytes: int) -> Iterator[bytes]:
    left_bytes = size_bytes
    with archive_errors():
        while chunk := member.read(CHUNK_BYTES):
            left_bytes -= len(chunk)
            yield chunk
    if left_bytes:
        raise BadInputError(f"{shown(name)} has not the {size_bytes} bytes that it declares")


def opened_file(member: IO[bytes], name: str, size_bytes: int, mode: int) -> Iterator[ArchiveFile]:
    """Yield one file, then read the chunks that its consumer did not read."""
    with member:
        chunks = _chunks(member, name, size_bytes)
        yield ArchiveFile(name, size_bytes, chunks, mode)
        for _ in chunks:
            pass


def not_a_file(name: str) -> BadInputError:
    """Return the error for an entry that is a link, a device or of another special type."""
    return BadInputError(f"{shown(name)} is neither a regular file nor a directory")


def shown(name: str) -> str:
    """Return a name for a message: quoted, odd characters escaped, cut short."""
    return ascii(name[:60])
