import errno
import gzip
import io
import stat
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import goarchive, ziparchive
from app.core.errors import BadInputError
from app.core.goarchive import ArchiveLimits, iter_files

UPSTREAM = Path(__file__).parents[2].parent / "shared" / "upstream"

FILES = {
    "go/VERSION": b"go1.23.1\n",
    "go/bin/go": b"\x7fELF" + bytes(3000),
    "go/src/empty": b"",
    "go/test/\u00defoo.go": b"package p\n",
}

BAD_NAMES = [
    "/go/x",
    "../x",
    "go/../../x",
    "go/..",
    "go/./x",
    "./go/x",
    "go//x",
    "go\\x",
    "C:x",
    "go/a\nb",
    "go/a\x1bb",
    "n" * 1025,
]


def a_member(name: str, content: bytes = b"", **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def a_tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=format) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def a_tar_gz(*members: tuple[tarfile.TarInfo, bytes], **options: Any) -> bytes:
    return gzip.compress(a_tar(*members, **options), mtime=0)


def a_zip(*members: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    raw = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore", UserWarning)  # about duplicate names
        for info, content in members:
            archive.writestr(info, content)
    return raw.getvalue()


def a_zip_info(name: str, **changes: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


def read(data: bytes, suffix: str, limits: ArchiveLimits | None = None) -> dict[str, bytes]:
    """Return name → content of all files, checking what holds for every file."""
    files: dict[str, bytes] = {}
    stream = io.BytesIO(data)
    for file in iter_files(stream, suffix, limits or ArchiveLimits()):
        content = b"".join(file.chunks)
        assert len(content) == file.size_bytes
        assert file.name not in files
        files[file.name] = content
    assert not stream.closed
    return files


def read_or_refused(data: bytes, suffix: str) -> dict[str, bytes] | None:
    """Return the files, None where they were refused as they should; any other error fails."""
    try:
        return read(data, suffix)
    except BadInputError as error:
        assert len(str(error)) <= 400
        assert str(error).isprintable()
        return None


TAR_GZ = a_tar_gz(
    a_member("go", type=tarfile.DIRTYPE),
    *(a_member(name, content) for name, content in FILES.items()),
)
ZIP = a_zip(("go/", b""), *FILES.items())
BOTH = [("tar.gz", TAR_GZ), ("zip", ZIP)]


def one_file(suffix: str, name: str, content: bytes = b"x") -> bytes:
    return a_tar_gz(a_member(name, content)) if suffix == "tar.gz" else a_zip((name, content))


# What is read


@pytest.mark.parametrize(("suffix", "data"), BOTH)
def test_regular_files_come_in_the_archive_order_without_directories(
    suffix: str, data: bytes
) -> None:
    assert list(read(data, suffix).items()) == list(FILES.items())


@pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
def test_content_comes_in_bounded_chunks(suffix: str) -> None:
    content = bytes(5 * goarchive.CHUNK_BYTES // 2)
    (file,) = iter_files(io.BytesIO(one_file(suffix, "go/x", content)), suffix)
    assert file.size_bytes == len(content)
    for file in iter_files(io.BytesIO(one_file(suffix, "go/x", content)), suffix):
        sizes = [len(chunk) for chunk in file.chunks]
        assert max(sizes) <= goarchive.CHUNK_BYTES
        assert sum(sizes) == len(content)


@pytest.mark.parametrize(("suffix", "data"), BOTH)
def test_content_that_nobody_read_is_passed_over(suffix: str, data: bytes) -> None:
    files = list(iter_files(io.BytesIO(data), suffix))
    assert [file.name for file in files] == list(FILES)
    assert all(list(file.chunks) == [] for file in files)


def test_content_that_nobody_read_is_checked_all_the_same() -> None:
    data = bytearray(a_zip((a_zip_info("go/x"), b"content")))
    data[data.index(b"content")] ^= 1
    with pytest.raises(BadInputError, match="CRC"):
        list(iter_files(io.BytesIO(bytes(data)), "zip"))


@pytest.mark.parametrize(("suffix", "data"), BOTH)
def test_stopping_half_way_leaves_the_stream_open(suffix: str, data: bytes) -> None:
    stream = io.BytesIO(data)
    files = iter_files(stream, suffix)
    next(next(files).chunks)
    files.close()  # type: ignore[attr-defined]
    assert not stream.closed


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_long_name_is_read(format: int) -> None:
    name = "go/" + "d" * 90 + "/" + "f" * 90
    assert read(a_tar_gz(a_member(name, b"x"), format=format), "tar.gz") == {name: b"x"}


def test_a_zip_name_without_the_utf8_flag_keeps_its_bytes() -> None:
    data = bytearray(one_file("zip", "go/\u00defoo.go"))
    data[7] &= ~0x08  # the flags in the local header, and in the central directory
    data[data.index(b"PK\x01\x02") + 9] &= ~0x08
    assert read(bytes(data), "zip") == {"go/\u00defoo.go": b"x"}


def test_a_directory_may_come_twice_and_an_archive_may_be_empty() -> None:
    twice = [a_member("go", type=tarfile.DIRTYPE)] * 2
    assert read(a_tar_gz(*twice), "tar.gz") == {}
    assert read(a_zip(("go/", b""), ("go/", b"")), "zip") == {}
    assert read(a_tar_gz(), "tar.gz") == read(a_zip(), "zip") == {}


@pytest.mark.real
@pytest.mark.parametrize(
    ("filename", "files"), [("go1.19.8.src.tar.gz", 11_766), ("go1.27.1.src.tar.gz", 15_618)]
)
def test_a_real_source_archive_is_whole(filename: str, files: int) -> None:
    path = UPSTREAM / filename
    if not path.exists():
        pytest.skip(f"{filename} is not at hand")
    with path.open("rb") as stream:
        names = [file.name for file in iter_files(stream, "tar.gz")]
    assert len(names) == files
    assert all(name.startswith("go/") for name in names)


# What is refused


@pytest.mark.parametrize("suffix", ["", "msi", "pkg", "tar", "zip\n"])
def test_a_suffix_that_is_no_archive_is_refused_at_once(suffix: str) -> None:
    with pytest.raises(BadInputError, match="not the suffix of an archive"):
        iter_files(io.BytesIO(), suffix)


@pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_an_unsafe_name_is_refused(suffix: str, name: str) -> None:
    with pytest.raises(BadInputError, match="the name") as caught:
        read(one_file(suffix, name), suffix)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["/go", "../go", "go/../x"])
def test_an_unsafe_name_of_a_directory_is_refused_too(name: str) -> None:
    for suffix, data in (
        ("tar.gz", a_tar_gz(a_member(name, type=tarfile.DIRTYPE))),
        ("zip", a_zip((name + "/", b""))),
    ):
        with pytest.raises(BadInputError, match="the name"):
            read(data, suffix)


def test_a_name_with_nul_is_refused() -> None:
    with pytest.raises(BadInputError, match="control character"):
        read(a_zip(("go/aXb", b"")).replace(b"aXb", b"a\x00b"), "zip")
    info, _ = a_member("go/x", pax_headers={"path": "go/a\x00b"})
    with pytest.raises(BadInputError, match="control character"):
        read(a_tar_gz((info, b"")), "tar.gz")


def test_a_name_that_is_not_utf8_is_refused() -> None:
    assert (
        read_or_refused(a_tar_gz(a_member("go/\udcff"), format=tarfile.GNU_FORMAT), "tar.gz")
        is None
    )
    data = a_zip(("go/aXb", b"")).replace(b"aXb", b"a\xffb")
    assert read_or_refused(data, "zip") is None


@pytest.mark.parametrize(
    "type",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"9",
    ],
)
def test_a_tar_entry_that_is_neither_file_nor_directory_is_refused(type: bytes) -> None:
    with pytest.raises(BadInputError, match="neither a regular file nor a directory"):
        read(a_tar_gz(a_member("go/x", type=type, linkname="VERSION")), "tar.gz")


@pytest.mark.parametrize("version", ["1.0", "0.1"])
def test_a_sparse_file_in_pax_form_is_refused(version: str) -> None:
    major, minor = version.split(".")
    headers = {"GNU.sparse.major": major, "GNU.sparse.minor": minor, "GNU.sparse.size": "9"}
    headers |= {"GNU.sparse.map": "0,1"} if version == "0.1" else {}
    info, content = a_member("go/x", b"1\n0\n1\n".ljust(512, b"\0") + b"x", pax_headers=headers)
    with pytest.raises(BadInputError, match="neither a regular file"):
        read(a_tar_gz((info, content)), "tar.gz")


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("go/x", stat.S_IFLNK | 0o777),
        ("go/x", stat.S_IFIFO),
        ("go/x", stat.S_IFCHR),
        ("go/x", stat.S_IFDIR),
        ("go/x/", stat.S_IFLNK),
    ],
)
def test_a_zip_entry_with_the_mode_of_another_type_is_refused(name: str, mode: int) -> None:
    info = a_zip_info(name, create_system=3, external_attr=mode << 16)
    with pytest.raises(BadInputError, match="neither a regular file nor a directory"):
        read(a_zip((info, b"")), "zip")


