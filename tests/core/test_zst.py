import gzip
import hashlib
import io
import shutil
import subprocess
from typing import Any

import pytest

from app.core.digest import Digest
from app.core.errors import BadInputError
from app.core.zst import Recompression
from tests.fakes.archives import go_archive

ARCHIVE = go_archive(extra_bytes=300_000)


def recompressed(archive: bytes, level: int = 3, **more: int) -> tuple[bytes, Recompression]:
    work = Recompression(level, **more)
    return b"".join(work.pieces(io.BytesIO(archive))), work


@pytest.mark.parametrize("level", [1, 9, 19])
def test_the_form_holds_the_very_tar(level: int) -> None:
    zst, work = recompressed(ARCHIVE, level)
    assert work.sums.archive == Digest.of(ARCHIVE)
    assert work.sums.zst == Digest.of(zst)
    assert decompressed(zst) == gzip.decompress(ARCHIVE)


def decompressed(zst: bytes) -> bytes:
    program = shutil.which("zstd")
    if program is None:
        pytest.skip("zstd is not installed")
    return subprocess.run([program, "-dc"], input=zst, capture_output=True, check=True).stdout


def test_the_content_has_a_checksum() -> None:
    zst, _ = recompressed(ARCHIVE)
    assert zst[4] & 0b100  # RFC 8878, section 3.1.1.1.1: Content_Checksum_flag


def test_long_runs_of_one_byte_are_decompressed_in_steps() -> None:
    archive = gzip.compress(bytes(8 << 20), 1)
    zst, _ = recompressed(archive)
    assert len(zst) < 1 << 20
    assert hashlib.sha256(decompressed(zst)).digest() == hashlib.sha256(bytes(8 << 20)).digest()


def test_a_damaged_archive_has_no_form() -> None:
    for position in range(0, len(ARCHIVE), len(ARCHIVE) // 25):
        changed = bytearray(ARCHIVE)
        changed[position] ^= 0x10
        try:
            _, work = recompressed(bytes(changed))
        except BadInputError:
            continue
        assert work.sums.archive != Digest.of(ARCHIVE)  # the header of gzip has no checksum
    for length in (1, 100, len(ARCHIVE) // 2, len(ARCHIVE) - 1):
        with pytest.raises(BadInputError):
            recompressed(ARCHIVE[:length])


def test_a_tar_beyond_the_limit_is_refused() -> None:
    with pytest.raises(BadInputError, match="unpacks to more than 1000 bytes"):
        recompressed(ARCHIVE, limit_bytes=1000)


class Lossy:
    """A compressor that writes something else than it gets."""

    def __init__(self, right: Any) -> None:
        self.right = right
        self.flush = right.flush

    def compress(self, chunk: bytes) -> bytes:
        return self.right.compress(chunk[:-1] + b"?")


def test_what_does_not_decompress_to_what_was_read_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Recompression(3)
    monkeypatch.setattr(work, "_compressor", Lossy(work._compressor))
    with pytest.raises(BadInputError, match="does not decompress"):
        list(work.pieces(io.BytesIO(ARCHIVE)))
