"""Publishing with the real curl and go; servers that are killed amid an upload; two servers."""

import hashlib
import http.client
import shutil
import socket
import sqlite3
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from app.core.principal import OPERATOR, Scope
from app.core.published import PUBLISHED
from app.core.routing import Upstream
from app.services.assembly import Services
from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import add_route, add_tenant, arranged, netrc, site_for
from tests.e2e.process import Server, Site, blobs, staged, wait_until
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, module
from tests.fakes.tls import TlsFront
from tests.nouns import an_owner
from tests.shapes import SECRETS_KEY

X = "corp.example/acme/x"
AT = f"/goproxy/acme/{X}/@v"
ONE = module(X, "v1.0.0")


def site(folder: Path, fake: FakeGoproxy, tokens: list[str], **settings: str) -> Site:
    async def arrange(services: Services) -> None:
        await add_tenant(services, "acme", is_open=False)
        await services.tenants.ownership.put(an_owner("corp.example/acme", "acme"), OPERATOR)
        await add_route(
            services, "acme", "corp.example/acme", Upstream(url=PUBLISHED), private=True
        )
        await services.sumdb.logs.create("acme")
        for scope in (Scope.PUBLISH, Scope.READ):
            _, secret = await services.tenants.tokens.create(
                scope, tenant="acme", scopes=frozenset({scope})
            )
            tokens.append(secret)

    made = site_for(folder, fake, **settings)
    arranged(made, arrange)
    return made


