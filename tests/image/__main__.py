"""`make test-image`: build the image, run it read-only as uid 65532, look into its layers.

Ends with 0 if everything holds, with 1 if something does not, with 2 where it can't run. Takes some
minutes, and writes 2 GB below a temporary folder; `--folder` keeps the folder, and the base in it.
"""

import argparse
import hashlib
import http.client
import json
import os
import re
import stat
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import UPSTREAM
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import throwaway_signer
from tests.image.building import IMAGE, ROOT, Builder, missing
from tests.image.container import Container, Running
from tests.image.pod import check_pod, check_replica
from tests.image.report import Report, free_port, status_of, until

ARCHIVE = "go1.23.1.linux-amd64.tar.gz"
SBOM = "usr/share/doc/moorage/sbom.cdx.json"
_END_S = 60.0
_TOOLS = re.compile(r"(pip[0-9.]*|gcc[0-9.-]*|g\+\+|cc|c\+\+|ld|as|make|tcc|clang)")
_SECRETS = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}"
    rb"|moor_[a-z]*_?[A-Za-z0-9_-]{30,}"
    rb"|\bAKIA[0-9A-Z]{16}\b"
    rb"|_authToken=|aws_secret_access_key\s*=\s*\S{20,}"
    rb"|https?://[A-Za-z0-9._-]+:[^@/\s'\"{$<>\[]{6,}@[a-z0-9.-]+\.[a-z]{2,}"
)
_SECRET_NAMES = re.compile(
    r"(^|/)(\.netrc|\.pypirc|id_[a-z0-9]+|secrets\.key|\.env|\.git|.*\.kdbx)$"
)
# What public packages have in the place of secrets: examples, and the key of a self-test.
_EXAMPLES = (b"foo:bar@", b"username:password@", b"MGoCAQAwIQYIKoUDBwEBAQIwFQYJKoUD")


def locked() -> set[tuple[str, str]]:
    """Return name and version of each package of the lock."""
    text = (ROOT / "requirements.lock").read_text()
    return set(re.findall(r"^([a-z0-9-]+)==(\S+)", text, flags=re.MULTILINE))


def check_contents(report: Report, image: Path) -> None:
    """Look at the image's files: the list of packages, and what must not be there."""
    listed = json.loads((image / SBOM).read_text())
    named = {(one["name"], one["version"]) for one in listed["components"]}
    report.claim("the SBOM lists exactly the lock", named == locked(), f"{len(named)} packages")
    packages = next((image / "opt/moorage/lib").glob("python3*")) / "site-packages"
    present = {
        tuple(one.name.removesuffix(".dist-info").rsplit("-", 1))
        for one in packages.glob("*.dist-info")
    }
    present = {(re.sub(r"[._]", "-", name).lower(), version) for name, version in present}
    extra = {one for one in present if one not in named and one[0] != "moorage"}
    report.claim(
        "every installed package is listed", not extra, extra or f"{len(present)} installed"
    )
    programs = [
        path.relative_to(image)
        for folder in ("usr/bin", "usr/local/bin", "usr/sbin", "opt/moorage/bin")
        for path in (image / folder).glob("*")
        if _TOOLS.fullmatch(path.name)
    ]
    report.claim("no compiler and no pip", not programs, programs or "")
    raised = [
        path for path in files_of(image) if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    ]
    report.claim("no setuid program", not raised, raised or "")


def files_of(image: Path) -> Iterator[Path]:
    return (path for path in image.rglob("*") if path.is_file() and not path.is_symlink())


def check_layers(report: Report, builder: Builder) -> None:
    """Print the layers, and look for secrets in each file of each."""
    layers = builder.layers()
    suspects = [
        f"{layer.path.name[:12]}: {one}" for layer in layers for one in secrets_in(layer.path)
    ]
    for layer in layers:
        packed, inside = layer.bytes_packed / 1e6, layer.bytes_inside / 1e6
        name = layer.path.name[:12]
        print(f"        layer {name}  {packed:6.1f} MB packed  {inside:6.1f} MB of files")
    total = sum(layer.bytes_packed for layer in layers) / 1e6
    print(f"        image {total:.1f} MB packed")
    report.claim("no secret in any layer", not suspects, suspects or "")


def secrets_in(layer: Path) -> Iterator[str]:
    """Yield the files of a layer that look like secrets, by name or by content."""
    with tarfile.open(layer) as packed:
        for member in packed:
            if _SECRET_NAMES.search(member.name):
                yield member.name
            file = packed.extractfile(member) if member.isfile() else None
            if file is not None and (hit := _SECRETS.search(content := file.read())):
                text = content[hit.start() : hit.end()]
                if not any(example in text for example in _EXAMPLES):
                    yield f"{member.name} ({text[:60]!r})"


@contextmanager
def upstream(folder: Path) -> Iterator[tuple[dict[str, str], bytes]]:
    """Return a context with settings that name a go.dev with the real archive, and its bytes."""
    data = (UPSTREAM / ARCHIVE).read_bytes()
    with throwaway_signer() as signer, FakeGodev() as fake:
        fake.put_file(ARCHIVE, data, signature=signer.sign(data))
        (folder / "keyring.asc").write_bytes(signer.export)
        yield (
            {
                "MOORAGE_RELEASES__INDEX_URL": fake.index_url,
                "MOORAGE_RELEASES__FILES_URLS": json.dumps([fake.files_url]),
                "MOORAGE_RELEASES__KEYRING": "/data/keyring.asc",
                "MOORAGE_RELEASES__PINNED_FINGERPRINTS": json.dumps([signer.primary]),
                "MOORAGE_RELEASES__ZSTD__ENABLED": "false",
                "MOORAGE_NETWORK__ALLOW": '["127.0.0.0/8"]',
                "MOORAGE_SUMDB__UPSTREAMS": "[]",
                "MOORAGE_WORKERS": "2",
                "MOORAGE_DRAIN_S": "2",
            },
            data,
        )


