"""The module golang.org/toolchain, derived from a release archive. Follows Go's cmd/distpack.

Go builds the release archive and the module from one tree, so the archive alone gives the h1 of
the module that sum.golang.org records. Not here: reading archives (`goarchive`, `tree`), writing
the module's zip (`toolchainzip`).
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from app.core import goversion
from app.core.dirhash import hash1
from app.core.errors import BadInputError
from app.core.goarchive import iter_files
from app.core.gorelease import ARM_NAMES
from app.core.tree import KEPT_BYTES, Tree

MODULE_PATH = "golang.org/toolchain"

GO_MOD_TEXT = b"module golang.org/toolchain\n"
"""The go.mod of every version."""

GO_MOD_H1 = "h1:8wlg68NqwW7eMnI1aABk/C2pDYXj8mrMY4TyRfiLeS0="
"""The h1 of GO_MOD_TEXT."""

VERSION_FILE = "go/VERSION"
"""The file of an archive that names its release."""

_ROOT = "go/"
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

    Attributes:
        version: "v0.0.1-go1.23.1.linux-amd64".
        h1: of the module's zip.
        files: number of entries in the zip.
        time: in the VERSION file, RFC 3339 in UTC to the second ("2024-08-29T21:23:13Z"); None
            before Go 1.21.
    """

    version: str
    h1: str
    goos: str
    goarch: str
    files: int
    time: str | None


def derive(tree: Tree, *, goos: str | None = None, goarch: str | None = None) -> ToolchainModule:
    """Return the toolchain module that a binary release archive makes.

    Args:
        tree: of the archive; its paths begin with "go/", and it kept VERSION_FILE.
        goos: used if the archive has no directory pkg/tool/<goos>_<goarch>/.
        goarch: used in the same case; go.dev's "armv6l" becomes "arm".

    Raises:
        BadInputError: a file is outside go/; go/VERSION or the go command is missing; VERSION has
            no Go version; neither archive nor arguments have the platform, or they contradict
            each other; two files get the same name in the module.
    """
    names = [file.path for file in tree.files]
    for name in names:
        if not name.startswith(_ROOT):
            raise BadInputError(f"not a Go tree: {name[:60]!a} lies outside go/")
    if tree.kept is None:
        raise BadInputError("not a Go tree: go/VERSION is missing")
    if not any(command in names for command in _GO_COMMANDS):
        raise BadInputError("not a binary Go release: go/bin/go is missing")
    release, time = _parse_version_file(tree.kept)
    platform = _platform(names, goos, goarch)
    return _module(release, time, platform, [(file.path, file.sha256) for file in tree.files])


def read_time(stream: BinaryIO, suffix: str) -> str | None:
    """Return the time in an archive's VERSION file, as in `ToolchainModule.time`.

    Reading ends at the VERSION file.

    Args:
        stream: the whole archive; it is closed at the end.
        suffix: "tar.gz" or "zip".

    Raises:
        BadInputError: the archive has no go/VERSION, or can't be read.
    """
    with stream:
        for file in iter_files(stream, suffix):
            if file.name == VERSION_FILE:
                start = bytearray()
                while len(start) <= KEPT_BYTES and (chunk := next(file.chunks, b"")):
                    start += chunk
                return _parse_version_file(bytes(start))[1]
    raise BadInputError("not a Go tree: go/VERSION is missing")


def module_version(release: str, goos: str, goarch: str) -> str:
    """Return the module version of a release name: "v0.0.1-go1.23.1.linux-amd64"."""
    return f"v0.0.1-{release}.{goos}-{goarch}"


def release_of(version: str) -> str:
    """Return the release of a module version: "v0.0.1-go1.23.1.linux-amd64" gives "go1.23.1".

    For a text that is no such version the result is no name of a release.
    """
    return version.removeprefix("v0.0.1-").rpartition(".")[0]


def module_name(archive_name: str, release: str, version: str) -> str | None:
    """Return a file's name in the module's zip, None if the module does not have the file.

    For release "go1.23.1" and version "v0.0.1-go1.23.1.linux-amd64", "go/src/go.mod" becomes
    "golang.org/toolchain@v0.0.1-go1.23.1.linux-amd64/src/_go.mod", and "go/doc/x" is left out.
    """
    is_old = goversion.compare(goversion.from_name(release), "1.21") < 0
    name = archive_name.removeprefix(_ROOT)
    if name.startswith(_DROPPED_BEFORE_1_21 if is_old else _DROPPED):
        return None
    folder, slash, base = name.rpartition("/")
    if base == "go.mod":
        base = "_go.mod"  # with a go.mod the folder would be another module, which `go` drops
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


def _parse_version_file(text: bytes) -> tuple[str, str | None]:
    """Return the release name of line 1, and the value of the "time" line (Go 1.21 and later)."""
    if len(text) > KEPT_BYTES:
        raise BadInputError(f"go/VERSION has more than {KEPT_BYTES} bytes")
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
    platforms = {match.groups() for name in names if (match := _TOOL.match(name))}
    if len(platforms) == 1:
        ((archive_goos, archive_goarch),) = platforms
        return archive_goos, archive_goarch
    if not goos or not goarch:
        raise BadInputError(f"the archive has {len(platforms)} platforms in pkg/tool, not one")
    if not _PART.fullmatch(goos) or not _PART.fullmatch(goarch):
        raise BadInputError(f"{goos[:40]!a}/{goarch[:40]!a} is not a platform")
    named = (goos, "arm" if goarch in ARM_NAMES else goarch)
    if platforms and named not in platforms:
        raise BadInputError(f"the archive is not one for {'/'.join(named)}")
    return named
