"""Downloads against nginx serving the same bytes: a 70 MB archive and its `.sha256`.

Two workers each, in alternating turns. The archive counts in bytes/s with 8 clients, the sum in
requests/s with 32 connections.
"""

import json
import tempfile
import urllib.request
from pathlib import Path

from bench.report import OURS, Result, Standing
from bench.servers import UNVERIFIED, Served, cpu_of_load, moorage, nginx, require_programs, wrk
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.tls import Authority

_WORKERS = 2
_ARCHIVE_BYTES = 73_000_000
_NAME = archive_name("go1.99.1", "linux", "amd64")


def run_tls(*, rounds: int, seconds: int) -> list[Result]:
    """Return the comparisons with TLS on both sides."""
    return run(rounds=rounds, seconds=seconds, is_secured=True)


def run(*, rounds: int, seconds: int, is_secured: bool = False) -> list[Result]:
    """Return the comparisons."""
    require_programs()
    data = go_archive("go1.99.1", "linux", "amd64", extra_bytes=_ARCHIVE_BYTES)
    with tempfile.TemporaryDirectory() as scratch, FakeGodev() as fake:
        folder = Path(scratch)
        fake.put_file(_NAME, data)
        environment = {
            "MOORAGE_DATA_DIR": str(folder / "data"),
            "MOORAGE_RELEASES__INDEX_URL": fake.index_url,
            "MOORAGE_RELEASES__FILES_URLS": json.dumps([fake.files_url]),
            "MOORAGE_RELEASES__SHA256_ONLY": '["tar.gz"]',
            "MOORAGE_NETWORK__ALLOW": '["127.0.0.0/8"]',
        }
        certificate = None
        if is_secured:
            certificate = folder / "certificate.pem"
            certificate.touch(mode=0o600)
            certificate.write_bytes(Authority.new().server())
            environment["MOORAGE_TLS__CERT_FILE"] = str(certificate)
        with (
            moorage(environment, _WORKERS) as ours,
            nginx(_mirror(data, ours.url, folder), folder, _WORKERS, certificate) as theirs,
        ):
            aim = 0.5 if is_secured else 1.0
            return _compare(ours, theirs, rounds, seconds, aim)


def _mirror(data: bytes, ours: str, folder: Path) -> Path:
    """Fill a folder for nginx with what Moorage answers; return it."""
    root = folder / "html"
    root.mkdir()
    for name in (_NAME, f"{_NAME}.sha256"):
        with urllib.request.urlopen(f"{ours}dl/{name}", context=UNVERIFIED) as answer:
            (root / name).write_bytes(answer.read())
    if (root / _NAME).read_bytes() != data:
        raise SystemExit("the mirror answered other bytes")
    return root


def _compare(ours: Served, theirs: Served, rounds: int, seconds: int, aim: float) -> list[Result]:
    """Load both in turns. The CPU of an answer tells a program from the machine that it shares."""
    servers = {OURS: (ours, f"{ours.url}dl/{_NAME}"), "nginx": (theirs, theirs.url + _NAME)}
    archive: dict[str, list[float]] = {name: [] for name in servers}
    sums: dict[str, list[float]] = {name: [] for name in servers}
    archive_cpu: dict[str, list[float]] = {name: [] for name in servers}
    sums_cpu: dict[str, list[float]] = {name: [] for name in servers}
    for _, url in servers.values():  # a turn that isn't counted: caches, processes waking up
        wrk(url + ".sha256", connections=32, seconds=1)
        wrk(url, connections=8, seconds=1)
    for turn in range(rounds):
        names = list(servers) if turn % 2 == 0 else list(reversed(servers))
        for name in names:
            server, url = servers[name]
            load, spent_s = cpu_of_load(server, url, connections=8, seconds=seconds)
            megabytes_s = load.bytes_s / 1e6
            archive[name].append(megabytes_s)
            archive_cpu[name].append(spent_s / (megabytes_s * seconds) * 1e6)
        for name in names:
            server, url = servers[name]
            load, spent_s = cpu_of_load(server, url + ".sha256", connections=32, seconds=seconds)
            sums[name].append(load.requests_s)
            sums_cpu[name].append(spent_s / (load.requests_s * seconds) * 1e6)
    what = ("73 MB archive, 8 clients", ".sha256, 32 connections")
    return [
        Standing(what[0], "MB/s", archive, {"nginx": aim}, less_is_better=False),
        Standing(f"{what[0]}, CPU of a MB", "µs", archive_cpu),
        Standing(what[1], "/s", sums, {"nginx": min(aim, 0.6)}, less_is_better=False),
        Standing(f"{what[1]}, CPU of an answer", "µs", sums_cpu),
    ]
