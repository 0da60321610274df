"""go.dev's release index, parsed and rendered. Follows golang.org/x/website internal/dl.

Not here: the parts of an index (`gorelease`).
"""

import json
import re
from collections.abc import Iterable
from typing import NoReturn, TypeVar

from app.core.digest import Digest
from app.core.errors import BadInputError
from app.core.gorelease import (
    MAX_FILE_BYTES,
    Release,
    ReleaseFile,
    ReleaseFileKind,
    ReleaseIndex,
    newest_first,
    parse_filename,
    shown,
)

MAX_INDEX_BYTES = 32 << 20
"""A limit far above the size of the whole index, a few MiB."""

_VERSION = re.compile(r"go[0-9][0-9A-Za-z.-]{0,60}")
_PLATFORM_PART = re.compile(r"[0-9A-Za-z._-]{0,32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_T = TypeVar("_T", str, int, bool, list)  # type: ignore[type-arg]


def parse_index(data: bytes) -> ReleaseIndex:
    """Return the releases of a go.dev index (`?mode=json&include=all`), or refuse all of it.

    Unknown keys are ignored. A release whose name is not a Go version, an empty sha256 and a size
    of 0 are accepted: go.dev has them for old releases.

    Raises:
        BadInputError: data is over MAX_INDEX_BYTES, not UTF-8, not JSON, not a list, or has no
            release; an entry lacks a key or has a value of the wrong type or form; a version or
            filename comes twice. The message has the place, as a jq path.
    """
    items = _json_list(data)
    releases = tuple(_release(item, f"[{number}]") for number, item in enumerate(items))
    _refuse_repeats("version", (release.version for release in releases))
    _refuse_repeats("filename", (file.filename for r in releases for file in r.files))
    return ReleaseIndex(releases)


def render_index(releases: Iterable[Release]) -> bytes:
    """Return releases in go.dev's format: UTF-8 JSON, keys in go.dev's order, newest first.

    `parse_index` of the result gives the same releases.
    """
    items = [
        {
            "version": release.version,
            "stable": release.stable,
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
    if not document:
        _refuse("it", "has no release")
    return document


def _object_without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the object; refuse a repeated key, for which two readers can see two values."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a key twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _release(item: object, where: str) -> Release:
    version = _member(item, "version", str, where)
    if not _VERSION.fullmatch(version) or ".." in version:
        _refuse(f"{where}.version", f"is {shown(version)}, not a release name")
    stable = _member(item, "stable", bool, where)
    files = _member(item, "files", list, where)
    if not files:
        _refuse(f"{where}.files", "is empty")
    parsed = (_file(file, version, f"{where}.files[{n}]") for n, file in enumerate(files))
    return Release(version, stable, tuple(parsed))


def _file(item: object, version: str, where: str) -> ReleaseFile:
    own_version = _member(item, "version", str, where)
    if own_version != version:
        _refuse(f"{where}.version", f"is {shown(own_version)}, not its release's")
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
    name = _member(item, "filename", str, where)
    try:
        parse_filename(name)
    except BadInputError as error:
        raise BadInputError(f"release index refused: {where}.filename: {error}") from error
    return name


def _platform_part(item: object, key: str, where: str) -> str:
    value = _member(item, key, str, where)
    if not _PLATFORM_PART.fullmatch(value):
        _refuse(f"{where}.{key}", f"is {shown(value)}, not a name")
    return value


def _sha256(item: object, where: str) -> Digest | None:
    value = _member(item, "sha256", str, where)
    if value == "":
        return None
    if not _SHA256.fullmatch(value):
        _refuse(f"{where}.sha256", f"is {shown(value)}, not 64 lower-case hex characters")
    return Digest(value)


def _size_bytes(item: object, where: str) -> int:
    value = _member(item, "size", int, where)
    if not 0 <= value <= MAX_FILE_BYTES:
        _refuse(f"{where}.size", f"is {str(value)[:30]}, not 0 to {MAX_FILE_BYTES} bytes")
    return value


def _kind(item: object, where: str) -> ReleaseFileKind:
    value = _member(item, "kind", str, where)
    if value not in set(ReleaseFileKind):
        kinds = ", ".join(ReleaseFileKind)
        _refuse(f"{where}.kind", f"is {shown(value)}, not one of {kinds}")
    return ReleaseFileKind(value)


def _member(item: object, key: str, json_type: type[_T], where: str) -> _T:
    """Return item[key]; refuse a missing key and another JSON type (true is not a number)."""
    if not isinstance(item, dict):
        _refuse(where, f"is {_json_type(item)}, not an object")
    if key not in item:
        _refuse(where, f"has no {key}")
    value: object = item[key]
    if not isinstance(value, json_type) or (isinstance(value, bool) and json_type is not bool):
        _refuse(f"{where}.{key}", f"is {_json_type(value)}")
    return value


def _refuse_repeats(key: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            _refuse(f"{key} {shown(value)}", "comes twice")
        seen.add(value)


def _refuse(where: str, what: str) -> NoReturn:
    raise BadInputError(f"release index refused: {where} {what}")


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
