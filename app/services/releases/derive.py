"""The toolchain module of an archive on disk; the rule is in `core/toolchain`."""

from pathlib import Path

from app.core.errors import StorageError
from app.core.goarchive import iter_files
from app.core.gorelease import ReleaseFile
from app.core.releasefile import ToolchainIdentity
from app.core.toolchain import derive


def derive_toolchain(file: ReleaseFile, path: Path) -> ToolchainIdentity:
    """Return the golang.org/toolchain module of an archive. Blocks: some seconds of CPU.

    Raises:
        BadInputError: the archive is not a Go tree, or can't be read as an archive.
        StorageError: the file can't be read.
    """
    try:
        with path.open("rb") as stream:
            module = derive(iter_files(stream, file.suffix), goos=file.os, goarch=file.arch)
    except OSError as error:
        raise StorageError(f"{file.filename} can't be read back: {error.strerror}") from error
    return ToolchainIdentity(module.version, module.h1, module.time)
