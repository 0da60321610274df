"""A company's own Go release through the real go: vouched for by the tenant's log alone.

The archive is synthetic: its go is a script that says which it is. A toolchain that is built from
Go's source is in `tests/owntoolchain`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.core.channel import Channel
from app.core.principal import OPERATOR
from app.node.cli import main as node_program
from app.services.assembly import Services
from tests.e2e.modules.served import add_tenant
from tests.e2e.process import wait_until
from tests.e2e.sumdb.conftest import MakeGo
from tests.e2e.sumdb.relayed import Relayed, relaying
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.signer import Signer
from tests.fakes.sumdb import FakeSumdb
from tests.nouns import a_tenant

GO, OWN = "go1.99.1", "go1.99.1-corp1"
OPEN, FOLLOWING = "acme", "following"


def script(version: str) -> bytes:
    """Return a go that says which it is, and passes a node's smoke test."""
    return f"""#!/bin/sh
case "$1" in
version) echo "go version {version} test/test" ;;
build) printf '#!/bin/sh\\necho {version}\\n' > smoke && chmod +x smoke ;;
esac
""".encode()


@dataclass(frozen=True)
class Published:
    """A server with a release of Go, and what `releases publish` is to send."""

    relayed: Relayed
    godev: FakeGodev
    file: Path
    vkeys: dict[str, str]


@pytest.fixture(scope="module")
def published(
    warm: Warm, signer: Signer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    folder, vkeys = tmp_path_factory.mktemp("own"), dict[str, str]()
    keyring, file = folder / "own.asc", folder / archive_name(OWN)
    keyring.write_bytes(signer.export)
    file.write_bytes(go_archive(OWN, go_command=script(OWN)))
    file.with_name(f"{file.name}.asc").write_bytes(signer.sign(file.read_bytes()))

    async def arrange(services: Services) -> None:
        await add_tenant(services, OPEN, catch_all=False)
        await services.fleet.channels.create(Channel(name="lts"), OPERATOR)
        follows = a_tenant(FOLLOWING, toolchains="lts", anonymous_read=True)
        await services.tenants.tenants.create(follows, OPERATOR)
        for tenant in (OPEN, FOLLOWING):
            vkeys[tenant] = (await services.sumdb.logs.create(tenant)).vkey

    with FakeGoproxy() as proxy, FakeSumdb() as log, FakeGodev() as godev:
        godev.put_file(archive_name(GO), go_archive(GO, go_command=script(GO)))
        settings: dict[str, Any] = {
            "releases__index_url": godev.index_url,
            "releases__files_urls": [godev.files_url],
            "releases__sha256_only": ["tar.gz"],
            "releases__own_keyring": keyring,
            "releases__own_fingerprints": [signer.primary],
        }
        with relaying(warm, folder, proxy, log, arrange, **settings) as relayed:
            yield Published(relayed, godev, file, vkeys)


def publish(published: Published, warm: Warm) -> Any:
    command = ("releases", "publish", str(published.file), "--version", OWN, "--json")
    return warm.run(published.relayed.served.site, *command)


def test_go_switches_to_an_own_release_by_the_tenants_log(
    published: Published, make_go: MakeGo, warm: Warm
) -> None:
    relayed, godev = published.relayed, published.godev
    unpublished = make_go(relayed.url(OPEN), published.vkeys[OPEN], GOTOOLCHAIN=OWN).run("version")
    assert "toolchain not available" in unpublished.err
    hits = dict(godev.hits)

    done = publish(published, warm)
    assert (done.code, [one["state"] for one in done.json]) == (0, ["verified"]), done.err
    offered = f"/dl/{published.file.name}.sha256"
    wait_until(lambda: relayed.served.server.get(offered).status == 200, "a look at changes")
    go = make_go(relayed.url(OPEN), published.vkeys[OPEN], GOTOOLCHAIN=OWN)
    assert go.out("version") == f"go version {OWN} test/test"
    assert {path: count for path, count in godev.hits.items() if OWN in path} == {}
    assert hits == {path: count for path, count in godev.hits.items() if path in hits}

    # go.dev's release of the same number is another one.
    assert go.but(GOTOOLCHAIN=GO).out("version") == f"go version {GO} test/test"
    # To `go`, it is older than every version of Go: no query chooses it.
    local = go.but(GOTOOLCHAIN="local")
    for query in ("latest", "1.99", ">=1.99"):
        assert local.out("list", "-m", f"go@{query}") == f"go {GO.removeprefix('go')}"


def test_the_public_log_is_not_asked_about_it(
    published: Published, make_go: MakeGo, warm: Warm
) -> None:
    publish(published, warm)
    log = published.relayed.log
    log.forget()
    refused = make_go(published.relayed.url(OPEN), log.vkey, GOTOOLCHAIN=OWN).run("version")
    assert refused.code == 1
    assert "the tenant's own log" in refused.err
    assert not [path for path in log.hits if "corp" in path]


def test_a_channel_offers_it(published: Published, make_go: MakeGo, warm: Warm) -> None:
    publish(published, warm)
    served = published.relayed.served
    assert warm.run(served.site, "channel", "set", "lts", OWN, "--reason", "a fix").code == 0
    current = "/dl/channels/lts/current"
    wait_until(lambda: served.server.get(current).status == 200, "the server's look at changes")
    go = make_go(published.relayed.url(FOLLOWING), published.vkeys[FOLLOWING], GOTOOLCHAIN=OWN)
    assert go.out("version") == f"go version {OWN} test/test"
    refused = go.but(GOTOOLCHAIN=GO).run("version")
    assert f"use {OWN}: GOTOOLCHAIN={OWN}" in refused.err


def test_a_node_installs_it(
    published: Published, warm: Warm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(published, warm)
    served = published.relayed.served
    assert warm.run(served.site, "channel", "set", "lts", OWN, "--reason", "a node").code == 0
    made = warm.run(served.site, "node", "enroll-token", "--channel", "lts", "--json").json
    (tmp_path / "token").write_text(made["token"])
    current = "/dl/channels/lts/current"
    wait_until(lambda: served.server.get(current).status == 200, "the server's look at changes")
    place = ("--root", str(tmp_path / "root"), "--json")
    enrol = ("--server", served.server.url, "--token-file", str(tmp_path / "token"))
    assert node_program(["enroll", *enrol, *place]) == 0, capsys.readouterr().err
    assert node_program(["install", OWN, *place]) == 0, capsys.readouterr().err
    assert (tmp_path / "root" / "current").readlink().name == OWN
    assert node_program(["verify", "--full", *place]) == 0, capsys.readouterr().err
