"""A gzipped tar, read from front to back. Strict where tarfile ends silently.

The rules for names, counts and sizes are in `archiverules`.
"""

import gzip
import tarfile
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, BinaryIO, Self, cast

from app.core.archiverules import (
    CHUNK_BYTES,
    PERMISSIONS,
    ArchiveEntry,
    ArchiveFolder,
    ArchiveLimits,
    Census,
    archive_errors,
    not_a_file,
    opened_file,
    too_large,
)
from app.core.errors import BadInputError

if TYPE_CHECKING:
    from hashlib import _Hash

_HEADER_BYTES = 1 << 20  # of tar headers for one entry: real ones have at most a few KiB
_TAR_BLOCK_BYTES = 32 << 10


class _MemoryMeter:
    """The unpacked tar, with one limit for all bytes and one for the headers of an entry.

    tarfile holds pax records, long names and sparse maps in memory, whatever their size.
    """

    def __init__(self, source: IO[bytes], limit_bytes: int, tar_hash: "_Hash | None") -> None:
        self._source = source
        self._hash = tar_hash
        self._limit_bytes = limit_bytes
        self._left_bytes = limit_bytes
        self._header_left_bytes: int | None = _HEADER_BYTES

    def read(self, size: int) -> bytes:
        chunk = self._source.read(size)
        if self._hash is not None:
            self._hash.update(chunk)
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise too_large(self._limit_bytes)
        if self._header_left_bytes is not None:
            self._header_left_bytes -= len(chunk)
            if self._header_left_bytes < 0:
                raise BadInputError(f"a tar header has more than {_HEADER_BYTES} bytes")
        return chunk

    def next_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Return tar's next entry, None at the end; the limit for headers starts anew."""
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
    """An entry. A damaged header is an error here; tarfile takes it for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the block of zeros that ends an archive
        except tarfile.HeaderError as error:
            raise BadInputError(f"the archive is cut short or damaged: {error}") from error


def tar_entries(
    stream: BinaryIO, limits: ArchiveLimits, tar_hash: "_Hash | None" = None
) -> Iterator[ArchiveEntry]:
    """Yield the files and folders of a tar.gz; see `goarchive.iter_entries`."""
    # Not tarfile's "r|gz": it never compares the checksum and length at the end of the gzip data.
    with archive_errors(), gzip.GzipFile(fileobj=stream, mode="rb") as unzipped:
        source = _MemoryMeter(cast("IO[bytes]", unzipped), limits.unpacked_bytes, tar_hash)
        census = Census(limits)
        with tarfile.open(
            fileobj=cast("IO[bytes]", source),
            mode="r|",
            bufsize=_TAR_BLOCK_BYTES,
            tarinfo=_StrictTarInfo,
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar:
            while info := source.next_member(tar):
                yield from _tar_entry(tar, info, census)
        source.drain()


def _tar_entry(
    tar: tarfile.TarFile, info: tarfile.TarInfo, census: Census
) -> Iterator[ArchiveEntry]:
    is_plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse()
    if not (is_plain or info.isdir()):
        raise not_a_file(info.name)
    census.admit(info.name, info.size, is_directory=info.isdir())
    mode = info.mode & PERMISSIONS
    if member := tar.extractfile(info):
        yield from opened_file(member, info.name, info.size, mode)
    else:
        yield ArchiveFolder(info.name, mode)
