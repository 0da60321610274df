"""The module golang.org/toolchain, derived from a release archive. Follows Go's cmd/distpack.

Release archive and module are cut from one tree, so the h1 of the module that sum.golang.org
records follows from the archive alone. Reading archives is `goarchive`'s, writing the module's
zip a service's business; `module_name` is the rule for both.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from app.core import goversion
from app.core.dirhash import hash1
from app.core.errors import BadInputError
from app.core.goarchive import ArchiveFile, iter_files
from app.core.gorelease import ARM_NAMES

MODULE_PATH = "golang.org/toolchain"

GO_MOD_TEXT = b"module golang.org/toolchain\n"
"""The go.mod of every version."""

GO_MOD_H1 = "h1:8wlg68NqwW7eMnI1aABk/C2pDYXj8mrMY4TyRfiLeS0="
"""The h1 of GO_MOD_TEXT."""

_ROOT = "go/"
_VERSION_FILE = "go/VERSION"
_VERSION_FILE_MAX_BYTES = 4096
_GO_COMMANDS = ("go/bin/go", "go/bin/go.exe")
_DROPPED = ("api/", "doc/", "misc/", "test/")
_DROPPED_BEFORE_1_21 = (*_DROPPED, ".github/")
_TOOL = re.compile(r"go/pkg/tool/([a-z0-9]+)_([a-z0-9]+)/.")
_NAME = re.compile(r"go[0-9][0-9A-Za-z.-]{0,60}")
_PART = re.compile(r"[a-z0-9]{1,32}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")

_Platform = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ToolchainModule:
    """A version of golang.org/toolchain.

    `version` is "v0.0.1-go1.23.1.linux-amd64", `h1` that of the module's zip, `files` the number
    of entries in it. `time` is that of the VERSION file, RFC 3339 in UTC to the second
    ("2024-08-29T21:23:13Z"), None before Go 1.21.
    """

    version: str
    h1: str
    goos: str
    goarch: str
    files: int
    time: str | None


def derive(
    files: Iterable[ArchiveFile], *, goos: str | None = None, goarch: str | None = None
) -> ToolchainModule:
    """Return the toolchain module that a binary release archive makes.

    Args:
        files: all of the archive's, named from "go/"; each content is read once, in any order.
        goos: used where the archive does not tell its platform by pkg/tool/<goos>_<goarch>/.
        goarch: likewise; go.dev's "armv6l" is taken for "arm".

    Raises:
        BadInputError: a file lies outside go/; go/VERSION or the go command is missing; VERSION
            names no Go version; the platform is neither in the archive nor given, or ambiguous;
            two files get the same name in the module.
    """
    digests: list[tuple[str, bytes]] = []
    version_text: bytes | None = None
    for file in files:
        if not file.name.startswith(_ROOT):
            raise BadInputError(f"not a Go tree: {file.name[:60]!a} lies outside go/")
        digest, kept = _hashed(file, keep=file.name == _VERSION_FILE)
        version_text = kept if file.name == _VERSION_FILE else version_text
        digests.append((file.name, digest))
    if version_text is None:
        raise BadInputError("not a Go tree: go/VERSION is missing")
    names = [name for name, _ in digests]
    if not any(command in names for command in _GO_COMMANDS):
        raise BadInputError("not a binary Go release: go/bin/go is missing")
    release, time = _parse_version_file(version_text)
    platform = _platform(names, goos, goarch)
    return _module(release, time, platform, digests)


def read_time(stream: BinaryIO, suffix: str) -> str | None:
    """Return the time of an archive's VERSION file, as `ToolchainModule.time`; reads up to there.

    Args:
        stream: of the whole archive; it is closed.
        suffix: "tar.gz" or "zip".

    Raises:
        BadInputError: the archive has no go/VERSION, or can't be read.
    """
    with stream:
        for file in iter_files(stream, suffix):
            if file.name == _VERSION_FILE:
                _, text = _hashed(file, keep=True)
                return _parse_version_file(text)[1]
    raise BadInputError("not a Go tree: go/VERSION is missing")


def module_version(release: str, goos: str, goarch: str) -> str:
    """Return the module version of a release name: "v0.0.1-go1.23.1.linux-amd64"."""
    return f"v0.0.1-{release}.{goos}-{goarch}"


def module_name(archive_name: str, release: str, version: str) -> str | None:
    """Return the name in the module's zip of a file in the archive, None if it is left out.

    For release "go1.23.1" and version "v0.0.1-go1.23.1.linux-amd64", "go/src/go.mod" becomes
    "golang.org/toolchain@v0.0.1-go1.23.1.linux-amd64/src/_go.mod", and "go/doc/x" is left out.
    """
    is_old = goversion.compare(goversion.from_name(release), "1.21") < 0
    name = archive_name.removeprefix(_ROOT)
    if name.startswith(_DROPPED_BEFORE_1_21 if is_old else _DROPPED):
        return None
    folder, slash, base = name.rpartition("/")
    if base == "go.mod":
        base = "_go.mod"  # else `go` would take the folder for another module and drop it
    return f"{MODULE_PATH}@{version}/{folder}{slash}{base}"


def _module(
    release: str, time: str | None, platform: _Platform, digests: list[tuple[str, bytes]]
) -> ToolchainModule:
    version = module_version(release, *platform)
    lines = [
        (name, digest)
        for archive_name, digest in digests
        if (name := module_name(archive_name, release, version)) is not None
    ]
    return ToolchainModule(version, hash1(lines), *platform, len(lines), time)


def _hashed(file: ArchiveFile, *, keep: bool) -> tuple[bytes, bytes]:
    """Return a file's digest, and its content if it is to be kept (VERSION alone)."""
    if keep and file.size_bytes > _VERSION_FILE_MAX_BYTES:
        raise BadInputError(f"go/VERSION has more than {_VERSION_FILE_MAX_BYTES} bytes")
    content_hash = hashlib.sha256()
    kept = bytearray()
    for chunk in file.chunks:
        content_hash.update(chunk)
        if keep:
            kept += chunk
    return content_hash.digest(), bytes(kept)


def _parse_version_file(text: bytes) -> tuple[str, str | None]:
    """Return the release name of line 1, and the value of the "time" line (Go 1.21 and later)."""
    name, *others = text.decode(errors="replace").split("\n")
    if not _NAME.fullmatch(name) or not goversion.is_valid(goversion.from_name(name)):
        raise BadInputError(f"go/VERSION names no Go version but {name[:60]!a}")
    times = [fields[1:] for line in others if (fields := line.split())[:1] == ["time"]]
    if not times:
        return name, None
    value = " ".join(times[0])
    if len(times) > 1 or not _is_time(value):
        raise BadInputError(f"go/VERSION has no usable time but {value[:60]!a}")
    return name, value


def _is_time(value: str) -> bool:
    if not _TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _platform(names: list[str], goos: str | None, goarch: str | None) -> _Platform:
    found = {match.groups() for name in names if (match := _TOOL.match(name))}
    if len(found) == 1:
        ((found_os, found_arch),) = found
        return found_os, found_arch
    if not goos or not goarch:
        raise BadInputError(f"the archive has {len(found)} platforms in pkg/tool, not one")
    if not _PART.fullmatch(goos) or not _PART.fullmatch(goarch):
        raise BadInputError(f"{goos[:40]!a}/{goarch[:40]!a} is not a platform")
    given = (goos, "arm" if goarch in ARM_NAMES else goarch)
    if found and given not in found:
        raise BadInputError(f"the archive is not one for {'/'.join(given)}")
    return given
