"""Writing the zip of a toolchain module as a stream: memory holds one piece at a time.

`toolchain` says which files the zip has. `go` checks the h1 only: names and content are fixed,
compression, order and times are not. The format is PKWARE's APPNOTE 6.3.10 with data descriptors
(section 4.3.9), as Go's own module zips have them.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator

from isal import isal_zlib

from app.core import toolchain
from app.core.dirhash import hash1
from app.core.errors import BadInputError
from app.core.goarchive import ArchiveFile

PIECE_BYTES = 1 << 20

# isal's level 1 takes a fifth of the time of zlib's lowest level, for a zip of the same size.
_LEVEL = 1
_FLAGS = 0x808  # sizes and checksum follow the data; names are UTF-8
_DEFLATE = 8
_VERSION = 20
_DATE = 0x21  # 1980-01-01, the zip format's first day
_LOCAL = struct.Struct("<4s5H3I2H")
_DESCRIPTOR = struct.Struct("<4s3I")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_MAX_ENTRIES = 0xFFFF
_MAX_BYTES = 0xFFFFFFFF


class ToolchainZip:
    """The zip of one toolchain module, made from its release archive.

    Iterate once over `pieces`; after that, `h1` is the module's h1.

    Args:
        release: "go1.23.1".
        version: "v0.0.1-go1.23.1.linux-amd64".
    """

    def __init__(self, release: str, version: str) -> None:
        self._release = release
        self._version = version
        self._digests: list[tuple[str, bytes]] = []
        self._central: list[bytes] = []
        self._offset = 0

    @property
    def h1(self) -> str:
        """The h1 of all files that were written."""
        return hash1(self._digests)

    def pieces(self, files: Iterable[ArchiveFile]) -> Iterator[bytes]:
        """Yield the zip's bytes in pieces of about 1 MiB.

        Args:
            files: all files of the archive, with names that begin with "go/", in any order.

        Raises:
            BadInputError: the archive is damaged, or has more than a plain zip can hold.
        """
        buffer = bytearray()
        for file in files:
            name = toolchain.module_name(file.name, self._release, self._version)
            if name is None:
                continue
            for part in self._entry(name, file):
                buffer += part
                self._offset += len(part)
                if len(buffer) >= PIECE_BYTES:
                    yield bytes(buffer)
                    buffer.clear()
        yield bytes(buffer) + self._directory()

    def _entry(self, name: str, file: ArchiveFile) -> Iterator[bytes]:
        encoded, start = name.encode(), self._offset
        yield _LOCAL.pack(
            b"PK\x03\x04", _VERSION, _FLAGS, _DEFLATE, 0, _DATE, 0, 0, 0, len(encoded), 0
        )
        yield encoded
        digest, deflater = hashlib.sha256(), isal_zlib.compressobj(_LEVEL, _DEFLATE, -15)
        crc = size = packed = 0
        for chunk in file.chunks:
            digest.update(chunk)
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
            part = deflater.compress(chunk)
            packed += len(part)
            yield part
        part = deflater.flush()
        packed += len(part)
        yield part
        if max(size, packed, start) > _MAX_BYTES or len(self._central) >= _MAX_ENTRIES:
            raise BadInputError("the archive has more than a plain zip can hold")
        yield _DESCRIPTOR.pack(b"PK\x07\x08", crc, packed, size)
        self._digests.append((name, digest.digest()))
        self._central.append(
            _CENTRAL.pack(
                b"PK\x01\x02", _VERSION, _VERSION, _FLAGS, _DEFLATE, 0, _DATE, crc, packed, size,
                len(encoded), 0, 0, 0, 0, 0, start,
            ) + encoded
        )  # fmt: skip

    def _directory(self) -> bytes:
        entries = b"".join(self._central)
        count, start = len(self._central), self._offset
        if start > _MAX_BYTES:
            raise BadInputError("the archive has more than a plain zip can hold")
        return entries + _END.pack(b"PK\x05\x06", 0, 0, count, count, len(entries), start, 0)
