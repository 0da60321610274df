"""Verification by a checksum database of the client's own while modules come through Moorage.

For a database that it does not answer for, Moorage says 404, so that go asks the next proxy or the
database itself. S-numbers are rows of the acceptance table in the protocol reference.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.gocommand import Go
from tests.e2e.modules.checksums import ChecksumLog
from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import Served
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.fakes.tls import TlsFront

V = "v1.0.0"
LOGGED = [module(f"example.com/Logged/m{number}", V) for number in range(6)]
TAMPERED = module("example.com/Logged/tampered", V)


@dataclass(frozen=True)
class Database:
    """A log, at its own address and at a second proxy.

    Attributes:
        direct: the address that its name is, behind TLS.
        proxy: another proxy, which has no module.
    """

    log: ChecksumLog
    direct: FakeGoproxy
    tls: TlsFront
    proxy: FakeGoproxy

    @property
    def probe(self) -> str:
        """The path that a proxy is asked about the database first."""
        return f"/sumdb/{self.log.name}/supported"

    def asked(self, fake: FakeGoproxy, what: str) -> int:
        """Return how many requests a fake had with that in their path."""
        return len(fake.asked_for(what))


@pytest.fixture
def database() -> Iterator[Database]:
    with FakeGoproxy() as direct, FakeGoproxy() as proxy, TlsFront(direct.base_url) as tls:
        log = ChecksumLog(f"localhost:{tls.port}", [*LOGGED, TAMPERED])
        log.publish(direct, "")
        log.publish(proxy, f"/sumdb/{log.name}")
        yield Database(log, direct, tls, proxy)


@pytest.fixture
def put_all(upstream: FakeGoproxy) -> None:
    for one in LOGGED:
        upstream.put(one)
    # The same go.mod, so that only the zip's hash tells.
    files = {"tampered.go": b"package tampered // not what is logged\n"}
    upstream.put(module(TAMPERED.path, V, files, go_mod=TAMPERED.mod))


@pytest.fixture
def verifying(make_go: MakeGo, served: Served, database: Database, put_all: None) -> Go:
    """A go that verifies by the database; its proxies are Moorage and then the second one."""
    return make_go(
        f"{served.url()},{database.proxy.url}",
        GOSUMDB=database.log.vkey,
        SSL_CERT_FILE=database.tls.ca_file,
    )


def test_S45_go_asks_the_database_itself_where_no_proxy_answers_for_it(
    verifying: Go, database: Database
) -> None:
    verifying.out("get", LOGGED[0].path)
    assert f"{LOGGED[0].path} {V} {LOGGED[0].h1}" in verifying.go_sum()
    assert database.asked(database.direct, "lookup") == 1
    assert database.proxy.hits[database.probe] == 1
    assert not database.asked(database.proxy, "lookup")


def test_S1_go_verifies_between_the_go_mod_and_the_zip(
    verifying: Go, served: Served, database: Database
) -> None:
    verifying.out("get", LOGGED[5].path)
    lines = served.asked(LOGGED[5].path, database.probe.lstrip("/"))
    kinds = [line.get("kind", "supported") for line in lines]
    assert list(dict.fromkeys(kinds)) == ["list", "info", "mod", "supported", "zip"]


def test_S45_go_uses_the_second_proxy_that_answers_for_the_database(
    verifying: Go, database: Database
) -> None:
    database.proxy.put_raw(database.probe, b"")
    verifying.out("get", LOGGED[1].path)
    assert database.asked(database.proxy, "lookup") == 1
    assert not database.direct.requests


@pytest.mark.parametrize("status", [403, 503])
def test_S45_any_other_answer_about_the_database_stops_go(
    verifying: Go, database: Database, status: int
) -> None:
    database.proxy.put_raw(database.probe, b"no\n", status, {"Content-Type": "text/plain"})
    ended = verifying.run("get", LOGGED[2].path)
    assert ended.code == 1
    assert f"{database.probe}: {status} " in ended.err
    assert not database.direct.requests


def test_S45_moorage_tells_that_it_answers_for_no_such_database(
    served: Served, database: Database
) -> None:
    reply = served.get(database.probe.lstrip("/"))
    assert reply.status == 404
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_S46_go_asks_no_proxy_about_a_database_whose_url_it_has(
    make_go: MakeGo, served: Served, database: Database, put_all: None
) -> None:
    database.log.publish(database.direct, "/log")
    go = make_go(served.url(), GOSUMDB=f"{database.log.vkey} {database.direct.url}/log")
    go.out("get", LOGGED[3].path)
    assert database.asked(database.direct, "/log/lookup/") == 1
    assert not database.asked(database.direct, "supported")


def test_S18_a_zip_that_is_not_the_logged_one_is_refused_by_go(
    verifying: Go, database: Database
) -> None:
    ended = verifying.run("get", TAMPERED.path)
    assert ended.code == 1
    assert "checksum mismatch" in ended.err
    assert "SECURITY ERROR" in ended.err
    assert TAMPERED.h1 in ended.err
    assert not list(verifying.downloads.parents[1].glob("example.com/**/tampered*/*.go"))


@pytest.mark.parametrize(
    "environ",
    [
        {"GONOSUMDB": "example.com/Logged"},
        {"GOPRIVATE": "example.com/*", "GONOPROXY": "none"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_S54_go_tells_no_database_of_private_names_and_still_uses_moorage(
    verifying: Go, served: Served, database: Database, environ: dict[str, str]
) -> None:
    go = verifying.but(**environ)
    go.out("get", LOGGED[4].path)
    assert f"{LOGGED[4].path} {V} {LOGGED[4].h1}" in go.go_sum()
    assert not database.direct.requests
    assert not database.proxy.asked_for("sumdb")
    assert served.asked(LOGGED[4].path)
