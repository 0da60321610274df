r"""Keys that sign notes, public and private. Follows golang.org/x/mod/sumdb/note.

    vkey  "<name>+<key hash>+<base64 of 0x01 and the public key>"
    skey  "PRIVATE+KEY+<name>+<key hash>+<base64 of 0x01 and the seed>"

0x01 stands for Ed25519, the only algorithm. A key hash is the first 4 bytes of SHA-256(name, "\n",
0x01, public key), written as 8 lower-case hex digits. Both forms are strict by printing back:
x/mod also takes capital hex digits, and base64 with newlines or stray last bits.

Not here: notes (`note`); where random bytes come from and how a seed is kept (services).
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519

from app.core.errors import BadInputError

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
KEY_HASH_BYTES = 4
MAX_NAME_CHARS = 255

_ED25519 = b"\x01"
_PRIVATE = "PRIVATE+KEY+"
_SHOWN_CHARS = 80
_MAX_PORT = 65535
# A part of what cmd/go takes as host[:port][/path] in GOSUMDB (modfetch/sumdb.go, dbDial).
_LOG_NAME = re.compile(
    r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)*",
    re.ASCII,
)


def is_key_name(name: str) -> bool:
    """Return whether name is allowed in a key and a signature line.

    A name has 1 to 255 characters of valid Unicode without white space, control characters and
    "+": "sum.golang.org", "localhost.localdev/sumdb".
    """
    if not name or len(name) > MAX_NAME_CHARS or "+" in name:
        return False
    return not any(c.isspace() or c < " " or "\ud800" <= c <= "\udfff" for c in name)


def check_log_name(name: str) -> None:
    """Accept a name that `go` accepts for a checksum database: host[:port][/path].

    The host is lower case; a path element has letters, digits and "-._~":
    "sum.corp.example", "sum.corp.example:8443/tenant-a".

    Raises:
        BadInputError: name has another form, ends in a slash, or has over 255 characters.
    """
    match = _LOG_NAME.fullmatch(name) if len(name) <= MAX_NAME_CHARS else None
    if match is None or int(match["port"] or 1) > _MAX_PORT:
        raise BadInputError(
            f"{name[:_SHOWN_CHARS]!a} can't be the name of a checksum database; "
            "it is host[:port][/path], such as sum.corp.example/tenant-a"
        )


def base64_exact(text: str) -> bytes | None:
    """Return the bytes of a padded standard base64 text; None if text is malformed.

    Each value has one spelling: stray bits in the last character are refused.
    """
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if base64.b64encode(decoded).decode() == text else None


def _key_hash(name: str, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:KEY_HASH_BYTES]


def _check(name: str, key: bytes, length: int, what: str) -> None:
    if not is_key_name(name):
        raise BadInputError(
            f"{name[:_SHOWN_CHARS]!a} can't be the name of a key: it is 1 to {MAX_NAME_CHARS} "
            'characters without white space and "+"'
        )
    if len(key) != length:
        raise BadInputError(f"{what} of an Ed25519 key has {length} bytes, not {len(key)}")


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key and its name.

    Attributes:
        name: accepted by `is_key_name`.
        public_key: 32 bytes, Ed25519.
        key_hash: 4 bytes; distinguishes keys of one name, proves nothing.
    """

    name: str
    public_key: bytes
    key_hash: bytes = field(init=False)

    def __post_init__(self) -> None:
        _check(self.name, self.public_key, PUBLIC_KEY_BYTES, "the public half")
        object.__setattr__(self, "key_hash", _key_hash(self.name, self.public_key))

    @property
    def key_id(self) -> str:
        """Return name and key hash, the form for people: "sum.golang.org+033de0ae"."""
        return f"{self.name}+{self.key_hash.hex()}"

    @property
    def vkey(self) -> str:
        """Return the public form that `go` takes in GOSUMDB: "<name>+<key hash>+<base64>"."""
        return f"{self.key_id}+{base64.b64encode(_ED25519 + self.public_key).decode()}"

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Return whether this key made the signature over message; False if not 64 bytes."""
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key and its name; 32 random bytes make a new key.

    Attributes:
        name: accepted by `is_key_name`.
        seed: 32 bytes, Ed25519 (RFC 8032 calls this the private key). Not in the repr.
        verifier: the public half.
    """

    name: str
    seed: bytes = field(repr=False)
    verifier: Verifier = field(init=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.name, self.seed, SEED_BYTES, "the seed")
        public_key = self._private_key().public_key().public_bytes_raw()
        object.__setattr__(self, "verifier", Verifier(self.name, public_key))

    def _private_key(self) -> ed25519.Ed25519PrivateKey:
        return ed25519.Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def skey(self) -> str:
        """Return the private form, a secret: "PRIVATE+KEY+<name>+<key hash>+<base64>"."""
        return f"{_PRIVATE}{self.verifier.key_id}+{base64.b64encode(_ED25519 + self.seed).decode()}"

    def sign(self, message: bytes) -> bytes:
        """Return the signature over message: 64 bytes, the same ones each time."""
        return self._private_key().sign(message)


def generate(name: str, random_bytes: bytes) -> Signer:
    """Return a new key; random_bytes, its seed, are 32 bytes from the system's secure source.

    Raises:
        BadInputError: `is_key_name` refuses name, or random_bytes has another length.
    """
    return Signer(name, random_bytes)


def parse_vkey(text: str) -> Verifier:
    """Return the key of a vkey, the form that GOSUMDB has.

    "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8" is Go's own.

    Raises:
        BadInputError: text has another form or algorithm, or the key hash is wrong.
    """
    if _PRIVATE in text:
        # The message does not have the key: messages go into logs.
        raise BadInputError("that is a signer key, which is secret; its verifier key is wanted")
    name, _, rest = text.partition("+")
    key = _parse_key(rest.partition("+")[2])
    if key is None or not is_key_name(name):
        raise BadInputError(
            f"{text[:_SHOWN_CHARS]!a} is not a verifier key; that is <name>+<8 hex digits>+<base64>"
        )
    verifier = Verifier(name, key)
    if verifier.vkey != text:
        raise BadInputError(
            f"the verifier key {text[:_SHOWN_CHARS]!a} has not the key hash of its name and key"
        )
    return verifier


def parse_skey(text: str) -> Signer:
    """Return the key of the private form, an skey.

    Raises:
        BadInputError: text has another form or algorithm, or the key hash is wrong. The message
            never has the key.
    """
    name, _, rest = text.removeprefix(_PRIVATE).partition("+")
    seed = _parse_key(rest.partition("+")[2])
    if seed is None or not is_key_name(name):
        raise BadInputError(
            "that is not a signer key; one is PRIVATE+KEY+<name>+<8 hex digits>+<base64>"
        )
    signer = Signer(name, seed)
    if signer.skey != text:
        raise BadInputError(f"the signer key of {name!a} has not the key hash of its name and key")
    return signer


def _parse_key(text: str) -> bytes | None:
    decoded = base64_exact(text)
    if decoded is None or len(decoded) != 1 + PUBLIC_KEY_BYTES or decoded[:1] != _ED25519:
        return None
    return decoded[1:]
