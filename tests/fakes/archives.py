"""Small synthetic Go release archives with the layout of real ones.

Layout after cmd/distpack: prefix "go/", VERSION, bin/, pkg/tool/GOOS_GOARCH/, src/go.mod, and the
folders api/, doc/, misc/ and test/ that a toolchain module leaves out. Nothing in them runs.
The same arguments give the same bytes (for one version of zlib).
"""

import gzip
import io
import random
import re
import tarfile
import zipfile
from datetime import UTC, datetime
from functools import lru_cache

_RELEASED = datetime(2026, 8, 28, 17, 1, 22, tzinfo=UTC)
_TOOLS = ("asm", "compile", "link")
# The only port whose file name differs from its GOARCH.
_GOARCH = {"armv6l": "arm"}
_KEPT = 8  # archives of a process: few tests share more, and some have 70 MB


def archive_name(version: str, goos: str = "linux", goarch: str = "amd64") -> str:
    """Return a binary archive's file name: "go1.99.1.linux-amd64.tar.gz", ".zip" on windows."""
    suffix = "zip" if goos == "windows" else "tar.gz"
    return f"{version}.{goos}-{goarch}.{suffix}"


def source_name(version: str) -> str:
    """Return a source archive's file name: "go1.99.1.src.tar.gz"."""
    return f"{version}.src.tar.gz"


@lru_cache(_KEPT)
def go_archive(
    version: str = "go1.99.1",
    goos: str = "linux",
    goarch: str = "amd64",
    *,
    extra_bytes: int = 0,
    seed: int = 0,
    go_command: bytes | None = None,
) -> bytes:
    """Return a binary release archive: a zip for windows, else a tar.gz.

    Args:
        version: as in line 1 of VERSION, "go1.99.1" or "go1.99rc1".
        goos: GOOS.
        goarch: as in the file name: "armv6l" gives the folder pkg/tool/linux_arm.
        extra_bytes: incompressible bytes added to make the archive about so much bigger.
        seed: another seed gives another archive of the same release.
        go_command: what bin/go is, instead of a text that does not run.
    """
    suffix = ".exe" if goos == "windows" else ""
    tools = f"pkg/tool/{goos}_{_GOARCH.get(goarch, goarch)}"
    files = _source_files(version)
    for name in ("bin/go", "bin/gofmt", *(f"{tools}/{tool}" for tool in _TOOLS)):
        files[name + suffix] = f"synthetic {name} of {version}, seed {seed}\n".encode()
    if go_command is not None:
        files["bin/go" + suffix] = go_command
    files["pkg/include/textflag.h"] = b"#define NOSPLIT 4\n"
    if extra_bytes:
        files[f"{tools}/padding{suffix}"] = random.Random(seed).randbytes(extra_bytes)
    return _zip(files) if goos == "windows" else _tar_gz(files)


@lru_cache(_KEPT)
def src_archive(version: str = "go1.99.1", *, extra_bytes: int = 0, seed: int = 0) -> bytes:
    """Return a source release archive, a tar.gz without bin/ and pkg/; arguments as go_archive."""
    files = _source_files(version)
    files["src/seed.go"] = f"package seed // {seed}\n".encode()
    if extra_bytes:
        files["src/testdata/padding"] = random.Random(seed).randbytes(extra_bytes)
    return _tar_gz(files)


def _source_files(version: str) -> dict[str, bytes]:
    """Return what all archives of a release share, by path below "go/"."""
    language = (re.match(r"go(\d+\.\d+)", version) or ["", "1.99"])[1]
    return {
        "VERSION": _version_file(version),
        "LICENSE": b"synthetic\n",
        f"api/go{language}.txt": b"pkg fmt, func Println(...interface{})\n",
        "doc/README.md": b"left out of toolchain modules\n",
        "lib/time/README": b"kept\n",
        "misc/editors": b"left out of toolchain modules\n",
        "src/cmd/go.mod": f"module cmd\n\ngo {language}\n".encode(),
        "src/fmt/print.go": b"package fmt\n",
        "src/go.mod": f"module std\n\ngo {language}\n".encode(),
        "test/helloworld.go": b"// run\n\npackage main\n",
    }


def _version_file(version: str) -> bytes:
    """Return VERSION: two lines; before go1.21 the version alone, without a newline."""
    old = re.match(r"go1(?:\.(\d+))?(?!\d)", version)
    if old and int(old[1] or 0) < 21:
        return version.encode()
    return f"{version}\ntime {_RELEASED:%Y-%m-%dT%H:%M:%SZ}\n".encode()


def _mode(name: str) -> int:
    return 0o755 if name.startswith(("bin/", "pkg/tool/")) else 0o644


def _level(files: dict[str, bytes]) -> int:
    """Return the compression level: 0 for big archives, whose padding can't shrink anyway."""
    return 0 if sum(map(len, files.values())) > 100_000 else 6


def _folders(files: dict[str, bytes]) -> list[str]:
    """Return every folder that files need, "go/" included, parents first."""
    folders = {"go"}
    for name in files:
        parts = ["go", *name.split("/")[:-1]]
        folders |= {"/".join(parts[: depth + 1]) for depth in range(len(parts))}
    return sorted(folders)


def _tar_gz(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", _level(files), out, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for folder in _folders(files):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, int(_RELEASED.timestamp())
            tar.addfile(entry)
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"go/{name}")
            entry.size, entry.mode, entry.mtime = (
                len(content),
                _mode(name),
                int(_RELEASED.timestamp()),
            )
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    stored = _level(files) == 0
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(f"go/{name}", _RELEASED.timetuple()[:6])
            entry.create_system = 3
            entry.external_attr = (0o100000 | _mode(name)) << 16
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return out.getvalue()
