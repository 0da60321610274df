"""Module versions in a folder: a module cache of `go`, or a disk store of Athens.

    GOMODCACHE   cache/download/<escaped module>/@v/<escaped version>.info, .mod, .zip, .ziphash
    Athens       <module>/<version>/<version>.info, go.mod, source.zip

Sources: cmd/go/internal/modfetch (cache.go), Athens' pkg/storage/fs. Not here: reading the files.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from app.core import module as modules
from app.core.errors import BadInputError
from app.core.goproxy import RequestKind

_CACHE = "cache/download/"
_ATHENS = {"go.mod": RequestKind.MOD, "source.zip": RequestKind.ZIP}
_ZIP_HASH = ".ziphash"


@dataclass(slots=True)
class StoredVersion:
    """A version in a folder.

    Attributes:
        paths: of its files, below the folder, by kind.
        hash_path: of the file with the zip's h1; "" for none.
    """

    module: str
    version: str
    paths: dict[RequestKind, str] = field(default_factory=dict)
    hash_path: str = ""

    @property
    def name(self) -> str:
        """The name for messages: "corp.example/x@v1.0.0"."""
        return f"{self.module}@{self.version}"


def versions_in(paths: Iterable[str]) -> list[StoredVersion]:
    """Return the module versions among the files of a folder, by name.

    Files of another kind are passed over, and so are names that no canonical version has.

    Args:
        paths: of the files below the folder, "/"-separated, in any order.
    """
    versions: dict[tuple[str, str], StoredVersion] = {}
    for path in paths:
        for module, version, kind in _named(path):
            version_key = (module, version)
            entry = versions.setdefault(version_key, StoredVersion(module, version))
            if kind is None:
                entry.hash_path = path
            else:
                entry.paths[kind] = path
    whole = (entry for entry in versions.values() if entry.paths)
    return sorted(whole, key=lambda entry: (entry.module, entry.version))


def _named(path: str) -> Iterator[tuple[str, str, RequestKind | None]]:
    """Yield what a file is: module, version and kind, None for the hash of a zip."""
    folder, _, name = path.rpartition("/")
    if folder.endswith("/@v"):
        yield from _in_cache(folder.removesuffix("/@v").removeprefix(_CACHE), name)
        return
    module, _, version = folder.rpartition("/")
    kind = RequestKind.INFO if name == f"{version}.info" else _ATHENS.get(name)
    if kind is not None and _is_version(module, version):
        yield module, version, kind


def _in_cache(escaped: str, name: str) -> Iterator[tuple[str, str, RequestKind | None]]:
    stem, dot, suffix = name.rpartition(".")
    kinds = {"info": RequestKind.INFO, "mod": RequestKind.MOD, "zip": RequestKind.ZIP}
    if not dot or (suffix not in kinds and f".{suffix}" != _ZIP_HASH):
        return
    try:
        module, version = modules.unescape_path(escaped), modules.unescape_version(stem)
    except BadInputError:
        return
    if _is_version(module, version):
        yield module, version, kinds.get(suffix)


def _is_version(module: str, version: str) -> bool:
    try:
        modules.check(module, version)
    except BadInputError:
        return False
    return modules.is_canonical_for(module, version)
