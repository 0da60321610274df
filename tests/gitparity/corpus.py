"""The repositories of the comparison: one function for each kind of oddity.

Every module path is below HOST; a repository `team/x.git` holds HOST/team/x and what is below it.
"""

from collections.abc import Callable
from pathlib import Path

from tests.fakes.gitrepos import GitRepo, Link, Submodule

HOST = "git.corp.example"
_LFS = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def mod(path: str, go: str = "1.20", rest: str = "") -> str:
    """Return the go.mod of a module."""
    return f"module {HOST}/{path}\n\ngo {go}\n{rest}"


def plain() -> GitRepo:
    repo = GitRepo()
    first = repo.commit("main", {"go.mod": mod("team/plain"), "a.go": "package plain\n"})
    repo.tag("v1.0.0", first)
    repo.commit("main", {"LICENSE": "free\n", "b_test.go": "package plain\n"})
    second = repo.commit("main", {"sub/c.go": "package sub\n"})
    repo.tag("v1.1.0", second, annotated=True)
    repo.tag("release-1", second)
    rc = repo.commit("main", {"a.go": "package plain // 1.2\n"})
    repo.tag("v1.2.0-rc.1", rc)
    repo.tag("v1.3", rc)
    odd = repo.commit("main", {"a.go": "package plain // 1.4\n"})
    repo.tag("v1.4.0+meta", odd)
    repo.tag("v01.5.0", odd)
    dev = repo.commit("dev", {"d.go": "package plain\n"}, start=second)
    repo.commit("dev", {"e.go": "package plain\n"})
    repo.commit("v1.9.0", {"f.go": "package plain\n"}, start=first)  # a branch, named like a tag
    repo.commit("main", {"d.go": "package plain\n"}, merges=dev)
    repo.commit("main", {"go.mod": mod("team/plain", rest="\nretract v1.0.0 // broken\n")})
    return repo


def retracted() -> GitRepo:
    repo = GitRepo()
    first = repo.commit("main", {"go.mod": mod("team/retracted"), "a.go": "package r\n"})
    repo.tag("v1.0.0", first)
    lines = "\nretract (\n\t[v1.1.0, v1.1.9] // broken\n\tv1.0.0\n)\n"
    second = repo.commit("main", {"go.mod": mod("team/retracted", rest=lines)})
    repo.tag("v1.1.0", second)
    repo.tag("v1.1.1", second)
    third = repo.commit("main", {"b.go": "package r\n"})
    repo.tag("v1.2.0", third)
    repo.commit("main", {"c.go": "package r\n"})
    repo.commit("old", {"c.go": "package r\n"}, start=second)
    return repo


def directories() -> GitRepo:
    repo = GitRepo()
    root = "team/dirs"
    first = repo.commit(
        "main",
        {
            "go.mod": mod(root),
            "LICENSE": "of the root\n",
            "root.go": "package dirs\n",
            "sub/go.mod": mod(f"{root}/sub"),
            "sub/s.go": "package sub\n",
            "own/go.mod": mod(f"{root}/own"),
            "own/LICENSE": "its own\n",
            "own/o.go": "package own\n",
            "deep/er/go.mod": mod(f"{root}/deep/er"),
            "deep/er/v2/go.mod": mod(f"{root}/deep/er/v2"),
            "deep/er/v2/x.go": "package er\n",
            "deep/er/x.go": "package er\n",
        },
    )
    repo.tag("v0.1.0", first)
    repo.tag("sub/v0.2.0", first)
    repo.tag("own/v1.0.0", first, annotated=True)
    repo.tag("deep/er/v1.0.0", first)
    repo.tag("deep/er/v2.0.0", first)
    repo.tag("nope/v1.0.0", first)
    second = repo.commit("main", {"sub/t.go": "package sub\n"})
    repo.tag("sub/v0.3.0-alpha", second)
    repo.commit("main", {"own/o.go": "package own // 2\n"})
    return repo


def major_directory() -> GitRepo:
    repo = GitRepo()
    path = "team/majordir"
    first = repo.commit("main", {"go.mod": mod(path), "a.go": "package m\n"})
    repo.tag("v1.0.0", first)
    second = repo.commit(
        "main", {"v2/go.mod": mod(f"{path}/v2"), "v2/a.go": "package m\n", "LICENSE": "l\n"}
    )
    repo.tag("v2.0.0", second)
    repo.tag("v1.1.0", second)
    repo.commit("main", {"v2/b.go": "package m\n"})
    return repo


