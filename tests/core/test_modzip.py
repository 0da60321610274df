import base64
import hashlib
import io
import stat
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import modzip_directory
from app.core.archiverules import CHUNK_BYTES
from app.core.errors import BadInputError
from app.core.modzip import DEFAULT_LIMITS, ModuleZipLimits, ZipFacts, inspect
from app.core.modzip_names import folded

MODULE, VERSION = "example.com/M", "v1.2.3"
PREFIX = f"{MODULE}@{VERSION}/"
GO_MOD = b"module example.com/M\n"
MAX32 = 0xFFFFFFFF
FILES = {
    "go.mod": GO_MOD,
    "m.go": b"package m\n" * 100,
    "internal/a/\u00defoo.go": b"package a\n",
    "empty": b"",
    "LICENSE": b"Do what you want.\n",
}


@dataclass(frozen=True)
class Member:
    """One entry of a zip; what is None is what a truthful writer would say."""

    name: str | bytes
    content: bytes = b""
    method: int = 8
    flags: int = 0x800
    mode: int = 0
    packed: bytes | None = None
    crc: int | None = None
    size: int | None = None
    packed_size: int | None = None
    offset: int | None = None
    extra: bytes = b""
    comment: bytes = b""
    local_name: bytes | None = None
    local_signature: bytes = b"PK\x03\x04"
    local_flags: int | None = None
    local_method: int | None = None
    local_sizes: tuple[int, int, int] | None = None  # crc, packed, size
    local_extra: bytes = b""
    descriptor: bytes = b""
    after: bytes = b""


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def a_zip(
    *members: Member,
    before: bytes = b"",
    gap: bytes = b"",
    count: int | None = None,
    end: dict[str, int] | None = None,
    end64: dict[str, int] | None = None,
    comment: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """Return a zip, byte by byte; names are without the prefix unless they are bytes."""
    out, central = bytearray(before), bytearray()
    for member in members:
        name = member.name if isinstance(member.name, bytes) else (PREFIX + member.name).encode()
        packed = member.packed
        if packed is None:
            packed = deflated(member.content) if member.method == 8 else member.content
        crc = zlib.crc32(member.content) if member.crc is None else member.crc
        size = len(member.content) if member.size is None else member.size
        packed_size = len(packed) if member.packed_size is None else member.packed_size
        offset = len(out) if member.offset is None else member.offset
        local_name = name if member.local_name is None else member.local_name
        local_flags = member.flags if member.local_flags is None else member.local_flags
        local_method = member.method if member.local_method is None else member.local_method
        sizes = member.local_sizes or (crc, packed_size, size)
        lengths = (len(local_name), len(member.local_extra))
        out += struct.pack("<4s5H", member.local_signature, 20, local_flags, local_method, 0, 0)
        out += struct.pack("<3L2H", *sizes, *lengths) + local_name + member.local_extra
        out += packed + member.descriptor + member.after
        central += struct.pack(
            "<4s6H", b"PK\x01\x02", 0x0314, 20, member.flags, member.method, 0, 0
        )
        central += struct.pack("<3L", crc, packed_size, size)
        central += struct.pack("<3H", len(name), len(member.extra), len(member.comment))
        central += struct.pack("<2H2L", 0, 0, member.mode << 16, offset)
        central += name + member.extra + member.comment
    at = len(out) + len(gap)
    total = len(members) if count is None else count
    said = {"disk": 0, "cd": 0, "here": total, "total": total, "size": len(central), "at": at}
    out += gap + central
    if end64 is not None:
        values = said | {"length": 44, "found": len(out), "disks": 1} | end64
        out += struct.pack("<4sQ2H2L", b"PK\x06\x06", values["length"], 45, 45, values["disk"], 0)
        out += struct.pack("<4Q", values["here"], values["total"], values["size"], values["at"])
        out += struct.pack("<4sLQL", b"PK\x06\x07", 0, values["found"], values["disks"])
    out += struct.pack("<4s4H2L", b"PK\x05\x06", *(said | (end or {})).values())
    return bytes(out + struct.pack("<H", len(comment)) + comment + after)


def seen(data: bytes, limits: ModuleZipLimits = DEFAULT_LIMITS) -> ZipFacts:
    stream = io.BytesIO(data)
    facts = inspect(stream, MODULE, VERSION, limits)
    assert not stream.closed
    return facts


def refusal(data: bytes, limits: ModuleZipLimits = DEFAULT_LIMITS) -> str:
    with pytest.raises(BadInputError) as caught:
        seen(data, limits)
    message = str(caught.value)
    assert len(message) <= 400
    assert message.isprintable()
    return message


def h1_by_hand(files: dict[str, bytes]) -> str:
    """Follow the shell command in x/mod/sumdb/dirhash: sha256sum $(find . -type f | sort)."""
    names = sorted((PREFIX + name for name in files), key=str.encode)
    lines = (
        f"{hashlib.sha256(files[name.removeprefix(PREFIX)]).hexdigest()}  {name}\n"
        for name in names
    )
    digest = hashlib.sha256("".join(lines).encode()).digest()
    return "h1:" + base64.b64encode(digest).decode()


def described(content: bytes, *, signed: bool = True, wide: bool = False) -> Member:
    """Return an entry as a writer that streams makes it: sizes come after the data."""
    packed = deflated(content)
    sizes = (zlib.crc32(content), len(packed), len(content))
    descriptor = struct.pack("<LQQ" if wide else "<LLL", *sizes)
    signature = b"PK\x07\x08" if signed else b""
    return Member(
        "m.go", content, flags=0x8, local_sizes=(0, 0, 0), descriptor=signature + descriptor
    )


X = Member("m.go", b"package m\n")
MEMBERS = [Member(name, content) for name, content in FILES.items()]
GOOD = a_zip(*MEMBERS)
H1 = h1_by_hand(FILES)


# Written by archive/zip of go1.27.3 as x/mod/zip does (Create); `go mod download -json` of the
# same command says Sum and GoModSum.
BY_GO = base64.b64decode(
    b"UEsDBBQACAAIAAAAAAAAAAAAAAAAAAAAAAAbAAAAZXhhbXBsZS5jb20vTUB2MS4yLjMvZ28ubW9kABUA6v9tb2R1"
    b"bGUgZXhhbXBsZS5jb20vTQoDAFBLBwgSVcUaHAAAABUAAABQSwMEFAAIAAgAAAAAAAAAAAAAAAAAAAAAABkAAABl"
    b"eGFtcGxlLmNvbS9NQHYxLjIuMy9tLmdvAAoA9f9wYWNrYWdlIG0KAwBQSwcIyQ2HZREAAAAKAAAAUEsDBBQACAAI"
    b"AAAAAAAAAAAAAAAAAAAAAAAaAAAAZXhhbXBsZS5jb20vTUB2MS4yLjMvZW1wdHkDAFBLBwgAAAAAAgAAAAAAAABQ"
    b"SwMEFAAICAgAAAAAAAAAAAAAAAAAAAAAACgAAABleGFtcGxlLmNvbS9NQHYxLjIuMy9pbnRlcm5hbC9hL8O8Zm9v"
    b"LmdvAAoA9f9wYWNrYWdlIGEKAwBQSwcIxUIyyREAAAAKAAAAUEsBAhQAFAAIAAgAAAAAABJVxRocAAAAFQAAABsA"
    b"AAAAAAAAAAAAAAAAAAAAAGV4YW1wbGUuY29tL01AdjEuMi4zL2dvLm1vZFBLAQIUABQACAAIAAAAAADJDYdlEQAA"
    b"AAoAAAAZAAAAAAAAAAAAAAAAAGUAAABleGFtcGxlLmNvbS9NQHYxLjIuMy9tLmdvUEsBAhQAFAAIAAgAAAAAAAAA"
    b"AAACAAAAAAAAABoAAAAAAAAAAAAAAAAAvQAAAGV4YW1wbGUuY29tL01AdjEuMi4zL2VtcHR5UEsBAhQAFAAICAgA"
    b"AAAAAMVCMskRAAAACgAAACgAAAAAAAAAAAAAAAAABwEAAGV4YW1wbGUuY29tL01AdjEuMi4zL2ludGVybmFsL2Ev"
    b"w7xmb28uZ29QSwUGAAAAAAQABAAuAQAAbgEAAAAA"
)
BY_GO_H1 = "h1:WVky0tIOPhRHEpgnGnOni+uzM081t6o/YfaJ7PgrbXA="
BY_GO_MOD_H1 = "h1:CunZ2lFoa484vW4ZW4xnQnMPzlVFX2A7xr2oO4q7/kg="


# What is accepted


def test_the_facts_of_a_sound_zip() -> None:
    assert seen(GOOD) == ZipFacts(
        h1=H1,
        go_mod=GO_MOD,
        go_mod_h1="h1:"
        + base64.b64encode(
            hashlib.sha256(f"{hashlib.sha256(GO_MOD).hexdigest()}  go.mod\n".encode()).digest()
        ).decode(),
        files=5,
        unpacked_bytes=sum(map(len, FILES.values())),
    )


def test_f72_the_zip_that_go_wrote_has_the_h1_that_go_says() -> None:
    facts = seen(BY_GO)
    assert (facts.h1, facts.go_mod_h1) == (BY_GO_H1, BY_GO_MOD_H1)
    assert (facts.go_mod, facts.files, facts.unpacked_bytes) == (GO_MOD, 4, 41)


def test_a_module_without_go_mod_has_none() -> None:
    facts = seen(a_zip(X))
    assert (facts.go_mod, facts.go_mod_h1, facts.files) == (None, None, 1)


def test_an_empty_go_mod_is_not_an_absent_one() -> None:
    # The h1 of an empty go.mod that cmd/go/internal/modfetch ignores in go.sum files.
    facts = seen(a_zip(Member("go.mod")))
    assert facts.go_mod == b""
    assert facts.go_mod_h1 == "h1:G7mAYYxgmS0lVkHyy2hEOLQCFB0DlQFTMLWggykrydY="


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("wide", [True, False], ids=["8 byte sizes", "4 byte sizes"])
def test_f72_data_descriptors_are_accepted_in_all_their_forms(signed: bool, wide: bool) -> None:
    content = b"package m\n" * 50
    member = described(content, signed=signed, wide=wide)
    facts = seen(a_zip(member, replace(MEMBERS[0], flags=0x800)))
    assert facts.h1 == h1_by_hand({"m.go": content, "go.mod": GO_MOD})


def test_f72_what_pythons_writer_streams_is_accepted() -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    raw = Unseekable()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            with archive.open(PREFIX + name, "w", force_zip64=name == "m.go") as file:
                file.write(content)
    assert seen(raw.getvalue()).h1 == H1


def test_order_method_times_and_zip64_do_not_change_the_h1() -> None:
    stored = [replace(member, method=0, mode=stat.S_IFREG | 0o755) for member in MEMBERS]
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in reversed(FILES.items()):
            with archive.open(PREFIX + name, "w", force_zip64=True) as file:
                file.write(content)
    for data in (
        a_zip(*reversed(MEMBERS)),
        a_zip(*stored),
        raw.getvalue(),
        a_zip(*MEMBERS, end64={}),
        a_zip(*MEMBERS, end64={}, end={"at": MAX32, "total": 0xFFFF}),
    ):
        assert seen(data).h1 == H1


def test_a_directory_may_list_the_entries_in_another_order_than_they_lie_in() -> None:
    data = bytearray(GOOD)
    start = data.index(b"PK\x01\x02")
    first = data.index(b"PK\x01\x02", start + 1)
    end = data.index(b"PK\x05\x06")
    data[start:end] = data[first:end] + data[start:first]
    assert seen(bytes(data)).h1 == H1


def test_empty_directories_count_in_the_h1_but_not_as_files() -> None:
    # As in dirhash.HashZip; Unzip of x/mod passes over them.
    entries = [Member("", method=0), Member("internal/", mode=stat.S_IFDIR | 0o755), *MEMBERS]
    facts = seen(a_zip(*entries))
    assert facts.h1 == h1_by_hand({"": b"", "internal/": b"", **FILES})
    assert facts.files == len(FILES)


@pytest.mark.parametrize("size_bytes", [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
@pytest.mark.parametrize("method", [0, 8])
def test_a_file_about_as_large_as_a_chunk_is_read_whole(method: int, size_bytes: int) -> None:
    for content in (bytes(size_bytes), hashlib.shake_128(b"").digest(size_bytes)):
        members = (Member("a", content, method=method), X)
        assert seen(a_zip(*members)).h1 == h1_by_hand({"a": content, "m.go": X.content})


def test_more_entries_than_the_old_end_can_count_are_read() -> None:
    members = [Member(f"{number}", method=0) for number in range(65_536)]
    facts = seen(a_zip(*members, end={"here": 0xFFFF, "total": 0xFFFF}, end64={}))
    assert facts.files == 65_536
    assert seen(a_zip(*members[1:])).files == 65_535  # 0xFFFF is then the count itself


# What is refused by its name


BAD_NAMES = [
    ("F68", "../x"),
    ("F68", "a/../../x"),
    ("F68", "a/.."),
    ("F68", "./x"),
    ("F68", "a//x"),
    ("F68", "/x"),
    ("F68", "/"),
    ("F68", "//"),
    ("F68", "a\\x"),
    ("F68", "a\0x"),
    ("F68", "C:x"),
    ("F68", "a\nx"),
    ("F68", "a*"),
    ("F68", "a."),
    ("F68", "a/NUL"),
    ("F68", "aux.go"),
    ("F68", "x\u0301"),
    ("F69", "Go.mod"),
    ("F69", "GO.MOD"),
    ("F69", "sub/go.mod"),
    ("F69", "sub/Go.Mod"),
]


@pytest.mark.parametrize(
    ("number", "name"), BAD_NAMES, ids=[f"{number}-{name!a}" for number, name in BAD_NAMES]
)
def test_a_name_that_go_would_not_unpack_is_refused(number: str, name: str) -> None:
    refusal(a_zip(X, Member(name, b"x")))
    if not name.endswith("/") and number == "F68":
        refusal(a_zip(X, Member(name + "/")))


@pytest.mark.parametrize(
    "name",
    [
        b"m.go",
        b"/m.go",
        b"example.com/M@v1.2.3",
        b"example.com/m@v1.2.3/m.go",
        b"example.com/!m@v1.2.3/m.go",
        b"example.com/M@v1.2.4/m.go",
        b"/example.com/M@v1.2.3/m.go",
        b"../example.com/M@v1.2.3/m.go",
        b"",
    ],
)
def test_f69_a_name_without_the_prefix_is_refused(name: bytes) -> None:
    message = refusal(a_zip(X, Member(name, b"x")))
    assert f"zip for example.com/M@v1.2.3 has unexpected file {name.decode()}" in message


def test_a_name_that_is_not_utf8_or_too_long_is_refused() -> None:
    assert "UTF-8" in refusal(a_zip(Member(PREFIX.encode() + b"\xff")))
    assert "more than 1024 bytes" in refusal(a_zip(Member("n" * 1024)))
    assert "more than 1024 bytes" in refusal(a_zip(Member("a/" * 512 + "x")))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a", "a"], "comes twice"),
        (["d/", "d/"], "comes twice"),
        (["", ""], "comes twice"),
        (["a.go", "A.go"], "upper and lower case"),
        (["d/a", "D/b"], "upper and lower case"),
        (["d/", "D"], "upper and lower case"),
        (["\u00e4", "\u00c4"], "upper and lower case"),
        (["k", "\u212a"], "upper and lower case"),
        (["d", "d/x"], "both a file and a directory"),
        (["d/x", "d"], "both a file and a directory"),
        (["d/x/y", "d/x"], "both a file and a directory"),
        (["d/", "d"], "both a file and a directory"),
        (["d", "d/"], "both a file and a directory"),
    ],
)
def test_f69_names_that_collide_are_refused(names: list[str], reason: str) -> None:
    assert reason in refusal(a_zip(*(Member(name) for name in names)))


@pytest.mark.parametrize(
    "names", [["d/x", "d/"], ["d/", "d/x"], ["d/x", "d/y"], ["ss", "\u00df"], ["i", "\u0131"]]
)
def test_names_that_only_resemble_a_collision_are_accepted(names: list[str]) -> None:
    assert seen(a_zip(*(Member(name) for name in names)))


@pytest.mark.parametrize(
    "orbit",
    # The cycles of Go's unicode.SimpleFold; the whole partition was compared with go1.27.3.
    [
        "Kk\u212a",
        "Ss\u017f",
        "\u00b5\u039c\u03bc",
        "\u0398\u03b8\u03d1\u03f4",
        "\u03a9\u03c9\u2126",
        "\u00c5\u00e5\u212b",
        "\u00df\u1e9e",
        "\u01c4\u01c5\u01c6",
        "\u0345\u0399\u03b9\u1fbe",
        "\u03a3\u03c2\u03c3",
        "\u1f80\u1f88",
        "\u0390\u1fd3",
        "\u03b0\u1fe3",
        "\ufb05\ufb06",
        "\u13a0\uab70",
        "\U00010400\U00010428",
    ],
    ids=ascii,
)
def test_folding_is_that_of_gos_equal_fold(orbit: str) -> None:
    assert len({folded(character) for character in orbit}) == 1


@pytest.mark.parametrize("character", ["\u0130", "\u0131", "\u0149", "\ufb00", "\u01f0"], ids=ascii)
def test_a_letter_that_folds_to_none_or_to_several_stays_itself(character: str) -> None:
    assert folded(character) == character


@pytest.mark.parametrize(
    "mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR]
)
def test_f68_an_entry_with_the_mode_of_another_type_is_refused(mode: int) -> None:
    assert "neither a regular file" in refusal(a_zip(replace(X, mode=mode | 0o777)))
    if mode != stat.S_IFDIR:
        assert "neither a regular file" in refusal(a_zip(X, Member("d/", mode=mode)))


@pytest.mark.parametrize("name", ["d/", ""])
def test_f68_a_directory_with_content_is_refused(name: str) -> None:
    assert "has content" in refusal(a_zip(X, Member(name, b"hidden", method=0)))
    lying = Member(name, b"hidden", size=0)
    assert "has not the 0 bytes" in refusal(a_zip(X, lying))


# What is refused by its size


def test_f69_a_go_mod_or_license_over_its_limit_is_refused_before_it_is_read() -> None:
    for name in ("go.mod", "LICENSE"):
        data = a_zip(Member(name, size=17 << 20))
        assert f"'{name}' has more than 16777216 bytes" in refusal(data)
    assert seen(a_zip(Member("sub/LICENSE", bytes((16 << 20) + 1)))).files == 1


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ModuleZipLimits(zip_bytes=len(GOOD) - 1), "more than"),
        (ModuleZipLimits(unpacked_bytes=1000), "unpacks to more than 1000 bytes"),
        (ModuleZipLimits(go_mod_bytes=len(GO_MOD) - 1), "'go.mod' has more than"),
        (ModuleZipLimits(license_bytes=3), "'LICENSE' has more than 3 bytes"),
        (ModuleZipLimits(paths=4), "5 entries, more than 4"),
        (ModuleZipLimits(paths=6), "more than 6 files and directories"),
        (ModuleZipLimits(name_bytes=20), "more than 20 bytes"),
    ],
)
def test_a_zip_over_a_limit_is_refused(limits: ModuleZipLimits, reason: str) -> None:
    assert reason in refusal(GOOD, limits)


