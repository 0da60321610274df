"""Ranges of versions on rules; the order beneath is tests/core/test_semver.py's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import semver
from app.core.errors import BadInputError
from app.core.versionrange import MAX_RANGE_CHARS, RangeOperator, Term, VersionRange

PSEUDO = "v1.3.0-0.20060102150405-abcdef123456"

# Range, versions that it contains, versions that it does not.
CONTAINS = [
    (">=v1.2.0", ["v1.2.0", "v1.2.1-rc.1", "v2.0.0+incompatible"], ["v1.2.0-rc.1", "v1.1.9"]),
    (">v1.2.0", ["v1.2.1", PSEUDO], ["v1.2.0", "v1.2.0-rc.1"]),
    ("<=v1.2.0", ["v1.2.0", "v0.0.0-20060102150405-abcdef123456"], ["v1.2.1-rc.1"]),
    ("<v2.0.0", ["v2.0.0-rc.1", "v1.99.0"], ["v2.0.0", "v2.0.0+incompatible"]),
    ("<v2.0.0-0", ["v1.99.0"], ["v2.0.0-0", "v2.0.0-rc.1"]),
    ("v1.2.3", ["v1.2.3", "v1.2.3+meta"], ["v1.2.3+incompatible", "v1.2.3-rc.1", "v1.2.4"]),
    ("=v2.0.0+incompatible", ["v2.0.0+incompatible"], ["v2.0.0"]),
    ("v1", ["v1.0.0", "v1.0.0-0", "v1.99.9", PSEUDO], ["v0.9.0", "v2.0.0-0", "v10.0.0"]),
    ("v2", ["v2.0.0", "v2.3.4+incompatible"], ["v20.0.0", "v3.0.0-0"]),
    ("v1.2", ["v1.2.0", "v1.2.9-rc.1"], ["v1.20.0", "v1.3.0-0", "v1.1.9"]),
    (">=v1.2.0 <v1.4.0", ["v1.2.0", PSEUDO], ["v1.4.0", "v1.1.0"]),
    (">=v1.2.0,<v1.4.0-0 || v3", ["v1.3.9", "v3.0.0"], ["v1.4.0-rc.1", "v2.0.0"]),
    ("v1 >=v1.5.0", ["v1.5.0", "v1.99.0"], ["v1.4.9", "v2.0.0"]),
]

CANONICAL = [
    ("v1", "v1"),
    ("=v1.2.3", "v1.2.3"),
    (" >=v1.2.0 ,  <v2.0.0-0||v3 ", ">=v1.2.0 <v2.0.0-0||v3"),
    ("v1.2,>v1.2.3", "v1.2 >v1.2.3"),
]

REFUSED = [
    ("", "empty"),
    ("   ", "empty"),
    ("v1 || " * 100 + "v1", f"longer than {MAX_RANGE_CHARS}"),
    ("v1\n", "printable ASCII"),
    ("v\u0661", "printable ASCII"),
    ("||", "nothing before or after"),
    ("v1 ||", "nothing before or after"),
    ("v1,,v1.2", "nothing before or after"),
    (",v1", "nothing before or after"),
    ("1.2.3", "did you mean v1.2.3?"),
    ("<1.2", "did you mean <v1.2.0?"),
    (">=1", "did you mean >=v1.0.0?"),
    ("1.23", "did you mean v1.23?"),
    ("^v1.2.3", "not a term"),
    ("~v1.2.3", "not a term"),
    ("latest", "not a term"),
    ("v1.x", "needs a full version"),
    ("!=v1.2.3", "not a term"),
    ("==v1.2.3", "not a term"),
    (">= v1.2.0", "not a term"),
    ("v1 | v2", "not a term"),
    ("v1|||v2", "not a term"),
    (">=v1.2", "such as >=v1.2.0"),
    ("<v2", "such as <v2.0.0"),
    ("=v1", "such as =v1.0.0"),
    ("v1.2.3+meta", "such as v1.2.3"),
    ("v01.2.3", "such as v1.2.3"),
    ("v1.2.3-01", "such as v1.2.3"),
    ("v1, v2", "no version fulfils"),
    ("v1.2.3 v1.2.4", "no version fulfils"),
    ("v2.0.0 v2.0.0+incompatible", "no version fulfils"),
    (">=v2.0.0 <v1.0.0", "no version fulfils"),
    (">v1.0.0 <=v1.0.0", "no version fulfils"),
    (">=v1.0.0 <v1.0.0", "no version fulfils"),
    ("v1 >=v2.0.0", "no version fulfils"),
    ("v1.9 >=v1.10.0-0", "no version fulfils"),
    ("v9 <v9.0.0-0", "no version fulfils"),
    ("v1.2 v1.2.3 <v1.2.3", "no version fulfils"),
]

numbers = st.sampled_from(["0", "1", "2", "9", "10", "99", "9" * 25])
versions = st.builds(
    lambda core, pre: "v" + ".".join(core) + pre,
    st.lists(numbers, min_size=3, max_size=3),
    st.sampled_from(["", "", "-0", "-rc.1", "+incompatible"]),
)
terms = st.one_of(
    st.builds(
        lambda operator, version: operator + version,
        st.sampled_from([">", "<", "=", ">=", "<=", ""]),
        versions,
    ),
    st.builds(semver.major, versions),
    st.builds(semver.major_minor, versions),
)
range_texts = st.lists(
    st.lists(terms, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=3
).map("||".join)


@pytest.mark.parametrize(("text", "inside", "outside"), CONTAINS)
def test_a_range_contains_by_semver_order(text: str, inside: list[str], outside: list[str]) -> None:
    parsed = VersionRange.parse(text)
    assert [version for version in inside if not parsed.contains(version)] == []
    assert [version for version in outside if parsed.contains(version)] == []


@pytest.mark.parametrize("version", ["", "master", "latest", "1.2.3", "v01.0.0", "v1.0.0\n"])
def test_what_is_no_version_is_in_no_range(version: str) -> None:
    for text in ("<v99.0.0", ">=v0.0.0-0", "v0", "v1"):
        assert not VersionRange.parse(text).contains(version)


@pytest.mark.parametrize(("text", "canonical"), CANONICAL)
def test_the_text_is_canonical(text: str, canonical: str) -> None:
    assert str(VersionRange.parse(text)) == canonical


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_a_bad_range_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadInputError) as caught:
        VersionRange.parse(text)
    message = str(caught.value)
    assert reason in message
    assert message.isascii()
    assert message.isprintable()


def test_the_longest_range_is_accepted() -> None:
    text = "v10||" + "v1||" * 125 + "v1.2.30"
    assert len(text) == MAX_RANGE_CHARS
    longest = VersionRange.parse(text)
    assert longest.contains("v1.0.0")
    assert VersionRange.parse(str(longest)) == longest


def test_terms_are_told_apart() -> None:
    (alternative,) = VersionRange.parse("v1.2 >=v1.2.3").alternatives
    assert alternative == (Term(RangeOperator.LINE, "v1.2"), Term(RangeOperator.AT_LEAST, "v1.2.3"))


@given(range_texts, versions)
@settings(max_examples=300)
def test_a_range_is_what_its_canonical_text_parses_to(text: str, version: str) -> None:
    try:
        parsed = VersionRange.parse(text)
    except BadInputError:
        return
    again = VersionRange.parse(str(parsed))
    assert again == parsed
    assert str(again) == str(parsed)
    assert again.contains(version) is parsed.contains(version)


@given(st.lists(terms, min_size=1, max_size=3), versions)
@settings(max_examples=500)
def test_what_every_term_contains_is_never_refused_as_impossible(
    parts: list[str], version: str
) -> None:
    if all(VersionRange.parse(part).contains(version) for part in parts):
        assert VersionRange.parse(",".join(parts)).contains(version)


@given(st.text("v0129.-+<>=|, a", max_size=16))
def test_any_text_is_a_range_or_refused(text: str) -> None:
    try:
        parsed = VersionRange.parse(text)
    except BadInputError:
        return
    assert VersionRange.parse(str(parsed)) == parsed


TOOLCHAIN = "v0.0.1-go{}.linux-amd64"


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=go1.25.3", ["1.25.3", "1.25.10", "1.26rc1", "1.26.0"], ["1.25.2", "1.9.7", "1.25rc1"]),
        ("<go1.10", ["1.9", "1.9.7", "1.10rc1"], ["1.10", "1.10.1", "1.21.0"]),
        ("go1.26", ["1.26.0", "1.26.11", "1.26rc2"], ["1.25.9", "1.27.0"]),
        ("go1.25.3", ["1.25.3"], ["1.25.4", "1.25.30"]),
        ("=go1.22.3", ["1.22.3", "1.22.3-corp"], ["1.22.4"]),
        (">go1.25.3 <=go1.26.1", ["1.25.4", "1.26.1"], ["1.25.3", "1.26.2"]),
    ],
)
def test_go_versions_order_toolchains_by_gos_own_order(
    text: str, inside: list[str], outside: list[str]
) -> None:
    parsed = VersionRange.parse(text)
    assert VersionRange.parse(str(parsed)) == parsed
    assert [v for v in inside if not parsed.contains(TOOLCHAIN.format(v))] == []
    assert [v for v in outside if parsed.contains(TOOLCHAIN.format(v))] == []
    assert not parsed.contains("v1.25.3")
    assert not parsed.contains("v0.0.1-rc.1")


@pytest.mark.parametrize("text", ["go", ">=go1.25.x", "go01.2", "<go1.9.2rc2"])
def test_what_is_no_go_version_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInputError, match=r"go1\.25\.3|>=v1"):
        VersionRange.parse(text)
