"""Making a backup while the service runs, and removing old ones.

The order makes the backup whole: the blobs first, which takes longest; then a copy of the database
of one moment; then the blobs that it names beside those; then the heads of the logs. If a log grew
meanwhile, the database is copied again. The manifest comes last.

A head is read after the database, never before: a head that is newer than the restored database
keeps the log from signing a second timeline. An older one would let it.

Killed at any point, a backup has no manifest: it does not exist, and the next one uses what was
copied. What no manifest names is removed by `prune`.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from urllib.parse import unquote

from app import __version__, logs
from app.core import tlog
from app.core.backup import Manifest, Stream, blob_key, blob_line, cut_lines
from app.core.digest import Digest
from app.core.errors import BadInputError, BlobDamagedError, BlobMissingError, ConflictError
from app.core.note import parse_note
from app.db.blobs import Blobs, RecordedBlob
from app.db.dump import DatabaseCopy, Facts
from app.db.engine import Database
from app.db.installation import database_uid
from app.db.leases import LeaseHolder
from app.services.backup.place import Backup, BackupPlace, hash_of
from app.services.clock import Now
from app.services.leases import Leases
from app.storage import durable
from app.storage.blobstore import BlobStore
from app.storage.durable import storage_errors
from app.storage.objects import ObjectStore

LEASE = "backup"
_ROUNDS = 5
_AT_ONCE = 4
_AUDIT_HEAD = "audit.chain"
_log = logs.get("backup")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune did, or would do.

    Attributes:
        removed: ids of backups, oldest first.
        objects: number of pieces and blobs that no other backup has.
    """

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    objects: int
    size_bytes: int


@dataclass(slots=True)
class _Copied:
    """What is in the place so far.

    Attributes:
        stored: sizes of pieces and blobs by key.
        new_bytes: how much was written.
        lacking: blobs that the store did not have.
    """

    stored: dict[str, int]
    new_bytes: int = 0
    lacking: set[Digest] = field(default_factory=set)


class BackupService:
    """Backups of this installation.

    Args:
        db: the database.
        store: the blobs.
        heads: those of the logs.
        leases: one backup or prune at a time.
        heads: where the heads of the logs are.
        folder: the data directory; the copy of an SQLite file takes as much room there as the file.
        now: the clock.
    """

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        heads: ObjectStore,
        leases: Leases,
        folder: Path,
        now: Now,
    ) -> None:
        self._db = db
        self._store = store
        self._heads = heads
        self._leases = leases
        self._heads = heads
        self._folder = folder
        self._now = now

    async def create(self, place: BackupPlace, progress: Progress) -> Backup:
        """Make a backup; return it when it is complete.

        Args:
            place: where to.
            progress: is called with (blobs looked at, blobs in all).

        Raises:
            ConflictError: another backup or prune runs, or the place is another database's.
            StorageError: the place can't be written.
            DatabaseBusyError: the database can't be copied.
        """
        async with self._alone() as lease:
            await asyncio.to_thread(place.bind, await self._db.read(database_uid))
            copied = _Copied(await asyncio.to_thread(_stored, place))
            await self._copy_blobs(place, await self._recorded(), copied, progress)
            manifest = await self._copy_rest(place, copied, progress)
            if not await self._leases.still_mine(lease):  # a prune may have removed what it names
                raise ConflictError("this backup stood still for too long; run it again")
            return await asyncio.to_thread(place.add, manifest)

    async def prune(self, place: BackupPlace, *, keep: int, dry_run: bool) -> Pruned:
        """Remove all but the newest backups, and what only they had.

        Raises:
            ConflictError: another backup or prune runs, or the place is another database's.
            BadInputError: a manifest that is kept is damaged: what it needs is unknown.
        """
        async with self._alone():
            await asyncio.to_thread(place.bind, await self._db.read(database_uid))
            return await asyncio.to_thread(_prune, place, keep, dry_run)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[LeaseHolder]:
        lease = await self._leases.try_acquire(LEASE)
        if lease is None:
            raise ConflictError("another `moorage backup create` or `prune` runs; wait for its end")
        async with self._leases.keep(lease):
            yield lease

    async def _recorded(self) -> list[RecordedBlob]:
        return await self._db.read(lambda s: Blobs(s).all())

    async def _copy_rest(self, place: BackupPlace, copied: _Copied, progress: Progress) -> Manifest:
        """Copy the database, what it names, and the heads; again while a log grows meanwhile."""
        for round_number in range(_ROUNDS):
            made_at = self._now()
            async with self._database_copy() as copy:
                facts = await asyncio.to_thread(copy.facts)
                database = await self._put(place, copy.pieces(), copied)
                kind = copy.kind
            await self._copy_blobs(place, facts.blobs, copied, progress)
            heads = await asyncio.to_thread(read_heads, self._heads)
            behind = _behind(heads, facts)
            if not behind:
                break
            _log.info("logs grew during the backup", round=round_number + 1, logs=len(behind))
        blobs = [b for b in facts.blobs if blob_key(b.digest) in copied.stored]
        lines = (blob_line(blob.digest, blob.size_bytes) for blob in blobs)
        listed = await self._put(place, cut_lines(lines), copied)
        return Manifest(
            made_at=made_at,
            program=__version__,
            kind=kind,
            uid=facts.uid,
            schema=facts.schema,
            database=database,
            blobs=listed,
            blob_count=len(blobs),
            blob_bytes=sum(blob.size_bytes for blob in blobs),
            new_bytes=copied.new_bytes,
            heads=heads,
            behind=behind,
            lacking=tuple(sorted({b.digest for b in facts.blobs} & copied.lacking)),
        )

    @asynccontextmanager
    async def _database_copy(self) -> AsyncIterator[DatabaseCopy]:
        """Return a context with a copy; its folder is removed, also that of a killed backup."""
        folder = self._folder / "backup.tmp"

        def begin() -> DatabaseCopy:
            shutil.rmtree(folder, ignore_errors=True)
            with storage_errors("make a folder for the copy of the database"):
                durable.make_folder(folder)
            return DatabaseCopy(self._db.url, folder)

        copy = await asyncio.to_thread(begin)
        try:
            yield copy
        finally:
            await asyncio.to_thread(copy.close)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _put(self, place: BackupPlace, parts: Iterable[bytes], copied: _Copied) -> Stream:
        ending = Event()
        try:
            stream, written = await asyncio.to_thread(
                place.put_stream, _until(ending, parts), copied.stored
            )
        finally:
            ending.set()
        copied.new_bytes += written
        return stream

    async def _copy_blobs(
        self,
        place: BackupPlace,
        blobs: Iterable[RecordedBlob],
        copied: _Copied,
        progress: Progress,
    ) -> None:
        """Copy the blobs that the place does not have, or not whole."""
        stored = copied.stored
        missing = [b for b in blobs if stored.get(blob_key(b.digest)) != b.size_bytes]
        waiting, done = iter(missing), 0

        async def copy_some() -> None:
            nonlocal done
            for blob in waiting:
                await self._copy_blob(place, blob, copied)
                done += 1
                progress(done, len(missing))

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(copy_some())

    async def _copy_blob(self, place: BackupPlace, blob: RecordedBlob, copied: _Copied) -> None:
        """Copy one blob, whose bytes are verified before; or note that the store lacks it."""
        with suppress(BlobMissingError, BlobDamagedError):
            async with self._store.local_file(blob.digest) as path:
                if await asyncio.to_thread(hash_of, path) == blob.digest:
                    await asyncio.to_thread(place.put_blob, blob.digest, path)
                    copied.stored[blob_key(blob.digest)] = blob.size_bytes
                    copied.new_bytes += blob.size_bytes
                    copied.lacking.discard(blob.digest)
                    return
        copied.lacking.add(blob.digest)


