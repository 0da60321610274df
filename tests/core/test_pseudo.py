"""Vectors are those of golang.org/x/mod/module/pseudo_test.go unless a comment says otherwise."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import pseudo, semver

TIME = datetime(2006, 1, 2, 15, 4, 5, tzinfo=UTC)

# The tagged version before the commit, and the pseudo-version.
PSEUDO = [
    ("", "v0.0.0-20060102150405-hash"),
    ("", "v1.0.0-20060102150405-hash"),
    ("", "v2.0.0-20060102150405-hash"),
    ("v0.0.0", "v0.0.1-0.20060102150405-hash"),
    ("v1.2.3", "v1.2.4-0.20060102150405-hash"),
    ("v1.2.99999999999999999", "v1.2.100000000000000000-0.20060102150405-hash"),
    ("v1.2.3-pre", "v1.2.3-pre.0.20060102150405-hash"),
    ("v1.3.0-pre", "v1.3.0-pre.0.20060102150405-hash"),
    ("v0.0.0--", "v0.0.0--.0.20060102150405-hash"),
    ("v1.0.0+metadata", "v1.0.1-0.20060102150405-hash+metadata"),
    ("v2.0.0+incompatible", "v2.0.1-0.20060102150405-hash+incompatible"),
    ("v2.3.0-pre+incompatible", "v2.3.0-pre.0.20060102150405-hash+incompatible"),
    # decDecimal's vectors, as patches.
    ("v1.0.98", "v1.0.99-0.20060102150405-hash"),
    ("v1.0.99", "v1.0.100-0.20060102150405-hash"),
    ("v1.0.100", "v1.0.101-0.20060102150405-hash"),
]

WITHOUT_BASE = [
    "v0.0.0",
    "v0.0.0-",
    "v0.0.0-0.20060102150405-hash",
    "v0.1.0-0.20060102150405-hash",
    "v1.0.0-0.20060102150405-hash",
    "v0.0.0-20060102150405-hash+incompatible",
    "v0.0.0-20060102150405-hash+metadata",
]

# By pseudoVersionRE.
NOT_PSEUDO = [
    "",
    "---",
    "v1.2.3",
    "v1.2.3-pre-1",
    "v1.2.3-20060102150405-hash",
    "v0.0.0-2006010215040-hash",
    "v0.0.0-200601021504055-hash",
    "v0.0.0-20060102150405-",
    "v0.0.0-20060102150405-ha.sh",
    "v0.0.0-20060102150405-hash\n",
    "v1.2.4-1.20060102150405-hash",
    "v01.0.0-20060102150405-hash",
    "v0.0.0-2006010215040\u0665-hash",
]

NOT_A_TIME = [
    "20061302150405",
    "20060230150405",
    "20060102240405",
    "20060102150460",
    "00000102150405",
]


@pytest.mark.parametrize(("older", "version"), PSEUDO)
def test_time_revision_and_base_are_read(older: str, version: str) -> None:
    assert pseudo.is_pseudo(version)
    assert pseudo.time_of(version) == TIME
    assert pseudo.rev_of(version) == "hash"
    assert pseudo.base_of(version) == older


@pytest.mark.parametrize("version", [older for older, _ in PSEUDO] + NOT_PSEUDO)
def test_other_versions_are_not_pseudo(version: str) -> None:
    assert not pseudo.is_pseudo(version)
    assert pseudo.time_of(version) is None
    assert pseudo.rev_of(version) == ""
    assert pseudo.base_of(version) == ""


@pytest.mark.parametrize("version", WITHOUT_BASE)
def test_an_impossible_base_is_none(version: str) -> None:
    assert pseudo.base_of(version) == ""


@pytest.mark.parametrize("digits", NOT_A_TIME)
def test_digits_that_are_no_time_give_none(digits: str) -> None:
    version = f"v0.0.0-{digits}-abcdef123456"
    assert pseudo.is_pseudo(version)
    assert pseudo.time_of(version) is None


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)))
def test_every_time_is_read_back(when: datetime) -> None:
    digits = f"{when.year:04}{when:%m%d%H%M%S}"
    expected = when.replace(microsecond=0, tzinfo=UTC)
    assert pseudo.time_of(f"v1.2.4-0.{digits}-abcdef123456") == expected


@given(st.from_regex(r"(0|[1-9][0-9]{0,30})", fullmatch=True))
def test_the_base_comes_just_before_the_pseudo_version(patch: str) -> None:
    older, version = f"v1.2.{patch}", f"v1.2.{int(patch) + 1}-0.20060102150405-hash"
    assert pseudo.base_of(version) == older
    assert semver.compare(older, version) == -1
