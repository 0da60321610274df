"""The files inside a Go release archive, read once from front to back with flat memory.

Strict where Python's tarfile and zipfile are lenient: those end silently at a damaged header,
skip gzip's checksum, and accept ".." and repeated names. Nothing is written anywhere here; which
of the files make a toolchain module is `toolchain`'s business.
"""

import errno
import gzip
import io
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO, Self, cast

from app.core.errors import BadInputError

CHUNK_BYTES = 1 << 20

_HEADER_BYTES = 1 << 20  # of tar headers for one entry: real ones have at most a few KiB
_DIRECTORY_BYTES = 32 << 20  # of a zip's central directory: 160 for each of 200,000 entries
_TAR_BLOCK_BYTES = 32 << 10
_ENCRYPTED_OR_PATCHED = 0x1 | 0x20 | 0x40
_UTF8_NAME = 0x800
_ZIP_END = struct.Struct("<4s 6x H 10x")
_COUNT_IN_ZIP64 = 0xFFFF
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")

# BadGzipFile has no errno; EINVAL is a seek to a negative offset that a zip asked for.
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
class Limits:
    """What an archive may hold: a count, bytes of all content together, bytes of one UTF-8 name.

    Go 1.23.1 for Linux has 14,730 entries and 237 MB.
    """

    entries: int = 200_000
    unpacked_bytes: int = 4 << 30
    name_bytes: int = 1 << 10


_DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A regular file: its plain name ("go/VERSION"), its size, its content.

    `chunks` yields at most CHUNK_BYTES at a time, and only until the next file is asked for;
    what was not read by then is read and checked anyway.
    """

    name: str
    size_bytes: int
    chunks: Iterator[bytes]


def iter_files(
    stream: BinaryIO, suffix: str, limits: Limits = _DEFAULT_LIMITS
) -> Iterator[ArchiveFile]:
    """Yield the regular files of an archive in its order; directories are passed over.

    Args:
        stream: at the archive's first byte; a zip must be seekable. It is left open.
        suffix: "tar.gz" or "zip".
        limits: what the archive may hold.

    An archive that is iterated to the end was whole: every checksum that the format has was
    compared, every file had its declared size.

    Raises:
        BadInputError: the suffix is another one; or, while iterating (here or over `chunks`), the
            archive is damaged, cut short, over a limit, or has an entry that is not a regular file
            or directory, is encrypted, comes twice, or has an unsafe name.
    """
    if suffix == "tar.gz":
        return _tar_files(stream, limits)
    if suffix == "zip":
        return _zip_files(stream, limits)
    raise BadInputError(f"{suffix[:20]!a} is not the suffix of an archive (tar.gz, zip)")


class _Census:
    """Counts entries and bytes against the limits and knows the names so far."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries = 0
        self._bytes = 0
        self._names: set[str] = set()

    def admit(self, name: str, size_bytes: int, *, is_directory: bool) -> None:
        """Count an entry, or refuse it. A directory may come twice, a file may not."""
        self._entries += 1
        if self._entries > self._limits.entries:
            raise BadInputError(f"the archive has more than {self._limits.entries} entries")
        _check_name(name, self._limits)
        if size_bytes < 0 or (is_directory and size_bytes):
            raise BadInputError(f"{_shown(name)} can't have a size of {size_bytes} bytes")
        self._bytes += size_bytes
        if self._bytes > self._limits.unpacked_bytes:
            raise _too_large(self._limits.unpacked_bytes)
        if not is_directory and name in self._names:
            raise BadInputError(f"{_shown(name)} comes twice in the archive")
        self._names.add(name)


def _check_name(name: str, limits: Limits) -> None:
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:  # tarfile hides undecodable bytes as lone surrogates
        raise BadInputError(f"the name {_shown(name)} is not UTF-8") from error
    if length > limits.name_bytes:
        raise BadInputError(f"the name {_shown(name)} has more than {limits.name_bytes} bytes")
    if name.startswith("/") or _DRIVE.match(name):
        raise BadInputError(f"the name {_shown(name)} is absolute")
    if "\\" in name or _CONTROL.search(name):
        raise BadInputError(f"the name {_shown(name)} has a backslash or control character")
    # An empty element or "." would be a second spelling of a name, past the check for repeats.
    if any(element in ("", ".", "..") for element in name.split("/")):
        raise BadInputError(f"the name {_shown(name)} is not a clean relative path")


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn every complaint about the archive into BadInputError; a failing disk stays OSError."""
    try:
        yield
    except (*_BROKEN, OSError) as error:
        # zipfile says "not a zip file" where reading its end failed.
        for failure in (error, error.__context__):
            if isinstance(failure, OSError) and failure.errno not in _NOT_THE_DISK:
                raise failure from None
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> BadInputError:
    said = ascii(str(error)[:120])[1:-1] or type(error).__name__
    return BadInputError(f"the archive can't be read: {said}")


def _too_large(limit_bytes: int) -> BadInputError:
    return BadInputError(f"the archive unpacks to more than {limit_bytes} bytes")


def _chunks(member: IO[bytes], name: str, size_bytes: int) -> Iterator[bytes]:
    left_bytes = size_bytes
    with _refusing():
        while chunk := member.read(CHUNK_BYTES):
            left_bytes -= len(chunk)
            yield chunk
    if left_bytes:
        raise BadInputError(f"{_shown(name)} has not the {size_bytes} bytes that it declares")


def _opened(member: IO[bytes], name: str, size_bytes: int) -> Iterator[ArchiveFile]:
    """Yield the one file, then read what its consumer left."""
    with member:
        chunks = _chunks(member, name, size_bytes)
        yield ArchiveFile(name, size_bytes, chunks)
        for _ in chunks:
            pass


class _Metered:
    """The unpacked tar as tarfile reads it, limited as a whole and for the headers of one entry.

    tarfile holds pax records, long names and sparse maps in memory, whatever their size.
    """

    def __init__(self, source: IO[bytes], limit_bytes: int) -> None:
        self._source = source
        self._limit_bytes = limit_bytes
        self._left_bytes = limit_bytes
        self._header_left_bytes: int | None = _HEADER_BYTES

    def read(self, size: int) -> bytes:
        chunk = self._source.read(size)
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise _too_large(self._limit_bytes)
        if self._header_left_bytes is not None:
            self._header_left_bytes -= len(chunk)
            if self._header_left_bytes < 0:
                raise BadInputError(f"a tar header has more than {_HEADER_BYTES} bytes")
        return chunk

    def next_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Return tar's next entry, None at the end; its headers count against their own limit."""
        self._header_left_bytes = _HEADER_BYTES
        info = tar.next()
        self._header_left_bytes = None
        tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every entry otherwise
        return info

    def drain(self) -> None:
        """Read to the end, where gzip compares its checksum and length."""
        while self.read(CHUNK_BYTES):
            pass


