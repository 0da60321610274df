import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.chunks import PIECE_BYTES, sum_pieces, sums_bytes
from app.core.digest import Digest

MIB = 1 << 20


@pytest.mark.parametrize(
    "size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 5 * MIB // 2], ids=lambda size: f"{size} bytes"
)
def test_each_mebibyte_has_its_sum_and_the_last_piece_may_be_shorter(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    pieces = [data[start : start + MIB] for start in range(0, size, MIB)]
    read = sum_pieces(io.BytesIO(data))
    assert read.sums == b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    assert read.sha256 == Digest.of(data)
    assert len(read.sums) == sums_bytes(size)


def test_the_size_of_a_piece_is_part_of_the_format() -> None:
    assert PIECE_BYTES == MIB
    assert [sums_bytes(size) for size in (0, 1, MIB, MIB + 1)] == [0, 32, 32, 64]


@given(st.binary(max_size=300), st.integers(0, 299))
def test_any_flipped_byte_changes_the_sums(data: bytes, position: int) -> None:
    if position < len(data):
        changed = bytearray(data)
        changed[position] ^= 1
        assert sum_pieces(io.BytesIO(changed)).sums != sum_pieces(io.BytesIO(data)).sums
