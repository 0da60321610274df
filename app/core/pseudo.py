"""Pseudo-versions: versions of commits without a tag. Follows golang.org/x/mod/module/pseudo.go.

vX.0.0-TIME-REV where no tag precedes the commit, vX.Y.(Z+1)-0.TIME-REV after vX.Y.Z, and
vX.Y.Z-pre.0.TIME-REV after vX.Y.Z-pre; "+incompatible" may follow the latter two. TIME is 14
digits in UTC, REV alphanumeric (12 hex digits in practice).
"""

import re
from datetime import UTC, datetime

from app.core import semver

_PSEUDO = re.compile(
    r"v[0-9]+\.(?:0\.0-|[0-9]+\.[0-9]+-(?:[^+]*\.)?0\.)[0-9]{14}-[A-Za-z0-9]+"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)

_Parts = tuple[str, str, str, str]
"""Base with its "-0" or "-pre.0", time, revision, build with its plus sign."""


def is_pseudo(v: str) -> bool:
    """Whether v is a pseudo-version; the digits of its time need not be a date."""
    return v.count("-") >= 2 and semver.is_valid(v) and _PSEUDO.fullmatch(v) is not None


def _parts(v: str) -> _Parts | None:
    if not is_pseudo(v):
        return None
    build = semver.build(v)
    rest, _, rev = v.removesuffix(build).rpartition("-")
    cut = max(rest.rfind("-"), rest.rfind("."))
    return rest[:cut], rest[cut + 1 :], rev, build


def time_of(v: str) -> datetime | None:
    """Return the commit's time in UTC, to the second.

    None where v is not a pseudo-version or the digits are not a time: month 13, second 60, or the
    year 0000, which Go can express and Python can't.
    """
    parts = _parts(v)
    if parts is None:
        return None
    digits = parts[1]
    fields = [int(digits[:4]), *(int(digits[at : at + 2]) for at in range(4, 14, 2))]
    year, month, day, hour, minute, second = fields
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def rev_of(v: str) -> str:
    """Return the revision, "abcdef123456" in practice; "" where v is not a pseudo-version."""
    parts = _parts(v)
    return parts[2] if parts else ""


def base_of(v: str) -> str:
    """Return the canonical version of the tag before the commit, with "+incompatible" if v has it.

    "v1.2.4-0.20060102150405-abc" gives "v1.2.3", "v1.2.3-pre.0.20060102150405-abc" "v1.2.3-pre".
    "" where no tag precedes the commit, where v is not a pseudo-version, and for "v1.0.0-0.…",
    because no patch precedes patch 0.
    """
    parts = _parts(v)
    if parts is None:
        return ""
    base, _, _, build = parts
    pre = semver.prerelease(base)
    if not pre:
        return ""
    if pre != "-0":
        return base.removesuffix(".0") + build
    line, _, patch = base.removesuffix(pre).rpartition(".")
    older = _decrement(patch)
    return f"{line}.{older}{build}" if older else ""


def is_without_base(v: str) -> bool:
    """Whether v is a pseudo-version "vX.0.0-TIME-REV", which names no earlier version."""
    parts = _parts(v)
    return parts is not None and not semver.prerelease(parts[0])


def make(major: str, older: str, time: datetime, rev: str) -> str:
    """Return the pseudo-version of a commit.

    ("", "v1.2.3", 2006-01-02 15:04:05, "abcdef123456") gives
    "v1.2.4-0.20060102150405-abcdef123456".

    Args:
        major: "v2" where the module path says so; "" stands for v0.
        older: the version that precedes the commit; "" for none.
        time: of the commit, UTC.
        rev: twelve digits of the commit's name.
    """
    segment = f"{time:%Y%m%d%H%M%S}-{rev}"
    build, base = semver.build(older), semver.canonical(older)
    if not base:
        return f"{major or 'v0'}.0.0-{segment}"
    if semver.prerelease(base):
        return f"{base}.0.{segment}{build}"
    line, _, patch = base.rpartition(".")
    return f"{line}.{_increment(patch)}-0.{segment}{build}"


def _increment(decimal: str) -> str:
    """Return a decimal of any length plus 1."""
    stem = decimal.rstrip("9")
    zeros = "0" * (len(decimal) - len(stem))
    return f"{stem[:-1]}{int(stem[-1]) + 1}{zeros}" if stem else f"1{zeros}"


def _decrement(decimal: str) -> str:
    """Return a decimal of any length minus 1: "100" gives "99", "0" gives ""."""
    stem = decimal.rstrip("0")
    if not stem:
        return ""
    nines = "9" * (len(decimal) - len(stem))
    digits = stem[:-1] + str(int(stem[-1]) - 1) + nines
    return digits.lstrip("0") or "0"
