"""`moorage health`: the health check of the container, and what the chart's own test runs."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tests.cli.port import Port
from tests.e2e.process import Site

READY = {"status": "ready", "checks": {"database": "ok"}, "notes": {"clock": "it is wrong"}}
UNREADY = {"status": "not ready", "checks": {"database": "locked"}, "notes": {}}


class Answering(BaseHTTPRequestHandler):
    """Answers every GET with the status and the body of the test."""

    status, body = 200, b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_ready_service_is_ready_in_both_ways(port: Port) -> None:
    settings = {
        "MOORAGE_HOST": "127.0.0.1",
        "MOORAGE_PORT": port.server.url.rpartition(":")[2],
        "MOORAGE_DATA_DIR": str(port.site.data_dir),
    }
    local = port.warm.run(Site(port.site.folder, settings), "health", "--json")
    remote = port.there("health", "--json")
    assert (local.code, local.json["status"]) == (0, "ready"), local
    assert remote == local
    assert local.json["checks"] == {"database": "ok", "storage": "ok", "keyring": "ok"}


@pytest.mark.parametrize(
    ("status", "answer", "code", "text"),
    [
        (200, READY, 0, "ready\n  database: ok\n  clock: it is wrong\n"),
        (503, UNREADY, 1, "not ready\n  database: locked\n"),
    ],
)
def test_what_readyz_says_is_printed_and_decides_the_exit_code(
    port: Port, listener: HTTPServer, status: int, answer: object, code: int, text: str
) -> None:
    Answering.status, Answering.body = status, json.dumps(answer).encode()
    site = Site(
        port.site.folder, {"MOORAGE_HOST": "0.0.0.0", "MOORAGE_PORT": str(listener.server_port)}
    )
    ended = port.warm.run(site, "health")
    assert (ended.code, ended.out) == (code, text), ended


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"status": "ready"}'])
def test_another_program_is_not_taken_for_moorage(
    port: Port, listener: HTTPServer, body: bytes
) -> None:
    Answering.status, Answering.body = 200, body
    site = Site(port.site.folder, {"MOORAGE_PORT": str(listener.server_port)})
    ended = port.warm.run(site, "health")
    assert (ended.code, ended.out, ended.err) == (1, "", "moorage: what answers is not Moorage\n")


def test_nobody_there_is_one_line(port: Port) -> None:
    ended = port.warm.run(Site(port.site.folder, {"MOORAGE_PORT": "9"}), "health")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "moorage: 127.0.0.1 port 9 does not answer: Connection refused\n"


def test_where_clients_need_a_certificate_the_plain_listener_is_asked(
    port: Port, listener: HTTPServer
) -> None:
    Answering.status, Answering.body = 200, json.dumps(READY).encode()
    tls = {"MOORAGE_TLS__CERT_FILE": "/a", "MOORAGE_TLS__CLIENT_CA_FILE": "/b"}
    ended = port.warm.run(Site(port.site.folder, tls), "health")
    assert (ended.code, ended.out) == (1, "")
    assert "set MOORAGE_METRICS__PORT" in ended.err
    metrics = {"MOORAGE_METRICS__PORT": str(listener.server_port)}
    assert port.warm.run(Site(port.site.folder, tls | metrics), "health").code == 0
