"""Secrets that are sealed in the database: AES-256-GCM (NIST SP 800-38D) under one key.

A sealed secret is bound to its place: copied into another row, it can't be opened. The key is a
setting or a file in the data directory, never in the database.
"""

import base64
import binascii
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.core.errors import BadInputError, StorageError

KEY_BYTES = 32
_NONCE_BYTES = 12
_FORMAT = b"\x01"


def parse_key(text: str) -> bytes:
    """Return the key of its base64 form, as `openssl rand -base64 32` prints it.

    Raises:
        BadInputError: text is not 32 bytes of base64; the message does not have the text.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInputError("the key is not base64") from error
    if len(key) != KEY_BYTES:
        raise BadInputError(f"the key has {len(key)} bytes in the place of {KEY_BYTES}")
    return key


class SecretBox:
    """Seals and opens secrets under one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, secret: str, place: str) -> bytes:
        """Return the secret, sealed for one place: "credential:acme/artifactory"."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, secret.encode(), place.encode())

    def open(self, sealed: bytes, place: str) -> str:
        """Return the secret that was sealed for a place.

        Raises:
            StorageError: the secret was sealed under another key or for another place, or is
                damaged.
        """
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            if sealed[:1] != _FORMAT:
                raise InvalidTag
            return self._cipher.decrypt(nonce, body, place.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise StorageError(
                f"the secret of {place} can't be opened with this key; "
                "is MOORAGE_SECRETS_KEY, or keys/secrets.key in the data directory, the old one?"
            ) from error

    def holds(self, sealed: bytes, place: str, secret: str) -> bool:
        """Whether this secret was sealed for a place; one that can't be opened is another."""
        try:
            return self.open(sealed, place) == secret
        except StorageError:
            return False


def place_of(tenant: str, name: str) -> str:
    """Return the place of a credential's secret."""
    return f"credential:{tenant}/{name}"
