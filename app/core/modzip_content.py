"""The content of one entry of a module zip, compared with everything that the zip declares of it.

`modzip_directory` reads the directory. A local header that contradicts the directory is refused,
because readers differ in which of the two they use. Follows APPNOTE 6.3.10, sections 4.3.7 and
4.3.9.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from app.core.archiverules import CHUNK_BYTES, shown
from app.core.errors import BadInputError
from app.core.modzip_directory import DEFLATED, DESCRIPTOR_FLAG, Entry, exactly, widened

_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR_SIGNATURE = b"PK\x07\x08"
_LOW_32_BITS = 0xFFFFFFFF


class _Span:
    """The bytes of one entry, read in order; at most two chunks are in memory."""

    def __init__(self, stream: BinaryIO, entry: Entry, span_bytes: int) -> None:
        self._stream = stream
        self._entry = entry
        self._ahead = b""
        self.left_bytes = span_bytes

    def take(self, count: int) -> bytes:
        """Return the next count bytes, at most CHUNK_BYTES."""
        if count > self.left_bytes:
            raise BadInputError(f"{shown(self._entry.name)} overlaps what follows it in the zip")
        if count > len(self._ahead):
            # One read gets the whole entry in most cases: files of modules have a few kilobytes.
            unread_bytes = self.left_bytes - len(self._ahead)
            self._ahead += exactly(self._stream, min(unread_bytes, CHUNK_BYTES))
        content, self._ahead = self._ahead[:count], self._ahead[count:]
        self.left_bytes -= count
        return content

    def chunks(self, count: int) -> Iterator[bytes]:
        """Yield the next count bytes in chunks."""
        while count:
            chunk = self.take(min(count, CHUNK_BYTES))
            count -= len(chunk)
            yield chunk


def entry_chunks(stream: BinaryIO, entry: Entry, span_bytes: int) -> Iterator[bytes]:
    """Yield the content of an entry in chunks of at most CHUNK_BYTES, never more than declared.

    Iterate to the end to know that the content has its declared size and checksum, and that the
    entry fills its span.

    Args:
        stream: at the entry's local header; after the call at the end of the span.
        entry: as the directory describes it.
        span_bytes: from the local header to the beginning of the next entry or the directory.

    Raises:
        BadInputError: while iterating; anything is not as the directory says.
    """
    span = _Span(stream, entry, span_bytes)
    _check_local_header(span, entry)
    if entry.packed_bytes > span.left_bytes:
        raise BadInputError(f"{shown(entry.name)} overlaps what follows it in the zip")
    packed = span.chunks(entry.packed_bytes)
    crc = 0
    left_bytes = entry.size_bytes
    for chunk in _inflate(packed, entry) if entry.method == DEFLATED else packed:
        crc = zlib.crc32(chunk, crc)
        left_bytes -= len(chunk)
        if left_bytes < 0:
            break
        yield chunk
    if left_bytes:
        raise _untrue_size(entry)
    if crc != entry.crc:
        raise BadInputError(f"{shown(entry.name)} has not the checksum that it declares")
    _check_rest(span, entry)


def _inflate(packed: Iterator[bytes], entry: Entry) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    # One byte more than declared is enough to prove that the declared size is wrong.
    limit = min(CHUNK_BYTES, entry.size_bytes + 1)
    for chunk in packed:
        if inflater.eof:
            raise _bytes_after(entry)
        unread, full = chunk, True
        # After a full buffer, zlib may hold more output although it has read all input.
        while full and not inflater.eof:
            try:
                content = inflater.decompress(unread, limit)
            except zlib.error as error:
                raise BadInputError(f"{shown(entry.name)} can't be inflated") from error
            unread, full = inflater.unconsumed_tail, len(content) == limit
            yield content
    if inflater.unused_data:
        raise _bytes_after(entry)
    if not inflater.eof:
        raise BadInputError(f"{shown(entry.name)} is compressed data without its end")


def _check_local_header(span: _Span, entry: Entry) -> None:
    fields = _LOCAL.unpack(span.take(_LOCAL.size))
    signature, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = fields
    if signature != b"PK\x03\x04":
        raise BadInputError(f"{shown(entry.name)} is not where the zip's directory says")
    if span.take(name_bytes) != entry.name.encode():
        raise BadInputError(f"{shown(entry.name)} has another name in its own header")
    sizes = widened((size, packed), span.take(extra_bytes))
    declared = ((crc, entry.crc), *zip(sizes, (entry.size_bytes, entry.packed_bytes), strict=True))
    # A streaming writer does not know size and checksum yet and writes 0; the descriptor has them.
    unknown = 0 if flags & DESCRIPTOR_FLAG else None
    agrees = all(local in (central, unknown) for local, central in declared)
    if (flags, method) != (entry.flags, entry.method) or not agrees:
        raise BadInputError(f"{shown(entry.name)} has a header that contradicts the directory")


def _check_rest(span: _Span, entry: Entry) -> None:
    """Refuse bytes after the content; the flags may announce a descriptor, which is allowed."""
    if not entry.flags & DESCRIPTOR_FLAG:
        if span.left_bytes:
            raise _bytes_after(entry)
        return
    longest = len(_DESCRIPTOR_SIGNATURE) + struct.calcsize("<LQQ")
    rest = span.take(min(span.left_bytes, longest + 1))
    # The signature is optional, and only the length shows whether sizes have 4 or 8 bytes.
    if rest.removeprefix(_DESCRIPTOR_SIGNATURE) not in _descriptors(entry):
        raise BadInputError(f"{shown(entry.name)} has a wrong data descriptor, or bytes after it")


def _descriptors(entry: Entry) -> tuple[bytes, ...]:
    sizes = (entry.packed_bytes, entry.size_bytes)
    return (
        struct.pack("<LLL", entry.crc, *(size & _LOW_32_BITS for size in sizes)),
        struct.pack("<LQQ", entry.crc, *sizes),
    )


def _untrue_size(entry: Entry) -> BadInputError:
    return BadInputError(
        f"{shown(entry.name)} has not the {entry.size_bytes} bytes that it declares"
    )


def _bytes_after(entry: Entry) -> BadInputError:
    return BadInputError(f"the zip has bytes after {shown(entry.name)} that belong to no entry")
