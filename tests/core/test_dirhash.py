import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.dirhash import hash1
from app.core.errors import BadInputError


def sha(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def test_h1_is_the_hash_of_sha256sum_lines_as_in_x_mod_dirhash() -> None:
    # TestHash1 of golang.org/x/mod/sumdb/dirhash/hash_test.go
    lines = b"".join(
        b"%b  %b\n" % (hashlib.sha256(b"data for " + name).hexdigest().encode(), name)
        for name in (b"abc", b"xyz")
    )
    expected = "h1:" + base64.b64encode(sha(lines)).decode()
    assert hash1([("xyz", sha(b"data for xyz")), ("abc", sha(b"data for abc"))]) == expected


@pytest.mark.parametrize(
    ("content", "h1"),
    [
        # The go.mod of every toolchain module on sum.golang.org, and the one of an empty go.mod
        # that cmd/go/internal/modfetch ignores in go.sum files.
        (b"module golang.org/toolchain\n", "h1:8wlg68NqwW7eMnI1aABk/C2pDYXj8mrMY4TyRfiLeS0="),
        (b"", "h1:G7mAYYxgmS0lVkHyy2hEOLQCFB0DlQFTMLWggykrydY="),
    ],
)
def test_h1_of_a_go_mod_is_the_published_one(content: bytes, h1: str) -> None:
    assert hash1([("go.mod", sha(content))]) == h1


def test_h1_of_no_file_is_that_of_no_bytes() -> None:
    assert hash1([]) == "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_names_are_sorted_by_their_utf8_bytes() -> None:
    # U+FF5E sorts before U+1F600 in UTF-8 and after it in UTF-16.
    names = ["Z", "a", "a/b", "a-b", "\uff5e", "\U0001f600"]
    by_bytes = sorted(names, key=str.encode)
    text = "".join(f"{sha(name.encode()).hex()}  {name}\n" for name in by_bytes)
    expected = "h1:" + base64.b64encode(sha(text.encode())).decode()
    assert hash1((name, sha(name.encode())) for name in names) == expected


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([("a\nb", sha(b""))], "newline"),
        ([("a", sha(b"")), ("b", sha(b"")), ("a", sha(b""))], "'a' comes twice"),
        ([("a", sha(b"1")), ("a", sha(b"2"))], "'a' comes twice"),
        ([("a", b"short")], "not a SHA-256"),
        ([("a\udc80", sha(b""))], "not Unicode"),
    ],
)
def test_a_line_that_has_no_h1_is_refused(lines: list[tuple[str, bytes]], reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        hash1(lines)


entries = st.dictionaries(
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=5),
    st.binary(max_size=3).map(sha),
    max_size=5,
)


@given(entries, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter_and_every_bit_does(entries, random) -> None:
    lines = list(entries.items())
    expected = hash1(lines)
    random.shuffle(lines)
    assert hash1(lines) == expected
    if lines:
        name, digest = lines.pop()
        assert hash1([*lines, (name, sha(digest))]) != expected
        assert hash1(lines) != expected
