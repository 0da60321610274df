"""go.dev's release index and the names of release files. Follows golang.org/x/website internal/dl.

Which of the files a mirror keeps is `selection`'s business; the order of versions `goversion`'s.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn, TypeVar

from app.core import goversion
from app.core.digest import Digest
from app.core.errors import BadInputError

MAX_INDEX_BYTES = 32 << 20
"""Far above the whole index, which has a few MiB."""

MAX_FILE_BYTES = 4 << 30
FILENAME_MAX = 128
"""The longest file name, in characters."""

ARM_NAMES = frozenset({"armv6l", "arm6"})
"""`arch` of files for GOARCH=arm: "armv6l" (for every OS in 1.21 and 1.22), "arm6" once."""

_FILENAME = re.compile(r"(go[0-9][0-9A-Za-z.-]*)\.(tar\.gz|zip|msi|pkg)")
_STEM = re.compile(r"(go[0-9]+(?:\.[0-9]+)*(?:[a-z]+[0-9]*)?)\.([A-Za-z].*)")
_VERSION = re.compile(r"go[0-9][0-9A-Za-z.-]{0,60}")
_PLATFORM_PART = re.compile(r"[0-9A-Za-z._-]{0,32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN_CHARS = 60

_T = TypeVar("_T", str, int, bool, list)  # type: ignore[type-arg]


class Kind(StrEnum):
    """What a release file is; go.dev's own words."""

    ARCHIVE = "archive"
    INSTALLER = "installer"
    SOURCE = "source"


class Support(StrEnum):
    """Where a release stands in Go's release policy (go.dev/doc/devel/release)."""

    SUPPORTED = "supported"
    END_OF_LIFE = "end-of-life"
    PRERELEASE = "pre-release"


@dataclass(frozen=True, slots=True)
class FileName:
    """A release file's name in its parts.

    "go1.27.1.linux-amd64.tar.gz" is ("go1.27.1", "linux-amd64", "tar.gz"), the source archive has
    the platform "src", and a name without a platform keeps all of its stem in `version`:
    ("go1.4-bootstrap-20171003", "", "tar.gz").
    """

    version: str
    platform: str
    suffix: str


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """One file of a release, as go.dev describes it.

    `os` and `arch` are go.dev's, "" for source: nearly always GOOS and GOARCH, but also "armv6l",
    "arm6", and "4"/"bootstrap". Several files may share one platform; the filename is the key.
    `sha256` is None and `size_bytes` 0 where an old release has none.
    """

    filename: str
    os: str
    arch: str
    version: str
    sha256: Digest | None
    size_bytes: int
    kind: Kind

    @property
    def verifiable(self) -> bool:
        """Whether the index says enough to check a download: a SHA-256 and a size."""
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
        """Whether it is a stable release with a Go version; false for "go1.9.2rc2"."""
        return self.stable and _is_final_name(self.version)


@dataclass(frozen=True, slots=True)
class ReleaseIndex:
    """All releases, newest first in Go's order whatever order they were given in."""

    releases: tuple[Release, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "releases", _newest_first(self.releases))


def _newest_first(releases: Iterable[Release]) -> tuple[Release, ...]:
    return tuple(sorted(releases, key=lambda r: goversion.sort_key(r.version), reverse=True))


def parse_filename(name: str) -> FileName:
    """Return the parts of a release file's name, such as "go1.27.1.linux-amd64.tar.gz".

    The grammar is "go", a digit, characters of 0-9A-Za-z.- and one of the four suffixes; at most
    FILENAME_MAX characters and no "..". So a name never leaves a directory and needs no escaping.

    Raises:
        BadInputError: name is outside that grammar.
    """
    match = _FILENAME.fullmatch(name) if len(name) <= FILENAME_MAX else None
    if match is None or ".." in name:
        raise BadInputError(f"{_shown(name)} is not the name of a Go release file")
    stem, suffix = match.groups()
    parts = _STEM.fullmatch(stem)
    version, platform = parts.groups() if parts else (stem, "")
    return FileName(version, platform, suffix)


def parse_index(data: bytes) -> ReleaseIndex:
    """Return the releases of a go.dev index (`?mode=json&include=all`), or refuse all of it.

    Unknown keys are ignored. A release whose name is not a Go version, an empty sha256 and a size
    of 0 are accepted: go.dev has them for old releases.

    Raises:
        BadInputError: data is over MAX_INDEX_BYTES, not UTF-8, not JSON, not a list, or empty of
            releases; or an entry lacks a key or has a value of the wrong type or form; or a
            version or filename comes twice. The message says where, as a jq path.
    """
    items = _json_list(data)
    releases = tuple(_release(item, f"[{number}]") for number, item in enumerate(items))
    _refuse_repeats("version", (release.version for release in releases))
    _refuse_repeats("filename", (file.filename for r in releases for file in r.files))
    return ReleaseIndex(releases)


def render_index(releases: Iterable[Release]) -> bytes:
    """Return releases in go.dev's format: UTF-8 JSON, its keys in its order, newest first.

    `parse_index` of the result gives the same releases.
    """
    items = [
        {
            "version": release.version,
            "stable": release.stable,
            "files": [_rendered_file(file) for file in release.files],
        }
        for release in _newest_first(releases)
    ]
    return json.dumps(items, indent=1).encode() + b"\n"


def _rendered_file(file: ReleaseFile) -> dict[str, str | int]:
    return {
        "filename": file.filename,
        "os": file.os,
        "arch": file.arch,
        "version": file.version,
        "sha256": file.sha256.hex if file.sha256 else "",
        "size": file.size_bytes,
        "kind": file.kind.value,
    }


