"""The image as a pod of the chart: its environment, and volumes as Kubernetes mounts them."""

import os
import ssl
from pathlib import Path

from tests.charts.rendering import only
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
