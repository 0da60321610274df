"""Making the zip of a module version from a tree in a git mirror, streamed, nothing checked out.

The bytes come from `git archive`, the command that `go` runs: so the line ends that .gitattributes
asks for are the same. Which files are in the zip is `core.gitzip`'s. All functions block.
"""

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from app.core import gitzip
from app.core.errors import BadInputError, UpstreamContentError
from app.core.gitrepository import Repository
from app.core.gitzip import TreeFile
from app.core.gomodlines import go_version
from app.core.modzip import DEFAULT_LIMITS
from app.upstream.gitmirror import GitMirror

_CHUNK_BYTES = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LICENSE = "LICENSE"
_PREFIX = "prefix/"


@dataclass(frozen=True, slots=True)
class ZipPlace:
    """A module in a commit, with the files that decide what its zip has.

    Attributes:
        commit: its full name.
        directory: of the module; "" for the root.
        go_mod: of the directory; b"" without one.
        license_text: of the root, which a directory without a LICENSE of its own takes over.
    """

    commit: str
    directory: str
    go_mod: bytes
    license_text: bytes | None

    @classmethod
    def of(cls, repository: Repository, commit: str, directory: str) -> "ZipPlace":
        """Return the module in a directory of a commit."""
        start = f"{directory}/" if directory else ""
        go_mod, license_text = repository.read(commit, f"{start}go.mod"), None
        if directory and repository.read(commit, start + _LICENSE) is None:
            license_text = repository.read(commit, _LICENSE)
        return cls(commit, directory, go_mod or b"", license_text)


def write_zip(
    mirror: GitMirror,
    place: ZipPlace,
    name: str,
    write: Callable[[bytes], None],
) -> None:
    """Write a module zip.

    Args:
        mirror: has the commit.
        place: the module in it.
        name: of the version: "example.com/x@v1.0.0".
        write: takes the next bytes of the zip.

    Raises:
        BadInputError: the tree can't be a module zip.
        UpstreamContentError: the mirror is damaged.
    """
    files, license_text = mirror.files(place.commit, place.directory), place.license_text
    if any(file.path == _LICENSE for file in files):
        license_text = None
    if license_text is not None:
        files.append(TreeFile(_LICENSE, is_regular=True, size_bytes=len(license_text)))
    kept = {file.path for file in gitzip.chosen(files, go_version(place.go_mod))}
    sink = _Stream(write)
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        _copy(mirror, place, name, kept, archive)
        if license_text is not None:
            _add(archive, f"{name}/{_LICENSE}", io.BytesIO(license_text), len(license_text))
            kept.discard(_LICENSE)
    if kept:
        raise UpstreamContentError("the repository's archive lacks files of its tree", origin="")
    sink.flush()


def _copy(
    mirror: GitMirror,
    place: ZipPlace,
    name: str,
    kept: set[str],
    archive: zipfile.ZipFile,
) -> None:
    """Write the files whose paths are kept, and take their paths out of the set."""
    start = f"{_PREFIX}{place.directory}/" if place.directory else _PREFIX
    left_bytes = DEFAULT_LIMITS.unpacked_bytes
    with mirror.archive(place.commit, place.directory) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as tar:
                for member in tar:
                    path = member.name.removeprefix(start)
                    if not member.isreg() or path not in kept or not member.name.startswith(start):
                        continue
                    left_bytes -= member.size
                    content = tar.extractfile(member)
                    if left_bytes < 0 or content is None:
                        raise BadInputError("the files are too large when they are archived")
                    _add(archive, f"{name}/{path}", content, member.size)
                    kept.discard(path)
        except (tarfile.TarError, EOFError) as error:
            raise UpstreamContentError("git's archive is cut short", origin="") from error
        while stream.read(_CHUNK_BYTES):  # the end of the archive, so that git can end
            pass


def _add(archive: zipfile.ZipFile, name: str, content: IO[bytes], size_bytes: int) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.file_size = size_bytes
    with archive.open(entry, "w") as stream:
        while chunk := content.read(_CHUNK_BYTES):
            stream.write(chunk)


class _Stream(io.RawIOBase):
    """A file that can only be written, in pieces of a mebibyte."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._buffer = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self._buffer += content
        if len(self._buffer) >= _CHUNK_BYTES:
            self.flush()
        return len(content)

    def flush(self) -> None:
        if self._buffer:
            full, self._buffer = bytes(self._buffer), bytearray()
            self._write(full)
