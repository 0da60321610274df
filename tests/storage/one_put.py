"""The program that the fault tests hurt: it does one thing to a store, then records that it did.

    python -m tests.storage.one_put serve
    python -m tests.storage.one_put many <root> <sync|nosync>

serve reads one job a line from stdin (JSON, see `Job`) and forks a child for each, so that no
fault ever hits the start of the interpreter. The child prints its pid, waits for the line "go"
(meanwhile a tracer attaches) and works; the server then prints the child's exit status: 0 done,
3 StorageFullError, 4 another StorageError, 5 anything else, 6 the record could not be written,
negative for a signal.

The record is a synced file. It stands for the database row that names the blob.

many stores one blob after the other and prints each digest once put has returned.
"""

import asyncio
import ctypes
import itertools
import json
import os
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

from app.core.digest import Digest
from app.core.errors import StorageError, StorageFullError
from app.storage.local import LocalBlobStore

CONTENT = bytes(range(256)) * 4096 * 3
DIGEST = Digest.of(CONTENT)
CHUNK_BYTES = 1 << 20

_PR_SET_PTRACER = 0x59616D61
_PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)


@dataclass(frozen=True, slots=True)
class Job:
    """What a child does.

    Attributes:
        action: "put", "read", "quarantine" or "recover"; "put in place" is deliberately wrong.
        is_opening_traced: whether opening the store comes after "go", and so under the tracer.
    """

    root: str
    record: str
    action: str
    is_opening_traced: bool


def open_store(root: str) -> LocalBlobStore:
    # One thread, because a tracer counts system calls by thread.
    return LocalBlobStore(Path(root), min_free_fraction=0.0, max_threads=1)


class RecordError(Exception):
    """The record may or may not be there."""


def write_record(path: str, line: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RecordError(path) from error


async def put(store: LocalBlobStore) -> None:
    # A hint that is too large by one makes seal cut the file.
    async with store.stage(size_hint_bytes=len(CONTENT) + 1) as staged:
        for start in range(0, len(CONTENT), CHUNK_BYTES):
            await staged.write(CONTENT[start : start + CHUNK_BYTES])
        await store.commit(staged, await staged.seal())


async def read(store: LocalBlobStore) -> None:
    blob = await store.open(DIGEST, len(CONTENT))
    try:
        if await blob.read(0, len(CONTENT)) != CONTENT:
            raise AssertionError("wrong bytes were served")
    finally:
        blob.close()


def put_in_place(job: Job) -> None:
    """Do it wrong: the record first, then the bytes under the final name, never synced."""
    write_record(job.record, DIGEST.hex)
    shard = Path(job.root) / "blobs" / DIGEST.hex[:2]
    shard.mkdir(exist_ok=True)
    descriptor = os.open(shard / DIGEST.hex, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o440)
    for start in range(0, len(CONTENT), CHUNK_BYTES):
        os.write(descriptor, CONTENT[start : start + CHUNK_BYTES])
    os.close(descriptor)


def perform(job: Job, store: LocalBlobStore) -> None:
    if job.action == "put in place":
        put_in_place(job)
        return
    actions = {
        "put": lambda: put(store),
        "read": lambda: read(store),
        "quarantine": lambda: store.quarantine(DIGEST),
        "recover": store.recover,
    }
    asyncio.run(actions[job.action]())
    write_record(job.record, DIGEST.hex)


def run_child(job: Job) -> int:
    # Where the kernel restricts tracing to descendants (Yama), let the test's strace in.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY)
    store = None if job.is_opening_traced else open_store(job.root)
    os.write(1, b"%d\n" % os.getpid())
    if os.read(0, 3) != b"go\n":
        return 5
    try:
        perform(job, store or open_store(job.root))
    except StorageFullError:
        return 3
    except StorageError:
        return 4
    except RecordError:
        return 6
    except BaseException:
        traceback.print_exc()
        return 5
    return 0


def warm_up() -> None:
    """Import whatever is imported late, before anything is traced."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"{folder}/store")
        asyncio.run(put(store))
        asyncio.run(read(store))
        asyncio.run(store.quarantine(DIGEST))
        asyncio.run(store.recover())
        write_record(f"{folder}/record", DIGEST.hex)
        store.close()


def serve() -> None:
    warm_up()
    line = b""
    while piece := os.read(0, 1):  # unbuffered: the child reads from the same pipe
        line += piece
        if piece != b"\n":
            continue
        child = os.fork()
        if child == 0:
            os._exit(run_child(Job(**json.loads(line))))
        _, status = os.waitpid(child, 0)
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(status))
        line = b""


async def put_many(root: str) -> None:
    store = LocalBlobStore(Path(root), min_free_fraction=0.0)
    for number in itertools.count():
        content = b"%d " % number * (1 + number * 7919 % 20000)
        digest = await store.put(content)
        os.write(1, b"%s %d\n" % (digest.hex.encode(), len(content)))


def main() -> None:
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["many", root, "sync"]:
            asyncio.run(put_many(root))
        case ["many", root, "nosync"]:
            os.fsync = lambda _descriptor: None
            asyncio.run(put_many(root))
        case _:
            sys.exit("usage: serve | many <root> <sync|nosync>")


if __name__ == "__main__":
    main()
