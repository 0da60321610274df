"""What follows from an archive on disk: its tree, the sums of its pieces, its toolchain module.

The rules are in `core/tree`, `core/chunks` and `core/toolchain`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from app.core.chunks import PieceSums, sum_pieces
from app.core.digest import Digest
from app.core.errors import BadInputError, StorageError
from app.core.goarchive import iter_entries
from app.core.gorelease import ReleaseFile
from app.core.releasefile import ToolchainIdentity
from app.core.toolchain import VERSION_FILE, derive
from app.core.tree import Tree, read_tree

TARRED_SUFFIX = "tar.gz"


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds.

    Attributes:
        tar_sha256: the digest of the tar in a tar.gz; None for a zip.
        toolchain: the golang.org/toolchain module that the archive makes; None if it makes none.
        trouble: why it makes none; "" if it makes one.
    """

    sums: PieceSums
    tree: Tree
    tar_sha256: Digest | None
    toolchain: ToolchainIdentity | None
    trouble: str


def read_contents(file: ReleaseFile, path: Path) -> Contents:
    """Return what an archive holds. Blocks: some seconds of CPU.

    Each content is read and hashed once. Memory grows with the number of entries only.

    Raises:
        BadInputError: the file can't be read as an archive.
        StorageError: the file can't be read, or does not have the recorded SHA-256.
    """
    try:
        with path.open("rb") as stream:
            sums = sum_pieces(stream)
            if sums.sha256 != file.sha256:
                raise StorageError(f"the stored {file.filename} has not the recorded SHA-256")
            stream.seek(0)
            tar_hash = hashlib.sha256()
            entries = iter_entries(stream, file.suffix, tar_hash=tar_hash)
            tree = read_tree(entries, keep=VERSION_FILE)
    except OSError as error:
        raise StorageError(f"{file.filename} can't be read back: {error.strerror}") from error
    tar_sha256 = Digest(tar_hash.hexdigest()) if file.suffix == TARRED_SUFFIX else None
    try:
        module = derive(tree, goos=file.os, goarch=file.arch)
    except BadInputError as error:
        return Contents(sums, tree, tar_sha256, None, str(error))
    toolchain = ToolchainIdentity(module.version, module.h1, module.time)
    return Contents(sums, tree, tar_sha256, toolchain, "")
