import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from typing import BinaryIO

import pytest

from app.core.dirhash import hash1
from app.core.errors import BadInputError
from app.core.goarchive import ArchiveFile, iter_entries
from app.core.toolchain import (
    GO_MOD_H1,
    GO_MOD_TEXT,
    VERSION_FILE,
    ToolchainModule,
    derive,
    module_name,
    module_version,
)
from app.core.tree import Tree, read_tree

UPSTREAM = Path(__file__).parents[2].parent / "shared" / "upstream"

TREE = {
    "go/api/go1.txt": b"api",
    "go/bin/go": b"\x7fELF go",
    "go/doc/godebug.md": b"doc",
    "go/go.env": b"GOPROXY=x\n",
    "go/misc/go.mod": b"module misc\n",
    "go/pkg/tool/linux_amd64/compile": b"\x7fELF compile",
    "go/src/cmd/go.mod": b"module cmd\n",
    "go/src/go.mod": b"module std\n",
    "go/src/api/keep.go": b"package api\n",
    "go/test/x.go": b"package test\n",
    # Last, as in no real archive: nothing may depend on where it is.
    "go/VERSION": b"go1.23.1\ntime 2024-08-29T20:56:24Z\n",
}

PREFIX = "golang.org/toolchain@v0.0.1-go1.23.1.linux-amd64/"

IN_MODULE = {
    "VERSION": "go/VERSION",
    "bin/go": "go/bin/go",
    "go.env": "go/go.env",
    "pkg/tool/linux_amd64/compile": "go/pkg/tool/linux_amd64/compile",
    "src/_go.mod": "go/src/go.mod",
    "src/api/keep.go": "go/src/api/keep.go",
    "src/cmd/_go.mod": "go/src/cmd/go.mod",
}

EXPECTED = ToolchainModule(
    version="v0.0.1-go1.23.1.linux-amd64",
    h1=hash1(
        (PREFIX + name, hashlib.sha256(TREE[source]).digest()) for name, source in IN_MODULE.items()
    ),
    goos="linux",
    goarch="amd64",
    files=7,
    time="2024-08-29T20:56:24Z",
)


def tree_of(files: dict[str, bytes]) -> Tree:
    """Return the tree of an archive with these files; their contents come in two chunks each."""
    entries = (
        ArchiveFile(name, len(content), iter([content[:3], content[3:]]), 0o644)
        for name, content in files.items()
    )
    return read_tree(entries, keep=VERSION_FILE)


def tree_in(data: bytes | BinaryIO, suffix: str) -> Tree:
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    return read_tree(iter_entries(stream, suffix), keep=VERSION_FILE)


def without(*names: str) -> dict[str, bytes]:
    return {name: content for name, content in TREE.items() if name not in names}


def a_tar_gz(tree: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in tree.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue())


def a_zip(tree: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.mkdir("go")
        for name, content in tree.items():
            archive.writestr(name, content)
    return raw.getvalue()


def test_the_module_is_the_tree_by_the_rule_of_distpack() -> None:
    assert derive(tree_of(TREE)) == EXPECTED


def test_tar_gz_and_zip_of_one_tree_make_the_same_module() -> None:
    assert derive(tree_in(a_tar_gz(TREE), "tar.gz")) == EXPECTED
    assert derive(tree_in(a_zip(TREE), "zip")) == EXPECTED


def test_the_order_of_the_archive_does_not_matter() -> None:
    assert derive(tree_of(dict(reversed(TREE.items())))) == EXPECTED


def test_any_changed_byte_changes_h1() -> None:
    changed = TREE | {"go/go.env": b"GOPROXY=y\n"}
    assert derive(tree_of(changed)).h1 != EXPECTED.h1
    dropped = TREE | {"go/doc/godebug.md": b"changed"}
    assert derive(tree_of(dropped)) == EXPECTED


@pytest.mark.real
def test_the_real_go1_23_1_makes_the_module_in_public_use() -> None:
    path = UPSTREAM / "go1.23.1.linux-amd64.tar.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand")
    with path.open("rb") as stream:
        module = derive(tree_in(stream, "tar.gz"))
    assert module == ToolchainModule(
        version="v0.0.1-go1.23.1.linux-amd64",
        h1="h1:TmiC7kE4hHuA7UwTcrWUtL/Curn//Xchpqc+HHYEv2M=",
        goos="linux",
        goarch="amd64",
        files=9873,
        time="2024-08-29T20:56:24Z",
    )


def test_a_windows_release_is_told_by_its_tools_too() -> None:
    tree = without("go/bin/go", "go/pkg/tool/linux_amd64/compile")
    tree |= {"go/bin/go.exe": b"MZ", "go/pkg/tool/windows_arm64/compile.exe": b"MZ"}
    assert derive(tree_of(tree)).version == "v0.0.1-go1.23.1.windows-arm64"


