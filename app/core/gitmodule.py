"""The versions of a module in a git repository, as `go` itself finds them with GOPROXY=direct.

Follows cmd/go/internal/modfetch (coderepo.go) and its codehost (git.go), in the state of a module
cache that is empty. Not here: the files of a version's zip (`gitzip`), reading the repository
(`upstream/gitreader`).

A rule that says no raises UnknownError: for a client, such a version does not exist.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.core import gomod, pseudo, semver
from app.core import module as modules
from app.core.errors import UnknownError
from app.core.gitplace import GoModPlace, go_mod_place
from app.core.gitrefs import HEAD
from app.core.gitrepository import Commit, Repository
from app.core.gitrevision import CodeRevision, GitRevisions
from app.core.gomodlines import retractions

_INCOMPATIBLE = "+incompatible"


@dataclass(frozen=True, slots=True)
class Revision:
    """A version and the commit behind it.

    Attributes:
        version: canonical.
        tag_prefix: of the tags that matter for a pseudo-version; None for other versions.
    """

    version: str
    commit: Commit
    ref: str
    tag_prefix: str | None


class GitModule:
    """A module in a repository.

    Args:
        repository: the whole repository.
        path: of the module, plain.
        root: the module path at the root of the repository, a prefix of `path`.
        subdirectory: of the repository, where the module's host names one by a go-import tag; as in
            `go`, it comes behind what `path` has below `root`.

    Raises:
        UnknownError: the repository can't hold the module.
    """

    def __init__(
        self, repository: Repository, path: str, root: str, subdirectory: str = ""
    ) -> None:
        prefix, self._major, is_valid = modules.split_path_version(path)
        if not is_valid:
            raise UnknownError(f"{path} is not a module path")
        self._prefix = path if root == path else prefix
        if root != path and not f"{self._prefix}/".startswith(f"{root}/"):
            raise UnknownError(f"the repository at {root} can't hold {path}")
        self._repository = repository
        self._path = path
        self._root = root
        self.directory = "" if root == path else self._prefix[len(root) :].strip("/")
        if subdirectory:
            self.directory = _clean(self.directory, subdirectory)
        self._tag_prefix = f"{self.directory}/" if self.directory else ""
        self._revisions = GitRevisions(repository)

    # Lists

    def versions(self) -> list[str]:
        """Return the versions that have tags, ascending; "+incompatible" ones are the last."""
        if self._path.startswith("gopkg.in/") and self._path.endswith("-unstable"):
            return []
        listed, incompatible = [], []
        for tag in self._repository.refs.tags(self._tag_prefix):
            version = tag[len(self._tag_prefix) :]
            if not version or version != semver.canonical(version) or pseudo.is_pseudo(version):
                continue
            if modules.matches_path_major(version, self._major):
                listed.append(version)
            elif not self.directory and not self._major and _major_number(version) > 1:
                incompatible.append(version)
        listed.sort(key=semver.sort_key)
        incompatible.sort(key=semver.sort_key)
        return listed + self._usable(incompatible, listed)

    def _usable(self, incompatible: list[str], listed: list[str]) -> list[str]:
        """Return the versions that are allowed as "+incompatible" ones."""
        if not incompatible or (listed and self._has_go_mod(listed[-1])):
            return []
        newest = {semver.major(version): version for version in incompatible}
        without = {major for major, version in newest.items() if not self._has_go_mod(version)}
        return [v + _INCOMPATIBLE for v in incompatible if semver.major(v) in without]

    def _has_go_mod(self, tag: str) -> bool:
        try:
            code = self._revisions.find(tag)
        except UnknownError:
            return False
        return self._repository.read(code.commit.id, "go.mod") is not None

    # Revisions

    def latest(self) -> Revision:
        """Return the version of HEAD.

        Raises:
            UnknownError: the repository is empty, or HEAD holds no version of the module.
        """
        head = self._repository.refs.commit(HEAD)
        if head is None:
            raise UnknownError("the repository has no commits")
        code = self._revisions.find(head)
        return self._converted(code, "", ref=HEAD)

    def stat(self, query: str) -> Revision:
        """Return the version that a query stands for: a version, branch, tag, or commit.

        Raises:
            UnknownError: there is no such revision, or it holds no version of the module.
        """
        if query == "latest":
            return self.latest()
        code = self._revisions.find(self._revision(query))
        return self._converted(code, query, ref=code.ref)

    def go_mod(self, version: str) -> bytes:
        """Return the go.mod of a canonical version, made up where the module has none.

        Raises:
            UnknownError: there is no such version.
        """
        place = self._place_of(version)
        if place.go_mod is not None:
            return place.go_mod
        return gomod.synthetic(self._path)

    def place(self, version: str) -> tuple[str, str]:
        """Return the commit and the directory of a canonical version.

        Raises:
            UnknownError: there is no such version.
        """
        place = self._place_of(version)
        return place.commit, place.directory

    def _place_of(self, version: str) -> GoModPlace:
        if pseudo.is_pseudo(version):
            self.stat(version)  # checks the time and the base that the version names
        return self._directory_of(version)

    def info(self, revision: Revision, url: str) -> bytes:
        """Return the .info of a version, byte by byte as `go` writes it.

        Args:
            revision: the version.
            url: of the repository, as Origin names it.
        """
        origin = {"VCS": "git", "URL": url}
        if self.directory:
            origin["Subdir"] = self.directory
        origin["Hash"] = revision.commit.id
        if revision.tag_prefix is not None:
            if revision.tag_prefix:
                origin["TagPrefix"] = revision.tag_prefix
            origin["TagSum"] = self._repository.refs.tag_sum(revision.tag_prefix)
        if revision.ref:
            origin["Ref"] = revision.ref
        time = revision.commit.time.strftime("%Y-%m-%dT%H:%M:%SZ")
        document = {"Version": revision.version, "Time": time, "Origin": origin}
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()

    def tag_of(self, version: str) -> str:
        """Return the name of the tag that a version has: "sub/v1.0.0" in the directory "sub"."""
        return self._revision(version)

    def _revision(self, version: str) -> str:
        """Return what a version is called in the repository (revToRev)."""
        if not semver.is_valid(version):
            return version
        if pseudo.is_pseudo(version):
            return pseudo.rev_of(version)
        if semver.build(version) == _INCOMPATIBLE:
            version = version.removesuffix(_INCOMPATIBLE)
        return self._tag_prefix + version

    # From a revision to a version

    def _converted(self, code: CodeRevision, asked: str, *, ref: str) -> Revision:
        version = self._version_of(code, asked)
        prefix = None
        if pseudo.is_pseudo(version) and (version != asked or not version.startswith("v0.0.0-")):
            prefix = self._tag_prefix + (f"{self._major[1:]}." if self._major else "")
        return Revision(version, code.commit, ref, prefix)

    def _version_of(self, code: CodeRevision, asked: str) -> str:
        """Return the version of a revision (convert of coderepo.go)."""
        if pseudo.is_pseudo(asked):
            version = self._checked(asked, code, asked)
            self._check_pseudo(code, asked)
            return version
        tagged, is_canonical = self._tag_version(code.version)
        if is_canonical:
            try:
                return self._checked(tagged, code, asked)
            except UnknownError:
                pass
        base = highest = ""
        is_retracted = self._retracted()
        for tag in code.tags:
            version, is_canonical = self._tag_version(tag)
            if asked and semver.compare(version, asked) == 0:
                if is_canonical:
                    return self._checked(version, code, asked)
                base = version
            is_higher = is_canonical and semver.compare(highest, version) < 0
            if is_higher and not is_retracted(version) and self._fits(version, code, asked):
                highest = version
        if highest:
            return self._checked(highest, code, asked)
        base = base or self._base(code, asked, is_retracted)
        version = pseudo.make(
            self._major[1:].removesuffix("-unstable"), base, code.commit.time, code.short
        )
        return self._checked(version, code, asked)

    def _tag_version(self, tag: str) -> tuple[str, bool]:
        """Return the version that a tag names, "" for none, and whether that is the whole tag."""
        if not tag.startswith(self._tag_prefix) or pseudo.is_pseudo(tag):
            return "", False
        trimmed = tag[len(self._tag_prefix) :]
        version = semver.canonical(trimmed)
        if not version or not trimmed.startswith(version):
            return "", False
        return version, version == trimmed

    def _fits(self, version: str, code: CodeRevision, asked: str) -> bool:
        if modules.matches_path_major(version, self._major):
            return True
        return self._may_be_incompatible(version, code, asked)

    def _may_be_incompatible(self, version: str, code: CodeRevision, asked: str) -> bool:
        if self.directory or self._major:
            return False
        if self._repository.read(code.commit.id, "go.mod") is not None:
            return False
        if version and not asked.endswith(_INCOMPATIBLE):
            name = f"{semver.major(version)}/go.mod"
            return self._repository.read(code.commit.id, name) is None
        return True

    def _checked(self, version: str, code: CodeRevision, asked: str) -> str:
        """Return a version, with "+incompatible" if need be (checkCanonical)."""
        self._directory_of(version)
        if version == asked.removesuffix(_INCOMPATIBLE):
            version = asked
        base = version.removesuffix(_INCOMPATIBLE)
        trouble = ""
        if not modules.matches_path_major(base, self._major):
            if self._may_be_incompatible(base, code, asked):
                version = base + _INCOMPATIBLE
            elif self._major:
                trouble = "the module path has a major version, so the version must have the same"
            else:
                own_path = f"{self._prefix}/{semver.major(version)}"
                trouble = f"the module has a go.mod, so its path would be {own_path}"
        elif version.endswith(_INCOMPATIBLE):
            trouble = f"major version {semver.major(version)} is not incompatible"
        if asked and asked == modules.canonical_version(asked):
            asked_base = asked.removesuffix(_INCOMPATIBLE)
            if asked_base != base:
                raise UnknownError(f"{asked_base} is not a tag; the revision is {version}")
        if trouble:
            raise UnknownError(f"{version}: {trouble}")
        return version

    def _base(self, code: CodeRevision, asked: str, is_retracted: Callable[[str], bool]) -> str:
        """Return the highest version that the revision descends from, "" for none (RecentTag)."""

        def highest(tags: Sequence[str]) -> str:
            best = ""
            for tag in tags:
                if not tag.startswith(self._tag_prefix):
                    continue
                version, _ = self._tag_version(tag)
                if not version or not self._fits(version, code, asked) or is_retracted(version):
                    continue
                semantic = tag[len(self._tag_prefix) :]
                if semver.compare(semantic, best) > 0:
                    best = semantic
            return best

        tag = highest(code.tags)
        if not tag and self._repository.refs.tags(f"{self._tag_prefix}v"):
            tag = highest(sorted(self._repository.tags_behind(code.commit.id)))
        return semver.canonical(tag) if tag else ""

    def _check_pseudo(self, code: CodeRevision, version: str) -> None:
        """Return if a pseudo-version is the right one for its revision.

        Raises:
            UnknownError: its hash, time or base is not that of the revision.
        """
        if pseudo.rev_of(version) != code.short:
            raise UnknownError(f"{version}: the commit's short name is {code.short}")
        if pseudo.time_of(version) != code.commit.time:
            raise UnknownError(f"{version}: its time is not that of the commit")
        base = pseudo.base_of(version.removesuffix(_INCOMPATIBLE))
        if not base:
            if pseudo.is_without_base(version):
                if not self._major and semver.major(version) == "v1":
                    raise UnknownError(f"{version}: without an earlier tag, it would be v0")
                return
            raise UnknownError(f"{version}: no version precedes it")
        if any(tag.removeprefix(self._tag_prefix) == base for tag in code.tags):
            raise UnknownError(f"{version}: the commit has the tag {base}, so that is its version")
        bases = [
            tag
            for tag in self._repository.refs.tags(self._tag_prefix + base)
            if semver.compare(tag.removeprefix(self._tag_prefix), base) == 0
        ]
        if not bases:
            raise UnknownError(f"{version}: there is no tag {base}")
        if not any(self._repository.descends(code.commit.id, tag) for tag in sorted(bases)):
            raise UnknownError(f"{version}: the commit does not descend from {base}")

    def _retracted(self) -> Callable[[str], bool]:
        """Return what says whether the newest go.mod retracts a version."""
        versions = [v for v in self.versions() if not v.endswith(_INCOMPATIBLE)]
        releases = [v for v in versions if not semver.prerelease(v)]
        if not versions:
            return lambda _: False
        try:
            text = self.go_mod((releases or versions)[-1])
        except UnknownError:
            return lambda _: False
        intervals = retractions(text)
        return lambda version: any(
            semver.compare(low, version) <= 0 <= semver.compare(high, version)
            for low, high in intervals
        )

    def _directory_of(self, version: str) -> GoModPlace:
        """Return where a version is in the repository.

        Raises:
            UnknownError: its go.mod is missing, or declares another major version.
        """
        code = self._revisions.find(self._revision(version))
        return go_mod_place(
            self._repository,
            code.commit.id,
            version,
            self.directory,
            self._major,
            may_be_below=self._root != self._path,
        )


def _clean(directory: str, subdirectory: str) -> str:
    """Return both as one path, without "." and ".." (filepath.Join).

    As in `go`, a path that leads out of the repository, "../x", is one where no file is.
    """
    elements: list[str] = []
    for element in (*directory.split("/"), *subdirectory.split("/")):
        if element == ".." and elements and elements[-1] != "..":
            elements.pop()
        elif element not in ("", "."):
            elements.append(element)
    return "/".join(elements)


def _major_number(version: str) -> int:
    digits = semver.major(version)[1:]
    return int(digits) if len(digits) < 10 else 1 << 30
