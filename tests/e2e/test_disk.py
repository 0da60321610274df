"""F88, F89: a disk that is full or read-only stops new files, never the ones that are here.

The data directory is a small file system of its own, mounted where only the server sees it: when
its process ends, the mount is gone. What it holds is looked at through /proc/<pid>/root.
"""

import errno
import http.client
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.e2e.process import Reply, Server, Site, names, staged, wait_until
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module

pytestmark = pytest.mark.on_disk

MIB = 1024 * 1024
FIRST, SECOND = archive_name("go1.99.1"), archive_name("go1.99.2")


def a_mount(site: Site, size: int, inodes: int) -> tuple[str, ...]:
    """Return the command that makes the data directory a file system of so many bytes."""
    options = f"size={size},nr_inodes={inodes},mode=700"
    return ("mount", "-t", "tmpfs", "-o", options, "none", str(site.data_dir))


@pytest.fixture(autouse=True, scope="module")
def _may_mount() -> None:
    for program in ("unshare", "nsenter", "mount"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    attempt = ("unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs")
    if subprocess.run([*attempt, "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")


@contextmanager
def on_a_small_disk(warm: Warm, site: Site, *, size: int, inodes: int = 10_000) -> Iterator[Server]:
    """Serve from a data directory that is a file system of so many bytes."""
    site.migrate()
    mounting = [a_mount(site, size, inodes)]
    if site.data_dir.exists():
        migrated = site.data_dir.rename(site.folder / "migrated")
        mounting.append(("cp", "-a", f"{migrated}/.", str(site.data_dir)))
    site.data_dir.mkdir(mode=0o700)
    with warm.serve(site, mounting=mounting) as server:
        yield server


def seen_by(server: Server) -> Path:
    """Return the data directory as the server sees it."""
    return Path(f"/proc/{server.pid}/root{server.site.data_dir}")


def fill(folder: Path, name: str = "filler") -> Path:
    """Take all space that is left; return the file that holds it."""
    filler = folder / name
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(64 * 1024))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return filler


@pytest.fixture
def roomy(site: Site) -> Site:
    """Without the floor of free space that is kept by default."""
    return site.but(storage__min_free_percent=0)


def test_F88_a_file_that_does_not_fit_is_507_and_everything_else_goes_on(
    roomy: Site, warm: Warm, fake: FakeGodev, put_release
) -> None:
    first = put_release("go1.99.1", extra_bytes=4 * MIB)
    second = put_release("go1.99.2", extra_bytes=12 * MIB)
    with on_a_small_disk(warm, roomy, size=20 * MIB) as server:
        assert server.get(f"/dl/{FIRST}").body == first
        taken = seen_by(server) / "taken"
        taken.write_bytes(bytes(6 * MIB))

        refused = server.get(f"/dl/{SECOND}")
        assert refused.status == 507
        assert "free" in refused.text
        # It did not even begin to download what has no place.
        assert fake.bytes_sent[f"/go/{SECOND}"] == 0
        assert staged(seen_by(server)) == []
        assert server.get(f"/dl/{FIRST}").body == first
        assert server.get("/healthz").status == 200

        taken.unlink()
        assert server.get(f"/dl/{SECOND}").body == second
        assert server.get("/readyz").status == 200


def test_F88_a_disk_that_fills_up_during_the_download_loses_nothing(
    roomy: Site, warm: Warm, fake: FakeGodev, put_release
) -> None:
    first = put_release("go1.99.1", extra_bytes=1 * MIB)
    second = put_release("go1.99.2", extra_bytes=4 * MIB)
    with on_a_small_disk(warm, roomy, size=24 * MIB) as server:
        assert server.get(f"/dl/{FIRST}").body == first
        # The bytes have their place; then there is none left for the database.
        fake.fault(f"/go/{SECOND}", Fault.stall("half"))
        with ask_in_the_background(server, SECOND) as waiting:
            fake.wait_until(lambda: fake.stalled == 1)
            filler = fill(seen_by(server))
            fake.release()
            status = waiting()
        assert status in (200, 503, 507)
        wait_until(lambda: staged(seen_by(server)) == [], "the end of staging")
        assert server.get(f"/dl/{FIRST}").body == first
        assert server.get("/healthz").status == 200

        filler.unlink()
        wait_until(lambda: server.get("/readyz").status == 200, "readiness")
        assert server.get(f"/dl/{SECOND}").body == second
        assert fake.hits[f"/go/{SECOND}"] <= 2


@contextmanager
def ask_in_the_background(server: Server, name: str) -> Iterator:
    """Yield a function that waits for the status of a GET that has begun."""
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{server.url}/dl/{name}"]
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    ) as client:
        yield lambda: int(client.communicate(timeout=60)[0])


