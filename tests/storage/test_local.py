"""LocalBlobStore: the contract, and what only a store on the local disk promises."""

import asyncio
import errno
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.core.digest import Digest
from app.core.errors import BlobDamagedError, StorageError, StorageFullError
from app.storage.blobstore import BlobCondition
from app.storage.local import LocalBlobStore
from app.storage.reading import LocalOpenBlob
from app.storage.threads import Threads
from tests.contracts.blobstore import ABC, LARGE, BlobStoreContract, read_whole

pytestmark = pytest.mark.on_disk

REPOSITORY = Path(__file__).parents[2]


def blob_path(root: Path, digest: Digest) -> Path:
    return root / "blobs" / digest.hex[:2] / digest.hex


class FileTamper:
    """Changes blobs on disk; returns only when the file's ctime has moved.

    On kernels before 6.13 the clock of a file system ticks every 4 to 10 ms, and a change within
    the tick of the write would leave the times as they were.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def flip(self, digest: Digest) -> None:
        content = bytearray(blob_path(self._root, digest).read_bytes())
        content[len(content) // 2] ^= 1
        self._write(digest, bytes(content))

    def truncate(self, digest: Digest, size_bytes: int) -> None:
        self._write(digest, blob_path(self._root, digest).read_bytes()[:size_bytes])

    def remove(self, digest: Digest) -> None:
        blob_path(self._root, digest).unlink()

    def _write(self, digest: Digest, content: bytes) -> None:
        path = blob_path(self._root, digest)
        before = path.stat().st_ctime_ns
        path.chmod(0o640)
        while True:
            path.write_bytes(content)
            if path.stat().st_ctime_ns != before:
                return


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(root):
    made = LocalBlobStore(root, min_free_fraction=0.0)
    yield made
    made.close()


@pytest.fixture
def tamper(root):
    return FileTamper(root)


class TestContract(BlobStoreContract):
    pass


def tmp_names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "tmp").rglob("*"))


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_layout_is_private_and_sharded(store, root):
    await store.put(b"abc")
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert sorted(path.name for path in root.iterdir()) == ["blobs", "quarantine", "tmp"]
    path = root / "blobs" / "ba" / ABC.hex
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert path.stat().st_nlink == 1


def test_a_root_that_others_can_enter_is_closed_to_them(root):
    root.mkdir(mode=0o755)
    LocalBlobStore(root).close()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_root_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="open the blob store"):
        LocalBlobStore(tmp_path / "file" / "store")


@pytest.mark.parametrize("spoilt", ["blobs", "tmp", "quarantine"])
async def test_errors_name_no_path(store, root, spoilt):
    await store.put(b"abc")
    shutil.rmtree(root / spoilt)
    (root / spoilt).write_bytes(b"")
    works = [
        store.put(b"abcd"),
        store.open(ABC, 3),
        store.read(ABC, max_bytes=3),
        store.quarantine(ABC),
        store.check(ABC, 3, deep=True),
        store.make_durable(ABC),
        store.delete(ABC),
        store.recover(),
        store.probe(),
        asyncio.to_thread(lambda: list(store.walk())),
        asyncio.to_thread(lambda: list(store.leftovers())),
    ]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    texts = [str(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
    assert texts
    assert all(isinstance(o, StorageError) for o in outcomes if isinstance(o, Exception)), outcomes
    for text in texts:
        assert "/" not in text
    for outcome in outcomes:
        if isinstance(outcome, LocalOpenBlob):
            outcome.close()


async def test_a_child_process_can_read_a_sealed_staged_blob(store):
    async with store.stage(size_hint_bytes=1 << 20) as staged:
        await staged.write(b"abc")
        await staged.seal()
        shown = await asyncio.to_thread(subprocess.check_output, ["cat", str(staged.path)])
        assert shown == b"abc"
        assert stat.S_IMODE(staged.path.stat().st_mode) & 0o222 == 0


async def test_a_stage_without_room_above_the_floor_is_refused(root):
    store = LocalBlobStore(root, min_free_fraction=1.0)
    with pytest.raises(StorageFullError, match="floor"):
        await store.put(b"abc")
    with pytest.raises(StorageFullError, match="floor"):
        await store.probe()
    assert [name for name in tmp_names(root) if "probe" in name] == []
    store.close()


async def test_a_size_hint_beyond_the_free_space_is_refused_before_anything_is_written(store):
    free = await store.probe()
    with pytest.raises(StorageFullError):
        async with store.stage(size_hint_bytes=free * 2):
            pytest.fail("the stage was entered")
    assert await store.put(b"abc") == ABC


async def test_a_refused_store_can_still_be_read(root, store):
    await store.put(b"abc")
    full = LocalBlobStore(root, min_free_fraction=1.0)
    assert await read_whole(full, ABC, 3) == b"abc"
    full.close()


async def test_commit_takes_only_what_this_kind_of_store_staged(store):
    with pytest.raises(TypeError):
        await store.commit(object(), ABC)


class CountingStore(LocalBlobStore):
    """Counts the files that were hashed whole."""

    hashed = 0

    def _hash(self, descriptor, digest, seal):
        self.hashed += 1
        return super()._hash(descriptor, digest, seal)


@pytest.fixture
def counting(root):
    made = CountingStore(root, min_free_fraction=0.0)
    yield made
    made.close()


async def test_the_writer_of_a_blob_does_not_hash_it_again(counting):
    digest = await counting.put(LARGE)
    await read_whole(counting, digest, len(LARGE))
    assert counting.hashed == 0


async def test_concurrent_first_opens_share_one_hashing(store, counting):
    digest = await store.put(LARGE)
    blobs = await asyncio.gather(*(counting.open(digest, len(LARGE)) for _ in range(50)))
    for blob in blobs:
        blob.close()
    await read_whole(counting, digest, len(LARGE))
    assert counting.hashed == 1


async def test_a_touched_file_is_hashed_again_and_a_replaced_one_too(counting, root, tamper):
    digest = await counting.put(LARGE)
    tamper._write(digest, LARGE)
    await read_whole(counting, digest, len(LARGE))
    assert counting.hashed == 1
    twin = root / "twin"
    twin.write_bytes(LARGE)
    twin.rename(blob_path(root, digest))
    await read_whole(counting, digest, len(LARGE))
    assert counting.hashed == 2


async def test_a_blob_that_another_process_replaces_is_noticed(store, root):
    await store.put(b"abc")
    blob = await store.open(ABC, 3)
    twin = root / "twin"
    twin.write_bytes(b"abc")
    twin.replace(blob_path(root, ABC))
    assert not blob.unchanged()
    blob.close()


async def test_a_cancelled_opener_does_not_fail_the_others(store, counting):
    digest = await store.put(LARGE)
    openers = [asyncio.create_task(counting.open(digest, len(LARGE))) for _ in range(5)]
    while not counting._hashing:
        await asyncio.sleep(0)
    openers[0].cancel()
    blobs = await asyncio.gather(*openers, return_exceptions=True)
    assert isinstance(blobs[0], asyncio.CancelledError)
    for blob in blobs[1:]:
        assert bytes(await blob.read(0, 4)) == LARGE[:4]
        blob.close()


@pytest.mark.parametrize("kind", ["symlink", "folder", "fifo"])
async def test_what_is_not_a_file_is_damaged_and_can_be_put_aside(store, root, kind):
    await store.put(b"abc")
    path = blob_path(root, ABC)
    path.unlink()
    if kind == "symlink":
        path.symlink_to("/etc/hostname")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(BlobDamagedError, match="not a file"):
        await store.open(ABC, 3)
    assert await store.check(ABC, 3, deep=True) is BlobCondition.DAMAGED
    if kind != "folder":
        await store.put(b"abc")
        assert await read_whole(store, ABC, 3) == b"abc"


async def test_read_cached_answers_from_the_page_cache(tmp_path, store):
    blob = await store.open(await store.put(LARGE), len(LARGE))
    probe = tmp_path / "probe"
    probe.write_bytes(b"x")
    descriptor = os.open(probe, os.O_RDONLY)
    try:
        os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError:
        blob.close()
        pytest.skip("RWF_NOWAIT is not supported by this file system")
    finally:
        os.close(descriptor)
    await blob.read(0, len(LARGE))
    # The kernel may drop a page at any moment, so the answer may be None, but not every time.
    assert any(blob.read_cached(5, 1 << 20) == LARGE[5 : 5 + (1 << 20)] for _ in range(100))
    blob.close()


async def test_a_blob_closed_while_it_is_read_is_read_to_the_end(store):
    blob = await store.open(await store.put(LARGE), len(LARGE))
    reads = [asyncio.create_task(blob.read(0, len(LARGE))) for _ in range(8)]
    await asyncio.sleep(0)
    blob.close()
    assert {bytes(content) for content in await asyncio.gather(*reads)} == {LARGE}
    with pytest.raises(ValueError, match="closed"):
        await blob.read(0, 1)


class CancellingThreads(Threads):
    """Cancels a task when a given piece of work has just been handed to a thread."""

    def __init__(self, at: int) -> None:
        super().__init__(4)
        self.at = at
        self.count = 0
        self.victim = None

    async def run(self, work, *, discard=None):
        self.count += 1
        if self.count == self.at:
            self.victim.cancel()
        return await super().run(work, discard=discard)


async def cancelled_at(at: int, store: LocalBlobStore, work) -> CancellingThreads:
    """Run work and cancel it at the at-th piece; return the threads, restored in the store."""
    threads, usual = CancellingThreads(at), store._threads
    store._threads = threads
    threads.victim = asyncio.ensure_future(work)
    await asyncio.gather(threads.victim, return_exceptions=True)
    await asyncio.gather(*store._hashing.values(), return_exceptions=True)
    store._threads = usual
    threads.close()
    return threads


async def test_cancellation_at_any_step_of_a_put_leaves_no_file_and_no_descriptor(store, root):
    await store.put(b"warm up")
    before = open_descriptors()
    for at in itertools.count(1):
        threads = await cancelled_at(at, store, store.put(LARGE))
        assert [name for name in tmp_names(root) if len(name) == 16] == []
        assert open_descriptors() == before
        if threads.count < at:
            break
        assert threads.victim.cancelled()
        assert await store.check(Digest.of(LARGE), len(LARGE), deep=True) in {
            BlobCondition.OK,
            BlobCondition.MISSING,
        }
        await store.delete(Digest.of(LARGE))
    assert at == 5  # create, write, seal, commit


async def test_a_flush_that_fails_drops_the_bytes(store, root, monkeypatch):
    """A second fsync would report success for bytes that the kernel has dropped."""

    def fail(_descriptor):
        raise OSError(errno.EIO, "Input/output error")

    async with store.stage() as staged:
        await staged.write(LARGE)
        digest = await staged.seal()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(StorageError, match="Input/output error"):
                await staged.flush()
        assert [name for name in tmp_names(root) if len(name) == 16] == []
        with pytest.raises(StorageError):
            await store.commit(staged, digest)
    assert await store.check(digest, len(LARGE), deep=False) is BlobCondition.MISSING


async def test_a_write_that_fails_in_the_background_is_told_by_the_next_step(store, monkeypatch):
    def fail(_descriptor, _content):
        raise OSError(errno.EIO, "Input/output error")

    async with store.stage() as staged:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fail)
            await staged.write(LARGE)
            with pytest.raises(StorageError, match="Input/output error"):
                await staged.seal()
        await staged.restart()
        await staged.write(LARGE)
        await store.commit(staged, await staged.seal())


async def test_cancellation_at_any_step_of_an_open_leaves_no_descriptor(store):
    digest = await store.put(LARGE)
    before = open_descriptors()
    for at in (1, 2):
        store._seals.forget(digest)
        threads = await cancelled_at(at, store, store.open(digest, len(LARGE)))
        assert threads.victim.cancelled()
        assert open_descriptors() == before
    assert await read_whole(store, digest, len(LARGE)) == LARGE


async def test_work_goes_on_to_its_end_when_its_caller_is_cancelled_again_and_again(store):
    done = threading.Event()
    go_on = threading.Event()

    def work() -> None:
        go_on.wait(60)
        done.set()

    task = asyncio.create_task(store._threads.run(work))
    for _ in range(5):
        await asyncio.sleep(0)
        task.cancel()
    assert not task.done()
    go_on.set()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert done.is_set()


async def test_a_deadline_in_mid_stage_leaves_no_file(store, root):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), store.stage() as staged:
            await staged.write(LARGE)
            await asyncio.Event().wait()
    assert [name for name in tmp_names(root) if len(name) == 16] == []


async def test_after_a_deadline_the_store_works_on(store):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await store.put(LARGE)
    assert await store.put(b"abc") == ABC


def test_close_leaves_no_folder_and_no_lock(root):
    store = LocalBlobStore(root, min_free_fraction=0.0)
    asyncio.run(store.put(b"abc"))
    assert len(list((root / "tmp").iterdir())) == 2
    store.close()
    store.close()
    assert list((root / "tmp").iterdir()) == []
    assert asyncio.run(store.put(b"abc")) == ABC
    store.close()


def test_a_store_may_serve_one_event_loop_after_another(store):
    for _ in range(3):
        assert asyncio.run(read_whole(store, asyncio.run(store.put(LARGE)), len(LARGE))) == LARGE


async def test_an_emptied_tmp_folder_stops_nothing(store, root):
    await store.put(b"abc")
    for path in (root / "tmp").iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    assert await store.put(b"abd") == Digest.of(b"abd")


async def test_walk_ignores_what_is_no_blob(store, root):
    await store.put(b"abc")
    (root / "blobs" / "README").write_bytes(b"")
    (root / "blobs" / "ba" / "README").write_bytes(b"")
    (root / "blobs" / "ba" / ("0" * 64)).write_bytes(b"in the wrong shard")
    assert [blob.digest for blob in store.walk()] == [ABC]


STAGE_AND_STOP = """
import asyncio, sys
from pathlib import Path
from app.storage.local import LocalBlobStore

