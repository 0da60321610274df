"""GOTOOLCHAIN switching through the mirror's own archives, verified by a tenant's own log.

The archives are synthetic: their go is a script that says which it is. The real one is in
`test_real_toolchain.py`. S-numbers are rows of the acceptance table in the protocol reference; 63
is of the client alone: with GOPROXY=file://… nothing reaches Moorage.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.core.channel import Channel
from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.services.assembly import Services
from tests.e2e.gocommand import Go
from tests.e2e.modules.served import add_route, add_rule, add_tenant
from tests.e2e.process import wait_until
from tests.e2e.sumdb.conftest import MakeGo
from tests.e2e.sumdb.relayed import Relayed, relaying
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import go_mod_of, module
from tests.fakes.sumdb import FakeSumdb
from tests.nouns import a_tenant

RELEASES = ("go1.96.0", "go1.98.0", "go1.98.7", "go1.99.1", "go1.99.2", "go1.100rc1")
DARWIN = "go1.99.3"  # of which there is nothing for linux
RELEASED = "2026-08-28T17:01:22Z"
AT = "golang.org/toolchain/@v"
OPEN, RULED, NARROW, FOLLOWING = "acme", "ruled", "narrow", "following"


def go_script(version: str) -> bytes:
    return f'#!/bin/sh\necho "{version} ran: $*"\n'.encode()


@dataclass(frozen=True)
class Mirrored:
    """A server with archives, and tenants with logs of their own; no other log can be asked."""

    relayed: Relayed
    godev: FakeGodev
    vkeys: dict[str, str]

    def listed(self, tenant: str = OPEN) -> list[str]:
        """Return the versions that a tenant's list has."""
        answer = self.relayed.served.get(f"{AT}/list", tenant)
        assert answer.status == 200
        return answer.text.split()

    def fetched(self, version: str) -> int:
        """Return how often an archive was fetched."""
        return self.godev.hits[f"/go/{archive_name(version)}"]

    def requests(self, tenant: str) -> list[str]:
        """Return what was asked of a tenant's golang.org/toolchain: kind and version."""
        lines = self.relayed.served.asked("golang.org/toolchain")
        return [f"{e['kind']} {e.get('version', '')}" for e in lines if e["tenant"] == tenant]


