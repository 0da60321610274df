"""Vectors are those of golang.org/x/mod/semver/semver_test.go unless a comment says otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import semver

# In ascending order, as semver_test.go has them; the second is canonical, "" for invalid.
ORDERED = [
    ("bad", ""),
    ("v1-alpha.beta.gamma", ""),
    ("v1-pre", ""),
    ("v1+meta", ""),
    ("v1-pre+meta", ""),
    ("v1.2-pre", ""),
    ("v1.2+meta", ""),
    ("v1.2-pre+meta", ""),
    ("v1.0.0-alpha", "v1.0.0-alpha"),
    ("v1.0.0-alpha.1", "v1.0.0-alpha.1"),
    ("v1.0.0-alpha.beta", "v1.0.0-alpha.beta"),
    ("v1.0.0-beta", "v1.0.0-beta"),
    ("v1.0.0-beta.2", "v1.0.0-beta.2"),
    ("v1.0.0-beta.11", "v1.0.0-beta.11"),
    ("v1.0.0-rc.1", "v1.0.0-rc.1"),
    ("v1", "v1.0.0"),
    ("v1.0", "v1.0.0"),
    ("v1.0.0", "v1.0.0"),
    ("v1.2", "v1.2.0"),
    ("v1.2.0", "v1.2.0"),
    ("v1.2.3-456", "v1.2.3-456"),
    ("v1.2.3-456.789", "v1.2.3-456.789"),
    ("v1.2.3-456-789", "v1.2.3-456-789"),
    ("v1.2.3-456a", "v1.2.3-456a"),
    ("v1.2.3-pre", "v1.2.3-pre"),
    ("v1.2.3-pre+meta", "v1.2.3-pre"),
    ("v1.2.3-pre.1", "v1.2.3-pre.1"),
    ("v1.2.3-zzz", "v1.2.3-zzz"),
    ("v1.2.3", "v1.2.3"),
    ("v1.2.3+meta", "v1.2.3"),
    ("v1.2.3+meta-pre", "v1.2.3"),
    ("v1.2.3+meta-pre.sha.256a", "v1.2.3"),
]

# By the grammar in semver.go.
INVALID = [
    "",
    "1.2.3",
    "V1.2.3",
    "v",
    "v01",
    "v1.02.3",
    "v1.2.03",
    "v1.",
    "v1.2.",
    "v1.2.3.4",
    "v-1.2.3",
    "v1.2.3-",
    "v1.2.3-01",
    "v1.2.3-a..b",
    "v1.2.3-a.",
    "v1.2.3-a_b",
    "v1.2.3+",
    "v1.2.3+a..b",
    "v1.2.3+a+b",
    "v1.2.3\n",
    " v1.2.3",
    "v1.2.\u0663",
    "v1.2.3-\u0663",
]

PARTS = [
    ("v2", "v2", "v2.0", "", ""),
    ("v2.1", "v2", "v2.1", "", ""),
    ("v2.1.0-pre+meta", "v2", "v2.1", "-pre", "+meta"),
    ("v10.20.30+a.01", "v10", "v10.20", "", "+a.01"),
    ("v1.0.0--.0", "v1", "v1.0", "--.0", ""),
    ("bad", "", "", "", ""),
]

identifiers = st.one_of(
    st.sampled_from(["0", "1", "2", "10", "11", "a", "rc", "0a", "-", "A", "rc-1", "9" * 30]),
    st.from_regex(r"[a-zA-Z-][0-9A-Za-z-]{0,3}", fullmatch=True),
)
numbers = st.sampled_from(["0", "1", "2", "9", "10", "9" * 25, "1" + "0" * 25])
versions = st.builds(
    lambda core, pre, build: (
        "v" + ".".join(core) + ("-" + ".".join(pre) if pre else "") + ("+" + build if build else "")
    ),
    st.lists(numbers, min_size=3, max_size=3),
    st.lists(identifiers, max_size=3),
    st.sampled_from(["", "incompatible", "meta.1"]),
)
texts = st.one_of(versions, st.sampled_from(["", "bad", "v1", "v1.2", "v01"]))


@pytest.mark.parametrize(("version", "canonical"), ORDERED)
def test_canonical_fills_in_and_drops_build(version: str, canonical: str) -> None:
    assert semver.canonical(version) == canonical
    assert semver.is_valid(version) == (canonical != "")


@pytest.mark.parametrize("text", INVALID)
def test_what_the_grammar_lacks_is_invalid(text: str) -> None:
    assert not semver.is_valid(text)
    assert semver.canonical(text) == ""


def test_order_is_that_of_the_vectors() -> None:
    for i, (a, canonical_a) in enumerate(ORDERED):
        for j, (b, canonical_b) in enumerate(ORDERED):
            expected = 0 if canonical_a == canonical_b else (i > j) - (i < j)
            assert semver.compare(a, b) == expected, (a, b)


@pytest.mark.parametrize(("version", "major", "line", "pre", "build"), PARTS)
def test_parts_keep_their_separators(
    version: str, major: str, line: str, pre: str, build: str
) -> None:
    assert semver.major(version) == major
    assert semver.major_minor(version) == line
    assert semver.prerelease(version) == pre
    assert semver.build(version) == build


def test_numbers_of_any_length_are_compared_by_value() -> None:
    nines, more = "9" * 20_000, "1" + "0" * 20_000
    assert semver.compare(f"v1.0.{nines}", f"v1.0.{more}") == -1
    assert semver.compare(f"v1.0.0-rc.{more}", f"v1.0.0-rc.{nines}") == 1


def test_sorting_puts_invalid_first_and_breaks_ties_by_text() -> None:
    expected = ["", "bad", "v1.0.0-rc.1", "v1", "v1.0.0", "v1.0.0+meta", "v1.10.0"]
    backwards = list(reversed(expected))
    assert sorted(backwards, key=semver.sort_key) == expected
    assert max(expected, key=semver.sort_key) == "v1.10.0"


@given(texts, texts, texts)
def test_compare_is_a_total_order(a: str, b: str, c: str) -> None:
    assert semver.compare(a, a) == 0
    assert semver.compare(a, b) == -semver.compare(b, a)
    low, middle, high = sorted([a, b, c], key=semver.sort_key)
    assert semver.compare(low, middle) <= 0
    assert semver.compare(middle, high) <= 0
    assert semver.compare(low, high) <= 0


@given(texts, texts)
def test_versions_compare_equal_only_if_their_canonical_forms_are_identical(a: str, b: str) -> None:
    assert (semver.compare(a, b) == 0) == (semver.canonical(a) == semver.canonical(b))


@given(versions)
def test_canonical_of_canonical_is_itself(version: str) -> None:
    canonical = semver.canonical(version)
    assert semver.is_valid(version)
    assert semver.canonical(canonical) == canonical
    assert version == canonical + semver.build(version)


@given(versions, st.data())
def test_a_truncated_version_is_valid_or_refused_without_an_exception(
    version: str, data: st.DataObject
) -> None:
    text = version[: data.draw(st.integers(0, len(version)))]
    assert semver.is_valid(text) == (semver.precedence(text) > semver.precedence(""))