def test_F89_a_disk_without_inodes_is_507_and_heals(
    roomy: Site, warm: Warm, fake: FakeGodev, put_release
) -> None:
    first, second = put_release("go1.99.1"), put_release("go1.99.2")
    with on_a_small_disk(warm, roomy, size=20 * MIB, inodes=120) as server:
        assert server.get(f"/dl/{FIRST}").body == first
        many = seen_by(server) / "many"
        many.mkdir()
        with pytest.raises(OSError, match="No space left"):
            for number in range(200):
                (many / str(number)).touch()
        assert server.get(f"/dl/{SECOND}").status in (503, 507)
        assert server.get("/readyz").status == 503
        assert server.get(f"/dl/{FIRST}").body == first

        shutil.rmtree(many)
        assert server.get(f"/dl/{SECOND}").body == second
        assert server.get("/readyz").status == 200


def test_the_floor_of_free_space_is_kept(site: Site, warm: Warm, put_release) -> None:
    put_release("go1.99.1", extra_bytes=8 * MIB)
    with on_a_small_disk(warm, site.but(storage__min_free_percent=50), size=16 * MIB) as server:
        refused = server.get(f"/dl/{FIRST}")
        assert refused.status == 507
        assert "floor" in refused.text


def test_F89_a_read_only_store_serves_what_it_has_and_says_that_it_is_not_ready(
    site: Site, warm: Warm, fake: FakeGodev, put_release, tmp_path: Path
) -> None:
    first, second = put_release("go1.99.1"), put_release("go1.99.2")
    # SQLite keeps its files open for writing, which forbids a remount: it lives elsewhere.
    apart = site.but(database_url=f"sqlite:///{tmp_path / 'moorage.db'}")
    with on_a_small_disk(warm, apart, size=20 * MIB) as server:
        assert server.get(f"/dl/{FIRST}").body == first
        remount(server, "ro")
        refused = server.get(f"/dl/{SECOND}")
        assert (refused.status, "ead-only" in refused.text) == (503, True)
        unready = server.get("/readyz")
        assert (unready.status, "ead-only" in unready.json["checks"]["storage"]) == (503, True)
        assert server.get("/healthz").status == 200
        assert server.get(f"/dl/{FIRST}").body == first
        assert server.get(f"/dl/{FIRST}.sha256sum").status == 200

        remount(server, "rw")
        assert server.get("/readyz").status == 200
        assert server.get(f"/dl/{SECOND}").body == second


