"""Semantic versions of modules, with "v". Follows golang.org/x/mod/semver/semver.go.

vMAJOR[.MINOR[.PATCH[-PRERELEASE][+BUILD]]]; "v1" and "v1.2" stand for v1.0.0 and v1.2.0. Numbers
are decimals of any length and stay strings. Not here: Go's own versions, "1.27.1" (`goversion`);
"+incompatible" and a path's major version (`module`).
"""

import re

_NUMBER = "(0|[1-9][0-9]*)"
_BUILD_IDENTIFIER = "[0-9A-Za-z-]+"
# All-numeric pre-release identifiers have no leading zeros; "0a" and "00-" are not numeric.
_PRE_IDENTIFIER = rf"(?!0[0-9]+(?:[.+]|\Z)){_BUILD_IDENTIFIER}"
_VERSION = re.compile(
    rf"v{_NUMBER}(?:\.{_NUMBER}(?:\.{_NUMBER}"
    rf"(-{_PRE_IDENTIFIER}(?:\.{_PRE_IDENTIFIER})*)?"
    rf"(\+{_BUILD_IDENTIFIER}(?:\.{_BUILD_IDENTIFIER})*)?)?)?"
)

_Number = tuple[int, str]
"""A decimal string by value: its length, then itself."""

_Identifier = tuple[int, int, str]
"""A pre-release identifier: numeric ones (0, length, text) come before the others (1, 0, text)."""

Precedence = tuple[bool, _Number, _Number, _Number, bool, tuple[_Identifier, ...]]
"""Valid, major, minor, patch, is a release, pre-release: compares as semver.Compare does."""

SortKey = tuple[Precedence, str]

_INVALID: Precedence = (False, (0, ""), (0, ""), (0, ""), False, ())


def is_valid(v: str) -> bool:
    """Whether v is a semantic version: true for "v1" and "v1.2.3-rc.1+meta", false for "1.2.3"."""
    return _VERSION.fullmatch(v) is not None


def canonical(v: str) -> str:
    """Return v with minor and patch filled in and without build, "" where v is not valid.

    "v1" gives "v1.0.0", "v1.2.3-pre+meta" gives "v1.2.3-pre".
    """
    match = _VERSION.fullmatch(v)
    if match is None:
        return ""
    major, minor, patch, pre, _ = match.groups()
    return f"v{major}.{minor or '0'}.{patch or '0'}{pre or ''}"


def major(v: str) -> str:
    """Return the major version, "v2" of "v2.1.0", "" where v is not valid."""
    match = _VERSION.fullmatch(v)
    return f"v{match[1]}" if match else ""


def major_minor(v: str) -> str:
    """Return major and minor, "v2.1" of "v2.1.0" and "v2.0" of "v2", "" where v is not valid."""
    match = _VERSION.fullmatch(v)
    return f"v{match[1]}.{match[2] or '0'}" if match else ""


def prerelease(v: str) -> str:
    """Return the pre-release with its hyphen, "-pre" of "v2.1.0-pre+meta"; else ""."""
    match = _VERSION.fullmatch(v)
    return match[4] or "" if match else ""


def build(v: str) -> str:
    """Return the build with its plus sign, "+meta" of "v2.1.0+meta"; else ""."""
    match = _VERSION.fullmatch(v)
    return match[5] or "" if match else ""


def _number(decimal: str | None) -> _Number:
    return (len(decimal), decimal) if decimal else (1, "0")


def _identifier(text: str) -> _Identifier:
    return (0, len(text), text) if text.isdecimal() else (1, 0, text)


def precedence(v: str) -> Precedence:
    """Return the precedence of v: a value that compares as `compare` does.

    Cheaper than `compare` when one version is compared many times. Versions that are not valid are
    lower than every valid one and equal to each other.
    """
    match = _VERSION.fullmatch(v)
    if match is None:
        return _INVALID
    pre = match[4]
    identifiers = tuple(map(_identifier, pre[1:].split("."))) if pre else ()
    return (True, _number(match[1]), _number(match[2]), _number(match[3]), not pre, identifiers)


def compare(a: str, b: str) -> int:
    """Return -1, 0 or 1 as a is lower than, equal to or higher than b; build does not count.

    Versions that are not valid are lower than every valid one and equal to each other.
    "v1.0.0-rc.2" against "v1.0.0-rc.11" gives -1; "v1" against "v1.0.0+meta" gives 0.
    """
    x, y = precedence(a), precedence(b)
    return (x > y) - (x < y)


def sort_key(v: str) -> SortKey:
    """Return a key that sorts versions from low to high as semver.Sort does.

    Versions that are not valid come first. Versions that compare equal are ordered by their text:
    the result does not depend on the order of the input.
    """
    return (precedence(v), v)
