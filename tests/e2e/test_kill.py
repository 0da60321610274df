"""F91: SIGKILL at random moments of ingestion leaves nothing that can't be served or healed.

Every round publishes new files on top of what the rounds before left behind, so that damage would
add up. One commit takes milliseconds; the moments are spread over a whole sync, measured first.
"""

import hashlib
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.process import Server, Site, blobs, staged
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name, go_archive, source_name, src_archive
from tests.fakes.faults import Pace
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer

pytestmark = pytest.mark.on_disk

LANES = 2
ROUNDS = 25  # in each lane
SERVER_ROUNDS = 6
RECOVERY_ROUNDS = 15
PACE = Pace(100_000, 0.02)  # 5 MB/s for each connection


class Mirrored:
    """What the fake publishes, by name, with the SHA-256 of each file."""

    def __init__(self, fake: FakeGodev, signer: Signer, random_: random.Random) -> None:
        self._fake = fake
        self._signer = signer
        self._random = random_
        self._count = 0
        self.sums: dict[str, str] = {}

    def publish(self) -> list[str]:
        """Publish the three files of a new release, two of them signed, 0.2 to 1.5 MB each."""
        self._count += 1
        version = f"go1.50.{self._count}"
        sizes = [self._random.randrange(200_000, 1_500_000) for _ in range(3)]
        new = {
            source_name(version): src_archive(version, extra_bytes=sizes[0], seed=self._count),
            archive_name(version): go_archive(version, extra_bytes=sizes[1], seed=self._count),
            archive_name(version, "windows"): go_archive(
                version, "windows", extra_bytes=sizes[2], seed=self._count
            ),
        }
        for name, data in new.items():
            signature = self._signer.sign(data) if name.endswith(".tar.gz") else None
            self.sums[name] = self._fake.put_file(name, data, signature=signature)
        return list(new)


@pytest.fixture
def fake():
    with FakeGodev(pace=PACE) as server:
        yield server


@pytest.fixture
def everything(site: Site) -> Site:
    return everything_of(site)


def everything_of(site: Site) -> Site:
    """Return an installation that mirrors all that is published."""
    return site.but(releases__select__minors=1000, releases__select__patches=1000)


def assert_clean(warm: Warm, site: Site) -> None:
    """Assert that `fsck --deep` finds nothing that matters, and nothing staged is left."""
    done = warm.run(site, "fsck", "--deep", "--json")
    assert done.code == 0, done
    assert done.json["clean"]
    assert {f["problem"] for f in done.json["findings"]} <= {"orphan"}
    assert staged(site.data_dir) == []
    assert list((site.data_dir / "keys").glob("gpg-*")) == []


def assert_all_served(server: Server, sums: dict[str, str]) -> None:
    for name, expected in sums.items():
        got = server.get(f"/dl/{name}")
        assert (got.status, hashlib.sha256(got.body).hexdigest()) == (200, expected), name


def kill_after(warm: Warm, site: Site, seconds: float, *arguments: str) -> bool:
    """Run a command and kill it after so many seconds; whether it was still running."""
    run = warm.start(site, *arguments)
    time.sleep(seconds)
    run.send(signal.SIGKILL)
    return run.wait(10).code == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.timeout(240)
def test_F91_fifty_kills_at_random_moments_of_ingestion(
    tmp_path: Path, signer: Signer, warm: Warm
) -> None:
    # Most of a round is waiting for paced downloads, so two installations take turns at the CPU.
    with ThreadPoolExecutor(LANES) as lanes:
        for done in [lanes.submit(kill_again_and_again, tmp_path, n, signer, warm) for n in (1, 2)]:
            done.result()


def kill_again_and_again(tmp_path: Path, lane: int, signer: Signer, warm: Warm) -> None:
    """Kill half of the fifty times, in an installation with an upstream of its own."""
    folder = tmp_path / str(lane)
    folder.mkdir()
    with FakeGodev(pace=PACE) as fake:
        kill_rounds(everything_of(Site.new(folder, fake, signer)), fake, signer, warm, lane)


