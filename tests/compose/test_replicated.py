"""The environment of docker-compose.yml's profile "replicated", run as processes of this machine.

PostgreSQL and HAProxy are the real ones, the S3 store is moto's. Addresses, ports and folders are
replaced; every other setting is the file's.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.compose.composition import FILES, environment, make_secrets, services
from tests.e2e.process import Reply, Server, Site, free_port, names, wait_until
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.s3 import FakeS3, make_bucket
from tests.fakes.signer import Signer

FILE = archive_name("go1.99.1", "linux", "amd64")
DATA = go_archive("go1.99.1", "linux", "amd64")


@dataclass(frozen=True)
class Harbour:
    """Both replicas, and HAProxy in front of them."""

    one: Server
    two: Server
    port: int

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> Reply:
        """Return HAProxy's answer."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, headers)
            with connection.getresponse() as answer:
                return Reply(answer.status, answer.headers, answer.read())


def replaced(environ: dict[str, str], changes: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Return variables of which some have a text replaced that must be in them."""
    for name, (old, new) in changes.items():
        assert old in environ[name], name
        environ = environ | {name: environ[name].replace(old, new)}
    return environ


def site(
    folder: Path, service: str, secrets: Path, fake: FakeGodev, signer: Signer, **own: Any
) -> Site:
    """Return an installation with a service's environment; `own` has this machine's addresses."""
    environ = environment(services("replicated")[service], secrets)
    environ = replaced(
        environ,
        {
            "MOORAGE_DATABASE_URL": (environ["MOORAGE_DATABASE_URL"], own["database_url"]),
            "MOORAGE_STORAGE__S3__ENDPOINT": ("http://172.31.240.10:8333", own["endpoint"]),
            "MOORAGE_NETWORK__ALLOW": ("172.31.240.10/32:8333", "127.0.0.0/8"),
            "MOORAGE_NETWORK__GATEWAYS": ("172.31.240.20/32", "127.0.0.1/32"),
            "MOORAGE_METRICS__PORT": ("9464", str(free_port())),
        },
    )
    folder.mkdir()
    upstream = Site.new(folder, fake, signer).without(
        "MOORAGE_NETWORK__ALLOW", "MOORAGE_LOG_FORMAT"
    )
    machine = names(port=free_port(), host="127.0.0.1")
    return Site(folder, {**upstream.environ, **environ, **machine})


@contextmanager
def haproxy(folder: Path, one: Site, two: Site) -> Iterator[int]:
    """Return a context with HAProxy's port."""
    port = free_port()
    text = (FILES / "haproxy.cfg").read_text()
    changes = {
        "bind :8080": f"bind 127.0.0.1:{port}",
        "replica-one:8080": f"127.0.0.1:{one.environ['MOORAGE_PORT']}",
        "replica-two:8080": f"127.0.0.1:{two.environ['MOORAGE_PORT']}",
        "inter 2s": "inter 100ms",
        "maxconn 16384": "maxconn 512",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "haproxy.cfg").write_text(text)
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=log
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def harbour(
    tmp_path: Path, warm: Warm, s3: FakeS3, fake: FakeGodev, signer: Signer
) -> Iterator[Harbour]:
    if (reason := postgres.reason_to_skip()) is not None:
        pytest.skip(reason)
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    secrets = tmp_path / "secrets"
    make_secrets(secrets)
    bucket = services("replicated")["migrate"]["environment"]["MOORAGE_STORAGE__URL"].split("/")[2]
    make_bucket(s3.endpoint, bucket)
    fake.put_file(FILE, DATA, signature=signer.sign(DATA))
    with ExitStack() as stack:
        url = stack.enter_context(postgres.cluster().database())
        sites = {
            name: site(
                tmp_path / name, name, secrets, fake, signer, database_url=url, endpoint=s3.endpoint
            )
            for name in ("migrate", "replica-one", "replica-two")
        }
        (command,) = services("replicated")["migrate"]["command"]
        migrated = warm.run(sites["migrate"], command)
        assert migrated.code == 0, migrated
        one, two = (
            stack.enter_context(warm.serve(sites[name], ready=False))
            for name in ("replica-one", "replica-two")
        )
        port = stack.enter_context(haproxy(tmp_path, one.site, two.site))
        one.wait_ready()
        two.wait_ready()
        yield Harbour(one, two, port)


def first_token(harbour: Harbour) -> str:
    """Return the admin token, which the first of the replicas has printed."""
    printed = [one for one in (harbour.one, harbour.two) if "Admin token" in one.err]
    assert len(printed) == 1
    return printed[0].token


@pytest.mark.slow
def test_the_replicated_profile_serves(harbour: Harbour, fake: FakeGodev) -> None:
    one, two = harbour.one, harbour.two
    token = first_token(harbour)
    wait_until(lambda: harbour.ask("GET", "/readyz").status == 200, "HAProxy finds a replica")

    # A change through HAProxy holds on both.
    made = harbour.ask("POST", "/api/v1/tenants", {"name": "acme"}, token)
    assert made.status == 201, made
    headers = {"Authorization": f"Bearer {token}"}
    for replica in (one, two):
        assert replica.get("/api/v1/tenants/acme", **headers).json["name"] == "acme"

    # What one replica has fetched the other has from the store.
    assert one.get(f"/dl/{FILE}").body == DATA
    fake.remove(FILE)
    assert two.get(f"/dl/{FILE}").body == DATA

    # Metrics are on a listener of their own.
    for replica in (one, two):
        port = int(replica.site.environ["MOORAGE_METRICS__PORT"])
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", "/metrics")
            with connection.getresponse() as answer:
                assert b"moorage_" in answer.read()
        assert replica.get("/metrics").status == 404

    # One replica ends, and HAProxy goes on with the other.
    one.stop()
    wait_until(lambda: harbour.ask("GET", f"/dl/{FILE}").body == DATA, "the other replica")
