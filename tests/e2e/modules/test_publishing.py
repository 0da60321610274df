"""Publishing with the real curl and go; a server that is killed while an upload comes in."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from app.core.principal import OPERATOR, Scope
from app.core.published import PUBLISHED
from app.core.routing import Upstream
from app.services.assembly import Services
from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import add_route, add_tenant, arranged, netrc, site_for
from tests.e2e.process import Site, wait_until
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.fakes.tls import TlsFront
from tests.nouns import an_owner

X = "corp.example/acme/x"
ONE = module(X, "v1.0.0")


def site(folder: Path, fake: FakeGoproxy, tokens: list[str]) -> Site:
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

    made = site_for(folder, fake)
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
    target = f"/goproxy/acme/{X}/@v/v1.0.0.zip"
    head = (
        f"PUT {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {{}}\r\n"
        f"Content-Length: {len(ONE.zip)}\r\n\r\n"
    )
    with FakeGoproxy() as fake:
        installed = site(tmp_path, fake, tokens)
        staged = installed.data_dir / "tmp"

        def is_staged() -> bool:
            return any(p.is_file() and p.suffix != ".lock" for p in staged.rglob("*"))

        with (
            warm.serve(installed) as server,
            socket.create_connection(("127.0.0.1", server.port)) as sock,
        ):
            sock.sendall(head.format(tokens[0]).encode() + ONE.zip[:-10])
            wait_until(is_staged, "the staged upload")
            server.kill()
        with warm.serve(installed) as server:
            assert not is_staged()
            reading = {"Authorization": f"Bearer {tokens[1]}"}
            assert server.request("GET", target, reading).status == 404
            assert warm.run(installed, "fsck", "--deep").code == 0