def remount(server: Server, mode: str) -> None:
    inside = ["nsenter", f"--mount=/proc/{server.pid}/ns/mnt", "--"]
    mount = ["mount", "-o", f"remount,{mode}", str(server.site.data_dir)]
    done = subprocess.run([*inside, *mount], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_read_only_data_directory_is_told_at_the_start(site: Site, warm: Warm) -> None:
    site.data_dir.mkdir(mode=0o700)
    read_only = ("mount", "-o", "remount,ro", str(site.data_dir))
    with warm.serve(site, mounting=(a_mount(site, MIB, 100), read_only), ready=False) as server:
        assert server.process.wait(60) == 2  # as for every setting that can't be used
        server.is_ended = True
        assert "Traceback" not in server.told()
        assert "ead-only" in server.err
    assert names(data_dir=site.data_dir).items() <= site.environ.items()


@contextmanager
def on_one_connection(server: Server) -> Iterator[Callable[[str], Reply]]:
    """Yield a function that sends GETs over one connection."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:

        def get(path: str) -> Reply:
            connection.request("GET", path)
            with connection.getresponse() as answer:
                return Reply(answer.status, answer.headers, answer.read())

        yield get


def free_bytes(server: Server) -> int:
    status = os.statvfs(seen_by(server))
    return status.f_bavail * status.f_frsize


@pytest.mark.slow
def test_F88_on_a_full_disk_nothing_new_is_stored_and_an_admin_revokes_and_denies(
    site: Site, warm: Warm, fake: FakeGodev, put_release
) -> None:
    put_release("go1.99.1")
    path = "/goproxy/default/example.com/m/@v/"
    first = module("example.com/m", "v1.0.0")
    with (
        FakeGoproxy(
            [first, *(module("example.com/m", f"v1.1.{n}") for n in range(100))]
        ) as upstream,
        on_a_small_disk(warm, site.but(modules__upstream=upstream.url), size=24 * MIB) as server,
        on_one_connection(server) as get,
    ):
        assert get(f"{path}v1.0.0.mod").status == 200
        tokens = "/tenants/default/tokens"
        bodies = [{"name": name, "scopes": ["read"]} for name in ("one", "two", "three")]
        doomed = [server.admin("POST", tokens, body).json["id"] for body in bodies[:2]]
        floor = 24 * MIB * 5 // 100
        taken = seen_by(server) / "taken"
        taken.write_bytes(bytes(free_bytes(server) - floor - MIB))

        statuses = [get(f"{path}v1.1.{n}.mod").status for n in range(100)]
        assert set(statuses) == {200, 507}, statuses
        assert statuses == sorted(statuses)
        free, asked = free_bytes(server), upstream.hits.total()
        assert free >= floor
        kinds = ("@v/v1.0.0.info", "@v/v1.0.0.mod", "@v/v1.0.0.zip", "@v/list", "@latest")
        cold = [f"/goproxy/default/example.com/c{n}/{kinds[n % 5]}" for n in range(950)]
        answers = [get(url) for url in (*cold, *[f"/dl/{FIRST}"] * 50)]
        assert {(a.status, a.text.count("\n")) for a in answers} == {(507, 1)}
        assert "free some space" in answers[0].text
        assert upstream.hits.total() == asked
        assert fake.hits[f"/go/{FIRST}"] == 0
        assert abs(free_bytes(server) - free) < 128 * 1024
        assert server.admin("POST", tokens, bodies[2]).status == 507
        unready = server.get("/readyz")
        assert (unready.status, "disk is full" in unready.text) == (503, True)

        # Another program takes the rest of the disk.
        fillers = [taken, fill(seen_by(server))]
        assert free_bytes(server) == 0
        assert server.admin("DELETE", f"/tokens/{doomed[0]}").status == 204
        denial = {"effect": "deny", "pattern": "example.com/m", "reason": "stolen"}
        assert server.admin("POST", "/rules", denial).status == 201
        wait_until(lambda: get(f"{path}v1.0.0.mod").status == 403, "the denial")
        fillers.append(fill(seen_by(server), "more"))
        assert server.admin("DELETE", f"/tokens/{doomed[1]}").status == 204
        assert server.admin("PATCH", "/tenants/default", {"enabled": False}).status == 200
        assert server.admin("PATCH", "/tenants/default", {"enabled": True}).status == 507

        for file in fillers:
            file.unlink()
        assert server.get("/readyz").status == 200
        assert server.admin("PATCH", "/tenants/default", {"enabled": True}).status == 200
        other = module("example.com/other", "v1.0.0")
        upstream.put(other)
        url = "/goproxy/default/example.com/other/@v/v1.0.0.zip"
        wait_until(lambda: get(url).body == other.zip, "the zip")
        assert server.admin("GET", "/audit/verify").json["intact"]
