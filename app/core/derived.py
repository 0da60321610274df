"""Files that are derived from a verified archive, once, and served beside it.

`tree` lists the archive's files (`core/tree`), `chunks` has the sums of its pieces (`core/chunks`),
`zst` is the same tar, compressed with zstd. Not here: how they are made (`services/releases`).
"""

from dataclasses import dataclass
from enum import StrEnum

from app.core.digest import Digest


class DerivedKind(StrEnum):
    """The kinds; each is what follows the archive's name and a dot in a derived file's name."""

    TREE = "tree"
    CHUNKS = "chunks"
    ZST = "zst"
    ZST_CHUNKS = "zst.chunks"


@dataclass(frozen=True, slots=True)
class DerivedFile:
    """One derived file: the digest and the length of its bytes."""

    sha256: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Zst:
    """The zstd form of an archive's tar, and the sums of its own pieces."""

    sha256: Digest
    size_bytes: int
    chunks: DerivedFile


@dataclass(frozen=True, slots=True)
class Derived:
    """What is derived from one archive; `zst` is None until the leader has made it.

    `tar_sha256` is the digest of the tar in a tar.gz, None for a zip and until it is computed.
    "go1.23.1.linux-amd64.tar.gz.tree" is the file `tree` of "go1.23.1.linux-amd64.tar.gz".
    """

    tree: DerivedFile
    chunks: DerivedFile
    zst: Zst | None = None
    tar_sha256: Digest | None = None

    def file(self, kind: DerivedKind) -> DerivedFile | None:
        """Return one of the files, None where it is not made yet."""
        if kind is DerivedKind.TREE:
            return self.tree
        if kind is DerivedKind.CHUNKS:
            return self.chunks
        if self.zst is None:
            return None
        if kind is DerivedKind.ZST:
            return DerivedFile(self.zst.sha256, self.zst.size_bytes)
        return self.zst.chunks