def major_branch() -> GitRepo:
    repo = GitRepo()
    path = "team/majorbranch"
    first = repo.commit("main", {"go.mod": mod(path), "a.go": "package m\n"})
    repo.tag("v1.0.0", first)
    second = repo.commit("v2", {"go.mod": mod(f"{path}/v2")}, start=first)
    repo.tag("v2.0.0", second)
    repo.commit("v2", {"b.go": "package m\n"})
    repo.commit("main", {"c.go": "package m\n"})
    wrong = repo.commit("main", {"d.go": "package m\n"})
    repo.tag("v3.0.0", wrong)  # go.mod has no /v3
    return repo


def incompatible() -> GitRepo:
    repo = GitRepo()
    first = repo.commit("main", {"a.go": "package i\n"})
    repo.tag("v1.0.0", first)
    second = repo.commit("main", {"a.go": "package i // 2\n"})
    repo.tag("v2.0.0", second)
    third = repo.commit("main", {"a.go": "package i // 2.1\n"})
    repo.tag("v2.1.0", third, annotated=True)
    repo.commit("main", {"a.go": "package i // later\n"})
    return repo


def became_module() -> GitRepo:
    repo = GitRepo()
    first = repo.commit("main", {"a.go": "package i\n"})
    repo.tag("v1.0.0", first)
    second = repo.commit("main", {"a.go": "package i // 2\n"})
    repo.tag("v2.0.0", second)
    third = repo.commit("main", {"go.mod": mod("team/became/v3"), "a.go": "package i // 3\n"})
    repo.tag("v3.0.0", third)
    fourth = repo.commit("main", {"go.mod": mod("team/became/v4")})
    repo.tag("v4.0.0", fourth)
    return repo


def no_go_mod() -> GitRepo:
    repo = GitRepo()
    repo.commit("main", {"a.go": "package n\n"})
    repo.commit("main", {"b/b.go": "package b\n"})
    return repo


def moved() -> GitRepo:
    repo = GitRepo()
    first = repo.commit("main", {"go.mod": mod("elsewhere/name"), "a.go": "package m\n"})
    repo.tag("v1.0.0", first)
    return repo


def attributes() -> GitRepo:
    repo = GitRepo()
    rules = (
        "* text=auto\n*.bat eol=crlf\n*.sh eol=lf\n*.bin binary\n*.id ident\n"
        "ignored.txt export-ignore\ndocs export-ignore\nversion.txt export-subst\n"
        "*.utf16 text working-tree-encoding=UTF-16LE\n*.filtered filter=lfs diff=lfs -text\n"
    )
    first = repo.commit(
        "main",
        {
            ".gitattributes": rules,
            "go.mod": mod("team/attributes"),
            "run.bat": "echo\nexit\n",
            "run.sh": "echo\nexit\n",
            "mixed.txt": "one\r\ntwo\nthree\r\n",
            "data.bin": b"\0\1\2\r\n\n",
            "name.id": "$Id$\n",
            "ignored.txt": "still here\n",
            "docs/d.txt": "still here\n",
            "version.txt": "$Format:%H$\n",
            "wide.utf16": "gr\u00fc\u00df\n",
            "large.filtered": _LFS,
            "sub/.gitattributes": "*.txt eol=crlf\n",
            "sub/s.txt": "a\nb\n",
            "sub/go.mod": mod("team/attributes/sub"),
        },
    )
    repo.tag("v1.0.0", first)
    repo.tag("sub/v1.0.0", first)
    return repo


def oddities() -> GitRepo:
    repo = GitRepo()
    files = {
        "go.mod": mod("team/odd"),
        "link.go": Link("a.go"),
        "dangling": Link("/etc/passwd"),
        "up": Link("../../../x"),
        "third": Submodule(),
        "lfs.dat": _LFS,
        "a.go": "package odd\n",
        "na me/with space.txt": "x\n",
        "gr\u00fc\u00dfe/\u4e16\u754c.txt": "x\n",
        "!#$%&()+,-.=@[]^_{}~.txt": "x\n",
        ".hidden/.x": "x\n",
        ".hg_archival.txt": "x\n",
        "empty": "",
        "vendor/modules.txt": "# x\n",
        "vendor/example.com/x/x.go": "package x\n",
        "vendor/v.go": "package v\n",
        "pkg/vendor/v.go": "package v\n",
        "pkg/vendor/example.com/y/y.go": "package y\n",
        "nested/go.mod": "module example.com/nested\n",
        "nested/n.go": "package n\n",
        "nested/deeper/d.go": "package d\n",
        "linked/go.mod": Link("../go.mod"),
        "linked/l.go": "package l\n",
        "CAPS/GO.MOD": "module caps\n",
        "CAPS/c.go": "package c\n",
        "crlf.txt": "a\r\nb\r\n",
        "go.sum": "",
    }
    first = repo.commit("main", files)
    repo.tag("v1.0.0", first)
    second = repo.commit("main", {"go.mod": mod("team/odd", "1.24")})
    repo.tag("v1.24.0", second)
    return repo


