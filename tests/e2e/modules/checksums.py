"""A checksum database as static files: a signed log of up to 255 module versions.

Follows golang.org/x/mod/sumdb (tlog, note); nothing here uses the code under test. It never grows:
what a log does over time is not tested with it.
"""

import base64
import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, escape


class ChecksumLog:
    """The log of some modules, served by a fake.

    Args:
        name: of the database, as in GOSUMDB: a host, or "localhost:8443".
        modules: one record each, in this order.
    """

    def __init__(self, name: str, modules: Sequence[Module]) -> None:
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._public = b"\x01" + public
        self._hash = hashlib.sha256(f"{name}\n".encode() + self._public).digest()[:4]
        self._modules = modules
        self._records = [_record(one) for one in modules]

    @property
    def vkey(self) -> str:
        """The verifier key: name, hash and key."""
        return f"{self.name}+{self._hash.hex()}+{base64.b64encode(self._public).decode()}"

    def publish(self, fake: FakeGoproxy, below: str) -> None:
        """Have a fake serve the log's files below a path: "/log", or "/sumdb/<name>"."""
        note = self._note()
        for number, (one, record) in enumerate(zip(self._modules, self._records, strict=True)):
            path = f"{below}/lookup/{escape(one.path)}@{escape(one.version)}"
            fake.put_raw(path, f"{number}\n{record}\n{note}".encode())
        leaves = b"".join(_leaf(record) for record in self._records)
        fake.put_raw(f"{below}/tile/8/0/000.p/{len(self._records)}", leaves)

    def _note(self) -> str:
        root = base64.b64encode(_root([_leaf(record) for record in self._records])).decode()
        text = f"go.sum database tree\n{len(self._records)}\n{root}\n"
        signed = base64.b64encode(self._hash + self._key.sign(text.encode())).decode()
        return f"{text}\n\u2014 {self.name} {signed}\n"


def _record(one: Module) -> str:
    at = f"{one.path} {one.version}"
    return f"{at} {one.h1}\n{at}/go.mod {one.mod_h1}\n"


def _leaf(record: str) -> bytes:
    return hashlib.sha256(b"\x00" + record.encode()).digest()


def _root(hashes: Sequence[bytes]) -> bytes:
    """Return the tree hash of RFC 6962, section 2.1, from the leaves' hashes."""
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << ((len(hashes) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + _root(hashes[:half]) + _root(hashes[half:])).digest()
