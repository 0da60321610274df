"""Go's own version order. Follows Go's internal/gover and go/version.

A *version* has no "go" prefix ("1.27.1"); a *release name* has it ("go1.27.1"). Not here: versions
of modules, which are SemVer with "v" (`semver`).
"""

import re
from dataclasses import dataclass

from app.core.errors import BadInputError

_NUMBER = "(0|[1-9][0-9]*)"
_VERSION = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}(?:\.{_NUMBER}|([a-z]+){_NUMBER}?)?)?")

# From 1.21 on "1.N" is a language version, older than every 1.N release. Before, "1.N" is 1.N.0.
_FIRST_LANGUAGE_MINOR = "21"

_Number = tuple[int, str]
"""A decimal string by value: its length, then itself. "" is (0, ""), below (1, "0")."""

VersionKey = tuple[_Number, _Number, _Number, str, _Number]
"""Major, minor, patch, kind, number of the pre-release; compares as Go's gover.Compare."""

SortKey = tuple[VersionKey, str]


def _number(decimal: str) -> _Number:
    return (len(decimal), decimal)


_INVALID: VersionKey = (_number(""), _number(""), _number(""), "", _number(""))


@dataclass(frozen=True, slots=True)
class GoVersion:
    """A Go version, in five parts that are strings.

    Numbers are decimals of any length without leading zeros, "" where absent; `kind` is a
    lower-case word, "" for a release. "1.27.1" is ("1", "27", "1", "", ""), "1.21rc2" is
    ("1", "21", "", "rc", "2"), "1.20" is ("1", "20", "0", "", ""), "1.21" has the patch "".
    """

    major: str
    minor: str
    patch: str
    kind: str
    pre: str

    @classmethod
    def parse(cls, text: str) -> "GoVersion":
        """Return the parts of a version without "go": "1.27.1", "1.21rc2", "1".

        Raises:
            BadInputError: text is not a Go version, for example "go1.2", "1.02" or "1.9.2rc2".
        """
        match = _VERSION.fullmatch(text)
        if match is None:
            raise BadInputError(f"{text[:60]!a} is not a Go version such as 1.27.1 or 1.28rc1")
        major, minor, patch, kind, pre = match.groups(default="")
        if not minor:
            return cls(major, "0", "0", "", "")
        if not patch and not kind and _number(minor) < _number(_FIRST_LANGUAGE_MINOR):
            patch = "0"
        return cls(major, minor, patch, kind, pre)

    @property
    def key(self) -> VersionKey:
        """The sort key: 1.21 < 1.21rc1 < 1.21rc2 < 1.21.0 < 1.21.1."""
        return (
            _number(self.major),
            _number(self.minor),
            _number(self.patch),
            self.kind,
            _number(self.pre),
        )

    @property
    def family(self) -> str:
        """The minor as people write it: "1.27" of 1.27.1, and "1" of 1 and 1.0.3 (gover.Lang)."""
        if (self.major, self.minor) == ("1", "0"):
            return "1"
        return f"{self.major}.{self.minor}"


def _parse_or_none(version: str) -> GoVersion | None:
    try:
        return GoVersion.parse(version)
    except BadInputError:
        return None


def is_valid(v: str) -> bool:
    """Whether v, without "go", is a Go version: true for "1.21rc2", false for "1.9.2rc2"."""
    return _parse_or_none(v) is not None


def compare(a: str, b: str) -> int:
    """Return -1, 0 or 1 as a is older than, the same as or newer than b (without "go").

    Versions that are not valid are older than every valid one and equal to each other.
    "1.21rc2" against "1.21.0" gives -1; "1.20" against "1.20.0" gives 0.
    """
    first, second = _parse_or_none(a), _parse_or_none(b)
    x = first.key if first else _INVALID
    y = second.key if second else _INVALID
    return (x > y) - (x < y)


def from_name(release_name: str) -> str:
    """Return the version in a release name, "" for a name without "go".

    What follows the first "-", space or tab is dropped, as in the names of own toolchains:
    "go1.22.3-corp" gives "1.22.3". The result need not be a valid version.
    """
    if not release_name.startswith("go"):
        return ""
    return re.split(r"[- \t]", release_name[2:], maxsplit=1)[0]


def sort_key(release_name: str) -> SortKey:
    """Return a key that sorts names like "go1.21.0" from old to new.

    Names without a valid version ("go1.9.2rc2") come first. Equal versions ("go1.20", "go1.20.0")
    are ordered by name: the result does not depend on the order of the input.
    """
    parsed = _parse_or_none(from_name(release_name))
    return (parsed.key if parsed else _INVALID, release_name)


def minor_of(release_name: str) -> str:
    """Return the minor of a release name, "1.27" of "go1.27.1"; "" without a valid version."""
    parsed = _parse_or_none(from_name(release_name))
    return parsed.family if parsed else ""


def is_prerelease(release_name: str) -> bool:
    """Whether the name is of a beta or release candidate, such as "go1.28rc1".

    False for names without a valid version ("go1.9.2rc2"); `is_valid` recognises those.
    """
    parsed = _parse_or_none(from_name(release_name))
    return parsed is not None and parsed.kind != ""
