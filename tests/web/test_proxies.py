"""The files in docs/proxies: each is started as it is, but for ports, certificate and folders."""

import asyncio
import os
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.core.principal import Scope
from tests.e2e.process import free_port
from tests.fakes.archives import go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.fakes.signer import Signer
from tests.fakes.tls import Authority
from tests.web.conftest import Log, program, settings_for
from tests.web.harbour import add_tenant, add_token, bearer
from tests.web.wire import Caller, Got, Site, request, serving, until

PROXIES = Path(__file__).parents[2] / "docs" / "proxies"
NAME = "moorage.example"
FILE = "go1.99.2.linux-amd64.tar.gz"
MODULE = "example.com/x"
CERTIFICATE, KEY = "/etc/ssl/moorage/fullchain.pem", "/etc/ssl/moorage/privkey.pem"
MOORAGE = "127.0.0.1:8080"


@dataclass(frozen=True)
class Front:
    """A running proxy.

    Attributes:
        plain_port: where it answers without TLS.
        folder: its own, with log and temporary files.
        ca_file: the authority of its certificate, as PEM.
    """

    name: str
    port: int
    plain_port: int
    folder: Path
    ca_file: Path

    async def ask(
        self,
        target: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        client: str = "127.0.0.1",
    ) -> Got:
        """Return the answer to a request over TLS from an address."""
        async with self.calling(client) as caller:
            sent_headers = {"Host": NAME, "Connection": "close", **(headers or {})}
            await caller.send(request(target, method, sent_headers, body))
            return await caller.response(method)

    @asynccontextmanager
    async def calling(
        self, client: str = "127.0.0.1", *, buffer_bytes: int = 2**24
    ) -> AsyncIterator[Caller]:
        """Return a context with a connection over TLS from an address.

        Args:
            client: the address.
            buffer_bytes: what may arrive before the caller reads.
        """
        trusted = ssl.create_default_context(cafile=str(self.ca_file))
        sock = socket.create_connection(("127.0.0.1", self.port), source_address=(client, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(buffer_bytes, 2**20))
        streams = await asyncio.open_connection(
            sock=sock, ssl=trusted, server_hostname=NAME, limit=buffer_bytes
        )
        caller = Caller(*streams)
        try:
            yield caller
        finally:
            await caller.close()


def written(source: str, target: Path, changes: Mapping[str, str]) -> Path:
    """Write a file of docs/proxies with some texts changed, each of which it must have."""
    text = (PROXIES / source).read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    target.write_text(text)
    return target


def nginx(folder: Path, upstream: int, port: int, plain_port: int) -> list[str]:
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = written(
        "nginx.conf",
        folder / "nginx.conf",
        {
            "user www-data;": "user root;" if os.geteuid() == 0 else "",
            "worker_processes auto;": "worker_processes 1; daemon off;",
            "/run/nginx.pid": f"{folder}/nginx.pid",
            "/var/log/nginx": str(folder),
            "worker_rlimit_nofile 65536;": "",
            "worker_connections 16384;": "worker_connections 512;",
            "http {": f"http {{ {temporary}",
            "listen 80;": f"listen 127.0.0.1:{plain_port};",
            "listen 443 ": f"listen 127.0.0.1:{port} ",
            CERTIFICATE: f"{folder}/certificate.pem",
            KEY: f"{folder}/certificate.pem",
            MOORAGE: f"127.0.0.1:{upstream}",
        },
    )
    return [program("nginx"), "-e", f"{folder}/error.log", "-c", str(config)]


def caddy(folder: Path, upstream: int, port: int, plain_port: int) -> list[str]:
    options = (
        f"{{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\thttp_port {plain_port}\n"
        f"\thttps_port {port}\n\tservers {{"
    )
    config = written(
        "Caddyfile",
        folder / "Caddyfile",
        {
            "{\n\tservers {": options,
            CERTIFICATE: f"{folder}/certificate.pem",
            KEY: f"{folder}/certificate.pem",
            MOORAGE: f"127.0.0.1:{upstream}",
        },
    )
    return [program("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]


def haproxy(folder: Path, upstream: int, port: int, plain_port: int) -> list[str]:
    config = written(
        "haproxy.cfg",
        folder / "haproxy.cfg",
        {
            "bind :80\n": f"bind 127.0.0.1:{plain_port}\n",
            "bind :443 ": f"bind 127.0.0.1:{port} ",
            "/etc/ssl/moorage/moorage.pem": f"{folder}/certificate.pem",
            "maxconn 16384": "maxconn 256",
            MOORAGE: f"127.0.0.1:{upstream}",
        },
    )
    return [program("haproxy"), "-db", "-f", str(config)]


COMMANDS = {"nginx": nginx, "caddy": caddy, "haproxy": haproxy}


@asynccontextmanager
async def fronted(name: str, folder: Path, upstream: int) -> AsyncIterator[Front]:
    """Run a proxy in front of a port."""
    authority = Authority.new()
    (folder / "certificate.pem").write_bytes(authority.server((NAME,)))
    (folder / "ca.pem").write_bytes(authority.pem)
    port, plain_port = free_port(), free_port()
    command = COMMANDS[name](folder, upstream, port, plain_port)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    front = Front(name, port, plain_port, folder, folder / "ca.pem")

    async def answers() -> bool:
        assert process.poll() is None, (folder / "output").read_text()
        try:
            async with front.calling():
                return True
        except OSError:
            return False

    try:
        await until(answers)
        yield front
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
async def site(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Moorage as the files say: the proxy's address is that of a gateway."""
    network = {
        "allow": ["127.0.0.0/8"],
        "tenant_hosts": ["127.0.0.1"],
        "gateways": ["127.0.0.1/32"],
    }
    with FakeGodev() as fake, FakeGoproxy() as proxy:
        data = go_archive("go1.99.2", extra_bytes=12 << 20)
        fake.put_file(FILE, data, signature=signer.sign(data))
        proxy.put(module(MODULE, "v1.0.0"))
        settings = settings_for(fake, signer, tmp_path_factory.mktemp("site"), network=network)
        async with serving(settings) as served:
            await served.services.releases.reader.refresh()
            await served.services.releases.ingestion.ensure(FILE)
            await add_tenant(served.services, "open", proxy)
            await add_tenant(served.services, "closed", proxy, open_to_all=False)
            yield served


@pytest.fixture(scope="module", params=sorted(COMMANDS))
async def front(
    request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Front]:
    async with fronted(request.param, tmp_path_factory.mktemp("front"), site.port) as running:
        yield running


KEPT = ("content-type", "content-length", "etag", "cache-control", "accept-ranges", "repr-digest")


def same(one: Got, other: Got) -> bool:
    first, second = ([(n, got.header(n)) for n in (*KEPT, "location")] for got in (one, other))
    return (one.status, first, one.body) == (other.status, second, other.body)


async def test_an_archive_comes_whole_in_parts_and_not_at_all(front: Front, site: Site) -> None:
    target = f"/dl/{FILE}"
    direct, got = await site.ask(target), await front.ask(target)
    assert len(direct.body) > 12 << 20
    assert same(got, direct)
    tag = direct.header("etag") or ""
    for method, headers in (
        ("HEAD", {}),
        ("GET", {"Range": "bytes=1000000-1000009"}),
        ("GET", {"Range": "bytes=5-", "If-Range": '"another"'}),
        ("GET", {"If-None-Match": tag}),
    ):
        direct = await site.ask(target, method, headers)
        assert same(await front.ask(target, method, headers), direct), (method, headers)


async def test_an_archive_for_a_slow_client_is_not_put_on_the_proxys_disk(front: Front) -> None:
    async with front.calling(buffer_bytes=2**16) as caller:
        await caller.send(request(f"/dl/{FILE}", headers={"Host": NAME, "Connection": "close"}))
        await caller.head()
        # The client takes nothing for as long as the proxy needs for these.
        for _ in range(20):
            assert (await front.ask("/healthz")).status == 200
        received = 0
        while piece := await caller.read(2**20):
            received += len(piece)
    assert received > 12 << 20
    log = front.folder / "error.log"
    assert not log.exists() or "temporary file" not in log.read_text()


TARGETS = [
    "/",
    "/dl",
    "/dl/",
    f"/dl//{FILE}.sha256",
    "/dl/go1.98.1.src.tar.gz",
    "/dl/%2e%2e/x",
    f"/goproxy/open/{MODULE}/@v/list",
    f"/goproxy/open/{MODULE}/@v/v1.0.0.zip",
    "/goproxy/open/github.com/!burnt!sushi/toml/@v/list",
    f"/goproxy/open/{MODULE}/@v/fix%231.info",
    f"/goproxy/open/{MODULE}/@v/a%2Fb.info",
    "/goproxy/open/example.com/%7Ex/@v/v1.0.0%2Bincompatible.info",
    f"/goproxy/closed/{MODULE}/@v/list",
    "/goproxy/nobody/../open/x",
    "/healthz",
    "/api/v1/tenants",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_path_reaches_moorage_as_it_came(front: Front, site: Site, target: str) -> None:
    direct = await site.ask(target, headers={"Host": NAME})
    got = await front.ask(target)
    assert same(got, direct), (got.status, direct.status, got.body[:200], direct.body[:200])


async def test_a_clients_tenant_header_is_removed(front: Front, site: Site) -> None:
    target, headers = f"/goproxy/{MODULE}/@v/list", {"Host": NAME, "X-Tenant-ID": "open"}
    # From the proxy's address the header is believed.
    assert (await site.ask(target, headers=headers)).status == 200
    got = await front.ask(target, headers=headers)
    assert got.status == 400
    assert "names no tenant" in got.text


async def test_a_token_reaches_moorage(front: Front, site: Site) -> None:
    _, secret = await add_token(site.services, "closed", {Scope.READ}, name=front.name)
    target = f"/goproxy/closed/{MODULE}/@v/list"
    assert (await front.ask(target)).status == 401
    assert (await front.ask(target, headers=bearer(secret))).text == "v1.0.0\n"


async def test_moorage_learns_the_clients_own_address(front: Front, log: Log) -> None:
    spoofed = {"X-Forwarded-For": "203.0.113.9"}
    await front.ask(f"/dl/{FILE}", "HEAD", client="127.0.0.2")
    await front.ask(f"/dl/{FILE}", "HEAD", spoofed, client="127.0.0.3")
    clients = [line["client"] for line in log.events("request")]
    assert clients == ["127.0.0.2", "127.0.0.3"]


async def test_a_body_of_the_admin_api_passes_and_a_larger_one_is_refused(
    front: Front, site: Site
) -> None:
    headers = {**bearer(site.secret), "Content-Type": "application/json"}
    body = b'{"name": "' + b"a" * 1_000_000 + b'"}'
    direct = await site.ask("/api/v1/tenants", "POST", {"Host": NAME, **headers}, body)
    got = await front.ask("/api/v1/tenants", "POST", headers, body)
    assert (got.status, got.body) == (direct.status, direct.body)
    too_large = await front.ask("/api/v1/tenants", "POST", headers, body * 2)
    assert too_large.status == 413


async def test_http_leads_to_https(front: Front) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.plain_port)
    caller = Caller(reader, writer)
    await caller.send(request("/dl/?mode=json", headers={"Host": NAME, "Connection": "close"}))
    got = await caller.response()
    await caller.close()
    assert got.status == 308
    location = got.header("location") or ""
    assert location.startswith(f"https://{NAME}")
    assert location.endswith("/dl/?mode=json")


async def test_http_2_works(front: Front, site: Site, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        program("curl"),
        *("-fsS", "--http2", "--cacert", str(front.ca_file), "-w", "%{http_version}"),
        *("--resolve", f"{NAME}:{front.port}:127.0.0.1", "-o", str(tmp_path / "got")),
        f"https://{NAME}:{front.port}/goproxy/open/{MODULE}/@v/v1.0.0.zip",
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"2")
    direct = await site.ask(f"/goproxy/open/{MODULE}/@v/v1.0.0.zip")
    assert (tmp_path / "got").read_bytes() == direct.body


@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_without_moorage_the_proxy_says_so_in_one_line(name: str, tmp_path: Path) -> None:
    async with fronted(name, tmp_path, free_port()) as front:
        got = await front.ask(f"/goproxy/open/{MODULE}/@v/list")
    assert got.status == (503 if name == "haproxy" else 502)
    assert got.header("content-type") == "text/plain; charset=utf-8"
    assert got.header("retry-after") == "10"
    assert got.text == "Moorage does not answer this proxy; try again, or tell its operators\n"
