"""F92: what was acknowledged before a power cut is there after it.

Two tests of one property. Where a file system can be mounted, a writer on ext4 in a loop file is
stopped, the file is copied as the disk has it (what only the page cache holds is not in it), and
the copy is mounted and read. A writer whose fsync does nothing shows that this finds losses.
Everywhere else the order of system calls stands for it: fsync(file) < link < fsync(folder) <
unlink < acknowledgement, on which the first test rests.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.storage.local import LocalBlobStore
from tests.storage.one_put import DIGEST
from tests.storage.test_fault_sweep import DONE, REPOSITORY, Case, Tracer

pytestmark = pytest.mark.on_disk

IMAGE_BYTES = 64 << 20

WRITE = 'mount -o loop "$1" "$2" && exec "$3" -m tests.storage.one_put many "$2/store" "$4"'
CHECK = 'mount -o loop "$1" "$2" && exec "$3" -m tests.storage.test_power_cut "$2/store"'


def in_mount_namespace(script: str, *arguments: str) -> subprocess.Popen:
    """Start a shell script whose mounts end with it."""
    command = ["unshare", "--mount", "sh", "-c", script, "sh", *arguments]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, cwd=REPOSITORY, **pipes)


def make_image(path: Path) -> None:
    if shutil.which("mkfs.ext4") is None or shutil.which("unshare") is None:
        pytest.skip("mkfs.ext4 or unshare is not installed")
    with open(path, "wb") as file:
        file.truncate(IMAGE_BYTES)
    # Nothing that the kernel would write later by itself, between the stop and the copy.
    eager = "lazy_itable_init=0,lazy_journal_init=0"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", eager, str(path)], check=True)


def write_and_cut(folder: Path, image: Path, sync: str, acknowledged: int) -> list[bytes]:
    """Let a writer acknowledge so many blobs, cut the power, return what it acknowledged.

    image then is what the disk had at that moment.
    """
    running, mount = folder / "running.img", folder / "mount"
    shutil.copyfile(image, running)
    mount.mkdir(exist_ok=True)
    writer = in_mount_namespace(WRITE, str(running), str(mount), sys.executable, sync)
    try:
        lines = [writer.stdout.readline() for _ in range(acknowledged)]
        if not lines[0]:
            pytest.skip(f"mount -o loop does not work here: {writer.stderr.read().decode()}")
        writer.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, writer.pid, os.WSTOPPED | os.WNOWAIT)
        shutil.copyfile(running, image)
    finally:
        writer.kill()
        rest, _ = writer.communicate()
    return lines + rest.splitlines(keepends=True)


def lost(folder: Path, image: Path, acknowledged: list[bytes]) -> int:
    """Return how many acknowledged blobs are missing or wrong in the image."""
    arguments = [str(image), str(folder / "mount"), sys.executable]
    checker = in_mount_namespace(CHECK, *arguments)
    said, failure = checker.communicate(b"".join(acknowledged), timeout=120)
    assert checker.returncode == 0, failure
    return int(said)


def count_lost(root: Path) -> int:
    """Count the blobs named on stdin, "<digest> <bytes>" a line, that root lacks."""
    import asyncio

    from app.core.digest import Digest
    from app.storage.blobstore import BlobCondition

    store = LocalBlobStore(root, min_free_fraction=0.0)

    async def is_lost(line: str) -> bool:
        digest, size_bytes = line.split()
        condition = await store.check(Digest(digest), int(size_bytes), deep=True)
        return condition is not BlobCondition.OK

    return sum(asyncio.run(is_lost(line)) for line in sys.stdin)


@pytest.mark.parametrize("acknowledged", [1, 10, 60])
def test_F92_every_acknowledged_blob_outlives_a_power_cut(tmp_path, acknowledged):
    make_image(tmp_path / "disk.img")
    lines = write_and_cut(tmp_path, tmp_path / "disk.img", "sync", acknowledged)
    assert len(lines) >= acknowledged
    assert lost(tmp_path, tmp_path / "disk.img", lines) == 0


def test_F92_a_writer_without_fsync_is_found_out(tmp_path):
    make_image(tmp_path / "disk.img")
    lines = write_and_cut(tmp_path, tmp_path / "disk.img", "nosync", 60)
    assert lost(tmp_path, tmp_path / "disk.img", lines) > 0


def test_F92_a_put_syncs_file_then_links_then_syncs_folder_then_unlinks(tmp_path):
    with contextlib.closing(Tracer(tmp_path)) as tracer:
        case = Case(tmp_path / "case")
        assert tracer.run(case.job("put")) == DONE
        log = tracer.log.read_text()
    steps = re.compile(
        rf"""openat\(.*/tmp/[0-9a-f]{{32}}/(?P<temp>[0-9a-f]{{16}})".*=\ (?P<file>\d+)$
        [\s\S]*? \bwrite\((?P=file),
        [\s\S]*? \bftruncate\((?P=file),
        [\s\S]*? \bfsync\((?P=file)\)\ +=\ 0$
        [\s\S]*? \bmkdir(at)?\(.*/blobs/{DIGEST.hex[:2]}"
        [\s\S]*? \bopenat\(.*/blobs".*=\ (?P<blobs>\d+)$
        [\s\S]*? \bfsync\((?P=blobs)\)\ +=\ 0$
        [\s\S]*? \bopenat\(.*/blobs/{DIGEST.hex[:2]}".*=\ (?P<shard>\d+)$
        [\s\S]*? \blinkat\(.*(?P=temp)",\ (?P=shard),\ "{DIGEST.hex}",\ 0\)\ +=\ 0$
        [\s\S]*? \bfsync\((?P=shard)\)\ +=\ 0$
        [\s\S]*? \bunlink(at)?\(.*(?P=temp)".*=\ 0$
        [\s\S]*? \bopenat\(.*/record"
        """,
        re.MULTILINE | re.VERBOSE,
    )
    assert steps.search(log), log
    # Nothing was written to the file after it was synced.
    synced = log.index("fsync(")
    file = steps.search(log)["file"]
    assert f" write({file}," not in log[synced : log.index("linkat(")]


if __name__ == "__main__":
    print(count_lost(Path(sys.argv[1])))