def test_f71_many_deep_paths_are_refused_although_their_directories_are_few() -> None:
    members = [Member("d/" * 99 + f"{number}", method=0) for number in range(20)]
    assert seen(a_zip(*members), ModuleZipLimits(paths=200)).files == 20
    assert "too many deep paths" in refusal(a_zip(*members), ModuleZipLimits(paths=199))


def test_f71_a_bomb_is_stopped_at_what_it_declares_with_flat_memory() -> None:
    bomb = deflated(bytes(50 << 20))
    assert len(bomb) < 52_000
    lying = a_zip(Member("bomb", packed=bomb, size=1000))
    honest = a_zip(*(Member(f"{n}", packed=bomb, size=50 << 20) for n in range(11)))
    tracemalloc.start()
    try:
        assert "has not the 1000 bytes" in refusal(lying)
        assert "unpacks to more than" in refusal(honest)
        crc = zlib.crc32(bytes(50 << 20))
        tracemalloc.reset_peak()
        seen(a_zip(Member("bomb", packed=bomb, size=50 << 20, crc=crc)))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20


def test_f71_a_million_entries_are_refused_by_their_count() -> None:
    million = {"total": 1_000_000, "here": 1_000_000}
    data = a_zip(X, end={"total": 0xFFFF, "here": 0xFFFF}, end64=million)
    assert "1000000 entries, more than 200000" in refusal(data)