@pytest.mark.parametrize("bit", [0x1, 0x20, 0x40])
def test_an_encrypted_zip_entry_is_refused(bit: int) -> None:
    data = bytearray(a_zip(("go/x", b"x")))
    data[6] |= bit  # the flags in the local header, and in the central directory
    data[data.index(b"PK\x01\x02") + 8] |= bit
    with pytest.raises(BadInputError, match="encrypted"):
        read(bytes(data), "zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_go_does_not_read_is_refused(method: int) -> None:
    data = a_zip((a_zip_info("go/x", compress_type=method), b"x"))
    with pytest.raises(BadInputError, match="method that Go does not read"):
        read(data, "zip")


@pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
def test_a_name_that_comes_twice_is_refused(suffix: str) -> None:
    twice = [("go/x", b"1"), ("go/y", b"2"), ("go/x", b"1")]
    data = a_tar_gz(*(a_member(*m) for m in twice)) if suffix == "tar.gz" else a_zip(*twice)
    with pytest.raises(BadInputError, match="'go/x' comes twice"):
        read(data, suffix)


@pytest.mark.parametrize(("suffix", "data"), BOTH)
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ArchiveLimits(entries=3), "more than 3 entries"),
        (ArchiveLimits(unpacked_bytes=3000), "more than 3000 bytes"),
        (ArchiveLimits(name_bytes=9), "more than 9 bytes"),
    ],
)
def test_an_archive_over_a_limit_is_refused(
    suffix: str, data: bytes, limits: ArchiveLimits, reason: str
) -> None:
    with pytest.raises(BadInputError, match=reason):
        read(data, suffix, limits)


