"""A zip, read entry by entry. Strict where zipfile ignores counts, NULs and encryption bits.

The rules for names, counts and sizes are in `archiverules`.
"""

import io
import stat
import struct
import zipfile
from collections.abc import Iterator
from typing import IO, BinaryIO, cast

from app.core.archiverules import (
    FILE_MODE,
    FOLDER_MODE,
    PERMISSIONS,
    ArchiveEntry,
    ArchiveFolder,
    ArchiveLimits,
    Census,
    archive_errors,
    not_a_file,
    opened_file,
    shown,
)
from app.core.errors import BadInputError

_DIRECTORY_BYTES = 32 << 20  # of a zip's central directory: 160 for each of 200,000 entries
_ENCRYPTED_OR_PATCHED = 0x1 | 0x20 | 0x40
_UTF8_NAME = 0x800
_ZIP_END = struct.Struct("<4s 6x H 10x")
_COUNT_IN_ZIP64 = 0xFFFF


class _LimitedReads:
    """A seekable stream that refuses one read over _DIRECTORY_BYTES.

    zipfile reads the central directory in one read, of the length that the archive declares.
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


def zip_entries(stream: BinaryIO, limits: ArchiveLimits) -> Iterator[ArchiveEntry]:
    """Yield the files and folders of a zip; see `goarchive.iter_entries`."""
    with archive_errors(), zipfile.ZipFile(cast("IO[bytes]", _LimitedReads(stream))) as archive:
        _check_count(stream, archive)
        census = Census(limits)
        for info in archive.infolist():
            name, is_directory = _zip_entry(info)
            census.admit(name, info.file_size, is_directory=is_directory)
            mode = (info.external_attr >> 16) & PERMISSIONS
            if is_directory:
                yield ArchiveFolder(name, mode or FOLDER_MODE)
            else:
                content = archive.open(info)
                yield from opened_file(content, name, info.file_size, mode or FILE_MODE)


def _check_count(stream: BinaryIO, archive: zipfile.ZipFile) -> None:
    """Refuse a zip with bytes after the end record, or with a wrong count of entries in it.

    zipfile ignores the count: a wrong length in one entry would hide the entries after it.
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
        raise not_a_file(name)
    if info.flag_bits & _ENCRYPTED_OR_PATCHED:
        raise BadInputError(f"{shown(name)} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInputError(f"{shown(name)} is compressed by a method that Go does not read")
    return name.removesuffix("/"), is_directory
