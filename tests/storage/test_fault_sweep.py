"""A fault at every file system call of an ingestion: EIO, ENOSPC and kill -9 (F88, F89, F91).

strace injects the fault into the n-th call of one kind, for each kind and each n that a clean run
shows. This is the method of transparency-dev/tessera, integration/fault/posix. Afterwards the
store must be right: what is recorded is there, what is there is right, nothing is left over, and
doing it again works. A deliberately wrong writer shows that the sweep finds violations.
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from app.storage.blobstore import BlobCondition
from app.storage.local import LocalBlobStore
from tests.storage.one_put import CONTENT, DIGEST, Job, open_store

REPOSITORY = Path(__file__).parents[2]

DONE, FULL, FAILED, UNRECORDED, KILLED = 0, 3, 4, 6, -9

# "?" lets strace pass over a call that the machine's architecture does not have.
TRACE = (
    "trace=?openat,?close,?write,?pwrite64,?fsync,?fdatasync,?fallocate,?ftruncate,?link,?linkat,"
    "?unlink,?unlinkat,?mkdir,?mkdirat,?rename,?renameat,?renameat2,?rmdir,?flock,?statfs,?fstatfs,"
    "?fstat,?newfstatat,?stat,?lstat,?statx,?getdents64,?fadvise64,?pread64,?preadv,?preadv2"
)

_CALL = re.compile(r"^(\d+) +(\w+)\(", re.MULTILINE)


class Tracer:
    """A one_put server whose children run under strace."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("strace") is None:
            pytest.skip("strace is not installed")
        self.log = folder / "strace.log"
        command = [sys.executable, "-m", "tests.storage.one_put", "serve"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._server = subprocess.Popen(command, cwd=REPOSITORY, **pipes)

    def close(self) -> None:
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(60)

    def run(self, job: Job, *options: str) -> int:
        """Run one job under strace with these options; return the child's exit status."""
        self._say(json.dumps(asdict(job)))
        pid = self._server.stdout.readline().decode().strip()
        command = ["strace", "-f", "-o", str(self.log), "-e", TRACE, *options, "-p", pid]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as strace:
            said = strace.stderr.readline()
            is_attached = b"attached" in said
            # Not attached: the child gets another word than "go" and ends without working.
            self._say("go" if is_attached else "no")
            status = int(self._server.stdout.readline())
            said += strace.stderr.read()
        if not is_attached:
            pytest.skip(f"strace cannot trace here: {said.decode().strip()}")
        return status

    def calls(self) -> list[tuple[str, str]]:
        """Return (thread, call) of the last run, in order."""
        return _CALL.findall(self.log.read_text())

    def _say(self, line: str) -> None:
        self._server.stdin.write(line.encode() + b"\n")
        self._server.stdin.flush()


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    made = Tracer(tmp_path_factory.mktemp("tracer"))
    yield made
    made.close()


def points(tracer: Tracer, fault: str) -> list[tuple[str, int]]:
    """Return each (call, n) that the last run reached: strace counts each thread by itself.

    close can't be made to fail for the store alone: the event loop closes its own descriptors.
    """
    most: Counter[str] = Counter()
    for (_, call), count in Counter(tracer.calls()).items():
        most[call] = max(most[call], count)
    if fault != "KILL":
        del most["close"]
    return [(call, n) for call, count in sorted(most.items()) for n in range(1, count + 1)]


class Case:
    """One store, brought into the state in which the action begins."""

    def __init__(self, folder: Path, *, is_opening_traced: bool = False) -> None:
        self.root = folder / "store"
        self.record = folder / "record"
        self._is_opening_traced = is_opening_traced
        folder.mkdir()

    def job(self, action: str) -> Job:
        return Job(str(self.root), str(self.record), action, self._is_opening_traced)

    @property
    def is_recorded(self) -> bool:
        return self.record.exists() and self.record.read_text() == DIGEST.hex

    @property
    def blob(self) -> Path:
        return self.root / "blobs" / DIGEST.hex[:2] / DIGEST.hex

    def place_damaged_blob(self) -> None:
        open_store(str(self.root)).close()
        self.blob.parent.mkdir()
        self.blob.write_bytes(CONTENT[:-1] + b"?")

    def place_leftovers(self) -> None:
        """Make what dead processes left; eight shards are missing, as after a kill among them.

        A kill at each of 256 equal calls would say no more.
        """
        open_store(str(self.root)).close()
        for shard in range(8, 256):
            (self.root / "blobs" / f"{shard:02x}").mkdir()
        for number in range(2):
            owner = self.root / "tmp" / (f"{number}" * 32)
            owner.with_suffix(".lock").write_bytes(b"")
            owner.mkdir()
            for name in ("a", "b"):
                (owner / name).write_bytes(b"left")
        (self.root / "tmp" / (".new-" + "2" * 32)).write_bytes(b"")


async def violations(case: Case, *, may_be_damaged: bool = False) -> list[str]:
    """Return what is wrong with a store after a fault, then after recovery and a retry."""
    store = open_store(str(case.root))
    wrong = []
    condition = await store.check(DIGEST, len(CONTENT), deep=True)
    if case.is_recorded and condition is not BlobCondition.OK:
        wrong.append(f"recorded and {condition}")
    if not may_be_damaged:
        wrong += [f"visible and wrong: {path.name}" for path in wrong_blobs(case.root)]
    wrong += await recovery_violations(store, case.root)
    await store.put(CONTENT)
    if await store.check(DIGEST, len(CONTENT), deep=True) is not BlobCondition.OK:
        wrong.append("a retry does not heal")
    store.close()
    return wrong


async def recovery_violations(store: LocalBlobStore, root: Path) -> list[str]:
    await store.recover()
    if list(store.leftovers()) or any((root / "tmp").iterdir()):
        return ["left over after recovery"]
    return []


def wrong_blobs(root: Path) -> list[Path]:
    files = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    return [p for p in files if p.name != DIGEST.hex or p.read_bytes() != CONTENT]


FAULTS = {"EIO": "error=EIO", "ENOSPC": "error=ENOSPC", "KILL": "signal=KILL"}
# What the child may report. DONE is right where a failure costs nothing (closing, cleaning up).
EXPECTED = {
    "EIO": {DONE, FAILED, UNRECORDED},
    "ENOSPC": {DONE, FULL, UNRECORDED},
    "KILL": {KILLED},
}


def fault_option(fault: str, call: str, n: int) -> str:
    return f"inject={call}:{FAULTS[fault]}:when={n}"


def test_a_clean_run_makes_each_call_that_the_protocol_names(tracer, tmp_path):
    case = Case(tmp_path / "clean")
    assert tracer.run(case.job("put")) == DONE
    assert case.is_recorded
    made = {call for _, call in tracer.calls()}
    for either in [("link", "linkat"), ("unlink", "unlinkat"), ("mkdir", "mkdirat")]:
        assert made & set(either)
    assert {"openat", "write", "fsync", "fallocate", "ftruncate", "flock"} <= made


@pytest.mark.slow
@pytest.mark.parametrize("is_opening_traced", [False, True], ids=["put", "open and put"])
@pytest.mark.parametrize("fault", FAULTS)
def test_F88_F89_F91_a_fault_at_each_call_of_a_put(tracer, tmp_path, fault, is_opening_traced):
    clean = Case(tmp_path / "clean", is_opening_traced=is_opening_traced)
    assert tracer.run(clean.job("put")) == DONE
    violations_at = {}
    for call, n in points(tracer, fault):
        case = Case(tmp_path / f"{call}-{n}", is_opening_traced=is_opening_traced)
        status = tracer.run(case.job("put"), "-e", fault_option(fault, call, n))
        wrong = asyncio.run(violations(case))
        if status not in EXPECTED[fault]:
            wrong.append(f"the child's exit status is {status}")
        if status != KILLED and "(INJECTED)" not in tracer.log.read_text():
            wrong.append("the fault was not injected")
        if status == DONE and not case.is_recorded:
            wrong.append("done and not recorded")
        violations_at[call, n] = wrong
        shutil.rmtree(tmp_path / f"{call}-{n}")
    assert len(violations_at) > 20
    assert {point: wrong for point, wrong in violations_at.items() if wrong} == {}


def test_F89_EIO_at_each_call_of_a_read_is_a_storage_error(tracer, tmp_path):
    case = Case(tmp_path / "case")
    store = open_store(str(case.root))
    asyncio.run(store.put(CONTENT))
    store.close()
    assert tracer.run(case.job("read")) == DONE
    statuses = {}
    for call, n in points(tracer, "EIO"):
        statuses[call, n] = tracer.run(case.job("read"), "-e", fault_option("EIO", call, n))
    assert set(statuses.values()) <= EXPECTED["EIO"], statuses
    # Opening, looking, hashing and reading: none of their failures is passed over.
    assert list(statuses.values()).count(FAILED) >= 8, statuses
    assert asyncio.run(violations(case)) == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["EIO", "KILL"])