def test_f71_a_directory_that_fills_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modzip_directory, "_DIRECTORY_BYTES", 200)
    assert "the zip's directory has more than 200 bytes" in refusal(GOOD)


# What is refused because readers would not agree on it


def test_f70_bytes_that_no_entry_owns_are_refused() -> None:
    for data, reason in (
        (a_zip(X, before=b"#!/bin/sh\n"), "before its first entry"),
        (b"#!/bin/sh\n" + GOOD, "not where its end record says"),
        (a_zip(before=b"junk"), "before its first entry"),
        (a_zip(replace(X, after=b"junk"), Member("z")), "belong to no entry"),
        (a_zip(X, gap=b"junk"), "belong to no entry"),
        (a_zip(replace(X, packed=deflated(X.content) + b"junk")), "belong to no entry"),
        (a_zip(replace(X, packed=deflated(X.content) + bytes(2 << 20))), "belong to no entry"),
        (a_zip(X, comment=b"a comment" + GOOD[-22:] + b"b"), "at its end"),
        (a_zip(X, comment=b"PK\x05\x06"), "at its end"),
        (a_zip(X, comment=GOOD[-22:]), "not where its end record says"),
        (GOOD + b"\n", "at its end"),
        (GOOD + b"<html>502 Bad Gateway</html>", "at its end"),
    ):
        assert reason in refusal(data)