def test_dot_github_is_left_out_before_1_21_only() -> None:
    extra = {"go/.github/x": b"", "go/.gitattributes": b""}
    assert derive(tree_of(TREE | extra)).files == EXPECTED.files + 2
    old = derive(tree_of(TREE | extra | {"go/VERSION": b"go1.20.14"}))
    assert old.files == EXPECTED.files + 1
    assert old.version == "v0.0.1-go1.20.14.linux-amd64"
    assert old.time is None
    candidate = derive(tree_of(TREE | extra | {"go/VERSION": b"go1.21rc2\n"}))
    assert candidate.files == EXPECTED.files + 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("go/src/go.mod", PREFIX + "src/_go.mod"),
        ("go/go.mod", PREFIX + "_go.mod"),
        ("go/src/not-go.mod", PREFIX + "src/not-go.mod"),
        ("go/src/go.mod/x", PREFIX + "src/go.mod/x"),
        ("go/VERSION", PREFIX + "VERSION"),
        ("go/api", PREFIX + "api"),
        ("go/apis/x", PREFIX + "apis/x"),
        ("go/src/test/x", PREFIX + "src/test/x"),
        ("go/api/x", None),
        ("go/doc/a/b", None),
        ("go/misc/x", None),
        ("go/test/go.mod", None),
    ],
)
def test_a_file_has_one_name_in_the_module_or_none(name: str, expected: str | None) -> None:
    assert module_name(name, "go1.23.1", "v0.0.1-go1.23.1.linux-amd64") == expected


# The platform


def test_the_archive_knows_its_platform_better_than_the_caller() -> None:
    assert derive(tree_of(TREE), goos="plan9", goarch="arm") == EXPECTED


@pytest.mark.parametrize(
    ("goos", "goarch", "version"),
    [
        ("linux", "amd64", "v0.0.1-go1.23.1.linux-amd64"),
        ("linux", "armv6l", "v0.0.1-go1.23.1.linux-arm"),
        ("freebsd", "arm", "v0.0.1-go1.23.1.freebsd-arm"),
    ],
)
def test_an_archive_without_tools_takes_the_given_platform(
    goos: str, goarch: str, version: str
) -> None:
    tree = without("go/pkg/tool/linux_amd64/compile")
    assert derive(tree_of(tree), goos=goos, goarch=goarch).version == version


def test_an_archive_with_tools_of_two_platforms_needs_the_platform_given() -> None:
    tree = TREE | {"go/pkg/tool/linux_arm64/compile": b""}
    with pytest.raises(BadInputError, match="2 platforms"):
        derive(tree_of(tree))
    assert derive(tree_of(tree), goos="linux", goarch="arm64").goarch == "arm64"
    with pytest.raises(BadInputError, match="not one for plan9/arm"):
        derive(tree_of(tree), goos="plan9", goarch="arm")


@pytest.mark.parametrize(
    ("goos", "goarch"), [(None, None), ("linux", None), (None, "arm"), ("", ""), ("a/b", "c")]
)
def test_a_platform_that_nobody_knows_is_refused(goos: str | None, goarch: str | None) -> None:
    tree = without("go/pkg/tool/linux_amd64/compile")
    with pytest.raises(BadInputError, match="platform"):
        derive(tree_of(tree), goos=goos, goarch=goarch)


# What is no toolchain


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({}, "go/VERSION is missing"),
        (without("go/VERSION"), "go/VERSION is missing"),
        (without("go/bin/go"), "go/bin/go is missing"),
        (TREE | {"README": b""}, "'README' lies outside go/"),
        (TREE | {"golang/x": b""}, "lies outside go/"),
        (TREE | {"go/src/_go.mod": b""}, "comes twice"),
        (TREE | {"go/VERSION": bytes(4097)}, "more than 4096 bytes"),
    ],
)
def test_what_is_not_a_whole_go_tree_is_refused(tree: dict[str, bytes], reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        derive(tree_of(tree))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"devel +8a5ef15",
        b"1.23.1",
        b"go1.9.2rc2",
        b"go1.23.1/..",
        b"go1.23.1 X:boringcrypto",
        b"go1.23.1\r\n",
        b"go1.\xff",
    ],
)
def test_a_version_file_without_a_go_version_is_refused(text: bytes) -> None:
    with pytest.raises(BadInputError, match="names no Go version") as caught:
        derive(tree_of(TREE | {"go/VERSION": text}))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "line",
    [
        "time",
        "time yesterday",
        "time 2024-08-29",
        "time 2024-08-29T20:56:24",
        "time 2024-08-29T20:56:24+02:00",
        "time 2024-13-29T20:56:24Z",
        "time 2024-08-29T20:56:24Z x",
        "time 2024-08-29T20:56:24Z\ntime 2024-08-29T20:56:24Z",
    ],
)
def test_a_time_that_go_would_not_read_is_refused(line: str) -> None:
    with pytest.raises(BadInputError, match="no usable time"):
        derive(tree_of(TREE | {"go/VERSION": f"go1.23.1\n{line}\n".encode()}))


def test_an_own_toolchain_keeps_its_suffix_and_unknown_lines_are_passed_over() -> None:
    text = b"go1.22.3-corp\nbuilder x\ntime 2024-08-29T20:56:24Z\n"
    module = derive(tree_of(TREE | {"go/VERSION": text}))
    assert module.version == "v0.0.1-go1.22.3-corp.linux-amd64"
    assert module.time == "2024-08-29T20:56:24Z"


def test_the_go_mod_of_every_version_has_the_published_h1() -> None:
    assert hash1([("go.mod", hashlib.sha256(GO_MOD_TEXT).digest())]) == GO_MOD_H1
    assert len(GO_MOD_TEXT) == 28


def test_a_module_version_names_release_and_platform() -> None:
    assert module_version("go1.23.1", "linux", "amd64") == EXPECTED.version
