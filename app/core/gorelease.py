"""Releases, their files, and the names of these. Follows golang.org/x/website internal/dl.

Not here: reading and writing go.dev's index (`releaseindex`), which of the files a mirror keeps
(`selection`), the order of versions (`goversion`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from app.core import goversion
from app.core.digest import Digest
from app.core.errors import BadInputError
from app.core.ownrelease import is_own

MAX_FILE_BYTES = 4 << 30
"""The largest size that an index may state for a file."""

FILENAME_MAX = 128
"""The longest file name, in characters."""

ARM_NAMES = frozenset({"armv6l", "arm6"})
"""`arch` of files for GOARCH=arm: "armv6l" (for every OS in 1.21 and 1.22), "arm6" once."""

_FILENAME = re.compile(r"(go[0-9][0-9A-Za-z.-]*)\.(tar\.gz|zip|msi|pkg)")
_STEM = re.compile(r"(go[0-9]+(?:\.[0-9]+)*(?:[a-z]+[0-9]*|-[a-z][a-z0-9-]*)?)\.([A-Za-z].*)")
_SHOWN_CHARS = 60


class ReleaseFileKind(StrEnum):
    """The kind of a release file, in go.dev's own words."""

    ARCHIVE = "archive"
    INSTALLER = "installer"
    SOURCE = "source"


class Support(StrEnum):
    """Whether Go's release policy supports a release (go.dev/doc/devel/release).

    OWN: the policy says nothing of a company's own release.
    """

    SUPPORTED = "supported"
    END_OF_LIFE = "end-of-life"
    PRERELEASE = "pre-release"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class FileName:
    """The parts of a release file's name.

    "go1.27.1.linux-amd64.tar.gz" is ("go1.27.1", "linux-amd64", "tar.gz"). The source archive has
    the platform "src". A name without a platform has its whole stem in `version`:
    ("go1.4-bootstrap-20171003", "", "tar.gz").
    """

    version: str
    platform: str
    suffix: str


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """One file of a release, as go.dev describes it.

    `os` and `arch` are go.dev's words, "" for source: nearly always GOOS and GOARCH, but also
    "armv6l", "arm6", and "4"/"bootstrap". Several files may have one platform; the filename is
    the key.
    `sha256` is None and `size_bytes` 0 where an old release has none.
    """

    filename: str
    os: str
    arch: str
    version: str
    sha256: Digest | None
    size_bytes: int
    kind: ReleaseFileKind

    @property
    def verifiable(self) -> bool:
        """Whether the index has a SHA-256 and a size, so that a download can be checked."""
        return self.sha256 is not None and self.size_bytes > 0

    @property
    def suffix(self) -> str:
        """The format, "tar.gz", "zip", "msi" or "pkg"."""
        return parse_filename(self.filename).suffix


@dataclass(frozen=True, slots=True)
class Release:
    """A release: its name ("go1.27.1"), go.dev's `stable` flag, its files in go.dev's order."""

    version: str
    stable: bool
    files: tuple[ReleaseFile, ...]

    @property
    def is_final(self) -> bool:
        """Whether go.dev has it as stable, under a valid Go version; false for "go1.9.2rc2"."""
        return self.stable and _is_final_name(self.version)


@dataclass(frozen=True, slots=True)
class SkippedEntries:
    """Entries of an index that were not understood because of one key, and not taken.

    Attributes:
        key: the key at fault: "kind"; "entry" for what is no object; "unknown key" for keys that
            were ignored in entries that were taken.
        count: how many, at least 1.
        first: the first: "[0].files[17].kind is 'sbom', not one of archive, installer, source".
    """

    key: str
    count: int
    first: str


@dataclass(frozen=True, slots=True)
class ReleaseIndex:
    """All releases, sorted at construction: newest first in Go's order.

    `skipped` is what the document has besides.
    """

    releases: tuple[Release, ...]
    skipped: tuple[SkippedEntries, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "releases", newest_first(self.releases))


def newest_first(releases: Iterable[Release]) -> tuple[Release, ...]:
    """Return releases in Go's order of their versions, the newest first; see `goversion`."""
    return tuple(sorted(releases, key=lambda r: goversion.sort_key(r.version), reverse=True))


def parse_filename(name: str) -> FileName:
    """Return the parts of a release file's name, such as "go1.27.1.linux-amd64.tar.gz".

    The grammar is "go", a digit, characters of 0-9A-Za-z.- and one of the four suffixes; at most
    FILENAME_MAX characters and no "..". So a name needs no escaping and never leaves a directory.

    Raises:
        BadInputError: name does not follow the grammar.
    """
    match = _FILENAME.fullmatch(name) if len(name) <= FILENAME_MAX else None
    if match is None or ".." in name:
        raise BadInputError(f"{shown(name)} is not the name of a Go release file")
    stem, suffix = match.groups()
    parts = _STEM.fullmatch(stem)
    version, platform = parts.groups() if parts else (stem, "")
    return FileName(version, platform, suffix)


def supported_minors(versions: Iterable[str]) -> tuple[str, ...]:
    """Return the two newest minors that have a stable release among the names, newest first.

    ("go1.28rc1", "go1.27.1", "go1.26.4", "go1.25.9") gives ("1.27", "1.26").
    """
    names = sorted(filter(_is_final_name, versions), key=goversion.sort_key, reverse=True)
    return tuple(dict.fromkeys(goversion.minor_of(name) for name in names))[:2]


def support_of(version: str, newest_minors: tuple[str, ...]) -> Support:
    """Return the support of a release; newest_minors is the result of `supported_minors`.

    A pre-release is PRERELEASE only while its minor is newer than every stable one, as on go.dev's
    page: with ("1.27", "1.26"), "go1.28rc1" is pre-release and "go1.27rc1" end-of-life.
    """
    if is_own(version):
        return Support.OWN
    minor = goversion.minor_of(version)
    newest = newest_minors[0] if newest_minors else ""
    is_ahead = goversion.compare(minor, newest) > 0
    if goversion.is_prerelease(version):
        return Support.PRERELEASE if is_ahead else Support.END_OF_LIFE
    return Support.SUPPORTED if is_ahead or minor in newest_minors else Support.END_OF_LIFE


def newest_supported(releases: Iterable[Release]) -> tuple[Release, ...]:
    """Return what `?mode=json` shows: the newest stable patch of each of the two newest minors."""
    newest: dict[str, Release] = {}
    for release in newest_first(releases):
        if release.is_final:
            newest.setdefault(goversion.minor_of(release.version), release)
    return tuple(newest.values())[:2]


def _is_final_name(name: str) -> bool:
    if is_own(name):
        return False  # else it would be taken for the newest patch of its minor
    return goversion.is_valid(goversion.from_name(name)) and not goversion.is_prerelease(name)


def shown(text: str) -> str:
    """Return text for a message: quoted, control and non-ASCII characters escaped, cut short."""
    quoted = ascii(text[:_SHOWN_CHARS])
    return quoted if len(quoted) <= _SHOWN_CHARS else quoted[:_SHOWN_CHARS] + "..."
