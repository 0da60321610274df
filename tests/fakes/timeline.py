"""A transparency log in memory: its records, the hashes of its tree, and the key that signs heads.

Follows RFC 6962 and x/mod/sumdb/{tlog,note}. Nothing here uses the code under test. Serving it is
`sumdb.py`'s.
"""

import base64
import hashlib
from collections.abc import Iterable
from functools import reduce

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

WIDTH = 256


class Signer:
    """A key and its name; the same seed byte gives the same key."""

    def __init__(self, name: str, seed: int = 7) -> None:
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        public = b"\1" + self._key.public_key().public_bytes_raw()
        self.key_hash = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
        self.vkey = f"{name}+{self.key_hash.hex()}+{base64.b64encode(public).decode()}"

    def note(self, text: str, *, spoiled: bool = False) -> bytes:
        """Return the note of a text; a spoiled one has a wrong signature."""
        signature = self._key.sign(text.encode())
        if spoiled:
            signature = bytes([signature[0] ^ 1]) + signature[1:]
        line = base64.b64encode(self.key_hash + signature).decode()
        return f"{text}\n\u2014 {self.name} {line}\n".encode()


class Timeline:
    """Records and the hashes of their tree: levels[k][n] is above records n * 2**k and on."""

    def __init__(self, texts: Iterable[bytes] = ()) -> None:
        self.texts: list[bytes] = []
        self.levels: list[list[bytes]] = [[]]
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, text: bytes) -> int:
        """Append a record, and return its number."""
        self.texts.append(text)
        value, level = hashlib.sha256(b"\0" + text).digest(), 0
        while True:
            row = self.levels[level]
            row.append(value)
            if len(row) % 2:
                return len(self.texts) - 1
            level += 1
            if level == len(self.levels):
                self.levels.append([])
            value = _node(row[-2], row[-1])

    def root(self, size: int) -> bytes:
        """Return the root of the first size records."""
        parts, start = [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                parts.append(self.levels[level][start >> level])
                start += 1 << level
        if not parts:
            return hashlib.sha256(b"").digest()
        return reduce(lambda right, left: _node(left, right), reversed(parts))

    def hashes(self, level: int, number: int) -> bytes:
        """Return the body of a tile as wide as it is now; b"" where there is none."""
        row = self.levels[8 * level] if 8 * level < len(self.levels) else []
        return b"".join(row[number * WIDTH : (number + 1) * WIDTH])


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