def supported_minors(versions: Iterable[str]) -> tuple[str, ...]:
    """Return the two newest minors that have a stable release among the names, newest first.

    ("go1.28rc1", "go1.27.1", "go1.26.4", "go1.25.9") gives ("1.27", "1.26").
    """
    names = sorted(filter(_is_final_name, versions), key=goversion.sort_key, reverse=True)
    return tuple(dict.fromkeys(goversion.minor_of(name) for name in names))[:2]


def support_of(version: str, newest_minors: tuple[str, ...]) -> Support:
    """Return where a release name stands, given what `supported_minors` returned.

    A pre-release counts as one only while its minor is newer than every stable one, as on go.dev's
    page: with ("1.27", "1.26"), "go1.28rc1" is pre-release and "go1.27rc1" end-of-life.
    """
    minor = goversion.minor_of(version)
    newest = newest_minors[0] if newest_minors else ""
    is_ahead = goversion.compare(minor, newest) > 0
    if goversion.is_prerelease(version):
        return Support.PRERELEASE if is_ahead else Support.END_OF_LIFE
    return Support.SUPPORTED if is_ahead or minor in newest_minors else Support.END_OF_LIFE


def newest_supported(releases: Iterable[Release]) -> tuple[Release, ...]:
    """Return what `?mode=json` shows: the newest stable patch of each of the two newest minors."""
    newest: dict[str, Release] = {}
    for release in _newest_first(releases):
        if release.is_final:
            newest.setdefault(goversion.minor_of(release.version), release)
    return tuple(newest.values())[:2]


def _is_final_name(name: str) -> bool:
    return goversion.is_valid(goversion.from_name(name)) and not goversion.is_prerelease(name)


def _json_list(data: bytes) -> list[object]:
    if len(data) > MAX_INDEX_BYTES:
        _refuse("it", f"has {len(data)} bytes, over the limit of {MAX_INDEX_BYTES}")
    try:
        found: object = json.loads(
            data.decode(), object_pairs_hook=_unrepeated, parse_constant=_no_constant
        )
    except RecursionError as error:
        raise BadInputError("release index refused: it is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and ints of 4,300 digits
        raise BadInputError(f"release index refused: not JSON: {str(error)[:120]}") from error
    if not isinstance(found, list):
        _refuse("it", f"is {_json_type(found)}, not a list")
    if not found:
        _refuse("it", "has no release")
    return found


def _unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object; a key given twice means that two readers can see two different indexes."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object has a key twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _release(item: object, where: str) -> Release:
    version = _take(item, "version", str, where)
    if not _VERSION.fullmatch(version) or ".." in version:
        _refuse(f"{where}.version", f"is {_shown(version)}, not a release name")
    stable = _take(item, "stable", bool, where)
    files = _take(item, "files", list, where)
    if not files:
        _refuse(f"{where}.files", "is empty")
    parsed = (_file(file, version, f"{where}.files[{n}]") for n, file in enumerate(files))
    return Release(version, stable, tuple(parsed))


def _file(item: object, version: str, where: str) -> ReleaseFile:
    own_version = _take(item, "version", str, where)
    if own_version != version:
        _refuse(f"{where}.version", f"is {_shown(own_version)}, not its release's")
    return ReleaseFile(
        filename=_filename(item, where),
        os=_platform_part(item, "os", where),
        arch=_platform_part(item, "arch", where),
        version=version,
        sha256=_sha256(item, where),
        size_bytes=_size_bytes(item, where),
        kind=_kind(item, where),
    )


def _filename(item: object, where: str) -> str:
    name = _take(item, "filename", str, where)
    try:
        parse_filename(name)
    except BadInputError as error:
        raise BadInputError(f"release index refused: {where}.filename: {error}") from error
    return name


def _platform_part(item: object, key: str, where: str) -> str:
    value = _take(item, key, str, where)
    if not _PLATFORM_PART.fullmatch(value):
        _refuse(f"{where}.{key}", f"is {_shown(value)}, not a name")
    return value


def _sha256(item: object, where: str) -> Digest | None:
    value = _take(item, "sha256", str, where)
    if value == "":
        return None
    if not _SHA256.fullmatch(value):
        _refuse(f"{where}.sha256", f"is {_shown(value)}, not 64 lower-case hex characters")
    return Digest(value)


def _size_bytes(item: object, where: str) -> int:
    value = _take(item, "size", int, where)
    if not 0 <= value <= MAX_FILE_BYTES:
        _refuse(f"{where}.size", f"is {str(value)[:30]}, not 0 to {MAX_FILE_BYTES} bytes")
    return value


def _kind(item: object, where: str) -> Kind:
    value = _take(item, "kind", str, where)
    if value not in set(Kind):
        _refuse(f"{where}.kind", f"is {_shown(value)}, not one of {', '.join(Kind)}")
    return Kind(value)


def _take(item: object, key: str, wanted: type[_T], where: str) -> _T:
    """Return item[key], which must be there and of exactly that JSON type (true is no number)."""
    if not isinstance(item, dict):
        _refuse(where, f"is {_json_type(item)}, not an object")
    if key not in item:
        _refuse(where, f"has no {key}")
    value: object = item[key]
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        _refuse(f"{where}.{key}", f"is {_json_type(value)}")
    return value


def _refuse_repeats(key: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            _refuse(f"{key} {_shown(value)}", "comes twice")
        seen.add(value)


def _refuse(where: str, what: str) -> NoReturn:
    raise BadInputError(f"release index refused: {where} {what}")


def _shown(text: str) -> str:
    """Return text for a message: quoted, control and non-ASCII characters escaped, cut short."""
    shown = ascii(text[:_SHOWN_CHARS])
    return shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + "..."


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
