"""Vectors are those of golang.org/x/mod/sumdb/note/note_test.go unless a comment says otherwise."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import note, notekey
from app.core.errors import BadInputError, VerificationError
from app.core.note import Note, Signature, VerifiedNote, open_note, parse_note, sign
from app.core.notekey import Signer, Verifier, check_log_name, generate, parse_skey, parse_vkey

PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ENOCH_VKEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER_LINE = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
    "otpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "\u2014 EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWL"
    "ox33WWd1RvMc+QQ=\n"
)
PETER, ENOCH = parse_vkey(PETER_VKEY), parse_vkey(ENOCH_VKEY)

# A head that sum.golang.org signed, and the key that is built into the go command.
GO_VKEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
GO_HEAD = "go.sum database tree\n28905453\nf3f8U0MoQmXkWAgAEKDtXcaI3c2y6N9+55KNSRefF/w=\n"
GO_NOTE = (
    GO_HEAD + "\n\u2014 sum.golang.org Az3grr4J9x4SApup87osjthKONInbYdbN37ZskrLF12HIbhDuxOBTzt8Z2j"
    "UKbCvxYWrw0yNgshddOzt7pZEl7aSCw8=\n"
)


def raw(*parts: str) -> bytes:
    return "".join(parts).encode()


def key_with_its_hash(name: str, key: bytes) -> str:
    digest = hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8]
    return f"{name}+{digest}+{base64.b64encode(key).decode()}"


@pytest.mark.parametrize("vkey", [PETER_VKEY, ENOCH_VKEY, GO_VKEY])
def test_a_vkey_is_what_its_key_prints(vkey: str) -> None:
    assert parse_vkey(vkey).vkey == vkey


def test_an_skey_is_what_its_key_prints_and_has_the_public_half() -> None:
    assert parse_skey(PETER_SKEY).skey == PETER_SKEY
    assert parse_skey(PETER_SKEY).verifier == PETER


def test_a_key_is_its_name_and_seed() -> None:
    # x/mod's NewVerifier takes this vkey, and opens what the key signs.
    signer = generate("sum.lab.example", b"\x07" * 32)
    assert signer.verifier.vkey == (
        "sum.lab.example+1ff17179+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
    )
    assert parse_skey(signer.skey) == signer == Signer("sum.lab.example", b"\x07" * 32)


@pytest.mark.parametrize(
    ("parse", "key"), [(parse_vkey, PETER_VKEY), (parse_vkey, GO_VKEY), (parse_skey, PETER_SKEY)]
)
def test_a_key_with_a_flipped_bit_or_a_part_of_it_is_refused(parse, key: str) -> None:
    flipped = bytearray(key.encode())
    for i in range(len(flipped)):
        for bit in range(8):
            flipped[i] ^= 1 << bit
            with pytest.raises(BadInputError):
                parse(flipped.decode("utf-8", "surrogateescape"))
            flipped[i] ^= 1 << bit
    parts = {key[i:j] for i in range(len(key)) for j in range(i, len(key) + 1)} - {key}
    for part in parts:
        with pytest.raises(BadInputError):
            parse(part)


@pytest.mark.parametrize(
    "vkey",
    [
        # Another length and another algorithm, each with the key hash it would have.
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        key_with_its_hash("a", b"\x01" + b"k" * 31),
        key_with_its_hash("a b", b"\x01" + b"k" * 32),
        key_with_its_hash("", b"\x01" + b"k" * 32),
        key_with_its_hash("a", b""),
        # x/mod takes these; they have another spelling.
        PETER_VKEY.replace("c74f20a3", "C74F20A3"),
        PETER_VKEY + "\n",
        " " + PETER_VKEY,
        PETER_VKEY + "=",
        "",
    ],
)
def test_a_malformed_vkey_is_refused(vkey: str) -> None:
    with pytest.raises(BadInputError):
        parse_vkey(vkey)


def test_a_private_key_is_neither_shown_nor_told_in_errors() -> None:
    secret = PETER_SKEY.rpartition("+")[2]
    signer = parse_skey(PETER_SKEY)
    assert secret not in repr(signer)
    assert repr(signer.seed) not in repr(signer)
    for wrong in (PETER_SKEY.replace("c74f", "c74e"), PETER_SKEY[12:], PETER_SKEY + "="):
        with pytest.raises(BadInputError) as refused:
            parse_skey(wrong)
        assert secret not in str(refused.value)
    for given_as_public in (PETER_SKEY, " " + PETER_SKEY):
        with pytest.raises(BadInputError) as refused:
            parse_vkey(given_as_public)
        assert secret not in str(refused.value)


@pytest.mark.parametrize(("name", "key"), [("a+b", 32), ("a b", 32), ("", 32), ("a", 31)])
def test_a_key_of_a_wrong_name_or_length_cannot_be_made(name: str, key: int) -> None:
    for make in (Verifier, Signer, generate):
        with pytest.raises(BadInputError):
            make(name, b"k" * key)


def test_a_signature_of_another_length_is_none() -> None:
    signature = parse_skey(PETER_SKEY).sign(b"hi")
    assert PETER.verifies(b"hi", signature)
    for wrong in (b"", signature[:-1], signature + b"\0"):
        assert not PETER.verifies(b"hi", wrong)
    assert not PETER.verifies(b"ho", signature)
    assert not ENOCH.verifies(b"hi", signature)


@pytest.mark.parametrize(
    ("name", "is_right"),
    [
        ("sum.golang.org", True),
        ("localhost.localdev/sumdb", True),
        ("sum.x:8443/y", True),
        ("sum.x/a/b-c_d~e.f", True),
        ("localhost", True),
        ("", False),
        ("sum.x/", False),
        ("sum.x//y", False),
        ("/y", False),
        ("sum.x:0", False),
        ("sum.x:65536", False),
        ("sum.x:", False),
        ("sum.x/..", False),
        ("sum.x/./y", False),
        ("sum.x/..a", True),
        ("Sum.x", False),
        ("sum.x.", False),
        ("https://sum.x", False),
        ("sum.x?y", False),
        ("sum.x#y", False),
        ("user@sum.x", False),
        ("sum.x/a%20b", False),
        ("sum.x+y", False),
        ("sum x", False),
        ("s\u00fcm.x", False),
        ("sum.x\n", False),
        ("a" * 256, False),
    ],
)
def test_a_log_name_is_host_port_and_path(name: str, is_right: bool) -> None:
    if is_right:
        check_log_name(name)
        assert notekey.is_key_name(name)
        return
    with pytest.raises(BadInputError):
        check_log_name(name)


def test_a_signed_note_is_the_published_one() -> None:
    assert sign(TEXT, parse_skey(PETER_SKEY)) == raw(TEXT, "\n", PETER_LINE)


def test_a_note_of_the_public_log_is_verified_by_its_built_in_key() -> None:
    opened = open_note(GO_NOTE.encode(), [parse_vkey(GO_VKEY)])
    assert (opened.text, opened.raw) == (GO_HEAD, GO_NOTE.encode())
    assert [key.name for key in opened.verified_by] == ["sum.golang.org"]


def test_a_note_is_verified_by_the_known_ones_of_its_keys() -> None:
    both = raw(TEXT, "\n", PETER_LINE, ENOCH_LINE)
    assert open_note(both, [PETER]).verified_by == (PETER,)
    assert open_note(both, [ENOCH, PETER]).verified_by == (PETER, ENOCH)
    assert open_note(both, [ENOCH, PETER, ENOCH]).verified_by == (PETER, ENOCH)
    assert parse_note(both).encoded() == both


@pytest.mark.parametrize(
    ("lines", "known"),
    [
        (PETER_LINE + ENOCH_LINE, []),
        (PETER_LINE, [ENOCH]),
        # The signature is of another name, or another key hash than the key's.
        (PETER_LINE.replace("PeterNeumann", "CarmenSandiego"), [PETER]),
        (PETER_LINE.replace("x08g", "xxxx"), [PETER]),
        # A wrong length, which is a wrong signature.
        (PETER_LINE[:60] + "ABCD" + PETER_LINE[60:], [PETER]),
        # A right signature does not make up for a wrong one by another known key.
        (PETER_LINE + ENOCH_LINE.replace("BzmZ", "BzmY"), [PETER, ENOCH]),
    ],
    ids=[
        "nobody",
        "F76-foreign",
        "F76-wrong-name",
        "F76-wrong-hash",
        "F76-length",
        "F76-one-wrong",
    ],
)
def test_a_note_without_a_right_signature_of_a_known_key_is_refused(lines, known) -> None:
    with pytest.raises(VerificationError) as refused:
        open_note(raw(TEXT, "\n", lines), known)
    assert "\n" not in str(refused.value)


def test_repeated_signatures_count_once_and_the_first_of_a_key_counts() -> None:
    odd = ENOCH_LINE[:60] + "ABCD" + ENOCH_LINE[60:]
    lines = PETER_LINE + PETER_LINE + ENOCH_LINE + ENOCH_LINE + odd
    assert open_note(raw(TEXT, "\n", lines), [PETER]).verified_by == (PETER,)
    assert open_note(raw(TEXT, "\n", lines), [PETER, ENOCH]).verified_by == (PETER, ENOCH)
    assert len(parse_note(raw(TEXT, "\n", lines)).signatures) == 5


def test_two_known_keys_of_one_name_and_hash_are_refused() -> None:
    other = Verifier("PeterNeumann", b"k" * 32)
    object.__setattr__(other, "key_hash", PETER.key_hash)
    with pytest.raises(BadInputError):
        open_note(raw(TEXT, "\n", PETER_LINE), [PETER, other])


MALFORMED = {
    "no-separator": raw(TEXT),
    "no-signature": raw(TEXT, "\n"),
    "no-last-newline": raw(TEXT, "\n", PETER_LINE[:-1]),
    "control": raw("\x01", TEXT, "\n", PETER_LINE),
    "carriage-return": raw(TEXT, "\r\n", PETER_LINE),
    "tab": raw("\t", TEXT, "\n", PETER_LINE),
    "not-utf8": b"\xff" + raw(TEXT, "\n", PETER_LINE),
    "surrogate": b"\xed\xa0\x80" + raw(TEXT, "\n", PETER_LINE),
    "name-with-space": raw(TEXT, "\n", PETER_LINE.replace("PeterNeumann", "Bad Name")),
    "name-with-plus": raw(TEXT, "\n", PETER_LINE.replace("PeterNeumann", "a+b")),
    "name-with-wide-space": raw(TEXT, "\n", PETER_LINE.replace("PeterNeumann", "a\u3000b")),
    "no-name": raw(TEXT, "\n", PETER_LINE.replace("PeterNeumann", "")),
    "unexpected-line": raw(TEXT, "\n", PETER_LINE, "Unexpected line.\n"),
    "hyphen": raw(TEXT, "\n", PETER_LINE.replace("\u2014", "-")),
    "no-signature-bytes": raw(TEXT, "\n\u2014 PeterNeumann x08gow==\n"),
    "base64-with-stray-bits": raw(TEXT, "\n", PETER_LINE.replace("AM=", "AN=")),
    "base64-without-padding": raw(TEXT, "\n", PETER_LINE.replace("AM=", "AM")),
    "only-signatures": raw(PETER_LINE),
    "blank-line-after": raw(TEXT, "\n", PETER_LINE, "\n"),
    "empty": b"",
    "too-many": raw(TEXT, "\n", PETER_LINE * 101),
    "too-long": raw("x" * note.MAX_NOTE_BYTES, "\n\n", PETER_LINE),
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_note_is_refused(malformed: bytes) -> None:
    for known in ([PETER], []):
        with pytest.raises(BadInputError):
            open_note(malformed, known)


def test_a_note_may_have_100_signatures() -> None:
    assert open_note(raw(TEXT, "\n", PETER_LINE * 100), [PETER]).verified_by == (PETER,)


@pytest.mark.parametrize(
    ("whole", "key"), [(GO_NOTE, GO_VKEY), (TEXT + "\n" + PETER_LINE, PETER_VKEY)]
)
def test_F76_a_signed_note_with_a_flipped_bit_or_cut_off_is_refused(whole: str, key: str) -> None:
    flipped, known = bytearray(whole.encode()), [parse_vkey(key)]
    for i in range(len(flipped)):
        for bit in range(8):
            flipped[i] ^= 1 << bit
            with pytest.raises((BadInputError, VerificationError)):
                open_note(bytes(flipped), known)
            flipped[i] ^= 1 << bit
        with pytest.raises((BadInputError, VerificationError)):
            open_note(bytes(flipped[:i]), known)


def test_an_old_and_a_new_key_sign_together() -> None:
    old, new = Signer("sum.x", b"o" * 32), Signer("sum.x", b"n" * 32)
    both = sign(TEXT, old, new)
    assert open_note(both, [old.verifier]).text == TEXT
    assert open_note(both, [new.verifier]).text == TEXT
    assert open_note(both, [new.verifier, old.verifier]).verified_by == (old.verifier, new.verifier)


@pytest.mark.parametrize("text", ["abc", "", "a\x01\n", "a\r\n", "a\udcff\n"])
def test_a_text_that_no_reader_takes_is_not_signed(text: str) -> None:
    with pytest.raises(BadInputError):
        sign(text, parse_skey(PETER_SKEY))


def test_a_note_is_signed_once_by_each_of_1_to_100_keys() -> None:
    signers = [Signer(f"s{i}", b"s" * 32) for i in range(101)]
    for wrong in ([], signers, [signers[0], signers[0]]):
        with pytest.raises(BadInputError):
            sign(TEXT, *wrong)
    assert len(parse_note(sign(TEXT, *signers[:100])).signatures) == 100


def test_a_verified_note_comes_from_open_note_alone() -> None:
    with pytest.raises(TypeError):
        VerifiedNote(TEXT, raw(TEXT), (PETER,), object())


def test_what_is_told_of_strange_keys_is_short_and_ascii() -> None:
    lines = "".join(str(Signature("\u202e" * 200 + str(i), b"hash", b"s")) for i in range(90))
    with pytest.raises(VerificationError) as refused:
        open_note(raw(TEXT, "\n", lines), [PETER])
    assert str(refused.value).isascii()
    assert len(str(refused.value)) < 2000


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(notekey.is_key_name)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.just("\n")).map(
    lambda text: text + "\n"
)


@given(
    TEXTS, st.lists(st.tuples(NAMES, st.binary(min_size=32, max_size=32)), min_size=1, unique=True)
)
def test_what_is_signed_opens_with_each_key(text: str, keys: list[tuple[str, bytes]]) -> None:
    signers = [Signer(*key) for key in keys[:100]]
    signed = sign(text, *signers)
    for signer in signers:
        assert open_note(signed, [signer.verifier]).text == text
        assert parse_vkey(signer.verifier.vkey) == signer.verifier
        assert parse_skey(signer.skey) == signer


@given(
    st.binary() | st.builds(lambda a, b: a + b"\n\n\xe2\x80\x94 a " + b, st.binary(), st.binary())
)
def test_a_note_that_is_parsed_prints_back(anything: bytes) -> None:
    try:
        parsed = parse_note(anything)
    except BadInputError:
        return
    assert parsed.encoded() == anything


@given(
    TEXTS,
    st.lists(
        st.builds(Signature, NAMES, st.binary(min_size=4, max_size=4), st.binary(min_size=1)),
        min_size=1,
        max_size=100,
    ),
)
def test_a_note_that_is_printed_parses_back(text: str, signatures: list[Signature]) -> None:
    made = Note(text, tuple(signatures))
    assert parse_note(made.encoded()) == made


@given(st.text())
def test_any_text_is_no_key(text: str) -> None:
    for parse in (parse_vkey, parse_skey):
        with pytest.raises(BadInputError):
            parse(text)
