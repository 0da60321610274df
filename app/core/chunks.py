"""The sums of a file's pieces, served as `<file>.chunks`.

The format: the SHA-256 (32 bytes, raw) of each 1 MiB of the file, one after another; the last piece
may be shorter. So a client checks each piece before it decompresses it. A file of 2.5 MiB has 96
bytes of sums, an empty file none.
"""

import hashlib
from dataclasses import dataclass
from typing import BinaryIO

from app.core.digest import Digest

PIECE_BYTES = 1 << 20
SUM_BYTES = 32


@dataclass(frozen=True, slots=True)
class PieceSums:
    """`sums` is the `.chunks` file of a file, `sha256` the digest of the whole file."""

    sums: bytes
    sha256: Digest


def sum_pieces(stream: BinaryIO) -> PieceSums:
    """Return the sums of what a stream has from its position to its end. Blocks.

    Args:
        stream: a buffered one: its `read` returns a whole piece everywhere but at the end.
    """
    whole, sums = hashlib.sha256(), bytearray()
    while piece := stream.read(PIECE_BYTES):
        whole.update(piece)
        sums += hashlib.sha256(piece).digest()
    return PieceSums(bytes(sums), Digest(whole.hexdigest()))


def sums_bytes(size_bytes: int) -> int:
    """Return the size of the `.chunks` file of a file of size_bytes."""
    return SUM_BYTES * -(-size_bytes // PIECE_BYTES)
