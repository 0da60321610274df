"""go.dev's release index, parsed and rendered. Follows golang.org/x/website internal/dl.

Not here: the parts of an index (`gorelease`).
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

from app.core.digest import Digest
from app.core.errors import BadInputError
from app.core.gorelease import (
    MAX_FILE_BYTES,
    Release,
    ReleaseFile,
    ReleaseFileKind,
    ReleaseIndex,
    SkippedEntries,
    newest_first,
    parse_filename,
    shown,
)
from app.core.ownrelease import is_own

MAX_INDEX_BYTES = 32 << 20
"""A limit far above the size of the whole index, a few MiB."""

_VERSION = re.compile(r"go[0-9][0-9A-Za-z.-]{0,60}")
_PLATFORM_PART = re.compile(r"[0-9A-Za-z._-]{0,32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_RELEASE_KEYS = frozenset({"version", "stable", "files"})
_FILE_KEYS = frozenset({"filename", "os", "arch", "version", "sha256", "size", "kind"})

_T = TypeVar("_T", str, int, bool, list)  # type: ignore[type-arg]


def parse_index(data: bytes) -> ReleaseIndex:
    """Return the releases of a go.dev index (`?mode=json&include=all`).

    An index grows: a release or a file that is not understood is skipped, and so is an unknown
    key; `ReleaseIndex.skipped` counts both. An empty sha256 and a size of 0 are accepted: go.dev
    has them for old releases. A file that comes twice with the same sha256 and size is taken once.

    Raises:
        BadInputError: data is over MAX_INDEX_BYTES, not UTF-8, not JSON, or not a list; no
            release in it is understood; or a file comes twice with different sha256 or size.
    """
    reading = _Reading()
    releases: dict[str, Release] = {}
    for number, item in enumerate(_json_list(data)):
        with reading.skipping(f"[{number}]"):
            release = reading.release(item, f"[{number}]")
            if release.version in releases:
                _skip("version", f".version {shown(release.version)} comes twice")
            releases[release.version] = release
    if not releases:
        _refuse("it", f"has no release that is understood{reading.first_reason()}")
    return ReleaseIndex(tuple(releases.values()), reading.skipped())


def render_index(releases: Iterable[Release]) -> bytes:
    """Return releases in go.dev's format: UTF-8 JSON, keys in go.dev's order, newest first.

    Own releases have one key more, "own": true. `parse_index` of the result gives the same releases
    without these.
    """
    items = [
        {
            "version": release.version,
            "stable": release.stable,
            **({"own": True} if is_own(release.version) else {}),
            "files": [_rendered_file(file) for file in release.files],
        }
        for release in newest_first(releases)
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


class _SkipError(Exception):
    """An entry is not understood: `key` is at fault, and `what` says why, as a jq path."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(key, what)
        self.key, self.what = key, what


class _Reading:
    """One reading of an index: the files so far, and the count of what was skipped."""

    def __init__(self) -> None:
        self._files: dict[str, ReleaseFile] = {}
        self._skipped: dict[str, SkippedEntries] = {}

    def skipped(self) -> tuple[SkippedEntries, ...]:
        """Return the counts, the largest first."""
        return tuple(sorted(self._skipped.values(), key=lambda s: (-s.count, s.key)))

    def first_reason(self) -> str:
        """Return ": " and the reason of the first skipped entry, or ""."""
        first = next(iter(self._skipped.values()), None)
        return f": {first.first}" if first else ""

    @contextmanager
    def skipping(self, where: str) -> Iterator[None]:
        """Count the entry at the place `where` as skipped if the block does not understand it."""
        try:
            yield
        except _SkipError as error:
            self._count(error.key, f"{where}{error.what}")

    def release(self, item: object, where: str) -> Release:
        version = _member(item, "version", str)
        if not _VERSION.fullmatch(version) or ".." in version:
            _skip("version", f".version is {shown(version)}, not a release name")
        if is_own(version):
            _skip("version", f".version is {shown(version)}, a name of own releases")
        stable = _member(item, "stable", bool)
        entries = _member(item, "files", list)
        self._count_unknown_keys(item, _RELEASE_KEYS, where)
        files = []
        for number, entry in enumerate(entries):
            place = f"{where}.files[{number}]"
            with self.skipping(place):
                file = _file(entry, version)
                if is_own(parse_filename(file.filename).version):
                    _skip("filename", ".filename is one of an own release")
                self._count_unknown_keys(entry, _FILE_KEYS, place)
                self._add(file)
                files.append(file)
        if not files:
            _skip("files", ".files has no file that is understood")
        return Release(version, stable, tuple(files))

    def _add(self, file: ReleaseFile) -> None:
        first = self._files.setdefault(file.filename, file)
        if first is file:
            return
        if (first.sha256, first.size_bytes) != (file.sha256, file.size_bytes):
            _refuse(
                f"filename {shown(file.filename)}", "comes twice, with different sha256 or size"
            )
        _skip("filename", f".filename {shown(file.filename)} comes twice")

    def _count_unknown_keys(self, item: object, known: frozenset[str], where: str) -> None:
        keys = item.keys() - known if isinstance(item, dict) else ()
        for key in sorted(keys):
            self._count("unknown key", f"{where} has the key {shown(key)}")

    def _count(self, key: str, reason: str) -> None:
        earlier = self._skipped.get(key)
        self._skipped[key] = (
            SkippedEntries(key, earlier.count + 1, earlier.first)
            if earlier
            else SkippedEntries(key, 1, reason)
        )


