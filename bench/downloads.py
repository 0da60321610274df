"""Downloads against nginx serving the same bytes: a 70 MB archive and its `.sha256`.

Two workers each, in alternating turns. The archive counts in bytes/s with 8 clients, the sum in
requests/s with 32 connections.
"""

import json
import tempfile
import urllib.request
from pathlib import Path

from bench.report import Comparison, Result
from bench.servers import moorage, nginx, require_programs, wrk
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev

_WORKERS = 2
_ARCHIVE_BYTES = 73_000_000
_NAME = archive_name("go1.99.1", "linux", "amd64")


def run(*, rounds: int, seconds: int) -> list[Result]:
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
        with (
            moorage(environment, _WORKERS) as ours,
            nginx(_mirror(data, ours.url, folder), folder, _WORKERS) as theirs,
        ):
            return _compare(ours.url + "dl/" + _NAME, theirs.url + _NAME, rounds, seconds)


def _mirror(data: bytes, ours: str, folder: Path) -> Path:
    """Fill a folder for nginx with what Moorage answers; return it."""
    root = folder / "html"
    root.mkdir()
    for name in (_NAME, f"{_NAME}.sha256"):
        with urllib.request.urlopen(f"{ours}dl/{name}") as answer:
            (root / name).write_bytes(answer.read())
    if (root / _NAME).read_bytes() != data:
        raise SystemExit("the mirror answered other bytes")
    return root


def _compare(ours: str, theirs: str, rounds: int, seconds: int) -> list[Result]:
    archive: tuple[list[float], list[float]] = ([], [])
    sums: tuple[list[float], list[float]] = ([], [])
    for url in (ours, theirs):  # a turn that isn't counted: caches, processes waking up
        wrk(url + ".sha256", connections=32, seconds=1)
        wrk(url, connections=8, seconds=1)
    for turn in range(rounds):
        pair = ((0, ours), (1, theirs))
        for which, url in pair if turn % 2 == 0 else reversed(pair):
            archive[which].append(wrk(url, connections=8, seconds=seconds).bytes_s / 1e6)
        for which, url in pair if turn % 2 == 0 else reversed(pair):
            sums[which].append(wrk(url + ".sha256", connections=32, seconds=seconds).requests_s)
    return [
        Comparison("73 MB archive, 8 clients", "nginx", "MB/s", *archive, aim=1.0),
        Comparison(".sha256, 32 connections", "nginx", "requests/s", *sums, aim=0.5),
    ]
