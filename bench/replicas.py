"""What PostgreSQL, S3 and a second replica cost against the single shape, in turns of one run.

A hit in the cache of S3 is sent like a file of the local store. One replica and the single shape
have one worker each, so that two replicas have the machine's two cores, as two workers would.
"""

import base64
import json
import shutil
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from bench.report import Comparison, Rate, Result
from bench.servers import Served, cpu_of_load, moorage, require_programs, wrk
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, many
from tests.fakes.s3 import FakeS3, storage_of
from tests.postgres import Cluster, reason_to_skip

_ARCHIVE_BYTES = 73_000_000
_NAME = archive_name("go1.99.1", "linux", "amd64")
_COLD = 60
_CLIENTS = 8


def run(*, rounds: int, seconds: int) -> list[Result]:
    """Return the comparisons."""
    require_programs()
    missing = reason_to_skip()
    if missing is not None:
        raise SystemExit(missing)
    data = go_archive("go1.99.1", "linux", "amd64", extra_bytes=_ARCHIVE_BYTES)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = Cluster(fsync="on")
        stack.callback(cluster.remove)
        cluster.start()
        s3 = stack.enter_context(FakeS3())
        fake = stack.enter_context(FakeGodev())
        upstream = stack.enter_context(FakeGoproxy())
        fake.put_file(_NAME, data)
        usual = {
            "MOORAGE_RELEASES__INDEX_URL": fake.index_url,
            "MOORAGE_RELEASES__FILES_URLS": json.dumps([fake.files_url]),
            "MOORAGE_RELEASES__SHA256_ONLY": '["tar.gz"]',
            "MOORAGE_RELEASES__ZSTD__ENABLED": "false",
            "MOORAGE_NETWORK__ALLOW": '["127.0.0.0/8"]',
            "MOORAGE_NETWORK__TENANT_HOSTS": '["127.0.0.1"]',
            "MOORAGE_MODULES__UPSTREAM": upstream.url,
            "MOORAGE_SUMDB__UPSTREAMS": "[]",
        }
        storage = storage_of(s3.place("moorage"))
        shared = usual | {
            "MOORAGE_DATABASE_URL": cluster.url(_migrated(cluster)),
            "MOORAGE_SECRETS_KEY": base64.b64encode(b"k" * 32).decode(),
            "MOORAGE_STORAGE__URL": storage["url"],
            **{f"MOORAGE_STORAGE__S3__{k.upper()}": str(v) for k, v in storage["s3"].items()},
        }
        one, two = folder / "one", folder / "two"
        single = stack.enter_context(moorage(usual | _data(folder / "single"), 1))
        first = stack.enter_context(moorage(shared | _data(one), 1))
        second = stack.enter_context(moorage(shared | _data(two), 1))
        servers = (single, first, second)
        for server in servers:
            for path in (f"dl/{_NAME}", f"dl/{_NAME}.sha256"):
                wrk(server.url + path, connections=4, seconds=1)
        results = [*_hits(single, first, rounds, seconds), _two(servers, rounds, seconds)]
        return [
            *results,
            _cold_modules(upstream, single, first, rounds),
            _cold_archive(first, one / "cache" / "blobs", len(data), rounds),
        ]


def _data(folder: Path) -> dict[str, str]:
    return {"MOORAGE_DATA_DIR": str(folder)}


def _migrated(cluster: Cluster) -> str:
    from app.db.engine import Database
    from app.db.schema import upgrade

    name = cluster.create()
    database = Database(cluster.url(name))
    upgrade(database.engine)
    database.close()
    return name


def _hits(single: Served, replica: Served, rounds: int, seconds: int) -> list[Result]:
    """Compare hits by the CPU that they cost, which others on the machine disturb least."""
    results: list[Result] = []
    for what, path, connections in (
        ("73 MB archive from the cache of S3, CPU of a MB", f"dl/{_NAME}", 8),
        (".sha256 with PostgreSQL and S3, CPU of an answer", f"dl/{_NAME}.sha256", 32),
    ):
        spent: dict[str, list[float]] = {single.url: [], replica.url: []}
        for turn in range(rounds):
            for server in (single, replica) if turn % 2 == 0 else (replica, single):
                load, cpu = cpu_of_load(
                    server, server.url + path, connections=connections, seconds=seconds
                )
                amount = load.bytes_s / 1e6 if connections == 8 else load.requests_s
                spent[server.url].append(cpu / (amount * seconds) * 1e6)
        ours, theirs = spent[replica.url], spent[single.url]
        results.append(
            Comparison(what, "single shape", "µs", ours, theirs, aim=1.05, less_is_better=True)
        )
    return results


def _two(servers: tuple[Served, Served, Served], rounds: int, seconds: int) -> Result:
    """Compare the hits a second of two replicas together with those of one."""
    path, both, alone = f"dl/{_NAME}.sha256", [], []
    for _ in range(rounds):
        alone.append(wrk(servers[1].url + path, connections=32, seconds=seconds).requests_s)
        with ThreadPoolExecutor(2) as threads:
            loads = threads.map(
                lambda server: wrk(server.url + path, connections=32, seconds=seconds),
                servers[1:],
            )
            both.append(sum(load.requests_s for load in loads))
    what = ".sha256, two replicas together (the load shares their two cores)"
    return Comparison(what, "one replica", "/s", both, alone, aim=1.0)


def _cold_modules(upstream: FakeGoproxy, single: Served, replica: Served, rounds: int) -> Result:
    """Compare modules that nobody asked for before, 8 clients."""
    times: dict[str, list[float]] = {single.url: [], replica.url: []}
    for _ in range(rounds):
        for server in (single, replica):
            modules = many(_COLD, under=f"example.com/{len(times[server.url])}{server.pid}")
            for module in modules:
                upstream.put(module)
            began = time.monotonic()
            with ThreadPoolExecutor(_CLIENTS) as threads:
                list(threads.map(lambda one, url=server.url: _fetch(url, one), modules))
            times[server.url].append(_COLD / (time.monotonic() - began))
    what = f"{_COLD} cold modules through PostgreSQL and S3, {_CLIENTS} clients"
    return Comparison(what, "single shape", "/s", times[replica.url], times[single.url], aim=0.5)


def _fetch(url: str, one: Module) -> None:
    for suffix in ("info", "mod", "zip"):
        path = f"goproxy/default/{one.path}/@v/{one.version}.{suffix}"
        with urllib.request.urlopen(url + path) as answer:
            answer.read()


def _cold_archive(replica: Served, cached: Path, size_bytes: int, rounds: int) -> Result:
    """Return the bytes a second of an archive that only S3 has: fetched, verified, sent."""
    rates = []
    for _ in range(rounds):
        for shard in cached.iterdir():
            shutil.rmtree(shard)
        began = time.monotonic()
        with urllib.request.urlopen(f"{replica.url}dl/{_NAME}") as answer:
            got = len(answer.read())
        if got != size_bytes:
            raise SystemExit("the archive came back with another size")
        rates.append(size_bytes / 1e6 / (time.monotonic() - began))
    return Rate("73 MB archive from S3 (moto), cold", "MB/s", rates)