def _json_list(data: bytes) -> list[object]:
    if len(data) > MAX_INDEX_BYTES:
        _refuse("it", f"has {len(data)} bytes, over the limit of {MAX_INDEX_BYTES}")
    try:
        document: object = json.loads(
            data.decode(), object_pairs_hook=_object_without_repeats, parse_constant=_no_constant
        )
    except RecursionError as error:
        raise BadInputError("release index refused: it is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and ints of 4,300 digits
        raise BadInputError(f"release index refused: not JSON: {str(error)[:120]}") from error
    if not isinstance(document, list):
        _refuse("it", f"is {_json_type(document)}, not a list")
    return document


def _object_without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the object; refuse a repeated key, for which two readers can see two values."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a key twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _file(item: object, version: str) -> ReleaseFile:
    own_version = _member(item, "version", str)
    if own_version != version:
        _skip("version", f".version is {shown(own_version)}, not its release's")
    return ReleaseFile(
        filename=_filename(item),
        os=_platform_part(item, "os"),
        arch=_platform_part(item, "arch"),
        version=version,
        sha256=_sha256(item),
        size_bytes=_size_bytes(item),
        kind=_kind(item),
    )


def _filename(item: object) -> str:
    name = _member(item, "filename", str)
    try:
        parse_filename(name)
    except BadInputError as error:
        raise _SkipError("filename", f".filename: {error}") from error
    return name


def _platform_part(item: object, key: str) -> str:
    value = _member(item, key, str)
    if not _PLATFORM_PART.fullmatch(value):
        _skip(key, f".{key} is {shown(value)}, not a name")
    return value


def _sha256(item: object) -> Digest | None:
    value = _member(item, "sha256", str)
    if value == "":
        return None
    if not _SHA256.fullmatch(value):
        _skip("sha256", f".sha256 is {shown(value)}, not 64 lower-case hex characters")
    return Digest(value)


def _size_bytes(item: object) -> int:
    value = _member(item, "size", int)
    if not 0 <= value <= MAX_FILE_BYTES:
        _skip("size", f".size is {str(value)[:30]}, not 0 to {MAX_FILE_BYTES} bytes")
    return value


def _kind(item: object) -> ReleaseFileKind:
    value = _member(item, "kind", str)
    if value not in set(ReleaseFileKind):
        kinds = ", ".join(ReleaseFileKind)
        _skip("kind", f".kind is {shown(value)}, not one of {kinds}")
    return ReleaseFileKind(value)


def _member(item: object, key: str, json_type: type[_T]) -> _T:
    """Return item[key]; skip for a missing key and another JSON type (true is not a number)."""
    if not isinstance(item, dict):
        _skip("entry", f" is {_json_type(item)}, not an object")
    if key not in item:
        _skip(key, f" has no {key}")
    value: object = item[key]
    if not isinstance(value, json_type) or (isinstance(value, bool) and json_type is not bool):
        _skip(key, f".{key} is {_json_type(value)}")
    return value


def _skip(key: str, what: str) -> NoReturn:
    raise _SkipError(key, what)


def _refuse(where: str, what: str) -> NoReturn:
    raise BadInputError(f"release index refused: {where} {what}")


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
