"""Decoding a body that an upstream sends with gzip although only identity was asked for.

Go's own client decodes such a body, too. RFC 1952; a body may have several members.
"""

import zlib
from collections.abc import Iterator

_GZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 64 * 1024


class Gunzip:
    """Decodes one body in pieces of at most 64 KiB: a small chunk may become very large.

    Args:
        max_raw_bytes: the most that the encoded body may have.
    """

    def __init__(self, max_raw_bytes: int) -> None:
        self._left_bytes = max_raw_bytes
        self._member = zlib.decompressobj(_GZIP)
        self._has_begun = False  # whether a byte has come

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces of the next chunk.

        Raises:
            ValueError: the body is no gzip, or is longer than max_raw_bytes.
        """
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise ValueError("is too long")
        while chunk:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            self._has_begun = True
            try:
                piece = self._member.decompress(chunk, _PIECE_BYTES)
            except zlib.error as error:
                raise ValueError("is damaged") from error
            chunk = self._member.unconsumed_tail or self._member.unused_data
            yield piece

    @property
    def is_complete(self) -> bool:
        """Whether the body ends where a member ends; an empty body is complete."""
        return self._member.eof or not self._has_begun