def test_F90_F91_a_fault_while_a_damaged_blob_is_replaced(tracer, tmp_path, fault):
    clean = Case(tmp_path / "clean")
    clean.place_damaged_blob()
    assert tracer.run(clean.job("put")) == DONE
    violations_at = {}
    for call, n in points(tracer, fault):
        case = Case(tmp_path / f"{call}-{n}")
        case.place_damaged_blob()
        tracer.run(case.job("put"), "-e", fault_option(fault, call, n))
        violations_at[call, n] = asyncio.run(violations(case, may_be_damaged=True))
        shutil.rmtree(tmp_path / f"{call}-{n}")
    assert {point: wrong for point, wrong in violations_at.items() if wrong} == {}


@pytest.mark.slow
def test_F91_recover_killed_at_each_call_is_ended_by_the_next_recover(tracer, tmp_path):
    clean = Case(tmp_path / "clean")
    clean.place_leftovers()
    assert tracer.run(clean.job("recover")) == DONE
    assert not any((clean.root / "tmp").iterdir())
    for call, n in points(tracer, "KILL"):
        case = Case(tmp_path / f"{call}-{n}")
        case.place_leftovers()
        assert tracer.run(case.job("recover"), "-e", fault_option("KILL", call, n)) == KILLED
        store = open_store(str(case.root))
        assert asyncio.run(recovery_violations(store, case.root)) == [], (call, n)
        assert len(list((case.root / "blobs").iterdir())) == 256, (call, n)
        store.close()
        shutil.rmtree(tmp_path / f"{call}-{n}")


