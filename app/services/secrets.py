"""Secrets that are sealed in the database: AES-256-GCM (NIST SP 800-38D) under one key.

A sealed secret is bound to its place: copied into another row, it can't be opened. The key is a
setting or a file in the data directory, never in the database. While a key is being replaced
(`rotation.py`), there are two: the first one seals, both open.
"""

import base64
import binascii
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.core.errors import BadInputError, StorageError
from app.storage import durable

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


class KeySource(Protocol):
    """Has the keys, the one that seals first."""

    def keys(self) -> tuple[bytes, ...]:
        """Return the keys as they are now."""

    def is_made(self) -> bool:
        """Whether there is a key."""

    def make(self) -> None:
        """Make a key, unless there is one already."""

    def begin(self) -> None:
        """Put a new key before the old one, unless there are two already."""

    def end(self) -> bool:
        """Remove the old key; return False if only an operator can."""


class GivenKeys(KeySource):
    """Keys that settings give."""

    def __init__(self, *keys: bytes) -> None:
        self._keys = keys

    def keys(self) -> tuple[bytes, ...]:
        """Return the keys."""
        return self._keys

    def is_made(self) -> bool:
        """Return True: an operator has made it."""
        return True

    def make(self) -> None:
        """Return: an operator has made it."""

    def begin(self) -> None:
        """Return if there are two keys.

        Raises:
            BadInputError: there is one; the message says what to do.
        """
        if len(self._keys) < 2:
            raise BadInputError(
                "the key comes from MOORAGE_SECRETS_KEY: set that to a new key (`openssl rand "
                "-base64 32`) and MOORAGE_SECRETS_KEY_BEFORE to the present one, restart every "
                "process, and run this again"
            )

    def end(self) -> bool:
        """Return False: an operator removes MOORAGE_SECRETS_KEY_BEFORE."""
        return False


class KeyFile(KeySource):
    """A file with one key in base64 on each line; it is read anew if changed.

    A missing file is made by `make` alone: a database may have secrets that only the lost key
    opens.

    Raises:
        StorageError: the file can't be read.
        BadInputError: the file does not hold keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[tuple[int, int], tuple[bytes, ...]] | None = None
        if self.is_made():
            self.keys()

    def is_made(self) -> bool:
        """Whether the file exists."""
        with durable.storage_errors("read keys/secrets.key"):
            return self._path.exists()

    def make(self) -> None:
        """Make the file with a new key, unless it exists."""
        with durable.storage_errors("make keys/secrets.key"):
            durable.create_once(self._path, _line(secrets.token_bytes(KEY_BYTES)))

    def keys(self) -> tuple[bytes, ...]:
        """Return the keys of the file as it is now."""
        with durable.storage_errors("read keys/secrets.key"):
            status = self._path.stat()
            version = (status.st_ino, status.st_mtime_ns)
            if self._read is None or self._read[0] != version:
                lines = self._path.read_text("ascii", "replace").split()
                self._read = (version, tuple(map(parse_key, lines or [""])))
            return self._read[1]

    def begin(self) -> None:
        """Put a new key before the old one, unless there are two already."""
        keys = self.keys()
        if len(keys) == 1:
            self._write(secrets.token_bytes(KEY_BYTES), *keys)

    def end(self) -> bool:
        """Keep the first key alone."""
        self._write(self.keys()[0])
        return True

    def _write(self, *keys: bytes) -> None:
        with durable.storage_errors("write keys/secrets.key"):
            durable.replace_file(self._path, b"".join(map(_line, keys)))


def _line(key: bytes) -> bytes:
    return base64.b64encode(key) + b"\n"


class SecretBox:
    """Seals secrets under the first key, and opens them with any.

    Args:
        *keys: of 32 bytes each.
        source: has the keys instead.
    """

    def __init__(self, *keys: bytes, source: KeySource | None = None) -> None:
        self._source = source or GivenKeys(*keys)

    def seal(self, secret: str, place: str) -> bytes:
        """Return the secret, sealed for one place: "credential:acme/artifactory"."""
        cipher = AESGCM(self._source.keys()[0])
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + cipher.encrypt(nonce, secret.encode(), place.encode())

    def open(self, sealed: bytes, place: str) -> str:
        """Return the secret that was sealed for a place.

        Raises:
            StorageError: the secret was sealed under another key or for another place, or is
                damaged.
        """
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        for key in self._source.keys() if sealed[:1] == _FORMAT else ():
            with suppress(InvalidTag, ValueError):
                return AESGCM(key).decrypt(nonce, body, place.encode()).decode()
        raise StorageError(
            f"the secret of {place} can't be opened with this key; "
            "is MOORAGE_SECRETS_KEY, or keys/secrets.key in the data directory, the old one?"
        )

    def opens(self, sealed: bytes, place: str) -> bool:
        """Whether a key opens a secret."""
        try:
            self.open(sealed, place)
        except StorageError:
            return False
        return True

    def holds(self, sealed: bytes, place: str, secret: str) -> bool:
        """Whether this secret was sealed for a place; one that can't be opened is another."""
        try:
            return self.open(sealed, place) == secret
        except StorageError:
            return False


CANARY_PLACE = "canary"
"""The place of the canary, which whoever has the key can open."""


def place_of(tenant: str, name: str) -> str:
    """Return the place of a credential's secret."""
    return f"credential:{tenant}/{name}"


def log_place(name: str) -> str:
    """Return the place of the private key of a tenant's log."""
    return f"log:{name}"


def fleet_place(vkey: str) -> str:
    """Return the place of a key that signs channels' manifests."""
    return f"fleet:{vkey}"


def webhook_place(webhook_id: str) -> str:
    """Return the place of a webhook's secret."""
    return f"webhook:{webhook_id}"