async def main():
    store = LocalBlobStore(Path(sys.argv[1]), min_free_fraction=0.0)
    async with store.stage(size_hint_bytes=2 << 20) as staged:
        await staged.write(b"x" * (2 << 20))
        print("staged", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def start_stager(root: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", STAGE_AND_STOP, str(root)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert child.stdout.readline() == b"staged\n"
    child.stdout.close()
    return child


def kill(child: subprocess.Popen) -> None:
    child.kill()
    child.wait()


async def test_leaving_a_stage_at_its_first_bytes_leaves_nothing(store, root):
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with store.stage() as staged:
            await staged.write(bytes(1 << 20))  # a task is about to make the file
            raise ZeroDivisionError
    await asyncio.gather(*asyncio.all_tasks() - before, return_exceptions=True)
    assert [path for path in (root / "tmp").glob("*/*") if path.is_file()] == []


async def test_F91_leftovers_are_those_of_dead_processes_only(store, root):
    dead, alive = start_stager(root), start_stager(root)
    try:
        assert list(store.leftovers()) == []
        kill(dead)
        [leftover] = store.leftovers()
        assert leftover.size_bytes == 2 << 20
        assert await store.recover() == 1
        assert list(store.leftovers()) == []
        assert await store.recover() == 0
        assert alive.poll() is None
        assert len(list((root / "tmp").iterdir())) == 2
    finally:
        kill(alive)
    assert await store.recover() == 1
    assert list((root / "tmp").iterdir()) == []


async def test_two_stores_in_one_process_spare_each_other(store, root):
    other = LocalBlobStore(root, min_free_fraction=0.0)
    async with store.stage() as staged:
        await staged.write(LARGE)
        assert await other.recover() == 0
        await store.commit(staged, await staged.seal())
    other.close()


OWNER = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ([], 0),
        ([f".new-{OWNER}"], 0),
        ([f"{OWNER}.lock"], 0),
        ([f"{OWNER}.lock", f"{OWNER}/"], 0),
        ([f"{OWNER}.lock", f"{OWNER}/", f"{OWNER}/a", f"{OWNER}/b"], 2),
        ([f"{OWNER}/", f"{OWNER}/a"], 1),
        ([f"{OWNER}/"], 0),
    ],
)
async def test_F91_recover_ends_what_a_killed_owner_or_recover_left(store, root, names, count):
    for name in names:
        path = root / "tmp" / name
        path.mkdir() if name.endswith("/") else path.write_bytes(b"left")
    assert len(list(store.leftovers())) == count
    assert await store.recover() == count
    assert list((root / "tmp").iterdir()) == []
    assert await store.recover() == 0


