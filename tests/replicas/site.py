"""Two replicas with folders of their own, one PostgreSQL, one S3 store, HAProxy in front."""

import base64
import http.client
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from tests.e2e.process import Ended, Server, Site, free_port, wait_until
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.s3 import make_bucket
from tests.fakes.s3faults import S3FaultProxy
from tests.postgres import Cluster

TENANT = "acme"
BUCKET = "moorage"

_HAPROXY = """
global
    log stderr format raw local0 notice
defaults
    mode http
    timeout http-request 10s
    timeout client 60s
    timeout connect 5s
    timeout server 900s
    retries 0
    http-error status 502 content-type "text/plain" string "no answer\\n" hdr Retry-After 1
    http-error status 503 content-type "text/plain" string "no answer\\n" hdr Retry-After 1
    http-error status 504 content-type "text/plain" string "no answer\\n" hdr Retry-After 1
frontend moorage
    bind 127.0.0.1:{port}
    http-request set-header X-Forwarded-For %[src]
    http-request del-header X-Tenant-ID
    default_backend moorage
backend moorage
    option httpchk GET /readyz
    balance roundrobin
{servers}
"""


class Replica:
    """One replica, which can be killed and started again on the same port."""

    def __init__(self, site: Site, port: int) -> None:
        self.site = site.but(port=port)
        self.port = port
        self._contexts: list[AbstractContextManager[Server]] = []
        self.servers: list[Server] = []
        self.start()

    @property
    def server(self) -> Server:
        """Its present life."""
        return self.servers[-1]

    def kill(self) -> None:
        """End it as a machine that loses power would."""
        self.server.kill()

    def start(self) -> None:
        """Start it anew."""
        # Kept: a context that is thrown away ends its server.
        self._contexts.append(self.site.serve(ready=False))
        self.servers.append(self._contexts[-1].__enter__())

    def is_ready(self) -> bool:
        """Whether it says that it is ready."""
        return answers(self.port, "/readyz")

    def stop(self) -> None:
        """End it as its service manager would."""
        if not self.server.is_ended:
            self.server.send(signal.SIGTERM)
            self.server.process.wait(120)
            self.server.is_ended = True

    def tracebacks(self) -> int:
        """Return how many lines of its logs, of all its lives, have a traceback."""
        logs = [server.logs.with_suffix(".out") for server in self.servers]
        return sum(log.read_text(errors="replace").count("Traceback") for log in logs)

    def signal_all(self, number: int) -> None:
        """Send a signal to all its processes."""
        for pid in self.server.left_behind():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def events(self, name: str) -> list[dict[str, object]]:
        """Return what it logged under a name, in all its lives."""
        return [e for server in self.servers for e in _events(server) if e["event"] == name]


class Replicated:
    """All of it."""

    def __init__(
        self,
        folder: Path,
        cluster: Cluster,
        endpoint: str,
        faults: S3FaultProxy,
        upstream: FakeGoproxy,
    ) -> None:
        self.folder, self.cluster, self.faults, self.upstream = folder, cluster, faults, upstream
        make_bucket(endpoint, BUCKET)
        settings = {
            "database_url": cluster.url(cluster.create()),
            "secrets_key": base64.b64encode(b"k" * 32).decode(),
            "storage__url": f"s3://{BUCKET}/moorage",
            "storage__s3__endpoint": faults.endpoint,
            "storage__s3__region": "us-east-1",
            "storage__s3__access_key": "access",
            "storage__s3__secret_key": "secret",
            "storage__cache_bytes": 64 << 20,
            "network__allow": ["127.0.0.0/8"],
            "network__tenant_hosts": ["127.0.0.1"],
            "network__gateways": ["127.0.0.1/32"],
            "releases__index_url": f"{upstream.base_url}/no-index/",
            "releases__files_urls": [f"{upstream.base_url}/no-files/"],
            "log_level": "info",
            "sumdb__log_name": "sum.replicas.example/{tenant}",
        }
        sites = []
        for name in ("one", "two"):
            (folder / name).mkdir(parents=True)
            sites.append(Site.new(folder / name, **settings))
        done(sites[0].run("migrate"))
        done(
            sites[0].run(
                *(
                    "tenant",
                    "create",
                    TENANT,
                    "--default",
                    "allow",
                    "--anonymous-read",
                    "--no-route",
                )
            )
        )
        done(
            sites[0].run(
                "route", "add", "example.com", upstream.url, "--tenant", TENANT, "--private"
            )
        )
        self.vkey = done(sites[0].run("sumdb", "create", "--tenant", TENANT, "--json")).json["vkey"]
        self.replicas = [Replica(site, free_port()) for site in sites]
        self.port = free_port()

    @property
    def goproxy(self) -> str:
        """The value of GOPROXY: through HAProxy."""
        return f"http://127.0.0.1:{self.port}/goproxy/{TENANT}"

    def wait_ready(self) -> None:
        """Return once both replicas are ready."""
        for replica in self.replicas:
            replica.server.wait_ready()

    @contextmanager
    def in_front(self) -> Iterator[None]:
        """Run HAProxy."""
        program = shutil.which("haproxy")
        if program is None:
            raise SystemExit("haproxy is not installed")
        servers = "\n".join(
            f"    server r{number} 127.0.0.1:{replica.port} check inter 500ms fall 1 rise 1"
            for number, replica in enumerate(self.replicas)
        )
        path = self.folder / "haproxy.cfg"
        path.write_text(_HAPROXY.format(port=self.port, servers=servers))
        with (self.folder / "haproxy.log").open("wb") as log:
            process = subprocess.Popen([program, "-db", "-f", str(path)], stderr=log, stdout=log)
        try:
            wait_until(lambda: answers(self.port, "/readyz"), "HAProxy")
            yield
        finally:
            process.terminate()
            process.wait(30)

    def run(self, *arguments: str) -> Ended:
        """Run a command of the first replica's installation."""
        return self.replicas[0].site.run(*arguments, timeout_s=600)


def answers(port: int, path: str) -> bool:
    """Whether a GET is answered by 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def done(ended: Ended) -> Ended:
    """Return a command that worked."""
    if ended.code:
        raise SystemExit(f"exit code {ended.code}\n{ended.out}\n{ended.err}")
    return ended


def _events(server: Server) -> list[dict[str, object]]:
    events = []
    for line in server.logs.with_suffix(".out").read_text(errors="replace").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:  # the last line of a process that was killed
            continue
    return events
