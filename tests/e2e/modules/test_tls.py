"""The real go and curl with `moorage tls self-signed`: TLS by Moorage itself, two workers."""

import json
import shutil
import subprocess
import urllib.request
from pathlib import Path

from app.services.assembly import Services
from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import SIGNED_IN, add_tenant, add_token, arranged, netrc, site_for
from tests.e2e.process import free_port, wait_until
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_go_signs_in_by_netrc_over_the_services_own_TLS(
    warm: Warm, make_go: MakeGo, tmp_path: Path
) -> None:
    tokens: list[str] = []

    async def arrange(services: Services) -> None:
        await add_tenant(services, "acme", is_open=False)
        tokens.append(await add_token(services, "acme"))

    port, metrics_port = free_port(), free_port()
    with FakeGoproxy([module(SIGNED_IN, "v1.0.0")]) as fake:
        site = site_for(tmp_path / "site", fake, workers=2, port=port, metrics__port=metrics_port)
        site.folder.mkdir()
        made = warm.run(site, "tls", "self-signed", "certs", "--json")
        assert made.code == 0, made
        files = json.loads(made.out)
        arranged(site, arrange)
        secured = site.but(tls__cert_file=files["cert_file"], tls__key_file=files["key_file"])
        with warm.serve(secured, ready=False) as server:
            wait_until(lambda: server.ended() or is_ready(metrics_port), "readiness")
            account = f"login ci password {tokens[0]}"
            # go looks for the host with its port, curl for the host alone.
            hosts = (f"localhost:{port}", "localhost")
            entry = netrc(tmp_path, *(f"machine {host} {account}" for host in hosts))
            goproxy = f"https://localhost:{port}/goproxy/acme"
            go = make_go(goproxy, SSL_CERT_FILE=files["ca_file"], NETRC=entry)
            go.out("get", SIGNED_IN)
            assert SIGNED_IN in go.go_mod()
            unknown = make_go(goproxy, NETRC=entry).run("get", SIGNED_IN)
            assert "certificate" in unknown.err
            asked = warm.run(secured, "health", "--json")
            assert json.loads(asked.out)["status"] == "ready", asked
            if shutil.which("curl"):
                url = f"{goproxy}/{SIGNED_IN}/@v/list"
                command = ["curl", "-fsS", "--cacert", files["ca_file"], "--netrc-file", entry, url]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                assert done.stdout == "v1.0.0\n"
            metrics = f"http://127.0.0.1:{metrics_port}/metrics"
            with urllib.request.urlopen(metrics) as answer:
                assert b"moorage_http_requests_total" in answer.read()
