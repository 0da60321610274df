"""The public keys that gpg lists. Format: doc/DETAILS of GnuPG, "Format of the colon listings".

Not here: whose signature is accepted (`signature`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.core.errors import KeyringError
from app.core.gpgfields import MalformedError, read_fingerprint, read_moment


@dataclass(frozen=True, slots=True)
class Subkey:
    """One key of a keyring; a primary key is listed too, with primary == fingerprint.

    Attributes:
        fingerprint: 40 upper-case hex characters (64 for a version 5 or 6 key).
        primary: the fingerprint of the primary key that certifies this key.
        created_at: UTC, whole seconds.
        expires_at: UTC; None where the key does not expire.
        revoked: whether the key or its primary key is revoked.
        can_sign: whether the key may sign documents, and gpg calls its binding valid.
    """

    fingerprint: str
    primary: str
    created_at: datetime
    expires_at: datetime | None
    revoked: bool
    can_sign: bool


def parse_colons(text: str) -> tuple[Subkey, ...]:
    """Return the public keys of a `gpg --with-colons --fixed-list-mode --list-keys` listing.

    The listing needs the fingerprints of subkeys too (--fingerprint twice). Secret keys and user
    IDs are ignored. "pub:-:4096:1:7721F63BD38B4796:1460440275:::-:::scSC::::::23::0:" with its fpr
    record gives the primary key that was created on 2016-04-12 and can sign.

    Raises:
        KeyringError: a key record is malformed or has no fingerprint.
    """
    keys: list[Subkey] = []
    try:
        for record, fingerprint in _key_records(text):
            primary = fingerprint if record[0] == "pub" else _last_primary(keys)
            keys.append(_subkey(record, fingerprint, primary, keys))
    except MalformedError as error:
        raise KeyringError(f"gpg's key listing is unreadable: {error}") from error
    return tuple(keys)


def _key_records(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield each pub and sub record with the fingerprint from the fpr record that follows it."""
    pending: list[str] | None = None
    for line in text.split("\n"):  # not splitlines: a user ID may hold U+0085
        record = line.split(":")
        if record[0] == "fpr" and pending is not None:
            if len(record) < 10:
                raise MalformedError("an fpr record is too short")
            yield pending, read_fingerprint(record[9])
            pending = None
        elif record[0] in ("pub", "sub", "sec", "ssb"):
            if pending is not None:
                raise MalformedError("a key has no fingerprint")
            pending = record if record[0] in ("pub", "sub") else None
    if pending is not None:
        raise MalformedError("the last key has no fingerprint")


def _last_primary(keys: Sequence[Subkey]) -> str:
    if not keys:
        raise MalformedError("a subkey comes before any primary key")
    return keys[-1].primary


def _subkey(record: list[str], fingerprint: str, primary: str, keys: Sequence[Subkey]) -> Subkey:
    if len(record) < 12:
        raise MalformedError(f"the record of {fingerprint} is too short")
    validity, created, expires, capabilities = record[1], record[5], record[6], record[11]
    return Subkey(
        fingerprint=fingerprint,
        primary=primary,
        created_at=read_moment(created),
        expires_at=read_moment(expires) if expires else None,
        revoked=validity == "r" or any(key.revoked for key in keys if key.fingerprint == primary),
        can_sign="s" in capabilities and validity != "i",
    )
