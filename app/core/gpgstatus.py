"""The lines that `gpg --verify --status-fd` prints, and what they say of a signature's origin.

Not here: whether the signature is accepted (`signature`). Format: doc/DETAILS of GnuPG.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from app.core.gpgfields import MalformedError, read_fingerprint, read_moment
from app.core.keylist import Subkey

_KEY_ID = re.compile(r"[0-9A-F]{16}|[0-9A-F]{40}|[0-9A-F]{64}", re.ASCII)
_KEYWORD = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)


class StatusLine(NamedTuple):
    """One line without "[GNUPG:] ": "GOODSIG 7721F63BD38B4796 Google" has two args."""

    keyword: str
    args: tuple[str, ...]


class Claim(NamedTuple):
    """What VALIDSIG, ERRSIG or BADSIG says of the signature's origin."""

    subkey: str | None = None
    primary: str | None = None
    signed_at: datetime | None = None


def parse_line(line: str) -> StatusLine:
    """Return the parts of a line; single spaces separate them.

    Raises:
        MalformedError: the line does not begin with a keyword.
    """
    keyword, *args = line.split(" ")
    if not _KEYWORD.fullmatch(keyword):
        raise MalformedError(f"{line[:80]!r} does not begin with a keyword")
    return StatusLine(keyword, tuple(args))


def first(lines: Sequence[StatusLine], keyword: str) -> StatusLine | None:
    """Return the first line with the keyword, or None."""
    return next((line for line in lines if line.keyword == keyword), None)


def has(lines: Sequence[StatusLine], *keywords: str) -> bool:
    """Report whether a line has one of the keywords."""
    return any(line.keyword in keywords for line in lines)


def claim_of(lines: Sequence[StatusLine], subkeys: Sequence[Subkey]) -> Claim:
    """Return what the lines say of the signature's origin; nothing of that is proven.

    Args:
        lines: all lines of one run.
        subkeys: the keys of the keyring; they give the fingerprint for a bad signature's key ID.

    Raises:
        MalformedError: VALIDSIG or ERRSIG lacks fields or has malformed ones.
    """
    if valid := first(lines, "VALIDSIG"):
        if len(valid.args) < 10:
            raise MalformedError("VALIDSIG has too few fields")
        signed_at = read_moment(valid.args[2])
        if valid.args[1] != signed_at.date().isoformat():
            raise MalformedError("VALIDSIG has two different dates")
        return Claim(read_fingerprint(valid.args[0]), read_fingerprint(valid.args[9]), signed_at)
    if error := first(lines, "ERRSIG"):
        if len(error.args) < 6:
            raise MalformedError("ERRSIG has too few fields")
        # Field 7 exists since gpg 2.2.7, and is "-" where the signature names only a key ID.
        has_fingerprint = len(error.args) > 6 and error.args[6] != "-"
        subkey = read_fingerprint(error.args[6]) if has_fingerprint else None
        return Claim(subkey, None, read_moment(error.args[4]))
    if bad := first(lines, "BADSIG"):
        claimed_key = next((key for key in subkeys if names_key(bad, key.fingerprint)), None)
        return Claim(claimed_key.fingerprint, claimed_key.primary) if claimed_key else Claim()
    return Claim()


def names_key(outcome: StatusLine, fingerprint: str | None) -> bool:
    """Report whether outcome's first argument, a key ID or fingerprint, is that of fingerprint."""
    if not outcome.args or fingerprint is None or not _KEY_ID.fullmatch(outcome.args[0]):
        return False
    return fingerprint.endswith(outcome.args[0])
