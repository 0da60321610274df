"""The directory of a module zip: its end records and central entries, read in one way only.

Follows APPNOTE 6.3.10 and Go's archive/zip/reader.go. Python's zipfile is not used: it repairs a
zip silently (bytes before or after, a wrong count), so that zipfile and `go` could read different
entries. Not here: which names are allowed (`module`, `modzip_names`), the bytes that the directory
points to (`modzip_content`).
"""

import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from app.core.archiverules import not_a_file, shown
from app.core.errors import BadInputError

STORED = 0
DEFLATED = 8
DESCRIPTOR_FLAG = 0x8  # sizes and checksum follow the data

_DIRECTORY_BYTES = 32 << 20  # 160 for each of 200,000 entries; it is read at once
_ENCRYPTED_OR_PATCHED = 0x1 | 0x20 | 0x40 | 0x2000
_ZIP64_TAG = 0x0001
_MAX16 = 0xFFFF
_MAX32 = 0xFFFFFFFF

_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_EARLIER = re.compile(re.escape(_END_SIGNATURE))
_LOCATOR64 = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_EXTRA = struct.Struct("<2H")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, as the directory describes it.

    Attributes:
        name: plain and whole, "example.com/m@v1.0.0/go.mod"; a directory's name ends with "/".
        offset: of the local header, in bytes from the zip's start.
        flags: the general purpose bits; those about encryption are not set.
        method: STORED or DEFLATED.
        crc: CRC-32 of the content.
        packed_bytes: size of the content in the zip.
        size_bytes: size of the content when unpacked.
    """

    name: str
    offset: int
    flags: int
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Directory:
    """All entries in the order of their offsets, and the offset at which the last entry ends."""

    entries: tuple[Entry, ...]
    offset: int

    def spans(self) -> Iterator[tuple[Entry, int]]:
        """Yield each entry and its span: the bytes from its local header to the next one.

        The spans cover the zip up to its directory without gap or overlap. Reading the entry
        reveals a span that is too short or too long.
        """
        following = [entry.offset for entry in self.entries[1:]] + [self.offset]
        for entry, end in zip(self.entries, following, strict=bool(self.entries)):
            yield entry, end - entry.offset


class _End(NamedTuple):
    """An end record: two disk numbers, entries on this disk and in all, directory size, offset.

    The old record and the zip64 record have the same six values.
    """

    disk: int
    directory_disk: int
    here: int
    entries: int
    size_bytes: int
    offset: int


def read_directory(
    stream: BinaryIO, zip_bytes: int, *, max_entries: int, max_name_bytes: int
) -> Directory:
    """Return the directory of the zip that fills a stream of zip_bytes.

    The zip begins with its first entry's header and ends with its end record and the comment.
    The declared count of entries is checked before an entry is read.

    Raises:
        BadInputError: the zip is malformed, has too many entries or too long a name, or has an
            entry that is encrypted, neither file nor directory, or compressed by another method.
    """
    end, end_at = _read_end(stream, zip_bytes)
    if end.entries > max_entries:
        raise BadInputError(f"the zip has {end.entries} entries, more than {max_entries}")
    if end.disk or end.directory_disk or end.here != end.entries:
        raise BadInputError("the zip is a part of several")
    if end.offset + end.size_bytes != end_at:
        raise BadInputError("the zip's directory is not where its end record says")
    if end.size_bytes > _DIRECTORY_BYTES:
        raise BadInputError(f"the zip's directory has more than {_DIRECTORY_BYTES} bytes")
    stream.seek(end.offset)
    raw = exactly(stream, end.size_bytes)
    entries = sorted(_entries(raw, end.entries, max_name_bytes), key=lambda entry: entry.offset)
    if (entries[0].offset if entries else end.offset) != 0:
        raise BadInputError("the zip has bytes before its first entry")
    return Directory(tuple(entries), end.offset)


def declared_entries(stream: BinaryIO, zip_bytes: int) -> int:
    """Return how many entries a zip's end record declares; `read_directory` holds it to that.

    Raises:
        BadInputError: it has no end record that can be read in one way only.
    """
    return _read_end(stream, zip_bytes)[0].entries


def exactly(stream: BinaryIO, count: int) -> bytes:
    """Return the next count bytes of a stream; raise BadInputError if the stream has fewer."""
    content = stream.read(count)
    if len(content) != count:
        raise BadInputError("the zip is cut short")
    return content


def widened(values: tuple[int, ...], extra: bytes) -> tuple[int, ...]:
    """Return the values of a header; each 0xFFFFFFFF is replaced by a 64-bit value of `extra`.

    The zip64 field in `extra` holds only the values that don't fit into 32 bits, in the order of
    `values`. Without a zip64 field 0xFFFFFFFF is an ordinary value, as in Go.

    Raises:
        BadInputError: the zip64 field has a wrong length, or comes twice.
    """
    wide = values.count(_MAX32)
    if not wide:
        return values
    fields = [field for tag, field in _extra_fields(extra) if tag == _ZIP64_TAG]
    if not fields:
        return values
    if len(fields) > 1 or len(fields[0]) != 8 * wide:
        raise BadInputError("the zip has an entry with a wrong zip64 field")
    replacements = iter(struct.unpack(f"<{wide}Q", fields[0]))
    return tuple(next(replacements) if value == _MAX32 else value for value in values)


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (tag, bytes) of an extra field; like Go, stop at a length that goes beyond the end."""
    at = 0
    while at + _EXTRA.size <= len(extra):
        tag, length = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if at + length > len(extra):
            return
        yield tag, extra[at : at + length]
        at += length


