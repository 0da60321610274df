"""TLS before a fake: what a strict client accepts, and what it refuses (F57)."""

import contextlib
import http.client
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.gocommand import Go, shared_build_cache
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy, basic
from tests.fakes.modules import module
from tests.fakes.tls import Authority, Flaw, TlsFront

HELLO = "example.com/hello"
ZIP = f"/{HELLO}/@v/v1.0.0.zip"


@pytest.fixture
def fake() -> Iterator[FakeGoproxy]:
    with FakeGoproxy([module(HELLO, "v1.0.0", padding_bytes=300_000)]) as started:
        yield started


def trusting(front: TlsFront) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=front.ca_file)


def get(front: TlsFront, path: str, host: str = "localhost") -> bytes:
    url = f"https://{host}:{front.port}{path}"
    with urllib.request.urlopen(url, context=trusting(front), timeout=10) as answer:
        body: bytes = answer.read()
        return body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_bytes_come_through_for_both_names(fake: FakeGoproxy, host: str) -> None:
    with TlsFront(fake.base_url) as front:
        assert get(front, ZIP, host) == module(HELLO, "v1.0.0", padding_bytes=300_000).zip
        assert front.connections == 1


def test_only_http_1_1_is_offered(fake: FakeGoproxy) -> None:
    with TlsFront(fake.base_url) as front:
        context = trusting(front)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", front.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            assert secured.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(
    ("flaw", "complaint"),
    [
        pytest.param(Flaw.EXPIRED, "certificate has expired", id="F57-expired"),
        pytest.param(Flaw.WRONG_NAME, "Hostname mismatch", id="F57-wrong-name"),
        pytest.param(Flaw.SELF_SIGNED, "certificate verify failed", id="F57-self-signed"),
        pytest.param(Flaw.OLD_TLS, "protocol", id="F57-tls-1.0"),
    ],
)
def test_a_flaw_is_refused_by_a_strict_client(
    fake: FakeGoproxy, flaw: Flaw, complaint: str
) -> None:
    with (
        TlsFront(fake.base_url, flaw=flaw) as front,
        pytest.raises(urllib.error.URLError, match=complaint),
    ):
        get(front, ZIP)
    assert not fake.requests


def test_one_authority_signs_for_several_fronts(fake: FakeGoproxy) -> None:
    authority = Authority.new()
    with (
        TlsFront(fake.base_url, authority=authority) as one,
        TlsFront(fake.base_url, authority=authority) as two,
    ):
        assert one.ca_file.read_bytes() == two.ca_file.read_bytes()


def test_an_answer_that_is_cut_behind_is_cut_in_front(fake: FakeGoproxy) -> None:
    fake.fault(ZIP, Fault.truncate(1000))
    with (
        TlsFront(fake.base_url) as front,
        pytest.raises((http.client.IncompleteRead, ConnectionError)),
    ):
        get(front, ZIP)


def test_nothing_listens_behind_gives_a_cut_connection_and_not_a_hang() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with TlsFront(port) as front, pytest.raises((OSError, http.client.HTTPException)):
        get(front, ZIP)


def test_leaving_ends_open_connections_and_removes_files_and_thread(fake: FakeGoproxy) -> None:
    fake.fault(ZIP, Fault.stall(10))
    before = set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        with TlsFront(fake.base_url) as front:
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", front.port)))
            secured = stack.enter_context(
                trusting(front).wrap_socket(plain, server_hostname="localhost")
            )
            secured.sendall(f"GET {ZIP} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            fake.wait_until(lambda: fake.stalled == 1)
            folder = front.ca_file.parent
        assert not folder.exists()
        new = set(threading.enumerate()) - before
        assert "TlsFront" not in {thread.name for thread in new}


def test_go_sends_the_credential_of_netrc_over_tls(
    fake: FakeGoproxy, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    fake.credential = basic("user", "secret")
    with TlsFront(fake.base_url) as front:
        netrc = tmp_path / "netrc"
        netrc.write_text(f"machine localhost:{front.port} login user password secret\n")
        cache = shared_build_cache(pytestconfig)
        go = Go(tmp_path, front.url, build_cache=cache, SSL_CERT_FILE=front.ca_file)
        go.new_module()
        assert go.run("get", HELLO).code == 1
        go.but(NETRC=netrc).out("get", HELLO)
