"""Where in a repository a version's go.mod is: the directory that makes the module's files.

Follows cmd/go/internal/modfetch (coderepo.go: findDir, isMajor). Not here: which commit a version
is (`gitrevision`).
"""

from dataclasses import dataclass

from app.core import gomod
from app.core import module as modules
from app.core.errors import UnknownError
from app.core.gitrepository import Repository


@dataclass(frozen=True, slots=True)
class GoModPlace:
    """Where a version's go.mod is: commit, directory, and the file, None if there is none."""

    commit: str
    directory: str
    go_mod: bytes | None


def go_mod_place(
    repository: Repository,
    commit: str,
    version: str,
    directory: str,
    path_major: str,
    *,
    may_be_below: bool,
) -> GoModPlace:
    """Return where the go.mod of a version is.

    Args:
        repository: has the commit.
        commit: its full name.
        version: for messages.
        directory: that the module path stands for, without its major version; "" for the root.
        path_major: of the module path: "/v2", or "".
        may_be_below: whether a directory of the major version, "sub/v2", may hold the module.

    Raises:
        UnknownError: its go.mod is missing, or declares another major version.
    """
    first_name = joined(directory, "go.mod")
    first = repository.read(commit, first_name)
    declared = gomod.module_path(first or b"") or ""
    is_first = first is not None and (
        _is_major(declared, path_major) or (not path_major and declared.startswith("gopkg.in/"))
    )
    if path_major.startswith("/") and may_be_below:
        below = _below(
            repository, commit, joined(directory, path_major[1:]), path_major, is_first=is_first
        )
        if below is not None:
            return below
    if is_first:
        return GoModPlace(commit, directory, first)
    if first is not None:
        raise UnknownError(f"{first_name} declares {declared[:200]!a} at {version}")
    if not directory and not path_major.startswith("/"):
        return GoModPlace(commit, "", None)
    raise UnknownError(f"{first_name} is missing at {version}")


def _below(
    repository: Repository, commit: str, directory: str, path_major: str, *, is_first: bool
) -> GoModPlace | None:
    """Return the place of a module in a directory of its major version, "sub/v2"."""
    name = f"{directory}/go.mod"
    text = repository.read(commit, name)
    if text is None:
        return None
    declared = gomod.module_path(text) or ""
    if not _is_major(declared, path_major):
        raise UnknownError(f"{name} declares {declared[:200]!a}")
    if is_first:
        raise UnknownError(f"{name} and the one above it both declare {path_major}")
    return GoModPlace(commit, directory, text)


def joined(directory: str, name: str) -> str:
    """Return the path of a file in a directory, "" for the root."""
    return f"{directory}/{name}" if directory else name


def _is_major(declared: str, path_major: str) -> bool:
    """Whether a declared path has the major version of the module's (isMajor)."""
    if not declared:
        return False
    _, declared_major, is_valid = modules.split_path_version(declared)
    if not is_valid:
        return False
    if not path_major:
        number = declared_major[1:].removesuffix("-unstable")
        return number in ("", "v0", "v1")
    return bool(declared_major) and path_major[1:] == declared_major[1:]