def refused() -> GitRepo:
    repo = GitRepo()
    path = "team/refused"
    case = repo.commit("main", {"go.mod": mod(path), "A.go": "package a\n", "a.go": "package a\n"})
    repo.tag("v1.0.0", case)
    aux = repo.commit("main", {"A.go": None, "aux.go": "package a\n"})
    repo.tag("v1.1.0", aux)
    colon = repo.commit("main", {"aux.go": None, "a:b": "x\n"})
    repo.tag("v1.2.0", colon)
    both = repo.commit("main", {"a:b": None, "D/x": "x\n", "d/y": "y\n"})
    repo.tag("v1.3.0", both)
    caps = repo.commit("main", {"D/x": None, "go.mod": None, "Go.Mod": mod(path)})
    repo.tag("v1.4.0", caps)
    no_module = repo.commit("main", {"Go.Mod": None, "go.mod": "go 1.20\n"})
    repo.tag("v1.5.0", no_module)
    good = repo.commit("main", {"go.mod": mod(path)})
    repo.tag("v1.6.0", good)
    return repo


def empty() -> GitRepo:
    return GitRepo()


def odd_tags() -> GitRepo:
    repo = GitRepo()
    first = repo.commit("trunk", {"go.mod": mod("team/oddtags"), "a.go": "package o\n"})
    repo.head = "trunk"
    repo.tag("v0.9.0", first)
    repo.tag_object("v1.0.0", "HEAD^{tree}")
    repo.tag_object("v1.0.1", "HEAD:go.mod")
    repo.tag("v0.0.0-20230101000000-abcdefabcdef", first)
    repo.tag("caf\u00e9", first)
    repo.tag("dev", first)
    second = repo.commit("trunk", {"b.go": "package o\n"})
    repo.tag("v1.2.3", second)
    repo.tag("v1.2.4", second)
    repo.commit("dev", {"c.go": "package o\n"}, start=first)
    repo.commit("caf\u00e9", {"c.go": "package o\n"}, start=first)
    repo.commit("trunk", {"d.go": "package o\n"})
    return repo


def prerelease_only() -> GitRepo:
    repo = GitRepo()
    first = repo.commit("main", {"go.mod": mod("team/pre"), "a.go": "package p\n"})
    repo.tag("v0.1.0-beta", first)
    second = repo.commit("main", {"b.go": "package p\n"})
    repo.tag("v0.1.0-beta.2", second)
    repo.commit("main", {"c.go": "package p\n"})
    return repo


def odd_go_mod() -> GitRepo:
    repo = GitRepo()
    texts = {
        "v1.0.0": f'module "{HOST}/team/gomod"\n',
        "v1.1.0": f"// comment\nmodule {HOST}/team/gomod // Deprecated: x\r\n\r\ngo 1.20\r\n",
        "v1.2.0": f"module (\n\t{HOST}/team/gomod\n)\n",
        "v1.3.0": f"\ufeffmodule {HOST}/team/gomod\n",
        "v1.4.0": f"module `{HOST}/team/gomod`\n\nretract (\n  [v1.0.0,v1.1.0]\n)\nretract v9\n",
    }
    for version, text in texts.items():
        repo.tag(
            version, repo.commit("main", {"go.mod": text, "a.go": f"package g // {version}\n"})
        )
    return repo


def signed() -> GitRepo:
    repo = GitRepo()
    repo.commit("main", {"go.mod": mod("team/signed"), "a.go": "package s\n"})
    repo.sign("v1.0.0", "main", by="ssh")
    repo.sign("v1.1.0", "main~0", by="openpgp")
    repo.commit("later", {"b.go": "package s\n"}, start=1)
    repo.sign("v1.2.0", "later", by="openpgp")
    return repo


def sha256() -> GitRepo:
    repo = GitRepo()
    repo.object_format = "sha256"
    first = repo.commit("main", {"go.mod": mod("team/sha256"), "a.go": "package s\n"})
    repo.tag("v1.0.0", first, annotated=True)
    second = repo.commit("main", {"b.go": "package s\n", "sub/go.mod": mod("team/sha256/sub")})
    repo.tag("v1.1.0", second)
    repo.tag("sub/v0.1.0", second)
    repo.commit("main", {"c.go": "package s\n"})
    return repo


