"""Which files of a git tree are in a module's zip. Follows golang.org/x/mod/zip (checkFiles).

Left out: other modules' directories, vendored packages, links, submodules. A name that no zip may
have refuses the version. Not here: writing the zip (`services/modules/gitzips`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.errors import BadInputError
from app.core.module import check_file_path
from app.core.modzip import DEFAULT_LIMITS
from app.core.modzip_names import PathTree, folded

_GO_MOD = "go.mod"
_LICENSE = "LICENSE"
_VENDOR_RULE = (1, 24)  # the Go version from which vendor directories are told exactly


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file of a tree.

    Attributes:
        path: below the module's directory: "internal/a.go".
        is_regular: no link and no submodule.
        size_bytes: as it is stored.
    """

    path: str
    is_regular: bool
    size_bytes: int


def chosen(files: Sequence[TreeFile], go_version: tuple[int, int]) -> list[TreeFile]:
    """Return the files that a module's zip has.

    Args:
        files: of the module's directory; a LICENSE of the repository's root among them if the
            directory has none.
        go_version: of the root go.mod; (0, 0) if that has none.

    Raises:
        BadInputError: a name can't be in a zip, two names differ only in their case, or the files
            are too many or too large.
    """
    limits = DEFAULT_LIMITS
    if len(files) > limits.paths:
        raise BadInputError(f"the tree has more than {limits.paths} files")
    nested = {
        file.path[: -len(_GO_MOD)]
        for file in files
        if file.is_regular and folded(file.path.rpartition("/")[2]) == _GO_MOD
    }
    nested.discard("")
    tree = PathTree(limits.paths)
    kept, total_bytes = [], 0
    for file in files:
        if is_vendored(file.path, go_version) or _is_below(file.path, nested):
            continue
        if file.path == ".hg_archival.txt":
            continue
        check_file_path(file.path)
        if file.path != _GO_MOD and file.path.lower() == _GO_MOD:
            raise BadInputError(f"{file.path} must be go.mod, in lower case")
        tree.admit(file.path, is_directory=False)
        if not file.is_regular:
            continue
        total_bytes += file.size_bytes
        if total_bytes > limits.unpacked_bytes:
            raise BadInputError(f"the files have more than {limits.unpacked_bytes} bytes")
        largest = {_GO_MOD: limits.go_mod_bytes, _LICENSE: limits.license_bytes}.get(file.path)
        if largest is not None and file.size_bytes > largest:
            raise BadInputError(f"{file.path} has more than {largest} bytes")
        kept.append(file)
    return kept


def is_vendored(path: str, go_version: tuple[int, int]) -> bool:
    """Whether a path belongs to a vendored package, by the rule of the go.mod's Go version."""
    is_exact = go_version >= _VENDOR_RULE
    if is_exact and path == "vendor/modules.txt":
        return True
    if path.startswith("vendor/"):
        start = len("vendor/")
    elif (at := path.find("/vendor/")) >= 0:
        # Before Go 1.24 a bug counted from the beginning of the path.
        start = len("/vendor/") + (at if is_exact else 0)
    else:
        return False
    return "/" in path[start:]


def _is_below(path: str, directories: set[str]) -> bool:
    at = path.rfind("/")
    while at >= 0:
        if path[: at + 1] in directories:
            return True
        at = path.rfind("/", 0, at)
    return False
