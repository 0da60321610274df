"""Tokens: a recognisable prefix, 256 random bits and a checksum, so that scanners find leaked ones.

"moor_" + 43 base62 characters of randomness + 6 base62 characters of CRC-32 over the text before.
The database has only the SHA-256 of a token: 256 random bits need no slow hash.
"""

import hashlib
import zlib

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX = "moor_"
_RANDOM_CHARS = 43
_CHECK_CHARS = 6


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def make_token(random: bytes) -> str:
    """Return the token of 32 random bytes: 54 characters.

    Raises:
        ValueError: random is not 32 bytes.
    """
    if len(random) != 32:
        raise ValueError("a token is made of 32 random bytes")
    body = PREFIX + _base62(int.from_bytes(random, "big"), _RANDOM_CHARS)
    return body + _base62(zlib.crc32(body.encode()), _CHECK_CHARS)


def looks_like_token(text: str) -> bool:
    """Report whether text has a token's form and checksum; says nothing of its validity."""
    if not text.isascii() or len(text) != len(PREFIX) + _RANDOM_CHARS + _CHECK_CHARS:
        return False
    body, check = text[:-_CHECK_CHARS], text[-_CHECK_CHARS:]
    return body.startswith(PREFIX) and check == _base62(zlib.crc32(body.encode()), _CHECK_CHARS)


def token_hash(token: str) -> str:
    """Return the stored form of a token, its SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()
