"""The policy that accepts or refuses a detached GPG signature.

The input is text that gpg printed (`gpgstatus`, `keylist`); `app/upstream/gpg.py` runs gpg. A
verdict does not say which release the signed bytes are: the index's size and SHA-256 do. A verdict
counts only together with them, because the holder of a leaked, expired subkey can back-date a
signature.

gpg's exit code and python-gnupg's `.valid` are not used. For revoked keys, SHA-1, dates in the
future and text-mode signatures gpg exits 0. For releases whose signing subkey expired later,
python-gnupg says invalid. The digest numbers are those of RFC 4880 section 9.4.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from app.core.gpgfields import MalformedError, read_number
from app.core.gpgstatus import Claim, StatusLine, claim_of, first, has, names_key, parse_line
from app.core.keylist import Subkey

CLOCK_SKEW_S = 300  # how far ahead of `now` a signature may be dated
STRONG_DIGESTS = frozenset({8, 9, 10})  # SHA-256, SHA-384, SHA-512
BINARY_DOCUMENT = "00"  # not class 01 (text): it is also valid for a file with other line ends

_NO_PUBLIC_KEY = 9  # the last number of ERRSIG
_OUTCOMES = ("GOODSIG", "EXPKEYSIG", "EXPSIG", "REVKEYSIG", "BADSIG", "ERRSIG")
_ARMORED = re.compile(  # RFC 4880 section 6.2: the first line, headers, an empty line, base64
    rb"-----BEGIN PGP SIGNATURE-----[ \t]*\r?\n(?:[A-Za-z]+: [^\r\n]*\r?\n)*"
    rb"[A-Za-z0-9+/=\s]*\n-----END PGP SIGNATURE-----\s*",
    re.ASCII,
)
_BINARY = 0x80  # RFC 4880 section 4.2: set in the first byte of every packet
_UNSIGNED = ("NODATA", "UNEXPECTED", "BADARMOR", "PLAINTEXT")


class VerdictReason(StrEnum):
    """Why a signature was accepted (the first two) or not."""

    GOOD = "good"
    GOOD_EXPIRED_KEY = "good-by-expired-subkey"  # the subkey was in force at the signature's date
    UNKNOWN_SUBKEY = "unknown-signing-subkey"
    UNPINNED_KEY = "unpinned-key"
    BAD_SIGNATURE = "bad-signature"
    REVOKED_KEY = "revoked-key"
    EXPIRED_SIGNATURE = "expired-signature"
    SIGNED_AFTER_EXPIRY = "signed-after-key-expiry"
    WEAK_DIGEST = "weak-digest"
    WRONG_CLASS = "wrong-signature-class"
    FUTURE = "dated-in-the-future"
    SEVERAL_SIGNATURES = "several-signatures"
    NO_SIGNATURE = "no-signature"
    OTHER_TEXT = "other-text-beside-the-signature"
    GPG_FAILED = "gpg-failed"


@dataclass(frozen=True, slots=True)
class SignatureVerdict:
    """The verdict on one signature over one file.

    If `accepted` is False, the last three are unproven claims of the signature.

    Attributes:
        detail: one sentence for an administrator.
        subkey: fingerprint of the signing key, where known.
        primary: fingerprint of its primary key, where known.
        signed_at: the signature's own date, UTC, where known.
    """

    accepted: bool
    reason: VerdictReason
    detail: str
    subkey: str | None = None
    primary: str | None = None
    signed_at: datetime | None = None


class _Refusal(Exception):
    """The signature is refused, for this reason."""

    def __init__(self, reason: VerdictReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def judge(
    status_lines: Sequence[str],
    returncode: int,
    subkeys: Sequence[Subkey],
    pinned: frozenset[str],
    now: datetime,
) -> SignatureVerdict:
    """Return the verdict on one run of `gpg --verify`; never raises.

    A signature is accepted if all of this holds: exactly one NEWSIG and one VALIDSIG; none of
    BADSIG, ERRSIG, NO_PUBKEY, EXPSIG, REVKEYSIG, KEYREVOKED, FAILURE, NODATA, UNEXPECTED, ERROR,
    BADARMOR, PLAINTEXT; exit code 0; GOODSIG or EXPKEYSIG; the signing key is in subkeys, not
    revoked, and created <= signature date <= expiry; its primary key is pinned; the digest is
    SHA-256, -384 or -512; class 00; the signature itself does not expire; its date is at most
    now + 300 s. Everything else is refused, also output that can't be parsed. Keywords that a newer
    GnuPG may add are ignored.

    gpg chooses between GOODSIG and EXPKEYSIG by the system clock. The reasons GOOD and
    GOOD_EXPIRED_KEY depend on `now` only, so the verdict depends on nothing but the arguments.

    Args:
        status_lines: the lines of --status-fd, without "[GNUPG:] ":
            "VALIDSIG 8461…8B8B 2023-03-30 1680135363 0 4 0 1 8 00 EB4C…4796".
        returncode: gpg's exit code.
        subkeys: the keys of the keyring that gpg used (`parse_colons`).
        pinned: fingerprints of the primary keys whose signatures are accepted.
        now: UTC.
    """
    claim = Claim()
    try:
        lines = tuple(parse_line(line) for line in status_lines)
        claim = claim_of(lines, subkeys)
        _require_one_signature(lines, returncode)
        _require_no_refusal(lines, returncode, claim, subkeys)
        reason, detail = _accept(lines, claim, subkeys, pinned, now)
    except _Refusal as refused:
        return SignatureVerdict(False, refused.reason, refused.detail, *claim)
    except MalformedError as error:
        return SignatureVerdict(
            False, VerdictReason.GPG_FAILED, f"gpg's answer is unreadable: {error}"
        )
    return SignatureVerdict(True, reason, detail, *claim)


def require_nothing_else(signature: bytes, verdict: SignatureVerdict) -> SignatureVerdict:
    """Return the verdict; refuse a file with text before or after its armored signature.

    gpg reads the armored part alone. The file is served as it is, and nobody signed the text.

    Args:
        signature: the whole file.
        verdict: from `judge`.
    """
    if not verdict.accepted or _ARMORED.fullmatch(signature) or signature[0] & _BINARY:
        return verdict
    return replace(
        verdict,
        accepted=False,
        reason=VerdictReason.OTHER_TEXT,
        detail="the signature file holds other text before or after the signature",
    )


def _require_one_signature(lines: Sequence[StatusLine], returncode: int) -> None:
    """Refuse no or several signatures. Several are refused first: gpg stops at a bad one."""
    count = Counter(line.keyword for line in lines)
    outcomes = sum(count[keyword] for keyword in _OUTCOMES)
    if max(count["NEWSIG"], count["VALIDSIG"], outcomes) > 1:
        raise _Refusal(
            VerdictReason.SEVERAL_SIGNATURES,
            "the signature file holds several signatures; exactly one is expected",
        )
    if has(lines, "ERROR") or returncode not in (0, 1, 2):
        raise _Refusal(VerdictReason.GPG_FAILED, f"gpg could not work and exited with {returncode}")
    # For inline-signed and clear-signed messages gpg prints no status line.
    if outcomes == 0 and (has(lines, *_UNSIGNED) or (not lines and returncode == 2)):
        raise _Refusal(
            VerdictReason.NO_SIGNATURE,
            "the signature file holds no detached OpenPGP signature "
            "(empty, cut short, an HTML page or a signed message)",
        )


def _require_no_refusal(
    lines: Sequence[StatusLine], returncode: int, claim: Claim, subkeys: Sequence[Subkey]
) -> None:
    """Refuse what gpg itself refuses, with the most helpful reason."""
    if has(lines, "ERRSIG", "NO_PUBKEY"):
        raise _unchecked_refusal(first(lines, "ERRSIG"), claim, subkeys)
    if has(lines, "BADSIG"):
        raise _Refusal(
            VerdictReason.BAD_SIGNATURE,
            "the signature is not one of this file: the file or the signature was changed, "
            "or the signature belongs to another file",
        )
    if has(lines, "REVKEYSIG", "KEYREVOKED"):
        raise _revoked_refusal(claim)
    if has(lines, "EXPSIG"):
        raise _Refusal(VerdictReason.EXPIRED_SIGNATURE, "the signature itself has expired")
    if returncode != 0 or has(lines, "FAILURE", *_UNSIGNED):
        raise _Refusal(VerdictReason.GPG_FAILED, f"gpg failed with exit code {returncode}")


def _unchecked_refusal(
    line: StatusLine | None, claim: Claim, subkeys: Sequence[Subkey]
) -> _Refusal:
    """Return the refusal for a signature that gpg could not check."""
    if line is not None and read_number(line.args[5]) != _NO_PUBLIC_KEY:
        if read_number(line.args[2]) not in STRONG_DIGESTS:
            return _weak_digest(line.args[2])
        return _Refusal(
            VerdictReason.GPG_FAILED, f"gpg can't check the signature (its error {line.args[5]})"
        )
    if any(key.fingerprint == claim.subkey for key in subkeys):
        # The listing has the subkey: the keyring file was lost or damaged after the listing.
        return _Refusal(
            VerdictReason.GPG_FAILED,
            f"gpg no longer finds the subkey {_key(claim.subkey)} that its keyring had",
        )
    name = _key(claim.subkey) if claim.subkey or line is None else line.args[0][:40]
    return _Refusal(
        VerdictReason.UNKNOWN_SUBKEY,
        f'unknown signing subkey {name}: run "moorage releases keys refresh" '
        "with a newer export of the pinned key",
    )


def _accept(
    lines: Sequence[StatusLine],
    claim: Claim,
    subkeys: Sequence[Subkey],
    pinned: frozenset[str],
    now: datetime,
) -> tuple[VerdictReason, str]:
    """Return the reason and the sentence for an accepted signature."""
    valid, outcome = first(lines, "VALIDSIG"), first(lines, "GOODSIG") or first(lines, "EXPKEYSIG")
    if valid is None or outcome is None or not has(lines, "NEWSIG") or claim.signed_at is None:
        raise MalformedError("NEWSIG, VALIDSIG or GOODSIG is missing")
    if not names_key(outcome, claim.subkey):
        raise MalformedError(f"{outcome.keyword} and VALIDSIG name different keys")
    if claim.primary not in pinned:
        raise _Refusal(
            VerdictReason.UNPINNED_KEY,
            f"signed by the key {_key(claim.primary)}, which is not pinned",
        )
    _require_form(valid)
    if claim.signed_at > now + timedelta(seconds=CLOCK_SKEW_S):
        raise _Refusal(
            VerdictReason.FUTURE,
            f"the signature is dated {claim.signed_at:%Y-%m-%d %H:%M} UTC, in the future of this "
            "server's clock; it is judged again",
        )
    expires_at = _require_in_force(claim, claim.signed_at, subkeys)
    if outcome.keyword == "EXPKEYSIG" and expires_at is None:
        raise MalformedError("EXPKEYSIG for a key that never expires")
    signed = f"signed {claim.signed_at:%Y-%m-%d} by subkey {_key(claim.subkey)} of the pinned key"
    if expires_at is None or now < expires_at:
        return VerdictReason.GOOD, signed
    return (
        VerdictReason.GOOD_EXPIRED_KEY,
        f"{signed}, in force until {expires_at:%Y-%m-%d}: signed in time",
    )


def _require_form(valid: StatusLine) -> None:
    """Refuse a signature with another digest, class or expiry than release signatures have."""
    expiry, _version, reserved, _algorithm, digest, signature_class = valid.args[3:9]
    if read_number(digest) not in STRONG_DIGESTS:
        raise _weak_digest(digest)
    if signature_class != BINARY_DOCUMENT:
        raise _Refusal(
            VerdictReason.WRONG_CLASS,
            f"the signature is of class {signature_class[:8]} (01: text); "
            "archives are signed as class 00 (binary)",
        )
    if read_number(expiry) != 0:
        raise _Refusal(
            VerdictReason.EXPIRED_SIGNATURE,
            "the signature carries an expiry date of its own; release signatures have none",
        )
    if reserved != "0":
        raise MalformedError("VALIDSIG's reserved field is in use")


def _require_in_force(
    claim: Claim, signed_at: datetime, subkeys: Sequence[Subkey]
) -> datetime | None:
    """Return when the signing key expires; refuse a key that was not in force at signed_at."""
    key = next((key for key in subkeys if key.fingerprint == claim.subkey), None)
    primary = next((key for key in subkeys if key.fingerprint == claim.primary), None)
    if key is None or primary is None or key.primary != primary.fingerprint or not key.can_sign:
        raise MalformedError("the signing key is not in the keyring's listing")
    if key.revoked or primary.revoked:
        raise _revoked_refusal(claim)
    expires_at = min((at for at in (key.expires_at, primary.expires_at) if at), default=None)
    if signed_at < key.created_at or (expires_at is not None and signed_at > expires_at):
        raise _Refusal(
            VerdictReason.SIGNED_AFTER_EXPIRY,
            f"signed {signed_at:%Y-%m-%d}, when the subkey {_key(claim.subkey)} was not in force",
        )
    return expires_at


def _revoked_refusal(claim: Claim) -> _Refusal:
    return _Refusal(
        VerdictReason.REVOKED_KEY,
        f"the signing subkey {_key(claim.subkey)} is revoked",
    )


def _weak_digest(number: str) -> _Refusal:
    return _Refusal(
        VerdictReason.WEAK_DIGEST,
        f"the signature uses digest {number[:8]} (1: MD5, 2: SHA-1); SHA-256 or better is needed",
    )


def _key(fingerprint: str | None) -> str:
    return f"{fingerprint[:4]}…{fingerprint[-4:]}" if fingerprint else "(unnamed)"
