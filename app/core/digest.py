"""SHA-256 digests as a type. The encoding is lower-case hexadecimal, as in go.dev's index."""

import hashlib
import re
from dataclasses import dataclass

from app.core.errors import BadInputError

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A SHA-256 digest.

    `hex` is 64 lower-case hexadecimal characters:
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" is that of no bytes.
    """

    hex: str

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.hex):
            raise BadInputError(
                f"{self.hex[:80]!r} is not a SHA-256 in 64 lower-case hex characters"
            )

    @classmethod
    def of(cls, data: bytes) -> "Digest":
        """Return the digest of data."""
        return cls(hashlib.sha256(data).hexdigest())

    def __str__(self) -> str:
        return self.hex