def check_service(report: Report, builder: Builder, image: Path) -> None:
    """Run the service: rights, a real archive, and an end by SIGTERM during a download."""
    data = builder.folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    container = Container(image, builder.config(), {"/data": data})
    with upstream(data) as (environ, archive):
        port = free_port()
        environ |= {"MOORAGE_HOST": "127.0.0.1", "MOORAGE_PORT": str(port)}
        for path in (data, data / "keyring.asc"):
            give(path, container)
        running = container.start(log=builder.folder / "service.log", **environ)
        try:
            ready = until(lambda: container.run("moorage", "health", **environ).returncode == 0)
            report.claim("the image's health check says ready", ready, "" if ready else running)
            check_rights(report, container, running)
            check_archive(report, running, port, archive)
        finally:
            running.kill()
        gone = container.run("moorage", "health", **environ)
        report.claim(
            "the health check fails when nothing serves", gone.returncode == 1, gone.stderr.strip()
        )


def give(path: Path, container: Container) -> None:
    """Make the image's user the owner of a file or folder."""
    user, _, group = container.config["User"].partition(":")
    os.chown(path, int(user), int(group))
    path.chmod(0o700 if path.is_dir() else 0o600)


def check_rights(report: Report, container: Container, running: Running) -> None:
    status = running.status()
    report.claim("it runs as uid 65532", status["Uid"].split() == ["65532"] * 4, status["Uid"])
    report.claim("it has no capability", int(status["CapEff"] + status["CapBnd"], 16) == 0)
    report.claim("it is process 1 of its tree", status["NSpid"].split()[-1] == "1")
    for folder, writable in (
        ("/", False),
        ("/opt/moorage", False),
        ("/data", True),
        ("/tmp", True),
    ):
        done = container.run("sh", "-c", f"touch {folder}/trial && rm {folder}/trial")
        text = f"{folder} is {'writable' if writable else 'read-only'}"
        report.claim(text, (done.returncode == 0) is writable, done.stderr.strip())


def check_archive(report: Report, running: Running, port: int, archive: bytes) -> None:
    """Fetch the archive once whole; the second download is under way when SIGTERM comes."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as client:
        client.request("GET", f"/dl/{ARCHIVE}")
        response = client.getresponse()
        body = response.read()
    text = body[:200] if response.status != 200 else f"{len(body)} bytes"
    report.claim("it serves the real archive", body == archive, text)
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as client:
        client.request("GET", f"/dl/{ARCHIVE}")
        response = client.getresponse()
        digest = hashlib.sha256(response.read(1 << 20))
        running.terminate()
        unready = until(lambda: status_of(port) in (503, None))
        report.claim("SIGTERM makes it unready at once", unready)
        digest.update(response.read())
    whole = digest.digest() == hashlib.sha256(archive).digest()
    report.claim("the download that ran ends whole", whole)
    code = running.process.wait(_END_S)
    report.claim("it ends with 0", code == 0, "" if code == 0 else f"{code}, {running}")


def check_config(report: Report, config: dict[str, Any]) -> None:
    labels = config["Labels"]
    names = {"title", "description", "licenses", "vendor", "version", "revision"}
    has = {
        name.rpartition(".")[2] for name in labels if name.startswith("org.opencontainers.image.")
    }
    report.claim("it has its labels", has == names, labels["org.opencontainers.image.version"])
    report.claim(
        "it has a health check", config["Healthcheck"]["Test"] == ["CMD", "moorage", "health"]
    )
    report.claim("its user is a number", config["User"] == "65532:65532")
    secret = [one for one in config["Env"] if _SECRETS.search(one.encode())]
    report.claim("no secret in its environment", not secret)


def main() -> int:
    """Build and check; return the exit code."""
    arguments = argparse.ArgumentParser(prog="python -m tests.image", description=__doc__)
    arguments.add_argument("--folder", type=Path, help="where to build; kept afterwards")
    options = arguments.parse_args()
    if lacks := missing():
        print(f"the image can't be built here: {', '.join(lacks)} is missing", file=sys.stderr)
        return 2
    if not (UPSTREAM / ARCHIVE).is_file():
        print(f"{ARCHIVE} is not beside the repository", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="moorage-image-", dir="/var/tmp") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        return proven(Builder(folder.resolve()))


def proven(builder: Builder) -> int:
    builder.make_base()
    began = time.monotonic()
    builder.build()
    print(f"        {IMAGE} built in {time.monotonic() - began:.0f} s", flush=True)
    report = Report()
    image = builder.mounted()
    check_config(report, builder.config())
    check_contents(report, image)
    check_layers(report, builder)
    check_service(report, builder, image)
    check_pod(report, builder, image)
    check_replica(report, builder, image)
    print(f"{report.failed} failed")
    return int(report.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