def subdirectory() -> GitRepo:
    """Named by go-import tags with a fourth field: see SUBDIRECTORIES."""
    repo = GitRepo()
    files = {
        "LICENSE": "of the root\n",
        "deep/lib/go.mod": mod("named/lib"),
        "deep/lib/l.go": "package lib\n",
        "deep/lib/v2/go.mod": mod("named/lib/v2"),
        "deep/lib/v2/l.go": "package lib\n",
        "more/deep/lib/go.mod": mod("named/lib/more"),
        "more/deep/lib/m.go": "package more\n",
    }
    first = repo.commit("main", files)
    repo.tag("v9.0.0", first)  # of the root, which is no module
    repo.tag("deep/lib/v1.0.0", first)
    repo.tag("deep/lib/v2.0.0", first)
    repo.tag("more/deep/lib/v1.0.0", first)
    repo.commit("main", {"deep/lib/n.go": "package lib\n"})
    return repo


REPOSITORIES: dict[str, Callable[[], GitRepo]] = {
    "team/plain": plain,
    "team/retracted": retracted,
    "team/dirs": directories,
    "team/majordir": major_directory,
    "team/majorbranch": major_branch,
    "team/incompatible": incompatible,
    "team/became": became_module,
    "team/nomod": no_go_mod,
    "team/moved": moved,
    "team/attributes": attributes,
    "team/odd": oddities,
    "team/refused": refused,
    "team/empty": empty,
    "team/oddtags": odd_tags,
    "team/pre": prerelease_only,
    "team/gomod": odd_go_mod,
    "group/sub/nested/x": plain,
    "team/signed": signed,
    "team/sha256": sha256,
    "team/mono": subdirectory,
}

MODULES = {
    "team/plain": ("main", "dev", "HEAD", "v1", "v1.1", "v1.3", "v1.4.0+meta", "v1.4.0", "v1.9.0",
                   "release-1", "nope", "v1.2.0-rc.1", "latest", "abcdef1", "v9.9.9"),
    "team/retracted": ("main", "old", "v1.1.0", "latest"),
    "team/dirs": ("main", "v0.1.0"),
    "team/dirs/sub": ("main", "v0.3.0-alpha", "v0.1.0"),
    "team/dirs/own": ("main",),
    "team/dirs/deep/er": ("main",),
    "team/dirs/deep/er/v2": ("main",),
    "team/dirs/nope": ("main", "v1.0.0"),
    "team/majordir": ("main", "v2.0.0", "v2.0.0+incompatible"),
    "team/majordir/v2": ("main", "v1.0.0"),
    "team/majordir/v3": ("main",),
    "team/majorbranch": ("main", "v2", "v3.0.0"),
    "team/majorbranch/v2": ("v2", "main"),
    "team/majorbranch/v3": ("v3.0.0",),
    "team/incompatible": ("main", "v2.0.0", "v1.0.0+incompatible"),
    "team/incompatible/v2": ("v2.0.0",),
    "team/became": ("main", "v2.0.0+incompatible", "v3.0.0+incompatible", "v3.0.0"),
    "team/became/v3": ("v3.0.0",),
    "team/became/v4": ("main",),
    "team/nomod": ("main", "latest"),
    "team/moved": ("main",),
    "team/attributes": ("main",),
    "team/attributes/sub": ("main",),
    "team/odd": ("main",),
    "team/odd/linked": ("main",),
    "team/refused": ("main",),
    "team/empty": ("main", "latest"),
    "team/oddtags": ("trunk", "dev", "v1.0.0", "v1.0.1", "HEAD", "latest",
                     "v0.0.0-20230101000000-abcdefabcdef"),
    "team/pre": ("main", "latest"),
    "team/gomod": ("main",),
    "team/gone": ("main", "v1.0.0"),
    "group/sub/nested/x": ("main",),
    "team/signed": ("main", "later"),
    "team/sha256": ("main", "v1.0.0", "latest"),
    "team/sha256/sub": ("main",),
}  # fmt: skip
"""Modules, each with queries of which `go` and Moorage must say the same."""


NEW_GO = frozenset({"team/sha256", "team/sha256/sub"})
"""Go 1.21 reads no SHA-256 repository, so there is nothing to compare with."""

NAMED = {
    "named/lib": ("main", "v1.0.0", "v2.0.0"),
    "named/lib/v2": ("main",),
    "named/lib/more": ("main",),
    "named/bad": ("main",),
}
"""Modules that are where a go-import tag with a sub-directory says, for Go 1.25 and newer."""

SUBDIRECTORIES = {"named/lib": ("team/mono", "deep/lib"), "named/bad": ("team/mono", "../deep")}
"""By the path of a root: the repository and the sub-directory that the tag names."""


def write_all(folder: Path) -> None:
    """Make all repositories below a folder."""
    for name, make in REPOSITORIES.items():
        path = folder / f"{name}.git"
        path.parent.mkdir(parents=True, exist_ok=True)
        make().write(path)
