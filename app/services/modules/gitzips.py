"""Making the zip of a module version from a tree in a git mirror, streamed, nothing checked out.

The bytes come from `git archive`, the command that `go` runs: so the line ends that .gitattributes
asks for are the same. Which files are in the zip is `core.gitzip`'s. All functions block.
"""

import io
import tarfile
import zipfile
from collections.abc import Callable
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


def write_zip(
    mirror: GitMirror,
    repository: Repository,
    commit: str,
    directory: str,
    name: str,
    write: Callable[[bytes], None],
) -> None:
    """Write a module zip.

    Args:
        mirror: has the commit.
        repository: the same, for reading single files.
        commit: its full name.
        directory: of the module; "" for the root.
        name: of the version: "example.com/x@v1.0.0".
        write: takes the next bytes of the zip.

    Raises:
        BadInputError: the tree can't be a module zip.
        UpstreamContentError: the mirror is damaged.
    """
    files = mirror.files(commit, directory)
    license_text = None
    if directory and not any(file.path == _LICENSE for file in files):
        license_text = repository.read(commit, _LICENSE)
        if license_text is not None:
            files.append(TreeFile(_LICENSE, is_regular=True, size_bytes=len(license_text)))
    go_mod = repository.read(commit, f"{directory}/go.mod" if directory else "go.mod")
    kept = {file.path for file in gitzip.chosen(files, go_version(go_mod or b""))}
    sink = _Stream(write)
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        _copy(mirror, commit, directory, name, kept, archive)
        if license_text is not None:
            _add(archive, f"{name}/{_LICENSE}", io.BytesIO(license_text), len(license_text))
            kept.discard(_LICENSE)
    if kept:
        raise UpstreamContentError("the repository's archive lacks files of its tree", origin="")
    sink.flush()


def _copy(
    mirror: GitMirror,
    commit: str,
    directory: str,
    name: str,
    kept: set[str],
    archive: zipfile.ZipFile,
) -> None:
    """Write the files whose paths are kept, and take their paths out of the set."""
    start = f"{_PREFIX}{directory}/" if directory else _PREFIX
    left_bytes = DEFAULT_LIMITS.unpacked_bytes
    with mirror.archive(commit, directory) as stream:
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
