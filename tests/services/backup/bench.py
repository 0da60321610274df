"""An installation with blobs and a tenant's log, its backups, and a disk that fails on demand."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from app.core.digest import Digest
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.services.backup import restoring
from app.services.backup.making import BackupService
from app.services.backup.place import Backup, BackupPlace
from app.services.backup.targets import BlobTarget, LocalTarget, ObjectTarget
from app.services.leases import Leases
from app.storage.blobstore import BlobStore
from app.storage.local import LocalBlobStore
from app.storage.objects import LocalObjects, ObjectStore
from tests.services.bench import WallClock
from tests.services.tenantlog.owner import Owner, process


class KilledError(BaseException):
    """The process ends here: nothing that catches errors goes on."""


class FailingObjects(LocalObjects):
    """A place that ends the process at the n-th write; before the write, or after it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.writes = 0
        self._counting = Lock()
        self.killed_at: tuple[int, str] | None = None

    def put(self, key: str, data: bytes, *, expected: object) -> str:
        with self._step():
            return super().put(key, data, expected=expected)  # type: ignore[arg-type]

    def put_file(self, key: str, path: Path) -> None:
        with self._step():
            super().put_file(key, path)

    @contextmanager
    def _step(self) -> Iterator[None]:
        with self._counting:
            self.writes += 1
            number = self.writes
        if self.killed_at == (number, "before"):
            raise KilledError
        yield
        if self.killed_at == (number, "after"):
            raise KilledError


def nothing(_done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Installation:
    """A data directory with its database, whose backups are in a folder beside it."""

    folder: Path
    owner: Owner
    store: BlobStore
    clock: WallClock

    @property
    def db(self) -> Database:
        return self.owner.db

    def service(self) -> BackupService:
        leases = Leases(self.db, self.clock, "here/1/2")
        return BackupService(
            self.db,
            self.store,
            LocalObjects(self.folder / "keys" / "logs"),
            leases,
            self.folder,
            self.clock,
        )

    async def put(self, data: bytes) -> Digest:
        digest = await self.store.put(data)
        await self.db.write(lambda s: Blobs(s).record(digest, len(data), self.clock()))
        return digest

    async def forget(self, digest: Digest) -> None:
        await self.db.write(lambda s: Blobs(s).forget(digest))
        await self.store.delete(digest)

    async def create(self, objects: ObjectStore) -> Backup:
        self.clock.advance(minutes=1)
        return await self.service().create(BackupPlace(objects), nothing)


@contextmanager
def installation(database_url: str, folder: Path) -> Iterator[Installation]:
    (folder / "data").mkdir(mode=0o700)
    store = LocalBlobStore(folder / "data", min_free_fraction=0)
    with process(database_url, folder / "data" / "keys") as owner:
        yield Installation(folder / "data", owner, store, WallClock())
    store.close()


async def restored(
    objects: ObjectStore,
    folder: Path,
    url: str,
    backup_id: str = "latest",
    heads: Path | None = None,
    *,
    stored: ObjectStore | None = None,
    stored_heads: ObjectStore | None = None,
) -> restoring.Restored:
    """Put a backup back, as `moorage restore` does, but for the schema and the binding.

    Args:
        objects: the place of the backup.
        folder: the new data directory.
        url: of the new database.
        backup_id: of the backup.
        heads: a folder with newer heads.
        stored: where blobs go; None: into the data directory.
        stored_heads: where heads go; None: into the data directory.
    """
    place = BackupPlace(objects)
    backup = place.get(backup_id)
    begun = restoring.Begun(folder, url, "s3://b" if stored else "file:", backup)

    def work() -> restoring.Restored:
        begun.require_empty()
        begun.note()
        blobs: BlobTarget = LocalTarget(folder)
        if stored is not None:
            blobs = ObjectTarget(stored, folder / restoring.COPIED)
        kept = stored_heads or LocalObjects(folder / "keys" / "logs")
        target = restoring.Target(folder, url, blobs, kept)
        result = restoring.restore(place, backup, target, heads_folder=heads, progress=nothing)
        begun.end()
        return result

    return await asyncio.to_thread(work)


async def recorded(db: Database) -> dict[str, int]:
    def work(session: Session) -> dict[str, int]:
        return {blob.digest.hex: blob.size_bytes for blob in Blobs(session).all()}

    return await db.read(work)
