"""Signed notes (C2SP) and the verifier key that a node pins. The same form as `core/note`.

    moorage channel 1            the text: UTF-8, ends in a newline
    {"channel":"stable",…}
                                 a blank line
    — fleet.example Az3grr4J…    one line for each signature

A signature line is U+2014, a space, the key's name, a space, and the base64 of the key hash (4
bytes) and the signature. A vkey is "<name>+<8 hex digits>+<base64 of 0x01 and the public key>".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import NamedTuple

from . import ed25519
from .errors import RefusedError, UsageError

MAX_NOTE_BYTES = 4 << 20
_MAX_SIGNATURES = 100
_DASH = "\u2014 "
_ALGORITHM = b"\x01"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class VerifierKey(NamedTuple):
    """A pinned public key.

    Attributes:
        name: as in signature lines.
        key_hash: the first 4 bytes of SHA-256(name, newline, 0x01, public key).
        public_key: 32 bytes.
    """

    name: str
    key_hash: bytes
    public_key: bytes

    @property
    def key_id(self) -> str:
        """Return name and hash for people: "fleet.example+033de0ae"."""
        return f"{self.name}+{self.key_hash.hex()}"


def parse_vkey(text: str) -> VerifierKey:
    """Return the key of a vkey, as `moorage channel key` prints it.

    Raises:
        UsageError: text has another form, its hash is wrong, or the key is none that may be pinned.
    """
    name, _, rest = text.strip().partition("+")
    hash_hex, _, encoded = rest.partition("+")
    decoded = _base64(encoded)
    if not _is_name(name) or decoded[:1] != _ALGORITHM or not ed25519.is_public_key(decoded[1:]):
        raise UsageError(
            f"{text[:80]!a} is no verifier key; `moorage channel key` prints it: "
            "<name>+<8 hex digits>+<base64>"
        )
    key_hash = hashlib.sha256(name.encode() + b"\n" + decoded).digest()[:4]
    if key_hash.hex() != hash_hex:
        raise UsageError(f"the verifier key {text[:80]!a} is damaged: its hash does not match")
    return VerifierKey(name, key_hash, decoded[1:])


def open_note(raw: bytes, key: VerifierKey) -> str:
    """Return the text of a note that the pinned key signed.

    Signatures of other keys are ignored. Of the pinned key only the first signature counts.

    Raises:
        RefusedError: the note is malformed, or the key has not signed it.
    """
    if len(raw) > MAX_NOTE_BYTES:
        raise RefusedError(f"the manifest has more than {MAX_NOTE_BYTES} bytes")
    try:
        whole = raw.decode()
    except UnicodeDecodeError as error:
        raise RefusedError("the manifest is no signed note: it is not UTF-8") from error
    text, blank, lines = whole.rpartition("\n\n")
    signatures = lines.split("\n")[:-1]
    if not blank or not lines.endswith("\n") or _CONTROL.search(whole):
        raise RefusedError("the manifest is no signed note: its form is wrong, or it is cut off")
    if len(signatures) > _MAX_SIGNATURES:
        raise RefusedError(f"the manifest has more than {_MAX_SIGNATURES} signatures")
    signed = text + "\n"
    for line in signatures:
        name, _, encoded = line[len(_DASH) :].partition(" ")
        decoded = _base64(encoded)
        if not line.startswith(_DASH) or not _is_name(name) or len(decoded) <= len(key.key_hash):
            raise RefusedError(f"the manifest is no signed note: {line[:60]!a}")
        if (name, decoded[:4]) == (key.name, key.key_hash):
            if ed25519.verifies(key.public_key, signed.encode(), decoded[4:]):
                return signed
            raise RefusedError(
                f"the manifest's signature by {key.key_id} is wrong: its text was altered"
            )
    raise RefusedError(
        f"the manifest is not signed by the pinned key {key.key_id}; if the installation's key "
        "was replaced, enroll this node again"
    )


def _is_name(name: str) -> bool:
    return bool(name) and len(name) <= 255 and not any(c.isspace() or c == "+" for c in name)


def _base64(text: str) -> bytes:
    """Return the bytes of exact base64; no bytes if text is malformed."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return decoded if base64.b64encode(decoded).decode() == text else b""
