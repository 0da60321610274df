"""The image as a pod of the chart: its environment, and volumes as Kubernetes mounts them."""

import json
import os
import ssl
from pathlib import Path
from typing import Any

from tests import postgres
from tests.charts.rendering import REPLICATED, only
from tests.fakes.s3 import FakeS3, make_bucket
from tests.fakes.tls import Authority
from tests.image.building import Builder
from tests.image.container import Container
from tests.image.report import Report, free_port, status_of, until

GROUP = 65532  # fsGroup


def volume(folder: Path) -> Path:
    """Return a new volume as a pod with an fsGroup has it: of root, for the group."""
    folder.mkdir()
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2775)
    return folder


def secret(folder: Path, **files: bytes) -> Path:
    """Return a mounted Secret with defaultMode 0400: links to files of root, 0440 for the group."""
    (folder / "..data").mkdir(parents=True)
    for name, content in files.items():
        file = folder / "..data" / name.replace("_", ".")
        file.write_bytes(content)
        os.chown(file, 0, GROUP)
        file.chmod(0o440)
        (folder / file.name).symlink_to(f"..data/{file.name}")
    return folder


def check_pod(report: Report, builder: Builder, image: Path) -> None:
    """Run the pod of mode single, with TLS; then ask its health without the plain listener."""
    authority = Authority.new()
    pair = authority.server(("127.0.0.1",))
    key, _, rest = pair.partition(b"-----END PRIVATE KEY-----\n")
    folder = builder.folder / f"pod-{os.getpid()}"
    folder.mkdir()
    mounts = {
        "/data": volume(folder / "data"),
        "/etc/moorage/tls": secret(
            folder / "tls", tls_crt=rest, tls_key=key + b"-----END PRIVATE KEY-----\n"
        ),
    }
    container = Container(image, builder.config(), mounts)
    values = {"tls": {"existingSecret": "moorage-tls"}}
    port, metrics = free_port(), free_port()
    own = {"MOORAGE_PORT": str(port), "MOORAGE_METRICS__PORT": str(metrics)}
    environ: dict[str, str] = only("ConfigMap", values)["data"] | own | {"MOORAGE_DRAIN_S": "0"}
    trust = ssl.create_default_context(cadata=authority.pem.decode())
    running = container.start("serve", log=folder / "pod.log", **environ)
    try:
        ready = until(lambda: status_of(metrics) == 200)
        report.claim("a pod of the chart becomes ready", ready, "" if ready else running)
        report.claim("its liveness probe is answered", status_of(metrics, "/healthz") == 200)
        report.claim("it speaks TLS with a mounted Secret", status_of(port, trust=trust) == 200)
        done = container.run("moorage", "health", **environ)
        report.claim("the health check asks the plain listener", done.returncode == 0, done.stderr)
        environ.pop("MOORAGE_METRICS__PORT")
        done = container.run("moorage", "health", **environ)
        report.claim("the health check asks by TLS, too", done.returncode == 0, done.stderr)
        made = container.run("moorage", "token", "create", "--platform", "--name", "a", **environ)
        report.claim("a token is made in it", "moor_" in made.stdout, made.stderr.strip())
        running.terminate()
        code = running.process.wait(60)
        report.claim("the pod ends with 0", code == 0, "" if code == 0 else running)
    finally:
        running.kill()


def check_replica(report: Report, builder: Builder, image: Path) -> None:
    """Run the Job and a pod of mode replicated, on a real PostgreSQL and moto's S3."""
    if (reason := postgres.reason_to_skip()) is not None:
        report.claim(f"a replica is not tried: {reason}", False)
        return
    folder = builder.folder / f"replica-{os.getpid()}"
    folder.mkdir()
    container = Container(image, builder.config(), {"/data": volume(folder / "data")})
    cluster = postgres.cluster()
    cluster.folder.chmod(0o711)  # the pod's user comes through to the socket
    with FakeS3() as s3, cluster.database() as url:
        make_bucket(s3.endpoint, "moorage")
        values = REPLICATED | {
            "storage": {"url": "s3://moorage/prod", "s3": {"endpoint": s3.endpoint}},
            "settings": {"MOORAGE_NETWORK__ALLOW": ["127.0.0.0/8"], "MOORAGE_DRAIN_S": 0},
        }
        port, metrics = free_port(), free_port()
        own = {
            "MOORAGE_PORT": str(port),
            "MOORAGE_METRICS__PORT": str(metrics),
            "MOORAGE_DATABASE_URL": url,
            "MOORAGE_SECRETS_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
            "MOORAGE_STORAGE__S3__ACCESS_KEY": "access",
            "MOORAGE_STORAGE__S3__SECRET_KEY": "secret",
        }
        (job,) = only("Job", values)["spec"]["template"]["spec"]["containers"]
        done = container.run("moorage", *job["args"], **(plain(job) | own))
        report.claim("the Job migrates PostgreSQL", done.returncode == 0, done.stdout + done.stderr)
        (pod,) = only("Deployment", values)["spec"]["template"]["spec"]["containers"]
        environ = only("ConfigMap", values)["data"] | plain(pod) | own
        running = container.start(*pod["args"], log=folder / "pod.log", **environ)
        try:
            ready = until(lambda: status_of(metrics) == 200)
            report.claim("a replica becomes ready", ready, "" if ready else running)
            backup = ("moorage", "backup", "create", "--store", "/data/backup", "--json")
            done = container.run(*backup, **environ)
            kind = json.loads(done.stdout or "{}").get("id", done.stderr.strip())
            report.claim("a backup of PostgreSQL is made in it", done.returncode == 0, kind)
            for command in (("git", "--version"), ("ssh", "-V"), ("whoami",)):
                done = container.run(*command)
                text = (done.stdout + done.stderr).strip()
                report.claim(" ".join(command), done.returncode == 0, text)
            running.terminate()
            code = running.process.wait(60)
            report.claim("the replica ends with 0", code == 0, "" if code == 0 else running)
        finally:
            running.kill()


def plain(container: dict[str, Any]) -> dict[str, str]:
    """Return the variables that a container has by value."""
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}
