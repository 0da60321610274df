"""The form of tokens; whose one is and whether it holds is tests/services/test_tokens.py."""

import re
import zlib

import pytest

from app.core.token import looks_like_token, make_token, token_hash

RANDOM = bytes(range(32))
TOKEN = make_token(RANDOM)
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def checked(body: str) -> str:
    """Return body with its right checksum, whatever it consists of."""
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return body + digits


def test_the_checksum_is_crc32_in_base62() -> None:
    assert checked(TOKEN[:-6]) == TOKEN


def test_a_token_is_a_prefix_43_random_and_6_check_characters() -> None:
    assert re.fullmatch(r"moor_[0-9A-Za-z]{43}[0-9A-Za-z]{6}", TOKEN)
    assert looks_like_token(TOKEN)


@pytest.mark.parametrize(
    ("random", "digits"),
    [
        (bytes(32), "0" * 43),
        (bytes(31) + b"\x3d", "0" * 42 + "z"),
        (bytes(31) + b"\x3e", "0" * 41 + "10"),
    ],
)
def test_the_random_part_is_base62_of_the_big_endian_number(random: bytes, digits: str) -> None:
    assert make_token(random)[5:48] == digits


def test_the_largest_random_number_fits() -> None:
    assert looks_like_token(make_token(b"\xff" * 32))
    assert make_token(b"\xff" * 32)[5:48] != make_token(b"\xff" * 31 + b"\xfe")[5:48]


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_token_of_other_than_32_random_bytes_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        make_token(bytes(length))


def test_every_change_of_a_single_character_is_refused() -> None:
    accepted = [
        (place, other)
        for place, right in enumerate(TOKEN)
        for other in (*ALPHABET, "_", "-", " ", "\n", "é")
        if other != right and looks_like_token(TOKEN[:place] + other + TOKEN[place + 1 :])
    ]
    assert accepted == []


def test_every_swap_of_neighbours_and_every_truncation_is_refused() -> None:
    swapped = [
        TOKEN[:i] + TOKEN[i + 1] + TOKEN[i] + TOKEN[i + 2 :]
        for i in range(len(TOKEN) - 1)
        if TOKEN[i] != TOKEN[i + 1]
    ]
    cut = [TOKEN[:i] for i in range(len(TOKEN))]
    assert [text for text in swapped + cut if looks_like_token(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "moor_",
        TOKEN + "0",
        " " + TOKEN,
        TOKEN + "\n",
        TOKEN.upper(),
        TOKEN.replace("moor_", "gm_"),
        "\N{CYRILLIC SMALL LETTER EM}" + TOKEN[1:],
        "moor_" + "\ud800" * 43 + "000000",
        checked("moor_" + "é" * 43),
        "\0" * 54,
        "x" * 1_000_000,
    ],
)
def test_what_only_resembles_a_token_is_refused(text: str) -> None:
    assert not looks_like_token(text)


def test_what_is_stored_is_the_sha256_of_the_whole_token() -> None:
    # The vector of FIPS 180-2, appendix B.1.
    assert token_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert token_hash(TOKEN) != token_hash(TOKEN[:-1])
