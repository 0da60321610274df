"""A tenant's own log before the real go: one key for private and public modules.

Appending, recovery and tiles without a go are in tests/services/tenantlog; toolchains in
`test_toolchains.py`. S-numbers are rows of the acceptance table in the protocol reference.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.core.effect import Effect
from app.core.principal import Scope
from app.services.assembly import Services
from tests.e2e.gocommand import Go
from tests.e2e.modules.served import add_route, add_rule, add_tenant
from tests.e2e.process import wait_until
from tests.e2e.sumdb.conftest import MakeGo
from tests.e2e.sumdb.relayed import Relayed, pass_of_the_log, relaying
from tests.e2e.sumdb.splitting import Splitting
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, module
from tests.fakes.sumdb import NAME, FakeSumdb

V = "v1.0.0"
ACME, OTHER = "acme", "other"


@dataclass(frozen=True)
class Logged:
    """A server with two tenants that have logs of their own, and both the same private route.

    Attributes:
        vkeys: by tenant.
        auditor: a token that may read the records of `acme`.
    """

    relayed: Relayed
    corp: FakeGoproxy
    vkeys: Mapping[str, str]
    auditor: str

    def gosumdb(self, form: str, tenant: str = ACME) -> str:
        """Return what GOSUMDB is set to, with the log's URL or without."""
        vkey = self.vkeys[tenant]
        return vkey if form == "vkey" else f"{vkey} {self.relayed.url(tenant)}/{self.path(tenant)}"

    def path(self, tenant: str = ACME) -> str:
        """Return where a tenant's log is, below its URL."""
        return f"sumdb/{self.vkeys[tenant].partition('+')[0]}"

    def put(self, private: str = "", public: str = "") -> tuple[Module, ...]:
        """Publish a private and a public module."""
        made = []
        if private:
            made.append(module(private, V))
            self.corp.put(made[-1])
        if public:
            made.append(module(public, V))
            self.relayed.publish(made[-1])
        return tuple(made)


@pytest.fixture
def logged(warm: Warm, tmp_path: Path) -> Iterator[Logged]:
    vkeys: dict[str, str] = {}
    tokens: list[str] = []

    async def arrange(services: Services) -> None:
        for name in (ACME, OTHER):
            await add_tenant(services, name, catch_all=False)
            await add_route(services, name, "*", proxy.url)
            await add_route(services, name, "corp.example", corp.url, private=True)
            vkeys[name] = (await services.sumdb.logs.create(name)).vkey
        await add_rule(services, OTHER, Effect.DENY, "corp.example/secret", reason="acme's")
        _, secret = await services.tenants.tokens.create(
            "auditor", tenant=ACME, scopes=frozenset({Scope.READ, Scope.AUDIT})
        )
        tokens.append(secret)

    with (
        FakeGoproxy() as proxy,
        FakeGoproxy() as corp,
        FakeSumdb() as log,
        relaying(warm, tmp_path, proxy, log, arrange) as relayed,
    ):
        log.grow(5)
        yield Logged(relayed, corp, vkeys, tokens[0])


def assert_verified(go: Go, *modules: Module) -> None:
    """Every module is in go.sum with both of its hashes."""
    expected = {f"{m.path} {m.version} {m.h1}" for m in modules}
    expected |= {f"{m.path} {m.version}/go.mod {m.mod_h1}" for m in modules}
    assert expected <= set(go.go_sum())


@pytest.mark.parametrize("old", [False, True], ids=["go", "old go"])
@pytest.mark.parametrize("form", ["vkey", "vkey and url"])
def test_a_private_and_a_public_module_are_verified_by_one_key(
    logged: Logged, make_go: MakeGo, form: str, *, old: bool
) -> None:
    both = logged.put("corp.example/Secret/one", "example.com/Public/two")
    gosumdb = logged.gosumdb(form)
    go = make_go(logged.relayed.url(ACME), gosumdb, old=old, GONOSUMDB="", GOPRIVATE="")
    go.program(
        "corp.example/Secret/one",
        "example.com/Public/two",
        body="println(one.Hello(), two.Hello())",
    )
    go.out("mod", "tidy")
    assert_verified(go, *both)
    ran = go.run("run", ".")
    assert ran.err == f"corp.example/Secret/one@{V} example.com/Public/two@{V}\n"
    assert logged.relayed.lookups_of("secret") == 0
    assert not logged.relayed.proxy.asked_for("secret")


def test_a_name_of_one_tenant_appears_in_no_other_s_log(logged: Logged, make_go: MakeGo) -> None:
    secret, shared = logged.put("corp.example/secret", "example.com/shared")
    go = make_go(logged.relayed.url(ACME), logged.gosumdb("vkey"))
    go.out("get", f"{secret.path}@{V}", f"{shared.path}@{V}")
    theirs = make_go(logged.relayed.url(OTHER), logged.gosumdb("vkey", OTHER))
    theirs.out("get", f"{shared.path}@{V}")

    get = logged.relayed.served.get
    lookup = f"lookup/{secret.path}@{V}"
    assert get(f"{logged.path(OTHER)}/{lookup}", OTHER).status == 403
    for path in (lookup, "latest", "supported", "tile/8/0/000.p/1"):
        assert get(f"{logged.path(ACME)}/{path}", OTHER).status == 404
    head = get(f"{logged.path(OTHER)}/latest", OTHER).text
    assert head.startswith("go.sum database tree\n1\n")
    assert get(f"{logged.path(ACME)}/latest", ACME).text.startswith("go.sum database tree\n2\n")