def test_a_zip_may_have_a_comment_as_git_archive_writes_it() -> None:
    for comment in (b"0" * 40, b"\xff" * 65535):
        assert seen(a_zip(*MEMBERS, comment=comment)) == seen(GOOD)


def test_f70_a_comment_with_a_second_end_record_is_refused() -> None:
    outer = a_zip(X)[:-2] + (22 + 5).to_bytes(2, "little")
    inner = GOOD[-22:-2] + (5).to_bytes(2, "little") + b"later"
    assert "two end records" in refusal(outer + inner)


def test_f70_two_zips_joined_are_refused() -> None:
    assert "not where its end record says" in refusal(GOOD + GOOD)
    assert "before its first entry" in refusal(a_zip(X, before=GOOD))


def test_f70_entries_on_the_same_data_are_refused() -> None:
    three = (Member(name, b"x" * 9, offset=0) for name in ("a", "b", "c"))
    first, *others = three
    data = a_zip(first, *(replace(member, local_name=b"") for member in others))
    assert "overlaps what follows" in refusal(data)
    # An entry whose data are the headers and data of the next one ("zip quine", "42.zip").
    inner = a_zip(X)[: -22 - 46 - len(PREFIX + "m.go")]
    outer = Member("outer", inner, method=0)
    both = a_zip(outer, replace(X, offset=30 + len(PREFIX + "outer"), local_name=b"?"))
    assert "overlaps what follows" in refusal(both)