@pytest.fixture(scope="module")
def mirrored(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    vkeys: dict[str, str] = {}
    follows: dict[str, Any] = {"toolchains": "lts", "anonymous_read": True}

    async def arrange(services: Services) -> None:
        for name in (OPEN, RULED, NARROW):
            default = Effect.DENY if name == NARROW else Effect.ALLOW
            await add_tenant(services, name, catch_all=False, default=default)
            await add_route(services, name, "example.com", proxy.url)
            vkeys[name] = (await services.sumdb.logs.create(name)).vkey
        await services.fleet.channels.create(Channel(name="lts"), OPERATOR)
        await services.tenants.tenants.create(a_tenant(FOLLOWING, **follows), OPERATOR)
        vkeys[FOLLOWING] = (await services.sumdb.logs.create(FOLLOWING)).vkey
        rule = {"reason": "only what is supported"}
        await add_rule(services, RULED, Effect.DENY, "golang.org/toolchain", "<go1.99", **rule)
        await add_rule(services, RULED, Effect.DENY, "golang.org/toolchain", "go1.99.2")
        await add_rule(services, NARROW, Effect.ALLOW, "golang.org/toolchain", ">=go1.98.1 <go1.99")

    with FakeGoproxy() as proxy, FakeSumdb() as log, FakeGodev() as godev:
        for version in RELEASES:
            archive = go_archive(version, go_command=go_script(version))
            godev.put_file(archive_name(version), archive)
        godev.put_file(
            archive_name(DARWIN, "darwin", "arm64"), go_archive(DARWIN, "darwin", "arm64")
        )
        settings: dict[str, Any] = {
            "releases__index_url": godev.index_url,
            "releases__files_urls": [godev.files_url],
            "releases__sha256_only": ["tar.gz"],
            "sumdb__upstreams": [],
        }
        folder = tmp_path_factory.mktemp("mirrored")
        with relaying(warm, folder, proxy, log, arrange, **settings) as relayed:
            yield Mirrored(relayed, godev, vkeys)


MakeSwitching = Callable[..., Go]


@pytest.fixture
def switching(mirrored: Mirrored, make_go: MakeGo) -> MakeSwitching:
    """Return a function that makes a go whose GOTOOLCHAIN is the one that is given."""

    def make(toolchain: str, tenant: str = OPEN, **environ: Any) -> Go:
        url = mirrored.relayed.url(tenant)
        environment = {"GOTOOLCHAIN": toolchain, **environ}
        return make_go(url, environment.pop("GOSUMDB", mirrored.vkeys[tenant]), **environment)

    return make


@pytest.mark.parametrize("form", ["vkey", "vkey and url"])
@pytest.mark.parametrize("old", [False, True], ids=["go", "old go"])
def test_S56_go_switches_to_a_toolchain_of_the_mirror(
    mirrored: Mirrored, switching: MakeSwitching, form: str, *, old: bool
) -> None:
    vkey = mirrored.vkeys[OPEN]
    url = f"{mirrored.relayed.url(OPEN)}/sumdb/{vkey.partition('+')[0]}"
    go = switching("go1.99.1", GOSUMDB=vkey if form == "vkey" else f"{vkey} {url}", old=old)
    assert go.out("version") == "go1.99.1 ran: version"
    root = Path(go.environ["GOPATH"], "pkg/mod/golang.org/toolchain@v0.0.1-go1.99.1.linux-amd64")
    assert (root / "bin/go").stat().st_mode & 0o111
    assert (root / "src/go.mod").read_text().startswith("module std")
    assert not (root / "api").exists()
    assert mirrored.fetched("go1.99.1") == 1


def test_S57_an_unpacked_toolchain_needs_no_proxy_but_its_checksum(
    switching: MakeSwitching,
) -> None:
    go = switching("go1.99.1")
    go.out("version")
    assert go.but(GOPROXY="off").out("version") == "go1.99.1 ran: version"
    refused = go.but(GOSUMDB="off").run("version")
    assert refused.code == 1
    assert "checksum database disabled by GOSUMDB=off" in refused.err


def test_S58_a_toolchain_that_the_mirror_has_not_is_not_available(
    switching: MakeSwitching,
) -> None:
    missing = switching("go1.97.1").run("version")
    assert missing.code == 1
    assert "download go1.97.1 for linux/amd64: toolchain not available" in missing.err
    language = switching("go1.98").run("version")
    assert language.code == 1
    assert "language version" in language.err


def test_S58_a_denied_toolchain_is_refused_with_the_rule_and_the_one_to_use(
    mirrored: Mirrored, switching: MakeSwitching
) -> None:
    refused = switching("go1.98.7", RULED).run("version")
    assert refused.code == 1
    assert "403 Forbidden" in refused.err
    assert "only what is supported" in refused.err
    assert "use go1.99.1: GOTOOLCHAIN=go1.99.1" in refused.err
    assert switching("go1.99.1", RULED).out("version") == "go1.99.1 ran: version"
    lookup = "lookup/golang.org/toolchain@v0.0.1-go1.98.7.linux-amd64"
    name = mirrored.vkeys[RULED].partition("+")[0]
    assert mirrored.relayed.served.get(f"sumdb/{name}/{lookup}", RULED).status == 403


def test_S58_where_all_is_denied_the_rule_that_allows_toolchains_counts(
    mirrored: Mirrored, switching: MakeSwitching
) -> None:
    assert mirrored.listed(NARROW) == ["v0.0.1-go1.98.7.linux-amd64"]
    assert switching("go1.98.7", NARROW).out("version") == "go1.98.7 ran: version"
    refused = switching("go1.99.1", NARROW).run("version")
    assert "403 Forbidden" in refused.err
    assert "use go1.98.7: GOTOOLCHAIN=go1.98.7" in refused.err


def test_S60_lists_hold_what_the_mirror_offers_and_the_rules_allow(
    mirrored: Mirrored, switching: MakeSwitching
) -> None:
    linux = [f"v0.0.1-{v}.linux-amd64" for v in RELEASES]
    assert sorted(mirrored.listed()) == sorted([*linux, f"v0.0.1-{DARWIN}.darwin-arm64"])
    assert set(mirrored.listed(RULED)) == {linux[3], linux[5], f"v0.0.1-{DARWIN}.darwin-arm64"}
    versions = switching("local").out("list", "-m", "-versions", "go").split()
    assert versions[-4:] == ["1.99.1", "1.99.2", "1.99.3", "1.100rc1"]


def test_S60_the_info_of_linux_amd64_is_there_for_every_release_of_any_platform(
    mirrored: Mirrored,
) -> None:
    get, stem = mirrored.relayed.served.get, f"{AT}/v0.0.1-{DARWIN}"
    version = {"Version": f"v0.0.1-{DARWIN}.linux-amd64"}
    assert get(f"{stem}.linux-amd64.info", OPEN).json == version
    assert get(f"{stem}.linux-amd64.mod", OPEN).text == "module golang.org/toolchain\n"
    assert get(f"{stem}.linux-amd64.zip", OPEN).status == 404
    assert get(f"{stem}.darwin-arm64.zip", OPEN).status == 200
    timed = version | {"Time": RELEASED}  # of the darwin archive, once that is known to be here
    # An answer that forbids the fetch is made for this request alone: none of a minute ago.
    alone = mirrored.relayed.served.forbidding_the_fetch
    wait_until(lambda: get(f"{stem}.linux-amd64.info", OPEN, **alone).json == timed, "it")
    assert get(f"{AT}/v0.0.1-go1.97.1.linux-amd64.info", OPEN).status == 404


NEWEST = f"info v0.0.1-{DARWIN}.linux-amd64"


@pytest.mark.parametrize(
    ("query", "needed", "asked"),
    [
        ("go@1.98", "1.98.7", ["list ", NEWEST, "info v0.0.1-go1.98.7.linux-amd64"]),
        ("go@1.98.0", "1.98.0", ["info v0.0.1-go1.98.0.linux-amd64", "list ", NEWEST]),
        ("go@1.100rc1", "1.100rc1", ["info v0.0.1-go1.100rc1.linux-amd64", "list ", NEWEST]),
        ("go@latest", DARWIN[2:], ["list ", NEWEST]),
    ],
)
def test_S60_go_get_of_a_go_version_finds_it_and_fetches_no_archive(
    mirrored: Mirrored, switching: MakeSwitching, query: str, needed: str, asked: list[str]
) -> None:
    before, fetched = len(mirrored.requests(OPEN)), mirrored.godev.hits
    ended = switching("local").run("get", query)
    assert f"go.mod requires go >= {needed} (running" in ended.err
    assert mirrored.requests(OPEN)[before:] == asked
    assert mirrored.godev.hits == fetched


def test_S60_go_get_switches_to_what_it_found(switching: MakeSwitching) -> None:
    ended = switching("auto").run("get", "go@1.98")
    assert "go.mod requires go >= 1.98.7; switching to go1.98.7" in ended.err
    assert ended.out == "go1.98.7 ran: get go@1.98\n"
    go = switching("auto")
    go.out("get", "toolchain@latest")
    assert f"toolchain {DARWIN}" in go.go_mod()


def test_S60_go_get_sees_what_the_rules_allow(switching: MakeSwitching) -> None:
    hidden = switching("auto", RULED).run("get", "go@1.98")
    assert 'no matching versions for query "1.98"' in hidden.err
    denied = switching("auto", RULED).run("get", "go@1.98.0")
    assert "403 Forbidden" in denied.err
    assert "only what is supported; use go1.99.1: GOTOOLCHAIN=go1.99.1" in denied.err


def test_a_channel_says_which_toolchains_there_are(
    mirrored: Mirrored, switching: MakeSwitching, warm: Warm
) -> None:
    served = mirrored.relayed.served
    refused = switching("go1.98.7", FOLLOWING).run("version")
    assert "channel lts has no revision yet; ask an admin" in refused.err
    for command in (("releases", "sync", "go1.98.7"), ("channel", "set", "lts", "go1.98.7")):
        assert warm.run(served.site, *command).code == 0
    wait_until(lambda: served.get(f"{AT}/list", FOLLOWING).status == 200, "the revision")
    assert mirrored.listed(FOLLOWING) == ["v0.0.1-go1.98.7.linux-amd64"]
    assert switching("go1.98.7", FOLLOWING).out("version") == "go1.98.7 ran: version"
    refused = switching("go1.99.1", FOLLOWING).run("version")
    assert refused.code == 1
    assert "is not offered by channel lts; use go1.98.7: GOTOOLCHAIN=go1.98.7" in refused.err
    lookup = "lookup/golang.org/toolchain@v0.0.1-go1.99.1.linux-amd64"
    name = mirrored.vkeys[FOLLOWING].partition("+")[0]
    assert served.get(f"sumdb/{name}/{lookup}", FOLLOWING).status == 403


def test_S59_the_go_line_of_a_module_switches(switching: MakeSwitching) -> None:
    go = switching("auto")
    go.write("go.mod", "module m\n\ngo 1.99.1\n")
    assert go.out("version") == "go1.99.1 ran: version"
    language = go.write("go.mod", "module m\n\ngo 1.98\n")
    assert language
    assert go.out("version") == "go1.98.0 ran: version"
    go.write("go.mod", "module m\n\ngo 1.98\n\ntoolchain go1.99.2\n")
    assert go.out("version") == "go1.99.2 ran: version"

    local = go.but(GOTOOLCHAIN="local").run("list")
    assert local.code == 1
    assert "requires go >= 1.98" in local.err
    path = go.but(GOTOOLCHAIN="path").run("version")
    assert path.code == 1
    assert "cannot find" in path.err


def test_S61_a_dependency_with_a_newer_go_line_switches(
    mirrored: Mirrored, switching: MakeSwitching
) -> None:
    path = "example.com/newer"
    mirrored.relayed.proxy.put(module(path, "v1.0.0", go_mod=go_mod_of(path, go="1.98.2")))
    go = switching("auto")
    ended = go.run("get", f"{path}@v1.0.0")
    assert "requires go >= 1.98.2; switching to go1.98.7" in ended.err
    assert f"go1.98.7 ran: get {path}@v1.0.0" in ended.out


def test_S62_a_toolchain_is_verified_whatever_is_exempt(
    mirrored: Mirrored, switching: MakeSwitching
) -> None:
    go = switching("go1.98.0", GONOSUMDB="*", GOPRIVATE="none.example")
    assert go.out("version") == "go1.98.0 ran: version"
    name = mirrored.vkeys[OPEN].partition("+")[0]
    cached = go.downloads / "sumdb" / name / "lookup" / "golang.org"
    assert [p.name for p in cached.iterdir()] == ["toolchain@v0.0.1-go1.98.0.linux-amd64"]


def test_an_archive_that_can_t_be_had_is_an_outage_and_no_absence(
    mirrored: Mirrored, switching: MakeSwitching
) -> None:
    mirrored.godev.fault(f"/go/{archive_name('go1.96.0')}", Fault.status(503), times=None)
    refused = switching("go1.96.0").run("version")
    assert refused.code == 1
    assert "toolchain not available" not in refused.err
    assert "503 Service Unavailable" in refused.err
    assert "(the mirror of Go releases)" in refused.err
    assert mirrored.godev.base_url not in refused.err
    mirrored.godev.clear_faults()


def test_a_mirror_that_never_read_the_index_knows_of_no_absence(
    relayed: Relayed, make_go: MakeGo
) -> None:
    refused = make_go(relayed.url(), relayed.log.vkey, GOTOOLCHAIN="go1.99.1").run("version")
    assert refused.code == 1
    assert "toolchain not available" not in refused.err
    assert "503 Service Unavailable" in refused.err
    assert "(the mirror of Go releases)" in refused.err