def test_F91_a_quarantine_killed_at_each_call_never_loses_the_evidence(tracer, tmp_path):
    clean = Case(tmp_path / "clean")
    clean.place_damaged_blob()
    assert tracer.run(clean.job("quarantine")) == DONE
    for call, n in points(tracer, "KILL"):
        case = Case(tmp_path / f"{call}-{n}")
        case.place_damaged_blob()
        assert tracer.run(case.job("quarantine"), "-e", fault_option("KILL", call, n)) == KILLED
        kept = [path for path in (case.root / "quarantine").iterdir() if path.stat().st_size]
        assert case.blob.exists() != bool(kept), (call, n)


def test_the_sweep_finds_the_faults_of_a_writer_in_place_that_records_first(tracer, tmp_path):
    clean = Case(tmp_path / "clean")
    assert tracer.run(clean.job("put in place")) == DONE
    counts = Counter()
    reached = {fault: points(tracer, fault) for fault in FAULTS}
    for fault in FAULTS:
        for call, n in reached[fault]:
            case = Case(tmp_path / f"{call}-{n}-{fault}")
            tracer.run(case.job("put in place"), "-e", fault_option(fault, call, n))
            counts[fault] += bool(asyncio.run(violations(case)))
            shutil.rmtree(tmp_path / f"{call}-{n}-{fault}")
    assert min(counts[fault] for fault in FAULTS) >= 3, counts