LIES = [
    ("another local name", replace(X, local_name=PREFIX.encode() + b"n.go"), "another name"),
    ("a shorter local name", replace(X, local_name=PREFIX.encode()), "another name"),
    ("no local header", replace(X, local_signature=b"PK\x03\x05"), "not where"),
    ("another local method", replace(X, local_method=0), "contradicts the directory"),
    ("other local flags", replace(X, local_flags=0), "contradicts the directory"),
    ("local crc", replace(X, local_sizes=(1, 12, 10)), "contradicts the directory"),
    ("local size", replace(X, local_sizes=(zlib.crc32(X.content), 12, 9)), "contradicts"),
    ("local 0 without descriptor", replace(X, local_sizes=(0, 0, 0)), "contradicts"),
    ("size too small", replace(X, size=9), "has not the 9 bytes"),
    ("size too large", replace(X, size=11), "has not the 11 bytes"),
    ("size of 4 GiB", replace(X, size=MAX32), "unpacks to more than"),
    ("stored size too small", replace(X, method=0, size=9), "has not the 9 bytes"),
    ("stored size too large", replace(X, method=0, size=11), "has not the 11 bytes"),
    ("packed size too large", replace(X, packed_size=99), "overlaps what follows"),
    ("packed size too small", replace(X, packed_size=5), "data without its end"),
    ("packed size 0", replace(X, packed_size=0), "data without its end"),
    ("packed size of 4 GiB", replace(X, packed_size=MAX32), "overlaps what follows"),
    ("crc", replace(X, crc=1), "checksum"),
    ("crc 0, which Go takes for unknown", replace(X, crc=0), "checksum"),
    ("not deflate", replace(X, packed=b"\xff" * 20), "can't be inflated"),
    ("method bzip2", replace(X, method=12), "method that Go does not read"),
    ("encrypted", replace(X, flags=0x801), "is encrypted"),
    ("strongly encrypted", replace(X, flags=0x841), "is encrypted"),
    ("masked headers", replace(X, flags=0x2800), "is encrypted"),
    ("no descriptor", replace(X, flags=0x808), "wrong data descriptor"),
    ("descriptor too short", replace(described(b"x"), descriptor=bytes(8)), "wrong data desc"),
    ("descriptor untrue", replace(described(b"x"), descriptor=bytes(12)), "wrong data desc"),
    ("descriptor and junk", replace(described(b"x"), after=b"junk"), "wrong data descriptor"),
    ("descriptor unasked", replace(described(b"x"), flags=0), "contradicts"),
    (
        "zip64 size too long",
        replace(X, size=MAX32, extra=struct.pack("<HHQQ", 1, 16, 10, 12)),
        "wrong zip64 field",
    ),
    (
        "zip64 size too short",
        replace(X, size=MAX32, extra=struct.pack("<HHL", 1, 4, 10)),
        "wrong zip64 field",
    ),
    (
        "two zip64 sizes",
        replace(X, size=MAX32, extra=struct.pack("<HHQ", 1, 8, 10) * 2),
        "wrong zip64 field",
    ),
    (
        "zip64 offset far away",
        replace(X, offset=MAX32, extra=struct.pack("<HHQ", 1, 8, 1 << 63)),
        "before its first entry",
    ),
    (
        "zip64 size of 16 EiB",
        replace(X, size=MAX32, extra=struct.pack("<HHQ", 1, 8, (1 << 64) - 1)),
        "unpacks to more than",
    ),
]


