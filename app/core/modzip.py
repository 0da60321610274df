"""The check of a module zip: it is the expected module version, and `go` will compute this h1.

Follows golang.org/x/mod/zip (checkZip, Unzip), and refuses more: headers that contradict each
other, links, repeated directories, bytes outside every entry. `modzip_directory` and
`modzip_content` read the format, `modzip_names` refuses colliding paths. Not here: comparing the
h1 with a published one (the caller), a separate go.mod (`gomod`).
"""

import hashlib
import io
from dataclasses import dataclass
from typing import BinaryIO

from app.core import gomod
from app.core.archiverules import shown, too_large
from app.core.dirhash import hash1
from app.core.errors import BadInputError
from app.core.module import check_file_path
from app.core.modzip_content import entry_chunks
from app.core.modzip_directory import Directory, Entry, read_directory
from app.core.modzip_names import PathTree, folded

_GO_MOD = "go.mod"


@dataclass(frozen=True, slots=True)
class ModuleZipLimits:
    """Limits of a module zip, in bytes; `paths` is a count.

    The sizes are those of golang.org/x/mod/zip (MaxZipFile, MaxGoMod, MaxLICENSE): no client
    accepts a larger zip. `paths` counts files and directories; a Go toolchain, the largest module
    in wide use, has some 12,000 files. `name_bytes` limits one name with its prefix.
    """

    zip_bytes: int = 500 << 20
    unpacked_bytes: int = 500 << 20
    go_mod_bytes: int = gomod.MAX_BYTES
    license_bytes: int = 16 << 20
    paths: int = 200_000
    name_bytes: int = 1 << 10


DEFAULT_LIMITS = ModuleZipLimits()


@dataclass(frozen=True, slots=True)
class ZipFacts:
    """The content of an accepted module zip.

    Attributes:
        h1: "h1:…" of the zip as in go.sum. Directory entries are hashed too, as `go` does.
        go_mod: the root go.mod, or None where the module has none.
        go_mod_h1: "h1:…" of go_mod as in go.sum's "/go.mod" line, or None.
        files: number of regular files.
        unpacked_bytes: size of all their content together.
    """

    h1: str
    go_mod: bytes | None
    go_mod_h1: str | None
    files: int
    unpacked_bytes: int


def inspect(
    stream: BinaryIO, module: str, version: str, limits: ModuleZipLimits = DEFAULT_LIMITS
) -> ZipFacts:
    """Return the facts of a module zip, which is read once and never held in memory.

    Args:
        stream: seekable, with the whole zip and nothing else. It is left open.
        module: plain module path, "github.com/BurntSushi/toml"; checked by the caller.
        version: plain canonical version, "v1.2.3"; checked by the caller.
        limits: what the zip may hold.

    Every name begins with "<module>@<version>/". An entry whose name ends in "/" is a directory: an
    empty one is allowed, though `go` never writes one.

    Raises:
        BadInputError: two readers could read the zip differently, it is damaged or over a limit, or
            `go` would not unpack it; the message says what is wrong in one line.
    """
    zip_bytes = stream.seek(0, io.SEEK_END)
    if zip_bytes > limits.zip_bytes:
        raise BadInputError(f"the zip has {zip_bytes} bytes, more than {limits.zip_bytes}")
    directory = read_directory(
        stream, zip_bytes, max_entries=limits.paths, max_name_bytes=limits.name_bytes
    )
    _check_entries(directory, f"{module}@{version}/", limits)
    stream.seek(0)
    go_mod_name = f"{module}@{version}/{_GO_MOD}"
    go_mod: bytes | None = None
    lines: list[tuple[str, bytes]] = []
    for entry, span_bytes in directory.spans():
        digest = hashlib.sha256()
        go_mod_chunks: list[bytes] = []
        for chunk in entry_chunks(stream, entry, span_bytes):
            digest.update(chunk)
            if entry.name == go_mod_name:
                go_mod_chunks.append(chunk)
        if entry.name == go_mod_name:
            go_mod = b"".join(go_mod_chunks)
        lines.append((entry.name, digest.digest()))
    return ZipFacts(
        h1=hash1(lines),
        go_mod=go_mod,
        go_mod_h1=None if go_mod is None else gomod.h1(go_mod),
        files=sum(not entry.name.endswith("/") for entry in directory.entries),
        unpacked_bytes=sum(entry.size_bytes for entry in directory.entries),
    )


def _check_entries(directory: Directory, prefix: str, limits: ModuleZipLimits) -> None:
    """Check the declared names and sizes, before any content is inflated."""
    tree = PathTree(limits.paths)
    unpacked_bytes = 0
    for entry in directory.entries:
        if not entry.name.startswith(prefix):
            # The words of the go command.
            name = shown(entry.name)[1:-1]
            raise BadInputError(f"zip for {prefix[:-1]} has unexpected file {name}")
        _check_entry(entry, entry.name.removeprefix(prefix), tree, limits)
        unpacked_bytes += entry.size_bytes
        if unpacked_bytes > limits.unpacked_bytes:
            raise too_large(limits.unpacked_bytes)


def _check_entry(entry: Entry, name: str, tree: PathTree, limits: ModuleZipLimits) -> None:
    is_directory = entry.name.endswith("/")
    if is_directory and entry.size_bytes:
        raise BadInputError(f"the directory {shown(name)} has content")
    if not name:  # the prefix itself, as a directory: `go` ignores this entry
        return
    path = name.removesuffix("/")
    check_file_path(path)
    tree.admit(path, is_directory=is_directory)
    if is_directory:
        return
    if name != _GO_MOD and folded(name.rpartition("/")[2]) == _GO_MOD:
        raise BadInputError(f"{shown(name)}: a go.mod lies in the root, in lower case")
    largest = {_GO_MOD: limits.go_mod_bytes, "LICENSE": limits.license_bytes}.get(name)
    if largest is not None and entry.size_bytes > largest:
        raise BadInputError(f"{shown(name)} has more than {largest} bytes")