def kill_rounds(everything: Site, fake: FakeGodev, signer: Signer, warm: Warm, lane: int) -> None:
    dice = random.Random(20261123 + lane)
    mirrored = Mirrored(fake, signer, dice)
    mirrored.publish()
    assert warm.run(everything, "migrate").code == 0
    started = time.monotonic()
    assert warm.run(everything, "releases", "sync").code == 0
    whole_s = time.monotonic() - started

    killed = 0
    stages: list[str] = []
    for _ in range(ROUNDS):
        mirrored.publish()
        killed += kill_after(warm, everything, dice.uniform(0, whole_s), "releases", "sync")
        stages += seen_after_a_kill(everything)
        assert_clean(warm, everything)

    print(f"{killed} of {ROUNDS} rounds killed; left: {Counter(stages)}")
    # The moments were spread: most kills hit, and some hit amid the download of a file.
    assert killed > ROUNDS // 2
    assert "staged" in stages
    last = warm.run(everything, "releases", "sync", "--json", seconds=120)
    assert (last.code, last.json["failed"]) == (0, [])
    assert_clean(warm, everything)
    assert warm.run(everything, "audit", "verify").code == 0
    with warm.serve(everything) as server:
        assert_all_served(server, mirrored.sums)
    assert_every_row_has_its_blob(everything, len(mirrored.sums))


def seen_after_a_kill(site: Site) -> list[str]:
    """Name what the kill left: staged files, blobs without a row."""
    leftovers = ["staged"] if staged(site.data_dir) else []
    with closing(sqlite3.connect(f"file:{site.data_dir / 'moorage.db'}?mode=ro", uri=True)) as db:
        known = {row[0] for row in db.execute("SELECT sha256 FROM blobs")}
    if any(path.name not in known for path in blobs(site.data_dir)):
        leftovers.append("orphan")
    return leftovers


def assert_every_row_has_its_blob(site: Site, files: int) -> None:
    with closing(sqlite3.connect(site.data_dir / "moorage.db")) as db:
        served = db.execute(
            "SELECT sha256 FROM release_files WHERE state IN ('verified', 'sha256-only')"
        ).fetchall()
    assert len(served) == files
    assert {row[0] for row in served} <= {path.name for path in blobs(site.data_dir)}


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.timeout(240)
def test_F91_a_server_killed_while_it_fetches_on_demand_starts_clean(
    everything: Site, fake: FakeGodev, signer: Signer, warm: Warm
) -> None:
    dice = random.Random(7)
    mirrored = Mirrored(fake, signer, dice)
    for _ in range(SERVER_ROUNDS):
        names = mirrored.publish()
        # A new index is due at every start: the last one was read in the round before.
        with warm.serve(everything.but(releases__refresh_s=1)) as server:
            kill_amid_requests(server, names, dice.uniform(0, 0.5))
        assert_clean(warm, everything)
    with warm.serve(everything) as last:
        assert_all_served(last, mirrored.sums)


def kill_amid_requests(server: Server, names: list[str], seconds: float) -> None:
    """Ask for all files at once, and kill the server so many seconds later."""
    clients = [threading.Thread(target=quietly, args=(server, name)) for name in names]
    for client in clients:
        client.start()
    time.sleep(seconds)
    server.kill()
    for client in clients:
        client.join()


def quietly(server: Server, name: str) -> None:
    """Ask for a file of a server that is about to be killed."""
    try:
        server.get(f"/dl/{name}")
    except (OSError, ValueError):
        return


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.timeout(120)
def test_F91_the_recovery_may_be_killed_too(
    everything: Site, fake: FakeGodev, signer: Signer, warm: Warm
) -> None:
    dice = random.Random(11)
    mirrored = Mirrored(fake, signer, dice)
    mirrored.publish()
    assert warm.run(everything, "migrate").code == 0
    assert warm.run(everything, "releases", "plan").code == 0
    # Something to recover from: a sync killed amid its downloads.
    run = warm.start(everything, "releases", "sync")
    fake.wait_until(lambda: min(fake.bytes_sent[f"/go/{n}"] for n in mirrored.sums) > 100_000)
    run.send(signal.SIGKILL)
    run.wait(10)
    assert staged(everything.data_dir)

    started = time.monotonic()
    for index in range(RECOVERY_ROUNDS):
        # `token list` starts everything and asks for next to nothing.
        kill_after(warm, everything, 0.3 * index / RECOVERY_ROUNDS, "token", "list")
    assert time.monotonic() > started
    assert_clean(warm, everything)
    assert warm.run(everything, "releases", "sync").code == 0
    with warm.serve(everything) as server:
        assert_all_served(server, mirrored.sums)
