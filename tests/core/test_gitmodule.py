"""The rules of versions, on repositories in memory; the real `go` compares in tests/gitparity."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from app.core.errors import UnknownError
from app.core.gitmodule import GitModule
from app.core.gitrefs import GitRefs
from app.core.gitrepository import Commit
from app.core.gitzip import TreeFile, chosen, is_vendored
from app.core.gomodlines import go_version, retractions
from app.core.pseudo import is_pseudo, make

AT = datetime(2006, 1, 2, 15, 4, 5, tzinfo=UTC)
A, B, C = ("a" * 40, "b" * 40, "c" * 40)
X = "git.corp.example/x"


class Memory:
    """A repository: files by commit, and what a commit descends from."""

    def __init__(
        self,
        refs: Mapping[str, str],
        files: Mapping[str, Mapping[str, str]],
        older: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.refs = GitRefs({**refs, "HEAD": next(iter(files), A)})
        self._files = files
        self._older = older or {}

    def commit(self, name: str) -> Commit | None:
        full = [oid for oid in self._files if oid.startswith(name)]
        return Commit(full[0], AT) if len(full) == 1 else None

    def read(self, commit: str, path: str) -> bytes | None:
        text = self._files[commit].get(path)
        return None if text is None else text.encode()

    def tags_behind(self, commit: str) -> list[str]:
        known = {commit, *self._older.get(commit, [])}
        return [tag for tag, oid in self.refs.tags().items() if oid in known]

    def descends(self, commit: str, tag: str) -> bool:
        return tag in self.tags_behind(commit)


def tags(**by_name: str) -> dict[str, str]:
    return {f"refs/tags/{name.replace('_', '.')}": oid for name, oid in by_name.items()}


MOD = {"go.mod": f"module {X}\n"}


def test_a_pseudo_version_follows_the_highest_tag_behind_the_commit() -> None:
    repo = Memory(tags(v1_2_0=B, v0_9_0=B), {A: MOD, B: MOD}, {A: [B]})
    module = GitModule(repo, X, X)
    assert module.stat(A).version == "v1.2.1-0.20060102150405-aaaaaaaaaaaa"
    assert module.stat("aaaaaaaaaaaa").version == module.latest().version
    assert GitModule(Memory({}, {A: MOD}), X, X).latest().version == (
        "v0.0.0-20060102150405-aaaaaaaaaaaa"
    )


@pytest.mark.parametrize(
    "version",
    [
        "v1.2.1-0.20060102150406-aaaaaaaaaaaa",  # another time
        "v1.2.1-0.20060102150405-aaaaaaaaaaa",  # a shorter name
        "v1.2.1-0.20060102150405-aaaaaaaaaaaaa",  # a longer one
        "v1.3.1-0.20060102150405-aaaaaaaaaaaa",  # no such tag
        "v1.4.1-0.20060102150405-aaaaaaaaaaaa",  # a tag that the commit does not descend from
        "v1.0.0-20060102150405-aaaaaaaaaaaa",  # v1 without a tag
        "v1.2.1-0.20060102150405-bbbbbbbbbbbb",  # the commit of the tag itself
        "v1.0.0-0.20060102150405-aaaaaaaaaaaa",  # no patch precedes 0
    ],
)
def test_F85_a_pseudo_version_that_is_not_the_commits_own_does_not_exist(version: str) -> None:
    repo = Memory(tags(v1_2_0=B, v1_4_0=C), {A: MOD, B: MOD, C: MOD}, {A: [B]})
    with pytest.raises(UnknownError):
        GitModule(repo, X, X).stat(version)


def test_a_branch_that_is_named_like_a_version_is_none() -> None:
    repo = Memory({"refs/heads/v1.2.3": A}, {A: MOD})
    with pytest.raises(UnknownError):
        GitModule(repo, X, X).stat("v1.2.3")


def test_a_module_that_the_repository_can_not_hold_does_not_exist() -> None:
    repo = Memory({}, {A: MOD})
    with pytest.raises(UnknownError):
        GitModule(repo, f"{X}y", X)
    with pytest.raises(UnknownError):
        GitModule(repo, f"{X}/sub", X).latest()


@pytest.mark.parametrize(
    ("subdirectory", "directory"),
    [("go", "a/go"), ("go/", "a/go"), ("./go", "a/go"), ("../go", "go"), ("../../go", "../go")],
)
def test_a_subdirectory_is_joined_as_a_path(subdirectory: str, directory: str) -> None:
    assert GitModule(Memory({}, {}), f"{X}/a", X, subdirectory).directory == directory


@pytest.mark.parametrize(
    ("major", "older", "version"),
    [  # x/mod/module, pseudo_test.go
        ("", "", "v0.0.0-20060102150405-abcdef123456"),
        ("v2", "", "v2.0.0-20060102150405-abcdef123456"),
        ("", "v1.2.3", "v1.2.4-0.20060102150405-abcdef123456"),
        ("", "v1.2.99999999999999999", "v1.2.100000000000000000-0.20060102150405-abcdef123456"),
        ("", "v1.2.3-pre", "v1.2.3-pre.0.20060102150405-abcdef123456"),
        ("", "v2.0.0+incompatible", "v2.0.1-0.20060102150405-abcdef123456+incompatible"),
        ("", "v1.2.9", "v1.2.10-0.20060102150405-abcdef123456"),
    ],
)
def test_pseudo_versions_are_made_as_go_makes_them(major: str, older: str, version: str) -> None:
    assert make(major, older, AT, "abcdef123456") == version
    assert is_pseudo(version)


@pytest.mark.parametrize(
    ("path", "before", "since"),
    [  # x/mod/zip, TestIsVendoredPackage
        ("vendor/modules.txt", False, True),
        ("vendor/foo/foo.go", True, True),
        ("vendor/foo.go", False, False),
        ("pkg/vendor/vendor.go", True, False),
        ("pkg/vendor/foo/foo.go", True, True),
        ("longpackagename/vendor/vendor.go", True, False),
        ("x/vendored/y.go", False, False),
    ],
)
def test_vendored_packages_are_told_by_the_go_versions_rule(
    path: str, *, before: bool, since: bool
) -> None:
    assert is_vendored(path, (1, 23)) is before
    assert is_vendored(path, (1, 24)) is since


def test_a_file_of_another_module_a_link_and_a_submodule_are_left_out() -> None:
    files = [
        TreeFile(path, is_regular=is_regular, size_bytes=1)
        for path, is_regular in [
            ("go.mod", True), ("a.go", True), ("link", False), ("sub", False),
            ("n/GO.mod", True), ("n/b/c.go", True), ("l/go.mod", False), ("l/x.go", True),
            (".hg_archival.txt", True),
        ]
    ]  # fmt: skip
    assert [file.path for file in chosen(files, (1, 20))] == ["go.mod", "a.go", "l/x.go"]


def test_lines_of_a_go_mod_are_read_as_parse_lax_does() -> None:
    text = (
        b"module x\n\ngo 1.24.3 // x\n\nretract v1.0.0 // bad\nretract (\n\t[v1.1.0, v1.2.0]\n"
        b"\tv1.3.0 // x\n\tnonsense\n)\nretract [v2.0.0,v2.1.0]\n"
    )
    assert go_version(text) == (1, 24)
    assert go_version(b"module x\n") == (0, 0)
    assert retractions(text) == [
        ("v1.0.0", "v1.0.0"),
        ("v1.1.0", "v1.2.0"),
        ("v1.3.0", "v1.3.0"),
        ("v2.0.0", "v2.1.0"),
    ]