async def test_recover_leaves_what_it_does_not_know(store, root):
    (root / "tmp" / "lost+found").mkdir()
    (root / "tmp" / "note.lock").write_bytes(b"")
    assert await store.recover() == 0
    assert tmp_names(root) == ["lost+found", "note.lock"]


def put_in_child(store: LocalBlobStore, data: bytes) -> None:
    asyncio.run(store.put(data))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_stages_in_a_folder_of_its_own(store, root):
    asyncio.run(store.put(b"abc"))
    [mine] = (path for path in (root / "tmp").iterdir() if path.is_dir())
    child = multiprocessing.get_context("fork").Process(target=put_in_child, args=(store, b"abd"))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert asyncio.run(read_whole(store, Digest.of(b"abd"), 3)) == b"abd"
    # The child died without closing its store; its folder is nobody's, ours is still ours.
    asyncio.run(store.recover())
    assert [path for path in (root / "tmp").iterdir() if path.is_dir()] == [mine]


PUT_OFTEN = """
import asyncio, sys
from pathlib import Path
from app.storage.local import LocalBlobStore

async def main():
    store = LocalBlobStore(Path(sys.argv[1]), min_free_fraction=0.0)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(40):
        await store.put(b"%d" % number * 5000)
    store.close()

asyncio.run(main())
"""