def test_the_limit_holds_for_bytes_after_the_last_entry_too() -> None:
    data = gzip.compress(a_tar(a_member("go/x")) + bytes(1 << 20))
    with pytest.raises(BadInputError, match="unpacks to more than"):
        read(data, "tar.gz", ArchiveLimits(unpacked_bytes=1 << 19))


def test_a_tar_header_that_fills_memory_is_refused() -> None:
    info, _ = a_member("go/x", pax_headers={"comment": "x" * (2 << 20)})
    with pytest.raises(BadInputError, match="tar header"):
        read(a_tar_gz((info, b"")), "tar.gz")


def test_chained_tar_headers_are_refused() -> None:
    header = a_tar(a_member("go/x", pax_headers={"comment": "x"}))[:1024]
    assert read_or_refused(gzip.compress(header * 900 + a_tar(a_member("go/x"))), "tar.gz") is None


def test_a_zip_directory_that_fills_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ziparchive, "_DIRECTORY_BYTES", 200)
    with pytest.raises(BadInputError, match="the zip's directory"):
        read(ZIP, "zip")


@pytest.mark.parametrize(("declared", "reason"), [(9, "9 bytes that it declares"), (1, "CRC")])
def test_a_zip_entry_with_an_untrue_size_is_refused(declared: int, reason: str) -> None:
    data = bytearray(a_zip(("go/x", b"four")))
    struct.pack_into("<I", data, 22, declared)
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, declared)
    with pytest.raises(BadInputError, match=reason):
        read(bytes(data), "zip")