def test_curl_publishes_and_go_builds_with_the_tenants_log(
    warm: Warm, make_go: MakeGo, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    archive = tmp_path / "x.zip"
    archive.write_bytes(ONE.zip)
    tokens: list[str] = []
    with FakeGoproxy() as fake:
        installed = site(tmp_path, fake, tokens)
        with warm.serve(installed) as server, TlsFront(server.port) as tls:
            publisher, reader = tokens
            url = f"{tls.url}/goproxy/acme"
            command = ["curl", "-sS", "--cacert", str(tls.ca_file), "-u", f"ci:{publisher}"]
            target = f"{url}/{X}/@v/v1.0.0.zip"
            outcomes = []
            for _ in range(2):
                done = subprocess.run(
                    [*command, "-w", "%{http_code}", "-T", str(archive), target],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                outcomes.append(done.stdout)
            assert outcomes[0] == f"{X}@v1.0.0 is published: {ONE.h1}\n201"
            assert outcomes[1].endswith("200")
            vkey = warm.run(installed, "sumdb", "show", "--tenant", "acme", "--json").json["vkey"]
            entry = netrc(
                tmp_path, f"machine {tls.url.removeprefix('https://')} login ci password {reader}"
            )
            go = make_go(
                url,
                SSL_CERT_FILE=tls.ca_file,
                NETRC=entry,
                GOSUMDB=vkey,
                GONOSUMDB="",
                GOPRIVATE="",
            )
            go.out("get", f"{X}@latest")
            assert f"{X} v1.0.0 {ONE.h1}" in go.go_sum()


def test_a_kill_in_the_middle_leaves_nothing_half(warm: Warm, tmp_path: Path) -> None:
    tokens: list[str] = []
    with FakeGoproxy() as fake:
        installed = site(tmp_path, fake, tokens)
        with warm.serve(installed) as server, closing(_connected(server)) as sock:
            sock.sendall(_head(tokens[0], ONE) + ONE.zip[:-10])
            wait_until(lambda: staged(installed.data_dir), "the staged upload")
            server.kill()
        with warm.serve(installed) as server:
            assert staged(installed.data_dir) == []
            reading = {"Authorization": f"Bearer {tokens[1]}"}
            assert server.request("GET", f"{AT}/v1.0.0.zip", reading).status == 404
            assert warm.run(installed, "fsck", "--deep").code == 0


def test_a_kill_between_the_blob_and_its_row_publishes_nothing(warm: Warm, tmp_path: Path) -> None:
    """The blob is durable, and the transaction that names it waits for the database."""
    tokens: list[str] = []
    with FakeGoproxy() as fake:
        installed = site(tmp_path, fake, tokens)
        with warm.serve(installed) as server, closing(_connected(server)) as sock:
            sock.sendall(_head(tokens[0], ONE) + ONE.zip[:-10])
            wait_until(lambda: staged(installed.data_dir), "the staged upload")
            with closing(sqlite3.connect(installed.data_dir / "moorage.db")) as db:
                db.execute("BEGIN IMMEDIATE")
                sock.sendall(ONE.zip[-10:])
                wait_until(lambda: _is_stored(installed, ONE), "the blob")
                server.kill()
                assert db.execute("SELECT count(*) FROM published_versions").fetchone() == (0,)
        with warm.serve(installed) as server:
            reading = {"Authorization": f"Bearer {tokens[1]}"}
            for rest in ("list", "v1.0.0.info", "v1.0.0.mod", "v1.0.0.zip"):
                assert server.request("GET", f"{AT}/{rest}", reading).status == 404
            assert staged(installed.data_dir) == []
            checked = warm.run(installed, "fsck", "--deep", "--json")
            assert (checked.code, checked.json["clean"]) == (0, True)
            assert [one["problem"] for one in checked.json["findings"]] == ["orphan"]
            assert _put(server, tokens[0], ONE)[0] == 201
            assert _put(server, tokens[0], ONE)[0] == 200
            assert server.request("GET", f"{AT}/v1.0.0.zip", reading).body == ONE.zip
            assert warm.run(installed, "fsck", "--deep", "--json").json["findings"] == []


@pytest.mark.only_postgresql
def test_of_two_publishers_at_two_servers_at_once_one_counts(
    warm: Warm, tmp_path: Path, database_url: str
) -> None:
    """Whoever is first is recorded; the same bytes are taken again, others are refused."""
    tokens: list[str] = []
    both = threading.Barrier(2)
    with FakeGoproxy() as fake:
        installed = site(tmp_path, fake, tokens, database_url=database_url, secrets_key=SECRETS_KEY)

        def put(server: Server, one: Module) -> tuple[int, str, Module]:
            with closing(_connected(server)) as sock:
                content = _head(tokens[0], one) + one.zip
                sock.sendall(content[:-1])
                both.wait(60)
                sock.sendall(content[-1:])
                return *_answer(sock), one

        with (
            warm.serve(installed) as first,
            warm.serve(installed) as second,
            ThreadPoolExecutor(2) as publishers,
        ):
            for number in range(6):
                mine = module(X, f"v1.{number}.0")
                changed = module(X, mine.version, {"x.go": b"package x // other\n"})
                theirs = changed if number % 2 else mine
                puts = [publishers.submit(put, first, mine), publishers.submit(put, second, theirs)]
                won, (status, text, _) = sorted((p.result() for p in puts), key=_is_refused)
                assert (won[0], status) == (201, 409 if number % 2 else 200), (won, text)
                if number % 2:
                    assert text.count("\n") == 1
                    assert "is published with other bytes" in text
                    assert "publish another version" in text
                reading = {"Authorization": f"Bearer {tokens[1]}"}
                target = f"{AT}/{mine.version}.zip"
                served = [server.request("GET", target, reading).body for server in (first, second)]
                assert served == [won[2].zip] * 2
            assert warm.run(installed, "fsck", "--deep").code == 0


def _is_refused(put: tuple[int, str, Module]) -> bool:
    return put[0] != 201


def _connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port))


def _head(token: str, one: Module) -> bytes:
    """Return the head of a request that publishes a module."""
    return (
        f"PUT {AT}/{one.version}.zip HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(one.zip)}\r\n\r\n"
    ).encode()


def _put(server: Server, token: str, one: Module) -> tuple[int, str]:
    """Publish a module; return status and text of the answer."""
    with closing(_connected(server)) as sock:
        sock.sendall(_head(token, one) + one.zip)
        return _answer(sock)


def _answer(sock: socket.socket) -> tuple[int, str]:
    """Return status and text of the answer to an upload."""
    answer = http.client.HTTPResponse(sock, method="PUT")
    answer.begin()
    return answer.status, answer.read().decode()


def _is_stored(installed: Site, one: Module) -> bool:
    name = hashlib.sha256(one.zip).hexdigest()
    return any(path.name == name for path in blobs(installed.data_dir))
