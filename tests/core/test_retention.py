"""Rules of retention: what is let go, why, and what never is."""

from datetime import UTC, datetime, timedelta

import pytest

from app.core.retention import RetentionPolicy, StoredZip, let_go

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def a_zip(number: int, version: str = "v1.0.0", *, stored: int = 100, used: int = 100) -> StoredZip:
    """Return a zip of 10 bytes, stored and used so many days ago."""
    at, used_at = NOW - timedelta(days=stored), NOW - timedelta(days=used)
    return StoredZip(number, f"example.com/m{number // 10}", version, 10, at, used_at)


def gone(zips: list[StoredZip], **rules: int) -> list[int]:
    return sorted(one.id for one, reason in let_go(zips, RetentionPolicy(**rules), NOW) if reason)


def test_without_rules_nothing_goes() -> None:
    assert not RetentionPolicy().is_on
    assert gone([a_zip(1, stored=9999, used=9999)]) == []


@pytest.mark.parametrize(("used", "expected"), [(29, []), (31, [1])])
def test_what_nobody_uses(used: int, expected: list[int]) -> None:
    assert gone([a_zip(1, used=used)], unused_days=30) == expected


@pytest.mark.parametrize(("stored", "expected"), [(29, []), (31, [1])])
def test_what_is_old(stored: int, expected: list[int]) -> None:
    assert gone([a_zip(1, stored=stored, used=0)], max_age_days=30) == expected


def test_the_newest_versions_of_each_module_stay() -> None:
    versions = ["v1.10.0", "v1.9.0", "v1.2.0", "v2.0.0-rc.1"]
    zips = [a_zip(number, version) for number, version in enumerate(versions)]
    assert gone([*zips, a_zip(10, "v0.1.0")], versions=2) == [1, 2]


def test_what_was_used_longest_ago_goes_until_the_rest_fits() -> None:
    zips = [a_zip(number, used=100 - number) for number in range(5)]
    assert gone(zips, max_bytes=30) == [0, 1]
    assert gone(zips, max_bytes=50) == []
    assert gone(zips, max_bytes=30, unused_days=97) == [0, 1, 2]


def test_nothing_of_this_week_goes() -> None:
    zips = [a_zip(1, stored=6, used=6), a_zip(2, stored=8, used=8)]
    assert gone(zips, max_bytes=1, unused_days=1, max_age_days=1) == [2]