def test_a_zip_entry_that_swallows_those_after_it_is_refused() -> None:
    data = bytearray(a_zip(("go/x", b"x"), ("go/y", b"y")))
    data[data.index(b"PK\x01\x02") + 32] = 0xFF  # the length of the first entry's comment
    with pytest.raises(BadInputError, match="not the entries that its end counts"):
        read(bytes(data), "zip")


def test_bytes_after_the_end_of_a_zip_are_refused_but_not_its_comment() -> None:
    raw = io.BytesIO(ZIP)
    with zipfile.ZipFile(raw, "a") as archive:
        archive.comment = b"a comment"
    assert read(raw.getvalue(), "zip") == FILES
    with pytest.raises(BadInputError, match="bytes after its end"):
        read(ZIP + b"more", "zip")


def test_a_directory_with_content_is_refused() -> None:
    with pytest.raises(BadInputError, match="can't have a size"):
        read(a_zip(("go/", b"hidden")), "zip")


@pytest.mark.parametrize("offset", range(-8, 0))
def test_a_wrong_gzip_checksum_or_length_is_refused(offset: int) -> None:
    damaged = bytearray(TAR_GZ)
    damaged[offset] ^= 1
    with pytest.raises(BadInputError, match="can't be read"):
        read(bytes(damaged), "tar.gz")


def test_a_tar_without_its_end_is_refused_although_the_gzip_data_is_whole() -> None:
    tar = a_tar(a_member("go/x", b"x"), a_member("go/y", b"y"))
    end = 4 * 512
    assert read(gzip.compress(tar[: end + 512]), "tar.gz") == {"go/x": b"x", "go/y": b"y"}
    for length in range(end + 512):
        assert read_or_refused(gzip.compress(tar[:length]), "tar.gz") is None


def test_a_damaged_tar_header_is_not_taken_for_the_end() -> None:
    tar = bytearray(a_tar(a_member("go/x", b"x"), a_member("go/y", b"y")))
    for position in range(1024, 1536):
        damaged = tar.copy()
        damaged[position] ^= 1
        files = read_or_refused(gzip.compress(damaged), "tar.gz")
        assert files in (None, {"go/x": b"x", "go/y": b"y"})


@pytest.mark.parametrize(("suffix", "data"), BOTH)
def test_every_truncation_is_refused(suffix: str, data: bytes) -> None:
    for length in range(len(data)):
        assert read_or_refused(data[:length], suffix) is None


@pytest.mark.parametrize(("suffix", "data"), BOTH)
def test_a_flipped_byte_is_refused_or_changes_no_content(suffix: str, data: bytes) -> None:
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        assert read_or_refused(bytes(damaged), suffix) in (None, FILES)


@pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(suffix: str, data: bytes) -> None:
    assert read_or_refused(data, suffix) is None


PLAIN_TAR = a_tar(
    a_member("go/" + "d" * 120, b"x", pax_headers={"comment": "x"}), a_member("go/y", b"y" * 600)
)


@settings(max_examples=200)
@given(st.integers(0, len(PLAIN_TAR) // 2), st.binary(min_size=1, max_size=12))
def test_a_tar_that_lies_under_a_right_checksum_never_fails_otherwise(
    position: int, patch: bytes
) -> None:
    damaged = bytearray(PLAIN_TAR)
    damaged[position : position + len(patch)] = patch
    header = position // 512 * 512
    damaged[header + 148 : header + 156] = b" " * 8
    total = sum(damaged[header : header + 512])
    damaged[header + 148 : header + 156] = b"%06o\0 " % total
    read_or_refused(gzip.compress(damaged, 1), "tar.gz")


@settings(max_examples=200)
@given(st.integers(0, len(ZIP) - 1), st.binary(min_size=1, max_size=8))
def test_a_patched_zip_never_fails_otherwise(position: int, patch: bytes) -> None:
    damaged = bytearray(ZIP)
    damaged[position : position + len(patch)] = patch
    read_or_refused(bytes(damaged), "zip")


class _FailingDisk(io.BytesIO):
    """A stream of which only the first 100 bytes can be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 100:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(min(size or 100, 100) if size != -1 else 100)


@pytest.mark.parametrize(("suffix", "data"), BOTH)
def test_a_failing_disk_is_not_blamed_on_the_archive(suffix: str, data: bytes) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        list(iter_files(_FailingDisk(data), suffix))