class _StrictTarInfo(tarfile.TarInfo):
    """An entry whose damaged header is an error; tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the block of zeros that ends an archive
        except tarfile.HeaderError as error:
            raise BadInputError(f"the archive is cut short or damaged: {error}") from error


def _tar_files(stream: BinaryIO, limits: Limits) -> Iterator[ArchiveFile]:
    # Not tarfile's "r|gz": it never compares the checksum and length at the end of the gzip data.
    with _refusing(), gzip.GzipFile(fileobj=stream, mode="rb") as unzipped:
        source = _Metered(cast("IO[bytes]", unzipped), limits.unpacked_bytes)
        census = _Census(limits)
        with tarfile.open(
            fileobj=cast("IO[bytes]", source),
            mode="r|",
            bufsize=_TAR_BLOCK_BYTES,
            tarinfo=_StrictTarInfo,
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar:
            while info := source.next_member(tar):
                yield from _tar_file(tar, info, census)
        source.drain()


def _tar_file(
    tar: tarfile.TarFile, info: tarfile.TarInfo, census: _Census
) -> Iterator[ArchiveFile]:
    is_plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse()
    if not (is_plain or info.isdir()):
        raise _not_a_file(info.name)
    census.admit(info.name, info.size, is_directory=info.isdir())
    if member := tar.extractfile(info):
        yield from _opened(member, info.name, info.size)


class _Guarded:
    """A seekable stream that refuses one read over _DIRECTORY_BYTES.

    zipfile reads the central directory at once, as long as the archive says that it is.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek = stream.seek
        self.tell = stream.tell
        self.seekable = stream.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _DIRECTORY_BYTES:
            raise BadInputError(f"the zip's directory has more than {_DIRECTORY_BYTES} bytes")
        return self._stream.read(size)


def _zip_files(stream: BinaryIO, limits: Limits) -> Iterator[ArchiveFile]:
    with _refusing(), zipfile.ZipFile(cast("IO[bytes]", _Guarded(stream))) as archive:
        _check_count(stream, archive)
        census = _Census(limits)
        for info in archive.infolist():
            name, is_directory = _zip_entry(info)
            census.admit(name, info.file_size, is_directory=is_directory)
            if not is_directory:
                yield from _opened(archive.open(info), name, info.file_size)


def _check_count(stream: BinaryIO, archive: zipfile.ZipFile) -> None:
    """Refuse a zip whose end record is not last, or counts other entries than its directory gave.

    zipfile ignores the count, so that a wrong length in one entry swallows those after it.
    """
    stream.seek(-_ZIP_END.size - len(archive.comment), io.SEEK_END)
    signature, count = _ZIP_END.unpack(stream.read(_ZIP_END.size))
    if signature != b"PK\x05\x06":
        raise BadInputError("the zip has bytes after its end")
    if count not in (len(archive.infolist()), _COUNT_IN_ZIP64):
        raise BadInputError("the zip's directory has not the entries that its end counts")


def _zip_entry(info: zipfile.ZipInfo) -> tuple[str, bool]:
    """Return an entry's name without a final "/", and whether it is a directory."""
    name = info.orig_filename  # `filename` ends at the first NUL
    if not info.flag_bits & _UTF8_NAME:
        name = name.encode("cp437").decode()  # the bytes as they are, as Go reads them
    is_directory = name.endswith("/")
    file_type = stat.S_IFMT(info.external_attr >> 16)
    if file_type not in (0, stat.S_IFDIR if is_directory else stat.S_IFREG):
        raise _not_a_file(name)
    if info.flag_bits & _ENCRYPTED_OR_PATCHED:
        raise BadInputError(f"{_shown(name)} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInputError(f"{_shown(name)} is compressed by a method that Go does not read")
    return name.removesuffix("/"), is_directory


def _not_a_file(name: str) -> BadInputError:
    return BadInputError(f"{_shown(name)} is neither a regular file nor a directory")


def _shown(name: str) -> str:
    return ascii(name[:60])
