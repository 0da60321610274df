"""The acceptance policy on transcripts that gpg 2.2.40 printed, and the key listing."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import KeyringError
from app.core.gpgfields import is_fingerprint
from app.core.keylist import Subkey, parse_colons
from app.core.signature import SignatureVerdict, VerdictReason, judge

PRIMARY = "EB4C1BFD4F042F6DDDCCEC917721F63BD38B4796"
IN_FORCE = "0E225917414670F4442C250DFD533C07C264648F"
EXPIRED = "8461EFA0E74ABAE010DE66994EB27DB2A3B88B8B"
REVOKED = "A5F483CD733A4EBAEA378B2AE88979FB9B30ACF2"
STRANGER = "4CCA1EAF950CEE4AB83976DCA040830F7FAC5991"
PINNED = frozenset({PRIMARY})
NOW = datetime(2026, 11, 23, tzinfo=UTC)
OWNER = "Google Inc. (Linux Packages Signing Authority) <linux-packages-keymaster@google.com>"

LISTING = f"""\
tru::1:1795404396:0:3:1:5
pub:-:4096:1:7721F63BD38B4796:1460440275:::-:::scSC::::::23::0:
fpr:::::::::{PRIMARY}:
uid:-::::1460440275::7830FE2652F718E78EEE5881B7FA2CE8E3533BE4::{OWNER}::::::::::0:
sub:e:4096:1:4EB27DB2A3B88B8B:1635257503:1729865503:::::s::::::23:
fpr:::::::::{EXPIRED}:
sub:r:4096:1:E88979FB9B30ACF2:1676474712:1771082712:::::s::::::23:
fpr:::::::::{REVOKED}:
sub:-:4096:1:FD533C07C264648F:1736268781:1830876781:::::s::::::23:
fpr:::::::::{IN_FORCE}:
pub:-:1024:17:A040830F7FAC5991:1173385030:::-:::scESC::::::::0:
fpr:::::::::{STRANGER}:
uid:-::::1175811711::0F5F08408BC3D293942A5E5A2D1AE1BD277FF5DB::Google, Inc.::::::::::0:
sub:-:2048:16:4F30B6B4C07CB649:1173385035::::::e:::::::
fpr:::::::::9534C9C4130B4DC9927992BF4F30B6B4C07CB649:
"""
SUBKEYS = parse_colons(LISTING)

NEWSIG = "NEWSIG"
CONSIDERED = f"KEY_CONSIDERED {PRIMARY} 0"
KEYEXPIRED = "KEYEXPIRED 1729865503"
SIG_ID = "SIG_ID x2DiHWibKXfC5c1IoDEEUaK0VdQ 2026-08-28 1787947784"
GOODSIG = f"GOODSIG {IN_FORCE[-16:]} {OWNER}"
EXPKEYSIG = f"EXPKEYSIG {EXPIRED[-16:]} {OWNER}"
TRUST = "TRUST_UNDEFINED 0 pgp"
EXIT = "FAILURE gpg-exit 33554433"


def validsig(
    subkey: str = IN_FORCE,
    when: str = "2026-08-28 1787947784",
    rest: str = "0 4 0 1 8 00",
    primary: str = PRIMARY,
) -> str:
    return f"VALIDSIG {subkey} {when} {rest} {primary}"


IN_TIME = "2023-03-30 1680135363"
TOO_LATE = "2024-10-26 1729900800"
UNKNOWN = "0F06FF86BEEAF4E71866EE5232EE5355A6BC6E42"
ERRSIG = f"ERRSIG {UNKNOWN[-16:]} 1 8 00 1787947784 9 {UNKNOWN}"
NO_PUBKEY = f"NO_PUBKEY {UNKNOWN[-16:]}"

# go1.27.1.src.tar.gz and go1.19.8.src.tar.gz as published.
GO_1_27_1 = (NEWSIG, KEYEXPIRED, CONSIDERED, SIG_ID, GOODSIG, validsig(), KEYEXPIRED, TRUST)
GO_1_19_8 = (
    *(NEWSIG, KEYEXPIRED, CONSIDERED, KEYEXPIRED, EXPKEYSIG),
    *(validsig(EXPIRED, IN_TIME), KEYEXPIRED, CONSIDERED),
)
ACCEPTED = {"go1.27.1": GO_1_27_1, "go1.19.8": GO_1_19_8}
RELEVANT = ("NEWSIG", "GOODSIG", "EXPKEYSIG", "VALIDSIG")
FORBIDDEN = (
    *("BADSIG A b", ERRSIG, NO_PUBKEY, "EXPSIG A b", "REVKEYSIG A b", "KEYREVOKED", EXIT),
    *("NODATA 1", "UNEXPECTED 0", "ERROR add_keyblock_resource 33587281", "BADARMOR"),
    "PLAINTEXT 62 1590969600 ",
)


def judged(
    lines: Sequence[str], returncode: int = 0, subkeys: Sequence[Subkey] = SUBKEYS
) -> SignatureVerdict:
    return judge(lines, returncode, subkeys, PINNED, NOW)


def test_signature_by_a_subkey_in_force_is_good() -> None:
    verdict = judged(GO_1_27_1)
    assert verdict == SignatureVerdict(
        accepted=True,
        reason=VerdictReason.GOOD,
        detail="signed 2026-08-28 by subkey 0E22…648F of the pinned key",
        subkey=IN_FORCE,
        primary=PRIMARY,
        signed_at=datetime(2026, 8, 28, 20, 9, 44, tzinfo=UTC),
    )


def test_signature_made_in_time_by_a_subkey_expired_since_is_good() -> None:
    verdict = judged(GO_1_19_8)
    assert verdict.accepted
    assert verdict.reason is VerdictReason.GOOD_EXPIRED_KEY
    assert verdict.subkey == EXPIRED
    assert verdict.detail.endswith("in force until 2024-10-25: signed in time")


def test_reason_follows_the_given_time_and_not_the_clock_of_gpg() -> None:
    early, late = datetime(2024, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)
    assert judge(GO_1_19_8, 0, SUBKEYS, PINNED, early).reason is VerdictReason.GOOD
    assert judge(GO_1_27_1, 0, SUBKEYS, PINNED, late).reason is VerdictReason.GOOD_EXPIRED_KEY


R = VerdictReason
REFUSED: dict[str, tuple[VerdictReason, tuple[str, ...], int]] = {
    "good, other key in the ring": (
        R.UNPINNED_KEY,
        (NEWSIG, f"GOODSIG {STRANGER[-16:]} x", validsig(STRANGER, primary=STRANGER)),
        0,
    ),
    "signed after the key expired": (
        R.SIGNED_AFTER_EXPIRY,
        (NEWSIG, EXPKEYSIG, validsig(EXPIRED, TOO_LATE)),
        0,
    ),
    "signed before the key was made": (
        R.SIGNED_AFTER_EXPIRY,
        (NEWSIG, EXPKEYSIG, validsig(EXPIRED, "2020-06-01 1590969600")),
        0,
    ),
    "revoked key": (
        R.REVOKED_KEY,
        (NEWSIG, f"REVKEYSIG {REVOKED[-16:]} x", validsig(REVOKED, IN_TIME)),
        0,
    ),
    "revoked key that gpg calls good": (
        R.REVOKED_KEY,
        (NEWSIG, f"GOODSIG {REVOKED[-16:]} x", validsig(REVOKED, IN_TIME)),
        0,
    ),
    "expired signature": (
        R.EXPIRED_SIGNATURE,
        (NEWSIG, f"EXPSIG {IN_FORCE[-16:]} x", validsig(rest="1788000000 4 0 1 8 00"), EXIT),
        1,
    ),
    "signature that will expire": (
        R.EXPIRED_SIGNATURE,
        (NEWSIG, GOODSIG, validsig(rest="3786955200 4 0 1 8 00")),
        0,
    ),
    "SHA-1": (R.WEAK_DIGEST, (NEWSIG, GOODSIG, validsig(rest="0 4 0 1 2 00")), 0),
    "SHA-224": (R.WEAK_DIGEST, (NEWSIG, GOODSIG, validsig(rest="0 4 0 1 11 00")), 0),
    "MD5": (R.WEAK_DIGEST, (NEWSIG, f"ERRSIG FD533C07C264648F 1 1 00 1787947784 5 {IN_FORCE}"), 2),
    "unusable for gpg": (
        R.GPG_FAILED,
        (NEWSIG, f"ERRSIG FD533C07C264648F 99 8 00 1787947784 4 {IN_FORCE}"),
        2,
    ),
    "dated 2030": (R.FUTURE, (NEWSIG, GOODSIG, validsig(when="2030-01-01 1893456000")), 0),
    "text mode": (R.WRONG_CLASS, (NEWSIG, GOODSIG, validsig(rest="0 4 0 1 8 01")), 0),
    "two good": (R.SEVERAL_SIGNATURES, GO_1_27_1 + GO_1_19_8, 0),
    "unknown then good": (R.SEVERAL_SIGNATURES, (NEWSIG, ERRSIG, NO_PUBKEY, *GO_1_27_1), 2),
    "good then unknown": (R.SEVERAL_SIGNATURES, (*GO_1_27_1, NEWSIG, ERRSIG, NO_PUBKEY), 2),
    "expired-key signature then good": (R.SEVERAL_SIGNATURES, GO_1_19_8 + GO_1_27_1, 0),
    "bad then good": (
        R.SEVERAL_SIGNATURES,
        (NEWSIG, f"BADSIG {IN_FORCE[-16:]} x", *GO_1_27_1),
        1,
    ),
    "bad, where gpg stops": (R.BAD_SIGNATURE, (NEWSIG, f"BADSIG {IN_FORCE[-16:]} x", EXIT), 1),
    "unknown key": (R.UNKNOWN_SUBKEY, (NEWSIG, ERRSIG, NO_PUBKEY), 2),
    "inline or clear-signed": (R.NO_SIGNATURE, (), 2),
    "empty": (R.NO_SIGNATURE, ("NODATA 2", "FAILURE verify 4294967295"), 2),
    "HTML": (R.NO_SIGNATURE, ("NODATA 1", "NODATA 2"), 2),
    "truncated": (R.NO_SIGNATURE, ("NODATA 1", "NODATA 3", "NODATA 4"), 2),
    "keyring file lost": (
        R.GPG_FAILED,
        (NEWSIG, f"ERRSIG {IN_FORCE[-16:]} 1 8 00 1787947784 9 {IN_FORCE}", "NO_PUBKEY x"),
        2,
    ),
    "keyring unreadable": (
        R.GPG_FAILED,
        ("ERROR add_keyblock_resource 33587281", NEWSIG, ERRSIG, NO_PUBKEY),
        2,
    ),
    "good but exit 1": (R.GPG_FAILED, GO_1_27_1, 1),
    "good but exit 2": (R.GPG_FAILED, GO_1_27_1, 2),
    "good but crashed": (R.GPG_FAILED, GO_1_27_1, 139),
    "good but killed": (R.GPG_FAILED, GO_1_27_1, -9),
    "nothing said": (R.GPG_FAILED, (), 0),
    "nothing started": (R.GPG_FAILED, (NEWSIG,), 0),
}


@pytest.mark.parametrize("case", REFUSED)
def test_F64_transcript_is_refused_with_the_reason_that_helps(case: str) -> None:
    reason, lines, returncode = REFUSED[case]
    verdict = judged(lines, returncode)
    assert not verdict.accepted
    assert verdict.reason is reason
    assert verdict.detail


def test_unknown_key_is_named_and_the_way_out_too() -> None:
    line = f"ERRSIG {IN_FORCE[-16:]} 1 8 00 1787947784 9 {IN_FORCE}"
    old = tuple(key for key in SUBKEYS if key.fingerprint != IN_FORCE)
    verdict = judged((NEWSIG, line, "NO_PUBKEY FD533C07C264648F"), 2, old)
    assert verdict.subkey == IN_FORCE
    assert verdict.detail == (
        'unknown signing subkey 0E22…648F: run "moorage releases keys refresh" '
        "with a newer export of the pinned key"
    )


@pytest.mark.parametrize("tail", ["", " -"])
def test_unknown_key_without_fingerprint_is_named_by_its_key_id(tail: str) -> None:
    verdict = judged((NEWSIG, f"ERRSIG FD533C07C264648F 1 8 00 1787947784 9{tail}", NO_PUBKEY), 2)
    assert verdict.reason is R.UNKNOWN_SUBKEY
    assert verdict.subkey is None
    assert "FD533C07C264648F" in verdict.detail


def test_bad_signature_names_the_key_that_it_claims() -> None:
    verdict = judged((NEWSIG, f"BADSIG {IN_FORCE[-16:]} x", EXIT), 1)
    assert (verdict.subkey, verdict.primary) == (IN_FORCE, PRIMARY)
    assert judged((NEWSIG, "BADSIG  x", EXIT), 1).subkey is None


@pytest.mark.parametrize(
    "line",
    [
        validsig().removesuffix(f" {PRIMARY}"),
        validsig(primary=PRIMARY[:-1]),
        validsig(subkey=IN_FORCE.lower()),
        validsig(when="2026-08-28 20260828T200944"),
        validsig(when="2026-08-27 1787947784"),
        validsig(when="2026-08-28 17879477840000"),
        validsig(when="2026-08-28 ١٧٨٧٩٤٧٧٨٤"),
        validsig(rest="0 4 1 1 8 00"),
        validsig(rest="0 4 0 1 x 00"),
        validsig(rest="-0 4 0 1 8 00"),
        "VALIDSIG",
    ],
)
def test_malformed_validsig_is_refused(line: str) -> None:
    verdict = judged((NEWSIG, GOODSIG, line))
    assert not verdict.accepted
    assert verdict.reason is R.GPG_FAILED


@pytest.mark.parametrize("line", ["", " GOODSIG x", "goodsig x", "[GNUPG:] GOODSIG x"])
def test_line_that_is_no_status_line_is_refused(line: str) -> None:
    assert judged((*GO_1_27_1, line)).reason is R.GPG_FAILED


@pytest.mark.parametrize(
    "line",
    [
        "ERRSIG 1 2",
        "ERRSIG FD533C07C264648F 1 8 00 20260828T200944 9",
        "ERRSIG FD533C07C264648F 1 8 00 1787947784 nine",
        "ERRSIG FD533C07C264648F 1 8 00 1787947784 9 FD533C07C264648F",
        "ERRSIG FD533C07C264648F 1 sha1 00 1787947784 5",
    ],
)
def test_malformed_errsig_is_refused(line: str) -> None:
    assert judged((NEWSIG, line, NO_PUBKEY), 2).reason is R.GPG_FAILED


def test_extra_fields_and_unknown_keywords_of_newer_gpg_are_ignored() -> None:
    lines = (NEWSIG, "NEW_IN_GPG_3 x", GOODSIG, validsig() + " extra", "NOTATION_DATA GOODSIG%20x")
    assert judged(lines).accepted


@pytest.mark.parametrize("skew_s", [0, 300])
def test_clock_may_be_five_minutes_behind(skew_s: int) -> None:
    signed_at = datetime.fromtimestamp(1787947784, UTC)
    now = signed_at - timedelta(seconds=skew_s)
    assert judge(GO_1_27_1, 0, SUBKEYS, PINNED, now).accepted
    early = judge(GO_1_27_1, 0, SUBKEYS, PINNED, signed_at - timedelta(seconds=301))
    assert early.reason is R.FUTURE


@pytest.mark.parametrize(
    ("when", "accepted"),
    [
        ("2021-10-26 1635257503", True),  # the second of its creation
        ("2021-10-26 1635257502", False),
        ("2024-10-25 1729865503", True),  # the second of its expiry
        ("2024-10-25 1729865504", False),
    ],
)
def test_subkey_signs_from_its_creation_to_its_expiry(when: str, accepted: bool) -> None:
    assert judged((NEWSIG, EXPKEYSIG, validsig(EXPIRED, when))).accepted is accepted


def altered(fingerprint: str, **changes: object) -> tuple[Subkey, ...]:
    fields = {name: name for name in Subkey.__slots__}
    return tuple(
        Subkey(**{name: changes.get(name, getattr(key, name)) for name in fields})  # type: ignore[arg-type]
        if key.fingerprint == fingerprint
        else key
        for key in SUBKEYS
    )


@pytest.mark.parametrize(
    ("subkeys", "reason"),
    [
        ((), R.GPG_FAILED),
        (tuple(key for key in SUBKEYS if key.fingerprint != IN_FORCE), R.GPG_FAILED),
        (tuple(key for key in SUBKEYS if key.fingerprint != PRIMARY), R.GPG_FAILED),
        (altered(IN_FORCE, primary=STRANGER), R.GPG_FAILED),
        (altered(IN_FORCE, can_sign=False), R.GPG_FAILED),
        (altered(IN_FORCE, revoked=True), R.REVOKED_KEY),
        (altered(PRIMARY, revoked=True), R.REVOKED_KEY),
        (altered(PRIMARY, expires_at=datetime(2026, 1, 1, tzinfo=UTC)), R.SIGNED_AFTER_EXPIRY),
    ],
)
def test_key_listing_has_to_agree_with_gpg(
    subkeys: tuple[Subkey, ...], reason: VerdictReason
) -> None:
    assert judged(GO_1_27_1, subkeys=subkeys).reason is reason


def test_expired_key_whose_expiry_is_unknown_is_refused() -> None:
    verdict = judged(GO_1_19_8, subkeys=altered(EXPIRED, expires_at=None))
    assert verdict.reason is R.GPG_FAILED


def test_nothing_pinned_accepts_nothing() -> None:
    assert judge(GO_1_27_1, 0, SUBKEYS, frozenset(), NOW).reason is R.UNPINNED_KEY


@pytest.mark.parametrize("release", ACCEPTED)
@pytest.mark.parametrize("change", ["remove", "double"])
def test_removing_or_doubling_a_line_refuses_unless_the_line_means_nothing(
    release: str, change: str
) -> None:
    lines = ACCEPTED[release]
    for at, line in enumerate(lines):
        copies = [] if change == "remove" else [line, line]
        verdict = judged([*lines[:at], *copies, *lines[at + 1 :]])
        if line.split()[0] in RELEVANT:
            assert not verdict.accepted, line
        else:
            assert verdict == judged(lines), line


@given(st.sampled_from(sorted(ACCEPTED)), st.sampled_from(FORBIDDEN), st.data())
def test_one_forbidden_line_anywhere_refuses(release: str, line: str, data: st.DataObject) -> None:
    lines = list(ACCEPTED[release])
    lines.insert(data.draw(st.integers(0, len(lines))), line)
    assert not judged(lines).accepted


@given(st.sampled_from(sorted(ACCEPTED)), st.data())
def test_altering_one_character_refuses_unless_it_means_nothing(
    release: str, data: st.DataObject
) -> None:
    lines = list(ACCEPTED[release])
    at = data.draw(st.integers(0, len(lines) - 1))
    column = data.draw(st.integers(0, len(lines[at]) - 1))
    letter = data.draw(st.characters(codec="utf-8"))
    original = lines[at]
    lines[at] = original[:column] + letter + original[column + 1 :]
    verdict = judged(lines)
    if lines[at] == original or not verdict.accepted:
        return
    keyword, *fields = original.split(" ")
    after = lines[at].split(" ")
    if keyword not in RELEVANT:
        return
    assert after[0] == keyword
    assert (verdict.subkey, verdict.primary) == (judged(ACCEPTED[release]).subkey, PRIMARY)
    if keyword == "VALIDSIG":
        differing = {i for i, (a, b) in enumerate(zip(fields, after[1:], strict=True)) if a != b}
        # The second within a day, the packet version and the public-key algorithm (which GnuPG
        # has verified) may take another legal value.
        assert differing <= {2, 4, 6}
    else:
        assert keyword == "NEWSIG" or after[1] == fields[0]


@given(st.lists(st.text() | st.sampled_from([*GO_1_27_1, *FORBIDDEN])), st.integers(-20, 260))
def test_no_output_makes_judge_raise(lines: list[str], returncode: int) -> None:
    verdict = judged(lines, returncode)
    assert verdict.accepted is (verdict.reason in {R.GOOD, R.GOOD_EXPIRED_KEY})
    assert not verdict.accepted or returncode == 0


def test_listing_gives_every_public_key_with_its_primary() -> None:
    assert [key.fingerprint for key in SUBKEYS if key.primary == PRIMARY] == [
        *(PRIMARY, EXPIRED, REVOKED, IN_FORCE)
    ]
    primary, expired, revoked, in_force, stranger, encrypting = SUBKEYS
    assert expired == Subkey(
        fingerprint=EXPIRED,
        primary=PRIMARY,
        created_at=datetime(2021, 10, 26, 14, 11, 43, tzinfo=UTC),
        expires_at=datetime(2024, 10, 25, 14, 11, 43, tzinfo=UTC),
        revoked=False,
        can_sign=True,
    )
    assert primary.expires_at is None
    assert revoked.revoked
    assert not in_force.revoked
    assert stranger.primary == STRANGER
    assert not encrypting.can_sign
    assert encrypting.primary == STRANGER


def test_revoked_primary_revokes_its_subkeys() -> None:
    keys = parse_colons(LISTING.replace("pub:-:4096", "pub:r:4096"))
    assert all(key.revoked for key in keys if key.primary == PRIMARY)
    assert not any(key.revoked for key in keys if key.primary == STRANGER)


def test_invalid_key_can_not_sign() -> None:
    keys = parse_colons(LISTING.replace("sub:-:4096", "sub:i:4096"))
    assert [key.can_sign for key in keys if key.fingerprint == IN_FORCE] == [False]


def test_secret_keys_and_other_records_are_passed_over() -> None:
    secret = LISTING.replace("pub:", "sec:").replace("sub:", "ssb:")
    assert parse_colons(secret) == ()
    assert parse_colons("") == ()
    assert parse_colons("cfg:version:2.2.40\n") == ()


def test_user_id_can_not_pose_as_a_key_record() -> None:
    posing = LISTING.replace(OWNER, f"x\x85sub:-:4096:1:A:1:::::::s\x85fpr:::::::::{STRANGER}:")
    assert parse_colons(posing) == SUBKEYS


@pytest.mark.parametrize(
    "listing",
    [
        "pub:-:4096:1:7721F63BD38B4796:1460440275:::-:::scSC::::::23::0:\n",
        "pub:-:4096\nfpr:::::::::" + PRIMARY,
        "pub:-:4096:1:7721F63BD38B4796:1460440275:::-:::scSC:\nfpr:::::::::7721F63BD38B4796:\n",
        "pub:-:4096:1:7721F63BD38B4796:1460440275:::-:::scSC:\nfpr:::\n",
        "pub:-:4096:1:7721F63BD38B4796:2016-04-12:::-:::scSC:\nfpr:::::::::" + PRIMARY + ":\n",
        "sub:-:4096:1:7721F63BD38B4796:1460440275::::::s:\nfpr:::::::::" + PRIMARY + ":\n",
        LISTING.replace(f"fpr:::::::::{EXPIRED}:\n", ""),
    ],
)
def test_malformed_listing_is_refused(listing: str) -> None:
    with pytest.raises(KeyringError, match="unreadable"):
        parse_colons(listing)


@given(st.integers(0, len(LISTING)))
def test_truncated_listing_is_refused_or_a_prefix(length: int) -> None:
    try:
        keys = parse_colons(LISTING[:length])
    except KeyringError:
        return
    assert keys == SUBKEYS[: len(keys)]


def test_key_id_is_no_fingerprint() -> None:
    assert is_fingerprint(PRIMARY)
    assert is_fingerprint("A" * 64)
    for other in ("", PRIMARY[-16:], PRIMARY.lower(), PRIMARY + "\n", f"0x{PRIMARY}"):
        assert not is_fingerprint(other)