def _until(ending: Event, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield parts as long as somebody waits for the backup.

    A thread can't be cancelled: it would go on for the rest of a long dump, and Ctrl-C with it.
    """
    for part in parts:
        if ending.is_set():
            raise ConflictError("the backup was given up")
        yield part


def read_heads(objects: ObjectStore) -> dict[str, bytes]:
    """Return the heads of the logs by their names: "sum.example.head", "audit.chain"."""
    heads = {}
    for info in list(objects.walk()):
        if info.key.endswith(".head") or info.key == _AUDIT_HEAD:
            stored = objects.get(info.key)
            if stored is not None:
                heads[info.key] = stored.data
    return heads


def size_in(name: str, head: bytes) -> int:
    """Return how many records or rows a head's file stands for; -1 if it can't be read."""
    try:
        if name == _AUDIT_HEAD:
            return int(head.split()[0])
        return tlog.parse_tree(parse_note(head).text).size
    except (BadInputError, ValueError, IndexError):
        return -1


def _behind(heads: dict[str, bytes], facts: Facts) -> tuple[str, ...]:
    """Return the names of heads that are newer than the copy of the database."""
    sizes = {name: facts.log_sizes.get(log_of(name), 0) for name in heads}
    sizes[_AUDIT_HEAD] = facts.audit_seq
    return tuple(name for name, head in heads.items() if size_in(name, head) > sizes[name])


def log_of(name: str) -> str:
    """Return the log whose head a file holds."""
    return unquote(name.removesuffix(".head"))


def _stored(place: BackupPlace) -> dict[str, int]:
    return place.stored("pieces/") | place.stored("blobs/")


def _prune(place: BackupPlace, keep: int, dry_run: bool) -> Pruned:
    """Remove manifests before what they name: a crash leaves superfluous objects, no bad backup."""
    backups = place.all()
    doomed, kept = backups[: max(0, len(backups) - keep)], backups[max(0, len(backups) - keep) :]
    needed: set[str] = set()
    for backup in kept:
        manifest = backup.manifest
        needed |= {p.key for p in (*manifest.database.pieces, *manifest.blobs.pieces)}
        needed |= {blob_key(digest) for digest, _ in place.blobs(manifest)}
    superfluous = {key: size for key, size in _stored(place).items() if key not in needed}
    if not dry_run:
        for backup in doomed:
            place.remove(backup.id)
        for key in superfluous:
            place.delete(key)
    return Pruned(
        tuple(backup.id for backup in doomed),
        tuple(backup.id for backup in kept),
        len(superfluous),
        sum(superfluous.values()),
    )
