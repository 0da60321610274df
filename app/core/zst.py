"""The zstd form of an archive: the same tar, compressed anew, as a stream.

Everything is checked on the way: what is read has a digest, and what is written is decompressed at
once and compared. Memory: some 130 MiB at level 19, some 50 MiB at level 9. The format is RFC 8878,
with a checksum of the content, and a window of at most 8 MiB, which every reader accepts.
"""

import gzip
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

from app.core.archiverules import ArchiveLimits, archive_errors, too_large
from app.core.digest import Digest
from app.core.errors import BadInputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ZstSums:
    """What went through: the digests of the archive that was read and of what was written."""

    archive: Digest
    zst: Digest


class Recompression:
    """One archive. Iterate over `pieces` to the end; after that, `sums` tells what went through.

    Args:
        level: of zstd, 1 (fast) to 19 (small).
        limit_bytes: the longest tar.
    """

    def __init__(self, level: int, limit_bytes: int = ArchiveLimits().unpacked_bytes) -> None:
        parameter = zstd.CompressionParameter
        options: dict[int, int] = {parameter.compression_level: level, parameter.checksum_flag: 1}
        self._compressor = zstd.ZstdCompressor(options=options)
        self._back = zstd.ZstdDecompressor()
        self._limit_bytes = limit_bytes
        self._archive, self._zst = hashlib.sha256(), hashlib.sha256()
        self._tar, self._tar_back = hashlib.sha256(), hashlib.sha256()

    @property
    def sums(self) -> ZstSums:
        """The digests of all that went through."""
        return ZstSums(Digest(self._archive.hexdigest()), Digest(self._zst.hexdigest()))

    def pieces(self, archive: BinaryIO) -> Iterator[bytes]:
        """Yield the zstd form of a tar.gz, in pieces of any length.

        Raises:
            BadInputError: the archive is damaged or too large; or decompressing what was written
                does not give what was read.
        """
        tar_bytes = 0
        source = _Hashed(archive, self._archive)
        with archive_errors(), gzip.GzipFile(fileobj=cast("IO[bytes]", source), mode="rb") as tar:
            while chunk := tar.read(_READ_BYTES):
                tar_bytes += len(chunk)
                if tar_bytes > self._limit_bytes:
                    raise too_large(self._limit_bytes)
                self._tar.update(chunk)
                yield from self._checked(self._compressor.compress(chunk))
            yield from self._checked(self._compressor.flush())
        if not self._back.eof or self._tar_back.digest() != self._tar.digest():
            raise BadInputError("the zstd form does not decompress to the tar of the archive")

    def _checked(self, piece: bytes) -> Iterator[bytes]:
        if not piece:
            return
        self._zst.update(piece)
        rest = piece
        while True:
            self._tar_back.update(self._back.decompress(rest, _READ_BYTES))
            rest = b""
            if self._back.eof or self._back.needs_input:
                break
        yield piece


class _Hashed:
    """A stream of which every byte that is read is hashed."""

    def __init__(self, stream: BinaryIO, content_hash: "hashlib._Hash") -> None:
        self._stream = stream
        self._hash = content_hash

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self._hash.update(chunk)
        return chunk
