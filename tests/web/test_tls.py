"""TLS without a proxy, and the listener for metrics, over real sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.process import free_port
from tests.fakes.archives import go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.fakes.tls import Authority
from tests.web.conftest import settings_for
from tests.web.wire import Caller, Got, Site, request, serving

FILE = "go1.99.2.linux-amd64.tar.gz"


@dataclass(frozen=True)
class Secured:
    """A site with TLS.

    Attributes:
        data: the bytes of FILE.
        plain_port: of the listener for metrics.
    """

    site: Site
    authority: Authority
    certificate: Path
    data: bytes
    plain_port: int

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Caller]:
        trusted = ssl.create_default_context(cadata=self.authority.pem.decode())
        streams = await asyncio.open_connection(
            "127.0.0.1", self.site.port, ssl=trusted, server_hostname="localhost", limit=2**25
        )
        caller = Caller(*streams)
        try:
            yield caller
        finally:
            await caller.close()

    async def ask(self, target: str, method: str = "GET", **headers: str) -> Got:
        async with self.calling() as caller:
            await caller.send(request(target, method, headers))
            return await caller.response(method)


@pytest.fixture(scope="module")
async def secured(
    signer: Signer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority.new()
    certificate = folder / "server.pem"
    certificate.write_bytes(authority.server())
    certificate.chmod(0o600)
    plain_port = free_port()
    with FakeGodev() as fake:
        data = go_archive("go1.99.2", extra_bytes=6 << 20)
        fake.put_file(FILE, data, signature=signer.sign(data))
        settings = settings_for(
            fake,
            signer,
            folder,
            tls={"cert_file": certificate},
            metrics={"port": plain_port},
        )
        async with serving(settings) as site:
            await site.services.releases.reader.refresh()
            await site.services.releases.ingestion.ensure(FILE)
            yield Secured(site, authority, certificate, data, plain_port)


async def test_an_archive_comes_whole_and_in_parts(secured: Secured) -> None:
    whole = await secured.ask(f"/dl/{FILE}")
    assert (whole.status, whole.body) == (200, secured.data)
    part = await secured.ask(f"/dl/{FILE}", Range="bytes=1000000-5999999")
    assert (part.status, part.body) == (206, secured.data[1_000_000:6_000_000])
    assert (await secured.ask(f"/dl/{FILE}", "HEAD")).status == 200


async def test_links_of_a_page_are_https(secured: Secured) -> None:
    page = await secured.ask("/", Host="moorage.example:8443")
    assert "https://moorage.example:8443/" in page.text
    assert "http://moorage.example" not in page.text


async def test_prepared_answers_share_a_connection(secured: Secured) -> None:
    target = f"/dl/{FILE}.sha256"
    first = await secured.ask(target)
    async with secured.calling() as caller:
        for _ in range(3):
            await caller.send(request(target))
            assert (await caller.response("GET")).body == first.body


async def test_a_malformed_request_is_refused_with_its_line(secured: Secured) -> None:
    # TLS can't be closed by half: what the client still sends must not destroy the refusal.
    async with secured.calling() as caller:
        await caller.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + b"x" * 300_000)
        answer = b""
        while piece := await caller.read(2**16):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"the request has more than one Host\n")


async def test_a_client_that_stalls_is_cut(secured: Secured) -> None:
    async with secured.calling() as caller:
        await caller.send(b"GET / HTTP/1.1\r\n")
        assert (await secured.ask("/healthz")).status == 200
        secured.site.let_pass(0)
        secured.site.let_pass(secured.site.application.limits.header_s + 1)
        assert (await caller.response("GET")).status == 408


async def test_a_renewed_certificate_is_served_without_a_lost_connection(
    secured: Secured,
) -> None:
    async with secured.calling() as caller:
        await caller.send(request("/healthz"))
        assert (await caller.response("GET")).status == 200
        before = caller.certificate()
        renewed = secured.certificate.with_suffix(".new")
        renewed.write_bytes(secured.authority.server())
        renewed.chmod(0o600)
        renewed.rename(secured.certificate)
        certificate = secured.site.application.certificate
        assert certificate is not None
        assert certificate.refresh()
        await caller.send(request(f"/dl/{FILE}"))
        assert (await caller.response("GET")).body == secured.data
        async with secured.calling() as later:
            assert later.certificate() != before
    assert (await secured.ask("/readyz")).status == 200


async def test_metrics_are_on_a_listener_of_their_own(secured: Secured) -> None:
    async def plain(target: str, method: str = "GET") -> Got:
        caller = Caller(*await asyncio.open_connection("127.0.0.1", secured.plain_port))
        await caller.send(request(target, method, {"Connection": "close"}))
        got = await caller.response(method)
        await caller.close()
        return got

    got = await secured.ask("/metrics")
    assert (got.status, "listener of their own" in got.text) == (404, True)
    metrics = await plain("/metrics")
    assert metrics.status == 200
    assert "\nmoorage_tls_certificate_expiry_timestamp_seconds 1" in metrics.text
    assert (await plain("/readyz")).status == 200
    assert (await plain("/version")).status == 200
    for target in ("/", "/dl/", f"/dl/{FILE}", "/api/v1/tenants", "/docs"):
        assert (await plain(target)).status == 404, target
    assert (await plain("/", "HEAD")).body == b""