def _read_end(stream: BinaryIO, zip_bytes: int) -> tuple[_End, int]:
    """Return the end record, and the offset at which the directory must end.

    A comment may follow the record: `git archive` writes the commit's hash. A comment with a second
    end record is refused, since readers differ on which of the two counts.
    """
    if zip_bytes < _END.size:
        raise BadInputError("the file is too short for a zip")
    tail_at = max(zip_bytes - _END.size - _MAX16, 0)
    stream.seek(tail_at)
    tail = exactly(stream, zip_bytes - tail_at)
    at = tail.rfind(_END_SIGNATURE)
    if not _is_end(tail, at):
        raise BadInputError("the file is no zip, is cut short, or has bytes at its end")
    _, *fields, comment_bytes = _END.unpack_from(tail, at)
    end, end_at = _End(*fields), tail_at + at
    if comment_bytes and any(_is_end(tail, m.start()) for m in _EARLIER.finditer(tail, 0, at)):
        raise BadInputError("the zip has two end records")
    locator_at = end_at - _LOCATOR64.size
    if locator_at >= _END64.size:
        stream.seek(locator_at)
        locator = exactly(stream, _LOCATOR64.size)
        if locator.startswith(b"PK\x06\x07"):
            return _read_end64(stream, locator, locator_at, end)
    return end, end_at


def _is_end(tail: bytes, at: int) -> bool:
    """Whether an end record is at an offset, whose comment fills the rest of the zip."""
    if at < 0 or at + _END.size > len(tail):
        return False
    comment_bytes: int = _END.unpack_from(tail, at)[-1]
    return at + _END.size + comment_bytes == len(tail)


def _read_end64(stream: BinaryIO, locator: bytes, locator_at: int, end: _End) -> tuple[_End, int]:
    """Return the zip64 end record, which must agree with every value that the old one can hold."""
    record_at = locator_at - _END64.size
    _, disk, declared_at, disks = _LOCATOR64.unpack(locator)
    stream.seek(record_at)
    signature, length, _, _, *fields = _END64.unpack(exactly(stream, _END64.size))
    if (disk, declared_at, disks) != (0, record_at, 1) or signature != b"PK\x06\x06":
        raise BadInputError("the zip's zip64 end is not where its locator says")
    wide = _End(*fields)
    limits = (_MAX16,) * 4 + (_MAX32,) * 2
    agrees = all(old in (new, limit) for old, new, limit in zip(end, wide, limits, strict=True))
    # The length leaves out the signature and itself.
    if length != _END64.size - 12 or not agrees:
        raise BadInputError("the zip's two end records contradict each other")
    return wide, record_at


def _entries(raw: bytes, count: int, max_name_bytes: int) -> Iterator[Entry]:
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(raw):
            break
        fields = _CENTRAL.unpack_from(raw, at)
        name_at = at + _CENTRAL.size
        extra_at = name_at + fields[10]
        comment_at = extra_at + fields[11]
        at = comment_at + fields[12]
        if fields[0] != b"PK\x01\x02" or at > len(raw):
            break
        if fields[10] > max_name_bytes:
            raise BadInputError(f"the zip has a name of more than {max_name_bytes} bytes")
        yield _entry(fields, raw[name_at:extra_at], raw[extra_at:comment_at])
    else:
        if at == len(raw):
            return
    # Go counts modulo 65,536 and reads on: a wrong length would hide the entries after it.
    raise BadInputError("the zip's directory has not the entries that its end counts")


def _entry(fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> Entry:
    _, _, _, flags, method, _, _, crc, packed, size, *_, attributes, offset = fields
    try:
        name = raw_name.decode()  # whatever bit 11 says: Go takes the bytes as they are
    except UnicodeDecodeError as error:
        raise BadInputError(f"the name {ascii(raw_name[:60])[1:]} is not UTF-8") from error
    file_type = stat.S_IFMT(attributes >> 16)
    if file_type not in (0, stat.S_IFDIR if name.endswith("/") else stat.S_IFREG):
        raise not_a_file(name)
    if flags & _ENCRYPTED_OR_PATCHED:
        raise BadInputError(f"{shown(name)} is encrypted")
    if method not in (STORED, DEFLATED):
        raise BadInputError(f"{shown(name)} is compressed by a method that Go does not read")
    size, packed, offset = widened((size, packed, offset), extra)
    return Entry(name, offset, flags, method, crc, packed, size)