def test_hash_tiles_are_the_readers_at_any_width_and_records_the_auditors(
    logged: Logged, make_go: MakeGo
) -> None:
    modules = [logged.put(f"corp.example/m{n}")[0] for n in range(5)]
    go = make_go(logged.relayed.url(ACME), logged.gosumdb("vkey"))
    go.out("get", *(f"{m.path}@{V}" for m in modules))
    get, tile = logged.relayed.served.get, f"{logged.path()}/tile/8"
    widest = get(f"{tile}/0/000.p/5", ACME).body
    for width in range(1, 6):
        assert get(f"{tile}/0/000.p/{width}", ACME).body == widest[: 32 * width]
    assert get(f"{tile}/0/000.p/6", ACME).status == 404
    assert get(f"{tile}/0/000", ACME).status == 404

    refused = get(f"{tile}/data/000.p/5", ACME)
    assert refused.status == 403
    assert "scope `audit`" in refused.text
    allowed = get(f"{tile}/data/000.p/5", ACME, Authorization=f"Bearer {logged.auditor}")
    assert allowed.status == 200
    records = allowed.text.split("\n\n")
    assert sorted(r.partition("\n")[0] for r in records if r) == sorted(
        f"{m.path} {V} {m.h1}" for m in modules
    )


def test_a_public_module_is_recorded_once_the_public_log_vouches_for_it(
    logged: Logged, make_go: MakeGo
) -> None:
    (one,) = logged.put(public="example.com/late")
    go = make_go(logged.relayed.url(ACME), logged.gosumdb("vkey"))
    logged.relayed.log.stop()
    refused = go.run("get", f"{one.path}@{V}")
    assert refused.code == 1
    assert "503 Service Unavailable" in refused.err
    assert f"{one.path}@{V} is not vouched for by the public checksum database yet" in refused.err
    logged.relayed.log.start()
    go.out("get", f"{one.path}@{V}")
    assert_verified(go, one)


def test_content_that_the_public_log_contradicts_is_never_recorded(
    logged: Logged, make_go: MakeGo
) -> None:
    (one,) = logged.put(public="example.com/other")
    sent = module(one.path, V, {"evil.go": b"package other\n"}, go_mod=one.mod)
    logged.relayed.proxy.put(sent)
    logged.relayed.log.stop()
    assert make_go(logged.relayed.url(ACME), "off").run("get", f"{one.path}@{V}").code == 0
    logged.relayed.log.start()
    refused = make_go(logged.relayed.url(ACME), logged.gosumdb("vkey")).run("get", one.path)
    assert "502 Bad Gateway" in refused.err
    assert f"{NAME} vouches for {one.h1}" in refused.err
    pass_of_the_log(logged.relayed.served.site)
    refused = make_go(logged.relayed.url(ACME), logged.gosumdb("vkey")).run("get", one.path)
    assert "is quarantined" in refused.err
    lookup = logged.relayed.served.get(f"{logged.path()}/lookup/{one.path}@{V}", ACME)
    assert lookup.status == 502


def test_what_was_served_is_recorded_unasked_and_verifies_with_everything_down(
    logged: Logged, make_go: MakeGo
) -> None:
    both = logged.put("corp.example/kept", "example.com/kept")
    gosumdb, latest = logged.gosumdb("vkey"), f"{logged.path()}/latest"
    first = make_go(logged.relayed.url(ACME), "off")  # it looks nothing up
    first.out("get", *(f"{m.path}@{V}" for m in both))
    wait_until(lambda: "tree\n2\n" in logged.relayed.served.get(latest, ACME).text, "both records")
    for fake in (logged.relayed.log, logged.relayed.proxy, logged.corp):
        fake.stop()
    go = make_go(logged.relayed.url(ACME), gosumdb)
    go.out("get", *(f"{m.path}@{V}" for m in both))
    assert_verified(go, *both)
    for fake in (logged.relayed.log, logged.relayed.proxy, logged.corp):
        fake.start()


def test_S67_two_servers_append_to_one_log_and_answer_for_each_other(
    logged: Logged, warm: Warm, make_go: MakeGo
) -> None:
    first, site = logged.relayed.served.server, logged.relayed.served.site
    modules = [logged.put(f"corp.example/two/m{n}")[0] for n in range(8)]
    with warm.serve(site) as second, Splitting(first.url, second.url) as front:
        go = make_go(f"{front.base_url}/goproxy/{ACME}", logged.vkeys[ACME])
        for at, one in enumerate(modules):
            front.turn(at)  # lookups go to one of them, tiles to the other
            go.out("get", f"{one.path}@{V}")
        assert_verified(go, *modules)
        for server in (first, second):
            late = make_go(f"{server.url}/goproxy/{ACME}", logged.vkeys[ACME])
            late.out("get", *(f"{m.path}@{V}" for m in modules))
            assert_verified(late, *modules)
            go.forget_modules()
            again = go.but(GOPROXY=f"{server.url}/goproxy/{ACME}")
            again.write("go.sum", "")
            again.out("mod", "download")
