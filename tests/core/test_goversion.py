"""Vectors are those of Go's internal/gover/gover_test.go unless a comment names another source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import goversion
from app.core.errors import BadInputError
from app.core.goversion import GoVersion

COMPARE = [
    ("", "", 0),
    ("x", "x", 0),
    ("", "x", 0),
    ("1", "1.1", -1),
    ("1.5", "1.6", -1),
    ("1.5", "1.10", -1),
    ("1.6", "1.6.1", -1),
    ("1.19", "1.19.0", 0),
    ("1.19rc1", "1.19", -1),
    ("1.20", "1.20.0", 0),
    ("1.20rc1", "1.20", -1),
    ("1.21", "1.21.0", -1),
    ("1.21", "1.21rc1", -1),
    ("1.21rc1", "1.21.0", -1),
    ("1.6", "1.19", -1),
    ("1.19", "1.19.1", -1),
    ("1.19rc1", "1.19.1", -1),
    ("1.19rc1", "1.19rc2", -1),
    ("1.19.0", "1.19.1", -1),
    ("1.19rc1", "1.19.0", -1),
    ("1.19alpha3", "1.19beta2", -1),
    ("1.19beta2", "1.19rc1", -1),
    ("1.1", "1.99999999999999998", -1),
    ("1.99999999999999998", "1.99999999999999999", -1),
    # Beyond gover_test.go: numbers of any length, pre-release numbers by value, invalid < valid.
    ("1." + "9" * 5000, "1.1" + "0" * 5000, -1),
    ("1.21rc9", "1.21rc10", -1),
    ("1.9.2rc2", "1", -1),
    ("go1.27.1", "1", -1),
]

PARSE = [
    ("1", GoVersion("1", "0", "0", "", "")),
    ("1.2", GoVersion("1", "2", "0", "", "")),
    ("1.2.3", GoVersion("1", "2", "3", "", "")),
    ("1.2rc3", GoVersion("1", "2", "", "rc", "3")),
    ("1.20", GoVersion("1", "20", "0", "", "")),
    ("1.21", GoVersion("1", "21", "", "", "")),
    ("1.21rc3", GoVersion("1", "21", "", "rc", "3")),
    ("1.21.0", GoVersion("1", "21", "0", "", "")),
    ("1.24", GoVersion("1", "24", "", "", "")),
    ("1.24rc3", GoVersion("1", "24", "", "rc", "3")),
    ("1.24.0", GoVersion("1", "24", "0", "", "")),
    ("1.999testmod", GoVersion("1", "999", "", "testmod", "")),
    ("1.99999999999999999", GoVersion("1", "99999999999999999", "", "", "")),
]

VALID = [
    "1.2rc3",
    "1.2.3",
    "1.999testmod",
    "1.22",
    "1.21.0",
    "1.21rc2",
    "1.21",
    "1.20.0",
    "1.20",
    "1.19",
    "1.3",
    "1.2",
    "1",
]

INVALID = [
    "1.600+auto",
    # By the grammar in gover.go.
    "",
    "go1.2",
    "1.",
    "1.2.",
    "01.2",
    "1.02",
    "1.2.03",
    "1.21rc01",
    "1.9.2rc2",
    "1.21.3rc1",
    "1.21RC1",
    "1.21rc1x",
    "1.2.3.4",
    "v1.2",
    "1.2\n",
    " 1.2",
    "1.\u0662",
    "-1",
]

words = st.text("0123456789.rcbeta", max_size=8)
numbers = st.integers(0, 30).map(str)
versions = st.one_of(
    words,
    numbers,
    st.tuples(numbers, numbers).map(".".join),
    st.tuples(numbers, numbers, numbers).map(".".join),
    st.builds("{}.{}{}{}".format, numbers, numbers, st.sampled_from(["beta", "rc"]), numbers),
)


@pytest.mark.parametrize(("a", "b", "order"), COMPARE)
def test_versions_compare_as_in_gover(a: str, b: str, order: int) -> None:
    assert goversion.compare(a, b) == order
    assert goversion.compare(b, a) == -order


@pytest.mark.parametrize(("text", "parts"), PARSE)
def test_versions_parse_as_in_gover(text: str, parts: GoVersion) -> None:
    assert GoVersion.parse(text) == parts


@pytest.mark.parametrize("text", VALID)
def test_a_version_of_gover_is_valid(text: str) -> None:
    assert goversion.is_valid(text)


@pytest.mark.parametrize("text", INVALID)
def test_what_gover_refuses_is_invalid(text: str) -> None:
    assert not goversion.is_valid(text)
    with pytest.raises(BadInputError, match="not a Go version"):
        GoVersion.parse(text)


def test_a_refusal_is_short_and_without_control_characters() -> None:
    with pytest.raises(BadInputError) as caught:
        GoVersion.parse("1.2\x07" + "é" * 10_000)
    assert len(str(caught.value)) <= 500
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "minor"),
    [
        ("go1.2rc3", "1.2"),
        ("go1.2.3", "1.2"),
        ("go1.2", "1.2"),
        ("go1", "1"),
        ("go1.999testmod", "1.999"),
        ("go1.27.1", "1.27"),
        ("go1.0.3", "1"),
        ("go1.22.3-corp", "1.22"),
        ("go1.9.2rc2", ""),
        ("1.27.1", ""),
        ("go", ""),
    ],
)
def test_a_minor_is_the_language_version_of_gover(name: str, minor: str) -> None:
    assert goversion.minor_of(name) == minor


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("go1.28rc1", True),
        ("go1.4beta1", True),
        ("go1.27.1", False),
        ("go1.20", False),
        ("go1.9.2rc2", False),
        ("1.28rc1", False),
    ],
)
def test_a_prerelease_is_told_by_its_name(name: str, expected: bool) -> None:
    assert goversion.is_prerelease(name) is expected


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("go1.22.3-corp", "1.22.3"),
        ("go1.22.3 X:foo", "1.22.3"),
        ("go1.22.3\tx", "1.22.3"),
        ("go1.22.3", "1.22.3"),
        ("1.22.3", ""),
        ("gopher", "pher"),
    ],
)
def test_a_name_loses_go_and_its_suffix(name: str, version: str) -> None:
    assert goversion.from_name(name) == version


def test_names_sort_from_old_to_new_with_invalid_ones_first() -> None:
    expected = [
        "devel",
        "go1.9.2rc2",
        "go1",
        "go1.2",
        "go1.10",
        "go1.20rc1",
        "go1.20",
        "go1.20.0",
        "go1.20.1",
        "go1.21",
        "go1.21rc1",
        "go1.21rc2",
        "go1.21.0",
        "go1.21.1",
        "go1.21.1-corp",
        "go1.27.1",
    ]
    backwards = expected[::-1]
    assert sorted(backwards, key=goversion.sort_key) == expected


@given(versions, versions, versions)
def test_the_order_is_total_and_consistent(a: str, b: str, c: str) -> None:
    compare = goversion.compare
    assert compare(a, b) == -compare(b, a)
    if compare(a, b) <= 0 and compare(b, c) <= 0:
        assert compare(a, c) <= 0
    if goversion.is_valid(a) and not goversion.is_valid(b):
        assert compare(a, b) == 1
    by_key = goversion.sort_key("go" + a)[0] < goversion.sort_key("go" + b)[0]
    assert by_key == (compare(a, b) < 0)


@given(st.text(max_size=20))
def test_any_text_is_judged_without_failing(text: str) -> None:
    goversion.is_valid(text)
    goversion.sort_key(text)
    assert goversion.minor_of(text) == "" or text.startswith("go")
