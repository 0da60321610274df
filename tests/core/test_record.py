"""Vectors are those of golang.org/x/mod/sumdb/tlog/note_test.go unless a comment says otherwise."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import record, tlog
from app.core.errors import BadInputError, VerificationError
from app.core.record import (
    Lookup,
    RecordLine,
    Sums,
    authentic_text,
    check_text,
    format_data_tile,
    format_lookup,
    lines_for,
    parse_data_tile,
    parse_lookup,
    parse_record,
    record_text,
)
from app.core.tile import tile_body
from app.core.tileproof import authenticate, tiles_needed
from app.core.tlog import Tree

MODULE, VERSION = "rsc.io/quote", "v1.5.2"
ZIP_H1 = "h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y="
MOD_H1 = "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0="
OTHER_H1 = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
# The go.sum lines of rsc.io/quote v1.5.2.
ZIP_LINE = f"{MODULE} {VERSION} {ZIP_H1}\n"
MOD_LINE = f"{MODULE} {VERSION}/go.mod {MOD_H1}\n"
TEXT = ZIP_LINE + MOD_LINE
SUMS = Sums(ZIP_H1, MOD_H1)

BAD_TEXTS = {
    "empty": "",
    "no-last-newline": "hello\nworld",
    "empty-line": "hello\n\nworld\n",
    "control": "hello\x01world\n",
    "empty-first-line": "\nhello\n",
    "only-a-newline": "\n",
    "empty-last-line": "hello\n\n",
    "carriage-return": "hello\r\n",
    "tab": "hello\tworld\n",
    "nul": "\0\n",
    "surrogate": "hello\udcff\n",
}


def test_a_lookup_is_number_text_blank_line_and_the_rest() -> None:
    lookup = Lookup(123456789012, "hello, world\n", b"junk on end\x01\xff")
    wire = b"123456789012\nhello, world\n\njunk on end\x01\xff"
    assert format_lookup(lookup) == wire
    assert parse_lookup(wire) == lookup


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_a_text_that_no_log_may_have_is_refused(text: str) -> None:
    for ask in (
        lambda: check_text(text),
        lambda: format_lookup(Lookup(1, text, b"note")),
        lambda: format_data_tile(["fine\n", text]),
        lambda: parse_record(text),
    ):
        with pytest.raises(BadInputError):
            ask()


@pytest.mark.parametrize(
    "wire",
    [
        b"not-123456789012\nhello, world\n\nnote",
        b"123\nhello\x01world\n\nnote",
        b"123\nhello\xffworld\n\nnote",
        b"123\nhello world\n",
        b"0x123\nhello world\n\nnote",
        # x/mod takes some of these numbers; they have another spelling or are no record's.
        b"+123\nhello\n\nnote",
        b"-1\nhello\n\nnote",
        b"0123\nhello\n\nnote",
        b"1_0\nhello\n\nnote",
        b" 1\nhello\n\nnote",
        "\u0661\nhello\n\nnote".encode(),
        b"9223372036854775808\nhello\n\nnote",
        b"9" * 5000 + b"\nhello\n\nnote",
        b"\nhello\n\nnote",
        b"123\n\nnote",
        b"123\n\nhello\n\nnote",
        b"123\nhello\n\n",
        b"123\r\nhello\r\n\r\nnote",
        b"",
        b"\n\n",
        b"<html>\n\n</html>",
        b"1\nhello\n\n" + b"x" * record.MAX_LOOKUP_BYTES,
    ],
)
def test_F75_a_malformed_lookup_is_refused(wire: bytes) -> None:
    with pytest.raises(BadInputError):
        parse_lookup(wire)


def test_a_negative_record_number_is_refused() -> None:
    for number in (-1, tlog.MAX_SIZE + 1):
        with pytest.raises(BadInputError):
            format_lookup(Lookup(number, TEXT, b"note"))


def test_a_cut_off_lookup_is_refused_or_is_of_a_cut_off_note() -> None:
    whole = Lookup(42, TEXT, b"note")
    wire = format_lookup(whole)
    for end in range(len(wire) - len(whole.note) + 1):
        with pytest.raises(BadInputError):
            parse_lookup(wire[:end])
    for end in range(len(wire) - len(whole.note) + 1, len(wire)):
        assert parse_lookup(wire[:end]).note != whole.note


def test_every_flipped_bit_of_a_lookup_shows() -> None:
    whole = Lookup(42, TEXT, b"note")
    wire = bytearray(format_lookup(whole))
    for i in range(len(wire)):
        for bit in range(8):
            wire[i] ^= 1 << bit
            with contextlib.suppress(BadInputError):
                assert parse_lookup(bytes(wire)) != whole
            wire[i] ^= 1 << bit


def test_a_record_is_the_two_lines_of_a_go_sum() -> None:
    assert record_text(MODULE, VERSION, SUMS) == TEXT
    assert parse_record(TEXT) == (
        RecordLine(MODULE, VERSION, False, ZIP_H1),
        RecordLine(MODULE, VERSION, True, MOD_H1),
    )
    assert lines_for(TEXT, MODULE, VERSION) == SUMS


@pytest.mark.parametrize(
    ("module", "version"),
    [
        ("github.com/BurntSushi/toml", "v1.4.0"),
        ("golang.org/toolchain", "v0.0.1-go1.23.1.linux-amd64"),
        ("example.com/a/v2", "v2.0.0-rc.1"),
        ("example.com/a", "v2.3.0+incompatible"),
        ("gopkg.in/yaml.v3", "v3.0.1"),
        ("example.com/a", "v0.0.0-20160102150405-abcdef123456"),
    ],
)
def test_every_module_version_has_a_record(module: str, version: str) -> None:
    assert lines_for(record_text(module, version, SUMS), module, version) == SUMS


@pytest.mark.parametrize(
    ("module", "version", "sums"),
    [
        ("rsc.io/quote", "v1.5", SUMS),
        ("rsc.io/quote", "v2.0.0", SUMS),
        ("rsc.io/quote", "v1.5.2/go.mod", SUMS),
        ("rsc.io/quote", "v1.5.2+meta", SUMS),
        ("rsc.io/quote", "v1.5.2\n", SUMS),
        ("rsc.io/!quote", "v1.5.2", SUMS),
        ("rsc.io/a b", "v1.5.2", SUMS),
        ("quote", "v1.5.2", SUMS),
        ("rsc.io/quote", "v1.5.2", Sums(ZIP_H1[:-1], MOD_H1)),
        ("rsc.io/quote", "v1.5.2", Sums(ZIP_H1, MOD_H1.removeprefix("h1:"))),
        ("rsc.io/quote", "v1.5.2", Sums(ZIP_H1, MOD_H1.replace("h1:", "h2:"))),
        ("rsc.io/quote", "v1.5.2", Sums(ZIP_H1, MOD_H1 + "\n" + ZIP_LINE[:-1])),
        ("rsc.io/quote", "v1.5.2", Sums(ZIP_H1, MOD_H1.replace("r0=", "r1="))),
        ("rsc.io/quote", "v1.5.2", Sums("", MOD_H1)),
    ],
)
def test_a_record_of_something_else_is_not_made(module: str, version: str, sums: Sums) -> None:
    with pytest.raises(BadInputError):
        record_text(module, version, sums)


NOT_ITS_RECORD = {
    "no-go-mod": ZIP_LINE,
    "no-zip": MOD_LINE,
    "other-module": TEXT.replace("quote", "sampler"),
    "other-version": TEXT.replace("v1.5.2", "v1.5.1"),
    "longer-module": TEXT.replace("rsc.io/quote", "rsc.io/quote/v3").replace("v1.5", "v3.5"),
    "extra-other-module": TEXT + ZIP_LINE.replace("quote", "sampler"),
    "extra-other-version": TEXT + MOD_LINE.replace("v1.5.2", "v1.5.3"),
    "zip-twice": ZIP_LINE + TEXT,
    "zip-twice-differently": TEXT + ZIP_LINE.replace(ZIP_H1, OTHER_H1),
    "go-mod-twice": TEXT + MOD_LINE,
    "two-zips": ZIP_LINE + ZIP_LINE.replace(ZIP_H1, OTHER_H1),
    "other-case": TEXT.replace("quote", "Quote"),
}


@pytest.mark.parametrize("text", NOT_ITS_RECORD.values(), ids=NOT_ITS_RECORD.keys())
def test_F75_a_record_with_missing_foreign_or_repeated_lines_is_refused(text: str) -> None:
    with pytest.raises(VerificationError) as refused:
        lines_for(text, MODULE, VERSION)
    assert f"{MODULE}@{VERSION}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *BAD_TEXTS.values(),
        "hello, world\n",
        TEXT + "# comment\n",
        TEXT.replace(" h1:", "  h1:"),
        TEXT.replace(" h1:", " "),
        TEXT.replace("h1:", "h2:"),
        TEXT.replace("\n", " \n"),
        " " + TEXT,
        TEXT.replace(VERSION, "v1.5"),
        TEXT.replace(VERSION, VERSION + "/go.mod"),
        TEXT.replace(VERSION, "master"),
        TEXT.replace("rsc.io/quote", "rsc.io//quote"),
        TEXT.replace("rsc.io/quote", "rsc.io/!quote"),
        TEXT.replace(" ", "\u00a0"),
        TEXT + "go.sum database tree\n",
        TEXT + f"{MODULE} {VERSION}/go.sum {MOD_H1}\n",
    ],
)
def test_F75_a_record_with_anything_but_go_sum_lines_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        lines_for(text, MODULE, VERSION)


def test_either_line_may_come_first() -> None:
    assert lines_for(MOD_LINE + ZIP_LINE, MODULE, VERSION) == SUMS


def a_log(texts: list[str]):
    """Return the head and all tiles of height 2 of a log of texts."""
    stored: list[tlog.Hash] = []

    def read(indexes):
        return [stored[index] for index in indexes]

    for n, text in enumerate(texts):
        stored.extend(tlog.stored_hashes(n, tlog.leaf_hash(text.encode()), read))
    tree = Tree(len(texts), tlog.tree_hash(len(texts), read))
    needed = tiles_needed(tree, range(len(stored)), 2)
    return authenticate(tree, {tile: tile_body(tile, read) for tile in needed}, 2)


def test_F75_only_the_text_that_the_log_has_under_that_number_is_authentic() -> None:
    texts = [record_text("example.com/a", f"v1.0.{i}", SUMS) for i in range(21)]
    tiles = a_log(texts)
    for number, text in enumerate(texts):
        assert authentic_text(Lookup(number, text, b"note"), tiles) == text
        for wrong in (
            Lookup(number, texts[number - 1], b"note"),
            Lookup(number, text + text, b"note"),
            Lookup((number + 1) % 21, text, b"note"),
            Lookup(21, text, b"note"),
            Lookup(number, text.replace("w5fc", "w5fd"), b"note"),
            Lookup(number + (1 << 40), text, b"note"),
        ):
            with pytest.raises(VerificationError) as refused:
                authentic_text(wrong, tiles)
            assert "\n" not in str(refused.value)


def test_F75_a_text_whose_hash_is_a_node_is_not_a_record() -> None:
    # A leaf is hashed with another first byte than a node, so that no record can pose as one.
    texts = [record_text("example.com/a", f"v1.0.{i}", SUMS) for i in range(2)]
    tiles = a_log(texts)
    left, right = (tlog.leaf_hash(text.encode()) for text in texts)
    assert tiles.tree.root == tlog.node_hash(left, right) != tlog.leaf_hash(left + right)


def test_a_tile_of_records_is_texts_with_blank_lines() -> None:
    assert format_data_tile([TEXT, "hello\n"]) == f"{TEXT}\nhello\n\n".encode()
    assert parse_data_tile(f"{TEXT}\nhello\n\n".encode()) == [TEXT, "hello\n"]
    assert parse_data_tile(b"") == []


@pytest.mark.parametrize(
    "body",
    [
        b"hello\n",
        b"hello",
        b"\n\n",
        b"hello\n\n\n",
        b"a\n\n\nb\n\n",
        b"a\xff\n\n",
        b"a\x01\n\n",
        b"\n",
    ],
)
def test_a_malformed_tile_of_records_is_refused(body: bytes) -> None:
    with pytest.raises(BadInputError):
        parse_data_tile(body)


TEXTS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1), min_size=1
).map(lambda lines: "".join(f"{line}\n" for line in lines))


@given(st.integers(0, tlog.MAX_SIZE), TEXTS, st.binary(min_size=1))
def test_a_lookup_parses_back(number: int, text: str, note: bytes) -> None:
    lookup = Lookup(number, text, note)
    assert parse_lookup(format_lookup(lookup)) == lookup


@given(st.lists(TEXTS))
def test_a_tile_of_records_parses_back(texts: list[str]) -> None:
    assert parse_data_tile(format_data_tile(texts)) == texts


ALMOST = st.lists(st.sampled_from([b"1", b"0", b"\n", b"\n\n", b"a b c", b"\xff", b"\r", b"h1:"]))


@given(st.binary() | ALMOST.map(b"".join))
def test_any_lookup_prints_back_or_is_refused(wire: bytes) -> None:
    try:
        lookup = parse_lookup(wire)
    except BadInputError:
        return
    assert format_lookup(lookup) == wire


@given(st.binary() | ALMOST.map(b"".join))
def test_any_tile_of_records_prints_back_or_is_refused(body: bytes) -> None:
    try:
        texts = parse_data_tile(body)
    except BadInputError:
        return
    assert format_data_tile(texts) == body


@given(
    st.lists(
        st.sampled_from(
            [MODULE, VERSION, VERSION + "/go.mod", ZIP_H1, MOD_H1, " ", "\n", "/go.mod"]
        )
    ).map("".join)
    | TEXTS
)
def test_any_record_prints_back_or_is_refused(text: str) -> None:
    try:
        lines = parse_record(text)
    except BadInputError:
        return
    assert "".join(map(str, lines)) == text