async def test_two_processes_putting_the_same_blobs_at_once_agree(store, root):
    command = [sys.executable, "-c", PUT_OFTEN, str(root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    children = [subprocess.Popen(command, cwd=REPOSITORY, **pipes) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.communicate(b"go\n", timeout=120)
        assert child.returncode == 0
    blobs = list(store.walk())
    assert len(blobs) == 40
    for blob in blobs:
        assert await store.check(blob.digest, blob.size_bytes, deep=True) is BlobCondition.OK
    assert list((root / "tmp").iterdir()) == []


def test_a_sigterm_between_staging_and_commit_leaves_what_recover_removes(store, root):
    child = start_stager(root)
    child.send_signal(signal.SIGTERM)
    child.wait()
    assert asyncio.run(store.recover()) == 1
    assert list((root / "tmp").iterdir()) == []


ON_A_SMALL_DISK = """
import asyncio, contextlib, json, subprocess, sys
from pathlib import Path
from app.core.errors import StorageError, StorageFullError
from app.storage.local import LocalBlobStore

ROOT = Path(sys.argv[1]) / "store"

async def fill(store, size_bytes):
    stored = {}
    with contextlib.suppress(StorageFullError):
        for number in range(10_000):
            content = b"%06d" % number * (size_bytes // 6)
            stored[await store.put(content)] = content
    return stored

async def refusal(work):
    try:
        await work
    except StorageError as error:
        return type(error).__name__
    return "accepted"

async def main():
    store = LocalBlobStore(ROOT, min_free_fraction=0.0)
    facts = {}
    stored = await fill(store, int(sys.argv[2]))
    facts["stored"] = len(stored)
    facts["full"] = await refusal(store.put(b"x" * 100_000))
    facts["staged files"] = sum(1 for path in (ROOT / "tmp").rglob("*") if len(path.name) == 16)
    facts["readable"] = sum(
        [await store.read(digest, max_bytes=1 << 20) == stored[digest] for digest in stored]
    )
    for digest in list(stored)[:10]:
        await store.delete(digest)
    facts["after freeing"] = await refusal(store.put(b"room again"))
    subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
    facts["read-only put"] = await refusal(store.put(b"y"))
    facts["read-only probe"] = await refusal(store.probe())
    reopened = LocalBlobStore(ROOT, min_free_fraction=0.0)
    last = list(stored)[-1]
    facts["read-only read"] = await reopened.read(last, max_bytes=1 << 20) == stored[last]
    facts["read-only leftovers"] = len(list(reopened.leftovers()))
    subprocess.run(["mount", "-o", "remount,rw", sys.argv[1]], check=True)
    facts["writable again"] = await refusal(store.put(b"y"))
    print(json.dumps(facts))

asyncio.run(main())
"""

MOUNT_AND_RUN = 'mount -t tmpfs -o "$1" tmpfs "$2" || exit 77; exec "$3" -c "$4" "$2" "$5"'


@pytest.mark.parametrize(
    ("limit", "size_bytes"),
    [("size=4m", 60_000), ("size=64m,nr_inodes=120", 600)],
    ids=["no space", "no inode"],
)
def test_F88_F89_a_full_or_read_only_disk_refuses_writes_and_serves_reads(
    tmp_path, limit, size_bytes
):
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    # A mount namespace of its own: the mount ends with the process.
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT_AND_RUN, "sh"]
    command += [limit, str(tmp_path), sys.executable, ON_A_SMALL_DISK, str(size_bytes)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False, timeout=120)
    if done.returncode in {1, 77} and b"Traceback" not in done.stderr:
        pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.decode().strip()}")
    assert done.returncode == 0, done.stderr.decode()
    facts = json.loads(done.stdout)
    assert facts.pop("stored") == facts.pop("readable") > 20
    assert facts == {
        "staged files": 0,
        "full": "StorageFullError",
        "after freeing": "accepted",
        "read-only put": "StorageError",
        "read-only probe": "StorageError",
        "read-only read": True,
        "read-only leftovers": 0,
        "writable again": "accepted",
    }