@pytest.mark.parametrize(
    ("member", "reason"), [lie[1:] for lie in LIES], ids=[f"F70-{lie[0]}" for lie in LIES]
)
def test_an_entry_that_lies_is_refused(member: Member, reason: str) -> None:
    assert reason in refusal(a_zip(member))
    refusal(a_zip(member, Member("z", b"z")))
    refusal(a_zip(Member("a", b"a"), member))


ENDS: list[tuple[str, Callable[[], bytes], str]] = [
    ("count too small", lambda: a_zip(X, Member("z"), count=1), "not the entries"),
    ("count too large", lambda: a_zip(X, count=2), "not the entries"),
    ("count modulo 65536", lambda: a_zip(count=0, gap=b"", end={"size": 1}), "not where"),
    ("size too small", lambda: a_zip(X, end={"size": 45}), "not where"),
    ("size too large", lambda: a_zip(X, end={"size": 999}), "not where"),
    ("offset too large", lambda: a_zip(X, end={"at": 999}), "not where"),
    ("offset 4 GiB", lambda: a_zip(X, end={"at": MAX32}), "not where"),
    ("second disk", lambda: a_zip(X, end={"disk": 1}), "part of several"),
    ("entries elsewhere", lambda: a_zip(X, end={"here": 0}), "part of several"),
    ("zip64 count", lambda: a_zip(X, end64={"total": 2}), "contradict each other"),
    ("zip64 offset", lambda: a_zip(X, end64={"at": 0}), "contradict each other"),
    ("zip64 length", lambda: a_zip(X, end64={"length": 45}), "contradict each other"),
    ("zip64 elsewhere", lambda: a_zip(X, end64={"found": 0}), "not where its locator says"),
    ("zip64 of two disks", lambda: a_zip(X, end64={"disks": 2}), "not where its locator says"),
    (
        "zip64 offset in earnest",
        lambda: a_zip(X, end={"at": MAX32}, end64={"at": 1 << 62}),
        "not where its end record says",
    ),
    (
        "an entry's comment that swallows the next",
        lambda: a_zip(replace(X, comment=b"c" * 46), count=2),
        "not the entries",
    ),
]


