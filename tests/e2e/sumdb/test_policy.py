"""What a checksum database is asked about, and what its answer has to do with what is served.

S-numbers are rows of the acceptance table in the protocol reference, F-numbers of the threats.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from app.core.effect import Effect
from app.core.logstate import LogState
from app.db.audit import AuditLog
from app.db.modules import ModuleFileRow
from app.services.assembly import Services
from tests.e2e.modules.served import add_route, add_rule, add_tenant
from tests.e2e.process import wait_until
from tests.e2e.sumdb.conftest import MakeGo
from tests.e2e.sumdb.relayed import Relayed, pass_of_the_log, read, relaying
from tests.e2e.warm import Warm
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, escape, module
from tests.fakes.sumdb import NAME, FakeSumdb

V = "v1.0.0"
TENANT = "acme"


@pytest.fixture(scope="module")
def corp() -> Iterator[FakeGoproxy]:
    """The private upstream of `acme`."""
    with FakeGoproxy() as proxy:
        yield proxy


@contextmanager
def ruling(warm: Warm, folder: Path, corp: FakeGoproxy) -> Iterator[Relayed]:
    """Serve with a tenant more: it has a private route and a rule."""

    async def arrange(services: Services) -> None:
        await add_tenant(services, TENANT, catch_all=False)
        await add_route(services, TENANT, "*", proxy.url)
        await add_route(services, TENANT, "corp.example", corp.url, private=True)
        await add_rule(services, TENANT, Effect.DENY, "evil.example/*", reason="left-pad again")
        await add_tenant(services, "narrow", catch_all=False)
        await add_route(services, "narrow", "only.example", proxy.url)

    with (
        FakeGoproxy() as proxy,
        FakeSumdb() as log,
        relaying(warm, folder, proxy, log, arrange) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def ruled(
    warm: Warm, tmp_path_factory: pytest.TempPathFactory, corp: FakeGoproxy
) -> Iterator[Relayed]:
    """A server for tests that leave its log up, and have names of their own."""
    with ruling(warm, tmp_path_factory.mktemp("ruled"), corp) as made:
        yield made


@pytest.fixture
def own(ruled: Relayed) -> Iterator[Relayed]:
    """`ruled` with an honest log, and fakes that nobody has asked yet."""
    for fake in (ruled.log, ruled.proxy):
        fake.forget()
    yield ruled
    ruled.log.heal()
    ruled.log.clear_faults()


@pytest.fixture
def apart(warm: Warm, tmp_path: Path, corp: FakeGoproxy) -> Iterator[Relayed]:
    """A server of its own: it remembers that its log was down."""
    with ruling(warm, tmp_path, corp) as made:
        yield made


def state_of(own: Relayed, one: Module, kind: str = "zip") -> str:
    """Return what is recorded of the log's word about a stored file; "none" if there is no file."""
    state = read(
        own.served.site,
        lambda s: s.execute(
            select(ModuleFileRow.log_state).where(
                ModuleFileRow.module == one.path, ModuleFileRow.kind == kind
            )
        ).scalar(),
    )
    return "none" if state is None else str(state)


def file_of(one: Module, kind: str = "zip") -> str:
    return f"{escape(one.path)}/@v/{one.version}.{kind}"


def test_S53_a_denied_module_s_lookup_is_refused_with_the_rule(
    own: Relayed, make_go: MakeGo
) -> None:
    one = module("evil.example/Pad", V)
    own.publish(one)
    go = make_go(own.proxy.url, own.gosumdb(TENANT))  # its files come from elsewhere
    refused = go.run("get", f"{one.path}@{V}")
    assert refused.code == 1
    assert "403 Forbidden\n\tserver response: " in refused.err
    assert "left-pad again" in refused.err
    assert own.lookups_of("pad") == 0


def test_S53_a_version_that_the_log_does_not_know_is_a_404_with_its_text(
    own: Relayed, make_go: MakeGo
) -> None:
    one = module("example.com/unlogged", V)
    own.proxy.put(one)
    refused = make_go(own.url("unasked"), own.log.vkey).run("get", f"{one.path}@{V}")
    assert refused.code == 1
    assert "404 Not Found\n\tserver response: " in refused.err
    assert refused.err.rstrip().endswith(f"not found: example.com/unlogged@{V}: unknown revision")


def test_a_log_that_redirects_says_that_it_is_permanent(own: Relayed) -> None:
    moved = Fault.redirect("https://cdn.example/lookup")
    own.log.fault(f"/lookup/example.com/moved@{V}", moved, times=None)
    answer = own.served.get(f"sumdb/{NAME}/lookup/example.com/moved@{V}", "unasked")
    assert answer.status == 502
    assert b"redirects to cdn.example. That is permanent" in answer.body
    assert b"MOORAGE_SUMDB__UPSTREAMS" in answer.body


def test_what_the_log_says_is_gone_is_a_410_with_its_text(own: Relayed) -> None:
    gone = Fault.status(410, b"gone: withdrawn\n")
    own.log.fault(f"/lookup/example.com/gone@{V}", gone, times=None)
    for _ in ("first", "remembered"):
        answer = own.served.get(f"sumdb/{NAME}/lookup/example.com/gone@{V}", "unasked")
        assert (answer.status, answer.body) == (410, b"gone: withdrawn\n")


@pytest.mark.parametrize("tenant", [TENANT, "default"])
def test_F78_a_private_name_is_not_told_to_the_log(own: Relayed, tenant: str) -> None:
    for path in ("corp.example/Secret", "corp.example/Secret/v2"):
        version = "v2.0.0" if path.endswith("/v2") else V
        refused = own.served.get(f"sumdb/{NAME}/lookup/{escape(path)}@{version}", tenant)
        assert refused.status == 403
        assert "is a private name" in refused.text
        assert "GONOSUMDB" in refused.text
    assert own.lookups_of("secret") == 0
    assert not own.evidence()


