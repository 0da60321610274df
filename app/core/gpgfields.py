"""Single fields of what gpg prints for programs. Formats: doc/DETAILS of GnuPG."""

import re
from datetime import UTC, datetime

_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


class MalformedError(Exception):
    """gpg's output does not have the documented form.

    The error never leaves core: `judge` turns it into the verdict gpg-failed, `parse_colons` into
    KeyringError.
    """


def is_fingerprint(text: str) -> bool:
    """Report whether text is a whole fingerprint in upper-case hex (a key ID is not)."""
    return _FINGERPRINT.fullmatch(text) is not None


def read_fingerprint(text: str) -> str:
    """Return text, which must be a whole fingerprint: 40 or 64 upper-case hex characters.

    Raises:
        MalformedError: text is something else.
    """
    if not is_fingerprint(text):
        raise MalformedError(f"{text[:80]!r} is not a fingerprint")
    return text


def read_number(text: str) -> int:
    """Return a decimal number of one to ten digits.

    Raises:
        MalformedError: text is something else.
    """
    if not _NUMBER.fullmatch(text):
        raise MalformedError(f"{text[:80]!r} is not a number")
    return int(text)


def read_moment(text: str) -> datetime:
    """Return seconds since 1970 as a UTC datetime: "1680135363" is 2023-03-30 00:16:03.

    Raises:
        MalformedError: text is not a number of seconds (gpg also prints ISO dates, if asked to).
    """
    return datetime.fromtimestamp(read_number(text), UTC)  # ten digits end in the year 2286