@pytest.mark.parametrize(
    ("build", "reason"), [end[1:] for end in ENDS], ids=[f"F70-{end[0]}" for end in ENDS]
)
def test_an_end_record_that_lies_is_refused(build: Callable[[], bytes], reason: str) -> None:
    assert reason in refusal(build())


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"<html></html>" * 9, bytes(100)])
def test_what_is_no_zip_is_refused(data: bytes) -> None:
    refusal(data)


@pytest.mark.parametrize("data", [GOOD, BY_GO], ids=["good", "by go"])
def test_every_truncation_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        refusal(data[:length])


def refused_or_same(data: bytes, h1: str = H1) -> None:
    try:
        facts = seen(data)
    except BadInputError as error:
        assert str(error).isprintable()
    else:
        assert (facts.h1, facts.go_mod) == (h1, GO_MOD)


@pytest.mark.parametrize(("data", "h1"), [(GOOD, H1), (BY_GO, BY_GO_H1)], ids=["good", "by go"])
@pytest.mark.parametrize("mask", [0x01, 0x08, 0x80, 0xFF])
def test_a_flipped_byte_is_refused_or_changes_nothing(data: bytes, h1: str, mask: int) -> None:
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= mask
        refused_or_same(bytes(damaged), h1)


@settings(max_examples=200)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(max_size=6)), max_size=3),
    wide=st.booleans(),
)
def test_whatever_is_overwritten_is_refused_or_changes_nothing(
    edits: list[tuple[int, bytes]], wide: bool
) -> None:
    data = bytearray(a_zip(*MEMBERS, end64={}) if wide else GOOD)
    for position, change in edits:
        data[position : position + len(change)] = change
    refused_or_same(bytes(data))


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_any_bytes_before_a_true_end_record_give_facts_or_a_refusal(junk: bytes) -> None:
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(junk), 0, 0)
    refusal(junk + end)
