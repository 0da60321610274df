"""Go's own archive as a toolchain in a closed network: the mirror's module, the tenant's log."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.effect import Effect
from app.services.assembly import Services
from tests.e2e.modules.served import add_rule, add_tenant
from tests.e2e.process import wait_until
from tests.e2e.sumdb.conftest import MakeGo
from tests.e2e.sumdb.relayed import Relayed, relaying
from tests.e2e.warm import Warm
from tests.fakes.godev import FakeGodev
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.sumdb import FakeSumdb

pytestmark = pytest.mark.real

TENANT = "acme"
VERSION = "v0.0.1-go1.23.1.linux-amd64"
# Of sum.golang.org; see the README beside the archive.
H1 = "h1:TmiC7kE4hHuA7UwTcrWUtL/Curn//Xchpqc+HHYEv2M="
GO_MOD_H1 = "h1:8wlg68NqwW7eMnI1aABk/C2pDYXj8mrMY4TyRfiLeS0="


@pytest.fixture
def closed(warm: Warm, tmp_path: Path, real_upstream: Path) -> Iterator[tuple[Relayed, str]]:
    """A server whose public upstreams are down, once it has mirrored the archive; and a vkey."""
    vkeys: list[str] = []

    async def arrange(services: Services) -> None:
        await add_tenant(services, TENANT)
        await add_rule(services, TENANT, Effect.DENY, "golang.org/toolchain", "<go1.23")
        vkeys.append((await services.sumdb.logs.create(TENANT)).vkey)

    godev = FakeGodev().from_directory(real_upstream)
    with FakeGoproxy() as proxy, FakeSumdb() as log, godev:
        settings = {
            "releases__index_url": godev.index_url,
            "releases__files_urls": [godev.files_url],
            "releases__sha256_only": ["tar.gz", "zip"],  # its signature is not at hand
        }
        with relaying(warm, tmp_path, proxy, log, arrange, **settings) as relayed:
            archive = "/dl/go1.23.1.linux-amd64.tar.gz.sha256"
            wait_until(lambda: relayed.served.server.get(archive).status == 200, "the archive")
            for upstream in (proxy, log, godev):
                upstream.stop()
            yield relayed, vkeys[0]
            for upstream in (proxy, log, godev):
                upstream.start()


@pytest.mark.slow
def test_S56_go_1_23_1_runs_and_compiles_with_every_public_upstream_down(
    closed: tuple[Relayed, str], make_go: MakeGo, tmp_path: Path
) -> None:
    relayed, vkey = closed
    cache = tmp_path / "cache"  # nothing that another compiler made
    go = make_go(relayed.url(TENANT), vkey, GOTOOLCHAIN="go1.23.1", GOCACHE=cache)
    assert go.out("version") == "go version go1.23.1 linux/amd64"
    go.program("runtime", body="println(runtime.Version())")
    ran = go.run("run", ".")
    assert (ran.code, ran.err) == (0, "go1.23.1\n")

    cached = go.downloads / "golang.org/toolchain/@v" / f"{VERSION}.ziphash"
    assert cached.read_text() == H1
    name = vkey.partition("+")[0]
    lookup = relayed.served.get(f"sumdb/{name}/lookup/golang.org/toolchain@{VERSION}", TENANT).text
    assert re.match(
        rf"\d+\ngolang.org/toolchain {re.escape(VERSION)} {re.escape(H1)}\n"
        rf"golang.org/toolchain {re.escape(VERSION)}/go.mod {re.escape(GO_MOD_H1)}\n\n",
        lookup,
    )
