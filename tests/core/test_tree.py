import hashlib
import io
import json
import stat
import tarfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BadInputError
from app.core.goarchive import ArchiveFile, ArchiveFolder, ArchiveLimits, iter_entries
from app.core.tree import KEPT_BYTES, Tree, read_tree, render_tree
from tests.core.test_goarchive import a_member, a_tar_gz, a_zip, a_zip_info
from tests.fakes.archives import go_archive

HASH = {content: hashlib.sha256(content).hexdigest() for content in (b"", b"go", b"text")}


def tree_in(data: bytes, suffix: str, **more: Any) -> Tree:
    return read_tree(iter_entries(io.BytesIO(data), suffix), **more)


def lines_of(tree: Tree) -> list[str]:
    text = b"".join(render_tree(tree)).decode()
    assert text == "" or text.endswith("\n")
    return text.split("\n")[:-1]


def a_folder(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return a_member(name, type=tarfile.DIRTYPE, mode=mode)


def test_the_lines_are_canonical_json_sorted_by_path() -> None:
    data = a_tar_gz(
        a_folder("go", 0o750),
        a_member("go/VERSION", b"text", mode=0o644),
        a_folder("go/bin"),
        a_member("go/bin/go", b"go", mode=0o755),
        a_member("go/bin.txt", b"", mode=0o600),
        a_member("go/\u00fc", b"text", mode=0o444),
    )
    assert lines_of(tree_in(data, "tar.gz")) == [
        '{"mode":488,"path":"go","type":"dir"}',
        f'{{"mode":420,"path":"go/VERSION","sha256":"{HASH[b"text"]}","size":4,"type":"file"}}',
        '{"mode":493,"path":"go/bin","type":"dir"}',
        f'{{"mode":384,"path":"go/bin.txt","sha256":"{HASH[b""]}","size":0,"type":"file"}}',
        f'{{"mode":493,"path":"go/bin/go","sha256":"{HASH[b"go"]}","size":2,"type":"file"}}',
        f'{{"mode":292,"path":"go/\u00fc","sha256":"{HASH[b"text"]}","size":4,"type":"file"}}',
    ]


def test_folders_that_the_archive_does_not_list_are_in_the_tree() -> None:
    data = a_tar_gz(a_member("go/a/b/c", b""), a_folder("go/a/x/y", 0o700))
    paths = {line["path"]: line for line in map(json.loads, lines_of(tree_in(data, "tar.gz")))}
    assert list(paths) == ["go", "go/a", "go/a/b", "go/a/b/c", "go/a/x", "go/a/x/y"]
    assert [paths[name]["mode"] for name in ("go", "go/a", "go/a/b", "go/a/x")] == [493] * 4
    assert paths["go/a/x/y"]["mode"] == 0o700


def test_of_a_folder_that_comes_twice_the_last_mode_counts_as_with_tar() -> None:
    data = a_tar_gz(a_folder("go", 0o700), a_folder("go", 0o755))
    assert lines_of(tree_in(data, "tar.gz")) == ['{"mode":493,"path":"go","type":"dir"}']


@pytest.mark.parametrize("bits", [0o4755, 0o2755, 0o1755, 0o7755], ids=oct)
def test_setuid_setgid_and_sticky_never_reach_the_tree(bits: int) -> None:
    [_, line] = lines_of(tree_in(a_tar_gz(a_member("go/x", b"", mode=bits)), "tar.gz"))
    assert json.loads(line)["mode"] == 0o755


def test_a_zip_has_the_modes_of_unix_where_it_tells_them() -> None:
    data = a_zip(
        (a_zip_info("go/", external_attr=(stat.S_IFDIR | 0o700) << 16), b""),
        (a_zip_info("go/bare/", external_attr=0x10), b""),
        (a_zip_info("go/bin", external_attr=(stat.S_IFREG | 0o4711) << 16), b"go"),
        (a_zip_info("go/text", external_attr=0x20), b"text"),
    )
    modes = {f["path"]: f["mode"] for f in map(json.loads, lines_of(tree_in(data, "zip")))}
    assert modes == {"go": 0o700, "go/bare": 493, "go/bin": 0o711, "go/text": 420}


@pytest.mark.parametrize(
    "members",
    [
        [a_member("go/x", b""), a_folder("go/x")],
        [a_member("go/x", b""), a_member("go/x/y", b"")],
        [a_member("go/x/y/z", b""), a_member("go/x", b"")],
    ],
    ids=["file then folder", "file then a file below it", "file above a file"],
)
def test_a_path_that_is_file_and_folder_is_refused(members: Any) -> None:
    tree = tree_in(a_tar_gz(*members), "tar.gz")
    with pytest.raises(BadInputError, match="'go/x' is both a file and a folder"):
        b"".join(render_tree(tree))


@pytest.mark.parametrize(
    "member",
    [
        a_member("../x", b""),
        a_member("/x", b""),
        a_member("go/x", type=tarfile.SYMTYPE, linkname="y"),
        a_member("go/x", type=tarfile.LNKTYPE, linkname="y"),
        a_member("go/x", type=tarfile.CHRTYPE),
    ],
    ids=["climbs", "absolute", "symlink", "hard link", "device"],
)
def test_what_the_reader_of_archives_refuses_makes_no_tree(member: Any) -> None:
    with pytest.raises(BadInputError):
        tree_in(a_tar_gz(member), "tar.gz")


def test_the_limits_of_archives_hold() -> None:
    data = a_tar_gz(a_member("go/a", b"text"), a_member("go/b", b"text"))
    for limits in (ArchiveLimits(entries=1), ArchiveLimits(unpacked_bytes=7)):
        with pytest.raises(BadInputError):
            read_tree(iter_entries(io.BytesIO(data), "tar.gz", limits))


def test_a_cut_archive_makes_no_tree() -> None:
    data = go_archive()
    for length in range(0, len(data), len(data) // 40):
        with pytest.raises(BadInputError):
            tree_in(data[:length], "tar.gz")


def test_the_start_of_one_file_is_kept() -> None:
    data = a_tar_gz(a_member("go/VERSION", b"x" * 9000), a_member("go/x", b"text"))
    assert tree_in(data, "tar.gz").kept is None
    assert tree_in(data, "tar.gz", keep="go/VERSION").kept == b"x" * (KEPT_BYTES + 1)
    assert tree_in(data, "tar.gz", keep="go/x").kept == b"text"
    assert tree_in(data, "tar.gz", keep="go/y").kept is None


PATH = st.lists(st.text("aZ.\u00e9\U0001f600-/", min_size=1, max_size=3), min_size=1, max_size=4)


@given(st.lists(PATH, max_size=12))
def test_the_order_is_that_of_the_bytes_and_no_path_comes_twice(paths: list[list[str]]) -> None:
    names = {"/".join(part.replace("/", "") or "x" for part in path) for path in paths}
    entries = [ArchiveFolder(name, 0o755) for name in sorted(names, reverse=True)]
    seen = [json.loads(line)["path"].encode() for line in lines_of(read_tree(entries))]
    assert seen == sorted(set(seen))
    assert {name.encode() for name in names} <= set(seen)


def test_the_tree_comes_in_pieces() -> None:
    files = (ArchiveFile(f"go/{n:06}", 0, iter(()), 0o644) for n in range(5000))
    pieces = list(render_tree(read_tree(files)))
    assert len(pieces) > 1
    assert max(map(len, pieces)) < 300 << 10
    assert b"".join(pieces).count(b"\n") == 5001
