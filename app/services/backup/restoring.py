"""Putting a backup back into an empty place.

The order: a mark that a restore has begun, the heads of the logs, the blobs, then the database,
which appears as a whole; then it is brought to the schema and bound to its folder and store; then
the mark goes. A service does not start beside the mark. A restore that was killed is run again,
with the same settings, and goes on where it stopped.

The heads are the newest ones known: those of the backup, of later backups in the same place, of a
store that survived, and of a folder that the operator names. So a log whose newer head was promised
to clients is not written to, until an admin decides (`services/tenantlog/recover.py`).
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from app.core.digest import Digest
from app.core.errors import BadInputError, ConflictError
from app.db import dump
from app.services.backup.making import read_heads, size_in
from app.services.backup.place import Backup, BackupPlace
from app.services.backup.targets import BlobTarget
from app.storage import durable
from app.storage.durable import storage_errors
from app.storage.objects import ANY, LocalObjects, ObjectStore

MARK = "restore.unfinished"
COPIED = "restore.copied"
_TEMP = "restore.tmp"
_IGNORED = frozenset({"lost+found"})
_AT_ONCE = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        blobs: number of blobs that were put back.
        missing: blobs that the backup should have and has not, or only damaged.
        newer_heads: names of heads that are newer than the backup's database.
    """

    backup: str
    blobs: int
    blob_bytes: int
    missing: tuple[Digest, ...]
    newer_heads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backup is put.

    Attributes:
        folder: the data directory.
        url: of the database.
        blobs: takes them over.
        heads: where the heads of the logs are to be; newer ones that are there stay.
    """

    folder: Path
    url: str
    blobs: BlobTarget
    heads: ObjectStore


class Begun:
    """The mark of a restore that has begun, in the data directory.

    Args:
        folder: the data directory.
        url: of the database.
        store_url: of the blobs, as the settings have it.
        backup: which is restored.
    """

    def __init__(self, folder: Path, url: str, store_url: str, backup: Backup) -> None:
        self._folder, self._url, self._backup = folder, url, backup
        where = hashlib.sha256(f"{dump.without_password(url)}\n{store_url}".encode()).hexdigest()
        self._text = f"{backup.id} {where}\n"

    def require_empty(self) -> bool:
        """Return whether the same restore has begun here; else folder and database are empty.

        Raises:
            ConflictError: the place is in use or not empty; the message says what is there.
        """
        names = self._names()
        if MARK not in names:
            if names:
                raise ConflictError(
                    f"MOORAGE_DATA_DIR is not empty (it has {min(names)}): a backup is restored "
                    "into an empty directory only; stop the service, and move the directory away"
                )
            dump.require_empty_database(self._url)
            return False
        with storage_errors("read the mark of a restore"):
            begun = (self._folder / MARK).read_text("ascii", "replace")
        begun_id = begun.split(" ")[0].strip()
        if begun_id != self._backup.id:
            raise ConflictError(
                f"a restore of backup {begun_id[:40]!a} has begun here; end it, or empty the "
                "directory"
            )
        if begun != self._text:
            raise ConflictError(
                "a restore has begun here with another MOORAGE_DATABASE_URL or "
                "MOORAGE_STORAGE__URL; run it with the same ones, or empty the directory"
            )
        if dump.uid_of(self._url) != self._backup.manifest.uid:  # else it was put back already
            dump.require_empty_database(self._url)
        return True

    def note(self) -> None:
        """Make the directory, with the mark in it."""
        with storage_errors("begin the restore"):
            for path in (self._folder, self._folder / "keys", self._folder / "blobs"):
                durable.make_folder(path)
            durable.create_once(self._folder / MARK, self._text.encode())

    def end(self) -> None:
        """Remove the mark: services may start from here on."""
        with storage_errors("end the restore"):
            (self._folder / COPIED).unlink(missing_ok=True)
            (self._folder / MARK).unlink()
            durable.sync_folder(self._folder)

    def _names(self) -> set[str]:
        with storage_errors("look into the data directory"):
            if not self._folder.exists():
                return set()
            return {path.name for path in self._folder.iterdir()} - _IGNORED


def require_unused(owner: str | None, uid: str, *, is_own: bool) -> None:
    """Return if the blobs of a backup may be put into a store.

    Args:
        owner: the identity of the database whose store it is; None for nobody's.
        uid: the identity of the backup's database.
        is_own: the operator says that it is the store of the lost database.

    Raises:
        ConflictError: it is another database's, or may be in use by the backup's original.
    """
    if owner is None or (owner == uid and is_own):
        return
    if owner != uid:
        raise ConflictError(
            "the store of MOORAGE_STORAGE__URL belongs to another database: name a bucket or a "
            "prefix of its own"
        )
    raise ConflictError(
        "the store of MOORAGE_STORAGE__URL is that of the database from which this backup was "
        "made: two databases never use one store. If that database is lost, add --same-store; "
        "else name a bucket or a prefix of its own"
    )


def restore(
    place: BackupPlace,
    backup: Backup,
    target: Target,
    *,
    heads_folder: Path | None,
    progress: Progress,
) -> Restored:
    """Put a backup back; see `Begun.require_empty`, and `Begun.note`, which comes before. Blocks.

    Args:
        place: where the backup is.
        backup: which.
        target: where it is put.
        heads_folder: a folder with newer heads, as keys/logs of the lost data directory.
        progress: is called with (blobs put back, blobs in all).

    Raises:
        BadInputError: the backup's database or list of blobs is damaged.
        StorageError: the target can't be written.
    """
    manifest = backup.manifest
    blobs = place.blobs(manifest)
    newer = _write_heads(place, backup, target.heads, heads_folder)
    missing = []
    with closing(_put_blobs(place, blobs, target)) as put_back:
        for index, (digest, is_there) in enumerate(put_back):
            if not is_there:
                missing.append(digest)
            progress(index + 1, len(blobs))
    os.sync()  # once for all blobs, before the database names them
    if dump.uid_of(target.url) is None:
        dump.put_back(manifest.kind, target.url, place.parts(manifest.database))
    count = len(blobs) - len(missing)
    return Restored(backup.id, count, sum(size for _, size in blobs), tuple(missing), tuple(newer))


def _put_blobs(
    place: BackupPlace, blobs: list[tuple[Digest, int]], target: Target
) -> Generator[tuple[Digest, bool], None, None]:
    """Put all blobs back, some at once; yield each, in order, and whether it is there now."""
    folder = target.folder / _TEMP
    with storage_errors("make a folder for blobs on their way"):
        shutil.rmtree(folder, ignore_errors=True)
        durable.make_folder(folder)

    def put_one(blob: tuple[Digest, int]) -> tuple[Digest, bool]:
        digest, size_bytes = blob
        temp = folder / digest.hex
        if target.blobs.has(digest, size_bytes, temp):
            return digest, True
        is_whole = place.get_blob(digest, temp)
        if is_whole:
            target.blobs.put(digest, temp)
        with storage_errors("remove a copy"):
            temp.unlink(missing_ok=True)
        return digest, is_whole

    threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="restore")
    try:
        yield from threads.map(put_one, blobs)
    finally:
        threads.shutdown(cancel_futures=True)  # Ctrl-C waits for those alone that have begun
        shutil.rmtree(folder, ignore_errors=True)


def _write_heads(
    place: BackupPlace, backup: Backup, objects: ObjectStore, heads_folder: Path | None
) -> list[str]:
    """Write the newest heads that are known; return which are newer than the backup's database."""
    newest = dict(backup.manifest.heads)
    newer = set(backup.manifest.behind)
    later = [b.manifest.heads for b in place.all() if b.id > backup.id]
    # A store that survived has the newest heads; over older ones a log would sign a second time.
    later.append(read_heads(objects))
    if heads_folder is not None:
        if not heads_folder.is_dir():
            raise BadInputError(f"{heads_folder} is not a directory")
        later.append(read_heads(LocalObjects(heads_folder)))
    for heads in later:
        for name, head in heads.items():
            if size_in(name, head) > size_in(name, newest.get(name, b"")):
                newest[name] = head
                newer.add(name)
    for name, head in newest.items():
        objects.put(name, head, expected=ANY)
    return sorted(newer)
