"""`python -m bench.gcrace [ROUNDS] [postgresql]`: puts and collections of garbage, in processes.

Four processes store, name and drop the same few blobs at random while two collect garbage, over one
database and one store. A round is two days long for their clock; within a round it stands still, as
a put takes less than a day. After each round every named blob must be whole.
"""

import asyncio
import contextlib
import multiprocessing
import random
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

from app.core.digest import Digest
from app.core.errors import ConflictError, DatabaseBusyError, StorageError
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.releaseindex import IndexDocumentRow
from app.db.sqlite import sqlite_url
from app.services.garbage import BlobMarks, Garbage
from app.storage.blobstore import BlobCondition
from app.storage.local import LocalBlobStore
from tests import postgres
from tests.installation import migrated_url

_PUTTERS, _COLLECTORS, _BODIES = 4, 2, 8
_START = datetime(2050, 1, 1, tzinfo=UTC)


def main(rounds: int, *, on_postgresql: bool) -> None:
    """Run the race; print what happened, or fail."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        if on_postgresql:
            cluster = postgres.cluster()
            stack.callback(cluster.remove)
            url = stack.enter_context(cluster.database(postgres.migrated_template()))
        else:
            migrated_url(folder / "moorage.db")
            url = sqlite_url(folder / "moorage.db")
        barrier = multiprocessing.Barrier(_PUTTERS + _COLLECTORS)
        processes = [
            multiprocessing.Process(target=_run, args=(number, rounds, url, folder, barrier))
            for number in range(_PUTTERS + _COLLECTORS)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        codes = [process.exitcode for process in processes]
        print(f"{rounds} rounds, {len(processes)} processes, exit codes {codes}")
        if any(codes):
            raise SystemExit(1)


def _run(number: int, rounds: int, url: str, folder: Path, barrier: Barrier) -> None:
    try:
        asyncio.run(_work(number, rounds, url, folder, barrier))
    except BaseException:
        barrier.abort()
        raise


async def _work(number: int, rounds: int, url: str, folder: Path, barrier: Barrier) -> None:
    at = _START
    db, dice = Database(url), random.Random(number)
    store = LocalBlobStore(folder, min_free_fraction=0, reclaim=BlobMarks(db, lambda: at).reclaim)
    deleted = put = refused = 0
    bodies = [b"%d" % body * 1000 for body in range(_BODIES)]
    for _ in range(rounds):
        await asyncio.to_thread(barrier.wait)
        if number >= _PUTTERS:
            garbage = Garbage(db, store, lambda: at)  # noqa: B023 (within the round)
            for _ in range(3):
                done = await garbage.run(await garbage.plan(), "cli")
                deleted += len(done.delete)
        else:
            for body in bodies:
                digest, choice = Digest.of(body), dice.random()
                try:
                    if choice < 0.35:
                        await store.put(body)
                        await db.write(lambda s: _name(s, digest, len(body), at))  # noqa: B023
                        put += 1
                    elif choice < 0.8:
                        await db.write(lambda s: _drop(s, digest))  # noqa: B023
                except (StorageError, DatabaseBusyError, ConflictError):
                    refused += 1
        await asyncio.to_thread(barrier.wait)
        for name in await db.read(_named):
            size = len(bodies[[Digest.of(b).hex for b in bodies].index(name)])
            condition = await store.check(Digest(name), size, deep=True)
            if condition is not BlobCondition.OK:
                raise SystemExit(f"lost: {name} is {condition}")
        await asyncio.to_thread(barrier.wait)
        at += timedelta(days=2)
    store.close()
    db.close()
    print(f"process {number}: put {put}, refused {refused}, deleted {deleted}")


def _name(session: Session, digest: Digest, size: int, at: datetime) -> None:
    Blobs(session).record(digest, size, at)
    session.merge(IndexDocumentRow(sha256=digest.hex, url="x", first_read_at=at))
    session.flush()


def _drop(session: Session, digest: Digest) -> None:
    row = session.get(IndexDocumentRow, digest.hex)
    if row is not None:
        session.delete(row)
        session.flush()


def _named(session: Session) -> list[str]:
    return [row.sha256 for row in session.query(IndexDocumentRow)]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, on_postgresql="postgresql" in sys.argv)
