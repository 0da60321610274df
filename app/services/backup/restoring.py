"""Putting a backup back into an empty place.

The order: a mark that a restore has begun, the heads of the logs, the blobs, and last the database,
which appears as a whole; then the mark goes. A service does not start beside the mark. A restore
that was killed is run again, and goes on where it stopped.

The heads are the newest ones known: those of the backup, of later backups in the same place, and of
a folder that the operator names. So a log whose newer head was promised to clients is not written
to, until an admin decides (`services/tenantlog/recover.py`).
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.core.backup import blob_key
from app.core.digest import Digest
from app.core.errors import BadInputError, ConflictError
from app.db import dump
from app.services.backup.making import read_heads, size_in
from app.services.backup.place import Backup, BackupPlace
from app.storage import durable
from app.storage.durable import storage_errors
from app.storage.objects import ANY, LocalObjects, ObjectStore

MARK = "restore.unfinished"
_IGNORED = frozenset({"lost+found"})

Progress = Callable[[int, int], None]
PutBlob = Callable[[Digest, Path], None]
"""Takes a verified file over into the store."""


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


def require_empty(folder: Path, url: str, backup_id: str) -> None:
    """Return if a backup can be put there: nothing is there, or an unfinished restore of it.

    Raises:
        ConflictError: the place is in use or not empty; the message says what is there.
    """
    with storage_errors("look into the data directory"):
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    names -= _IGNORED
    if MARK in names:
        begun = (folder / MARK).read_text("ascii", "replace").strip()
        if begun != backup_id:
            raise ConflictError(
                f"a restore of backup {begun[:40]!a} has begun here; end it, or empty the directory"
            )
    elif names:
        raise ConflictError(
            f"MOORAGE_DATA_DIR is not empty (it has {min(names)}): a backup is restored into an "
            "empty directory only; stop the service, and move the directory away"
        )
    dump.require_empty_database(url)


def restore(
    place: BackupPlace,
    backup: Backup,
    folder: Path,
    url: str,
    put_blob: PutBlob,
    heads: ObjectStore,
    *,
    heads_folder: Path | None,
    progress: Progress,
) -> Restored:
    """Put a backup back; the folder and the database are empty, see `require_empty`. Blocks.

    Args:
        place: where the backup is.
        backup: which.
        folder: the data directory.
        url: of the database.
        put_blob: takes blobs over.
        heads: where the heads of the logs are to be; newer ones that are there stay.
        heads_folder: a folder with newer heads, as keys/logs of the lost data directory.
        progress: is called with (blobs put back, blobs in all).

    Raises:
        BadInputError: the backup's database or list of blobs is damaged.
        StorageError: the folder can't be written.
    """
    blobs = place.blobs(backup.manifest)
    with storage_errors("begin the restore"):
        for path in (folder, folder / "keys", folder / "blobs"):
            durable.make_folder(path)
        durable.create_once(folder / MARK, f"{backup.id}\n".encode())
    newer = _write_heads(place, backup, heads, heads_folder)
    missing = []
    temp = folder / "restore.tmp"
    for index, (digest, size_bytes) in enumerate(blobs):
        if not _is_there(folder, digest, size_bytes):
            if place.get_blob(digest, temp):
                put_blob(digest, temp)
            else:
                missing.append(digest)
        progress(index + 1, len(blobs))
    temp.unlink(missing_ok=True)
    os.sync()  # once for all blobs, before the database names them
    dump.put_back(backup.manifest.kind, url, place.parts(backup.manifest.database))
    with storage_errors("end the restore"):
        (folder / MARK).unlink()
        durable.sync_folder(folder)
    count = len(blobs) - len(missing)
    return Restored(backup.id, count, sum(size for _, size in blobs), tuple(missing), tuple(newer))


def put_local_blob(folder: Path, digest: Digest, path: Path) -> None:
    """Move a verified file to its place among the blobs of a data directory."""
    target = folder / blob_key(digest)
    with storage_errors(f"store blob {digest}"):
        target.parent.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o440)
        path.replace(target)


def free_bytes(folder: Path) -> int:
    """Return the free space of the file system that holds a folder, or will."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _is_there(folder: Path, digest: Digest, size_bytes: int) -> bool:
    """Whether an earlier, killed restore put the blob back: a rename makes a whole file."""
    path = folder / blob_key(digest)
    return path.exists() and path.stat().st_size == size_bytes


def _write_heads(
    place: BackupPlace, backup: Backup, objects: ObjectStore, heads_folder: Path | None
) -> list[str]:
    """Write the newest heads that are known; return which are newer than the backup's database."""
    newest = dict(backup.manifest.heads)
    newer = set(backup.manifest.behind)
    later = [b.manifest.heads for b in place.all() if b.id > backup.id]
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
