"""Pull the real go1.23.1 by skopeo and buildah over TLS, with and without a token.

    .venv/bin/python -m tests.containers [--conformance PROGRAM] [--folder FOLDER]

Needs root, Debian's skopeo and buildah, and the official archives beside the checkout.
"""

import argparse
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conftest import UPSTREAM
from tests.e2e.process import Server, Site
from tests.fakes.godev import FakeGodev
from tests.fakes.tls import TlsFront

VERSION = "1.23.1"
LAYER = "sha256:49bbb517cfa9eee677e1e7897f7cf9cfdbcf49e05f61984a2789136de359f9bd"


class Clients:
    """skopeo and buildah with folders of their own.

    Args:
        folder: for all that they keep.
        front: what is in front of the registry.
    """

    def __init__(self, folder: Path, front: TlsFront) -> None:
        self.folder = folder
        self.registry = front.url.removeprefix("https://")
        self._certs = folder / "certs"
        self._certs.mkdir()
        shutil.copy(front.ca_file, self._certs / "ca.crt")
        self._login: list[str] = []

    def log_in(self, secret: str) -> None:
        """Present a token from now on."""
        self._login = [f"--creds=moorage:{secret}"]

    def image(self, tag: str = VERSION) -> str:
        return f"{self.registry}/go:{tag}"

    def skopeo(self, command: str, *arguments: str, of: str = "") -> str:
        """Run skopeo; `of` is "src-" for a command with two images."""
        login = [one.replace("--creds", f"--{of}creds") for one in self._login]
        return self._run("skopeo", command, f"--{of}cert-dir={self._certs}", *login, *arguments)

    def buildah(self, command: str, *arguments: str, pulls: bool = True) -> str:
        store = [f"--root={self.folder}/store", f"--runroot={self.folder}/run"]
        access = [f"--cert-dir={self._certs}", *self._login] if pulls else []
        return self._run("buildah", *store, "--storage-driver=vfs", command, *access, *arguments)

    def _run(self, *command: str) -> str:
        env = os.environ | {"BUILDAH_ISOLATION": "chroot", "HOME": str(self.folder)}
        done = subprocess.run(
            command, env=env, cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()


def check(claim: bool, what: str) -> None:
    """Print what was seen, or end."""
    if not claim:
        raise SystemExit(f"NOT SO: {what}")
    print(f"seen: {what}", flush=True)


def pull(clients: Clients) -> None:
    """See skopeo inspect and copy the image, and buildah build from it."""
    shown = json.loads(clients.skopeo("inspect", f"docker://{clients.image()}"))
    check(shown["Layers"] == [LAYER], f"skopeo inspect: the layer is {LAYER}")
    started = time.monotonic()
    copy = clients.folder / "oci"
    clients.skopeo("copy", f"docker://{clients.image()}", f"oci:{copy}:{VERSION}", of="src-")
    blob = copy / "blobs" / "sha256" / LAYER.removeprefix("sha256:")
    digest = hashlib.sha256(blob.read_bytes()).hexdigest()
    check(f"sha256:{digest}" == LAYER, f"skopeo copy, {time.monotonic() - started:.1f} s")
    container = clients.buildah("from", clients.image())
    said = clients.buildah("run", container, "--", "/go/bin/go", "version", pulls=False)
    check(said == f"go version go{VERSION} linux/amd64", f"buildah from, run: {said}")
    (clients.folder / "Containerfile").write_text(
        f"FROM scratch\nCOPY --from={clients.image('1.23')} /go /usr/local/go\n"
    )
    clients.buildah("build", "--tag=built", ".")
    built = clients.buildah("from", "built", pulls=False)
    said = clients.buildah("run", built, "--", "/usr/local/go/bin/go", "version", pulls=False)
    check(said == f"go version go{VERSION} linux/amd64", f"COPY --from: {said}")
    clients.buildah("rm", "--all", pulls=False)
    clients.buildah("rmi", "--all", "--force", pulls=False)
    shutil.rmtree(copy)


def conform(program: str, server: Server, folder: Path) -> None:
    """Run the distribution-spec's own tests, as far as they are about pulling."""
    index = _json(server, f"manifests/{VERSION}")
    manifest = index["manifests"][0]["digest"]
    config = _json(server, f"manifests/{manifest}")["config"]["digest"]
    env = {
        "OCI_REGISTRY": server.url.removeprefix("http://"),
        "OCI_TLS": "disabled",
        "OCI_REPO1": "go",
        "OCI_REPO2": "go",
        "OCI_API_PUSH": "false",
        "OCI_API_BLOBS_DELETE": "false",
        "OCI_API_MANIFESTS_DELETE": "false",
        "OCI_API_TAGS_DELETE": "false",
        "OCI_API_BLOBS_MOUNT_ANONYMOUS": "false",
        "OCI_RO_DATA_TAGS": f"{VERSION} 1.23",
        "OCI_RO_DATA_MANIFESTS": manifest,
        "OCI_RO_DATA_BLOBS": f"{config} {LAYER}",
        "OCI_RO_DATA_REFERRERS": manifest,
    }
    done = subprocess.run(
        [program], env=os.environ | env, cwd=folder, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    print("\n".join(line for line in lines if line.strip().startswith("OCI Conformance Test")))
    # The exit code says nothing: some versions of the program crash while they write the report.
    check("OCI Conformance Result: Pass" in done.stdout, "the conformance tests for pulling pass")


def _json(server: Server, path: str) -> Any:
    with urllib.request.urlopen(f"{server.url}/v2/go/{path}") as answer:
        return json.load(answer)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """See all of it, on a mirror that is open and on one that is closed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conformance", metavar="PROGRAM", help="the built conformance tests")
    parser.add_argument("--folder", type=Path, help="where to work, else a temporary folder")
    arguments = parser.parse_args()
    missing = [name for name in ("skopeo", "buildah") if shutil.which(name) is None]
    if missing or not UPSTREAM.is_dir() or os.geteuid() != 0:
        sys.exit(f"skopeo, buildah, root and {UPSTREAM} are needed; missing programs: {missing}")
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as name,
        FakeGodev().from_directory(UPSTREAM) as godev,
    ):
        folder = Path(name)
        site = Site.new(folder, godev, **SETTINGS)
        site.run("migrate")
        synced = site.run("releases", "sync", f"go{VERSION}")
        check(
            synced.code == 0, f"the archive is mirrored: {synced.out.strip()} {synced.err.strip()}"
        )
        secret = ""  # the first start prints an admin's token
        for is_closed in (False, True):
            print("with a token:" if is_closed else "without a token:")
            port = free_port()
            more = {"port": port, "releases__images_need_token": is_closed}
            with (
                TlsFront(f"http://127.0.0.1:{port}") as front,
                site.but(public_url=front.url, **more).serve() as server,
            ):
                secret = secret or server.token
                work = folder / ("closed" if is_closed else "open")
                work.mkdir()
                clients = Clients(work, front)
                if is_closed:
                    clients.log_in(secret)
                pull(clients)
                if arguments.conformance and not is_closed:
                    conform(str(Path(arguments.conformance).absolute()), server, work)


SETTINGS: Mapping[str, Any] = {
    "releases__sha256_only": ["tar.gz"],
    "releases__select__minors": 0,
}

if __name__ == "__main__":
    main()