def test_F78_what_no_route_serves_is_not_told_to_the_log(own: Relayed) -> None:
    own.log.add_module(module("only.example/x", V))
    assert own.served.get(f"sumdb/{NAME}/lookup/only.example/x@{V}", "narrow").status == 200
    refused = own.served.get(f"sumdb/{NAME}/lookup/other.example/x@{V}", "narrow")
    assert refused.status == 403
    assert "no route of tenant narrow serves other.example/x" in refused.text
    assert own.lookups_of("other.example") == 0


def test_F78_go_gets_a_private_module_past_the_public_log(
    own: Relayed, corp: FakeGoproxy, make_go: MakeGo
) -> None:
    one = module("corp.example/secret", V)
    corp.put(one)
    go = make_go(own.url(TENANT), own.log.vkey)
    refused = go.run("get", one.path)
    assert "403 Forbidden" in refused.err
    assert "is a private name" in refused.err
    go.but(GONOSUMDB="corp.example").out("get", one.path)
    assert own.lookups_of("secret") == 0
    assert not own.proxy.asked_for("secret")
    assert state_of(own, one) == LogState.PRIVATE


@pytest.mark.parametrize("tenant", ["default", "strict"])
def test_F74_content_that_the_log_does_not_vouch_for_is_refused_and_not_stored(
    own: Relayed, make_go: MakeGo, tenant: str
) -> None:
    logged = module(f"example.com/{tenant}/tampered", V)
    own.log.add_module(logged)
    sent = module(logged.path, V, {"evil.go": b"package tampered\n"}, go_mod=logged.mod)
    own.proxy.put(sent)
    refused = make_go(own.url(tenant), "off").run("get", f"{logged.path}@{V}")
    assert refused.code == 1
    assert "502 Bad Gateway" in refused.err
    assert f"has {sent.h1}, and {NAME} vouches for {logged.h1}" in refused.err
    assert state_of(own, logged) == "none"
    refusals = [e["name"] for e in own.served.server.events if e["event"] == "module contradiction"]
    rows = read(own.served.site, lambda s: AuditLog(s).rows(action="module.refuse"))
    for records in (refusals, [record.object for record, _, _ in rows]):
        assert f"{logged.path}@{V}.zip" in records
    own.proxy.put(logged)  # what the log vouches for is let in
    make_go(own.url(tenant), own.log.vkey).out("get", f"{logged.path}@{V}")
    assert state_of(own, logged) == LogState.VERIFIED


def test_F77_with_the_log_down_require_waits_defer_marks_and_off_does_not_care(
    apart: Relayed, make_go: MakeGo
) -> None:
    marked, waiting, unasked = (module(f"example.com/down/{n}", V) for n in ("m", "w", "u"))
    apart.publish(marked, waiting, unasked)
    apart.log.stop()
    make_go(apart.url(), "off").out("get", f"{marked.path}@{V}")
    assert state_of(apart, marked) == LogState.UNVERIFIED
    refused = make_go(apart.url("strict"), "off").run("get", f"{waiting.path}@{V}")
    assert "503 Service Unavailable" in refused.err
    assert f"waits for {NAME}, which has to vouch for it and can't be asked now" in refused.err
    assert state_of(apart, waiting) == "none"
    make_go(apart.url("unasked"), "off").out("get", f"{unasked.path}@{V}")
    assert state_of(apart, unasked) == LogState.OFF

    apart.log.start()
    assert pass_of_the_log(apart.served.site) == 2  # .mod and .zip
    assert state_of(apart, marked) == LogState.VERIFIED
    assert state_of(apart, unasked) == LogState.OFF
    make_go(apart.url("strict"), "off").out("get", f"{waiting.path}@{V}")
    assert state_of(apart, waiting) == LogState.VERIFIED


def test_F77_F74_what_came_in_unasked_is_quarantined_once_the_log_contradicts(
    apart: Relayed, make_go: MakeGo
) -> None:
    logged = module("example.com/late", V)
    sent = module(logged.path, V, {"evil.go": b"package late\n"}, go_mod=logged.mod)
    apart.proxy.put(sent)
    apart.log.stop()
    make_go(apart.url(), "off").out("get", f"{logged.path}@{V}")
    apart.log.start()
    apart.log.add_module(logged)
    pass_of_the_log(apart.served.site)
    assert state_of(apart, logged) == LogState.REFUSED
    assert state_of(apart, logged, "mod") == LogState.VERIFIED
    wait_until(lambda: apart.served.get(file_of(logged)).status == 502, "the quarantine", 10)
    refused = make_go(apart.url(), "off").run("get", f"{logged.path}@{V}")
    assert f"{V}.zip is quarantined: {logged.path}@{V}.zip has {sent.h1}" in refused.err
    assert f"{NAME} vouches for {logged.h1}" in refused.err


def test_F77_what_another_tenant_s_route_let_in_unasked_is_asked_about(own: Relayed) -> None:
    right, wrong = module("example.com/shared/right", V), module("example.com/shared/wrong", V)
    own.publish(right)
    own.log.add_module(wrong)
    own.proxy.put(module(wrong.path, V, {"evil.go": b"package wrong\n"}, go_mod=wrong.mod))
    for one in (right, wrong):
        assert own.served.get(file_of(one), "unasked").status == 200
        assert state_of(own, one) == LogState.OFF
    assert own.served.get(file_of(right), "strict").status == 200
    assert state_of(own, right) == LogState.VERIFIED
    for tenant in ("default", "strict"):
        assert own.served.get(file_of(wrong), tenant).status == 502
    assert state_of(own, wrong) == LogState.REFUSED
