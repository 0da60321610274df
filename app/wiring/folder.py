"""Before services exist: the data folder, migrations, backups and restoring."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import BadInputError, StorageError
from app.db import dump
from app.db.engine import Database
from app.db.schema import is_needed_file, needed_revision, upgrade
from app.db.sqlite import sqlite_path
from app.db.sqlitefile import SqliteFile
from app.services.backup import restoring
from app.services.backup.place import BackupPlace
from app.services.backup.targets import BlobTarget, LocalTarget, ObjectTarget
from app.services.clock import utc_now
from app.services.datafolder import DataFolder
from app.services.keyproof import accept_key
from app.services.secrets import parse_key
from app.settings import Settings
from app.settings.urls import backup_url
from app.storage import durable
from app.storage.objects import LocalObjects, S3Objects
from app.storage.s3client import S3Client
from app.wiring.stores import (
    heads_of_logs,
    key_source,
    open_database,
    s3_client,
    s3_place,
    store_mark,
)


def prepare_data_dir(settings: Settings) -> bool:
    """Create the data directory (0700); return whether it is new.

    Raises:
        StorageError: it can't be created, or has half of a backup.
    """
    new = not settings.data_dir.exists()
    require_restored(settings)
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (settings.data_dir / "keys").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"MOORAGE_DATA_DIR: {settings.data_dir} can't be created: {error.strerror}"
        ) from error
    return new


def require_restored(settings: Settings) -> None:
    """Return unless a restore has begun in the data directory and did not end.

    Raises:
        StorageError: one has, or this user can't look into the directory.
    """
    with durable.storage_errors(f"MOORAGE_DATA_DIR: {settings.data_dir} can't be looked into"):
        is_half = (settings.data_dir / restoring.MARK).exists()
    if is_half:
        raise StorageError(
            "MOORAGE_DATA_DIR: a restore has begun there and did not end; run `moorage restore` "
            "again with the same backup, it goes on where it stopped"
        )


def migrate(
    settings: Settings,
    *,
    bind: bool = False,
    bind_store: bool = False,
    new_secrets_key: bool = False,
) -> tuple[str | None, str]:
    """Bring the database to this program's schema; return (before, after).

    Args:
        settings: of this installation.
        bind: the operator says that database, -wal and data folder belong together.
        bind_store: the operator says that the store has the blobs of this database.
        new_secrets_key: the operator says that the key of the settings is the database's, or that a
            new one is, and that what was sealed under another one is lost.

    Raises:
        UnfitDatabaseError: the database is malformed, beside the -wal of another file, or not that
            of the data folder; nothing was changed.
        SchemaError: a newer program has migrated the database.
    """
    prepare_data_dir(settings)
    return _migrate(settings, _Consent(bind, bind_store, new_secrets_key))


@dataclass(frozen=True, slots=True)
class _Consent:
    """What an operator says belongs to the database: the data folder, the store, the key."""

    folder: bool
    store: bool
    key: bool


_NO_CONSENT = _Consent(folder=False, store=False, key=False)


def _migrate(settings: Settings, consent: _Consent) -> tuple[str | None, str]:
    file = _sqlite_file(settings)
    if file is not None:
        file.open(is_trusted=consent.folder)
    try:
        if not consent.folder:
            uid = dump.uid_of(settings.resolved_database_url)
            DataFolder(settings.data_dir, utc_now).require_before_migration(uid)
        path = sqlite_path(settings.resolved_database_url)
        if path is not None and consent == _NO_CONSENT and is_needed_file(path):
            return needed_revision(), needed_revision()  # almost every start, and every command
        db = open_database(settings)
        try:
            revisions = upgrade(db.engine)
            if consent.folder or consent.store or consent.key:
                asyncio.run(_bind(settings, db, consent))
            return revisions
        finally:
            db.close()
    finally:
        if file is not None:
            file.close()


async def _bind(settings: Settings, db: Database, consent: _Consent) -> None:
    """Say that the database and the data folder, the store, or the key belong together."""
    if consent.folder:
        await db.write(DataFolder(settings.data_dir, utc_now).bind)
    mark = store_mark(settings) if consent.store else None
    if mark is not None:
        await mark.bind(db)
    if consent.key:
        await accept_key(db, key_source(settings), utc_now())


def backup_place(settings: Settings, url: str | None) -> BackupPlace:
    """Return the place of backups that a command or the settings name.

    Args:
        settings: of this installation.
        url: of the command; None takes that of the settings.

    Raises:
        BadInputError: neither names one, or the command's is malformed.
        StorageError: the folder can't be made.
    """
    url = url or settings.backup.url
    if url is None:
        raise BadInputError(
            "name the place of the backups: --store /backups, or set MOORAGE_BACKUP__URL"
        )
    try:
        url = backup_url(url)
    except ValueError as error:
        raise BadInputError(f"--store: {error}") from error
    if url.startswith("/"):
        _require_apart(Path(url), settings.data_dir)
        return BackupPlace(LocalObjects(Path(url)))
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return BackupPlace(
        S3Objects(S3Client(s3_place(settings, bucket, prefix.strip("/"))), "moorage-backups")
    )


def _require_apart(place: Path, data_dir: Path) -> None:
    """Return if a place of backups is not the data directory: both have a folder blobs/.

    Raises:
        BadInputError: it is the data directory, or a folder in it.
    """
    own = data_dir.resolve()
    if place.resolve() == own or own in place.resolve().parents:
        raise BadInputError(
            "the place of the backups is in MOORAGE_DATA_DIR: name a directory outside of it, best "
            "on another disk"
        )


def restore(
    settings: Settings,
    place: BackupPlace,
    backup_id: str,
    *,
    secrets_key: Path | None,
    new_secrets_key: bool,
    heads: Path | None,
    same_store: bool,
    progress: restoring.Progress,
) -> restoring.Restored:
    """Put a backup back where the settings say, and bring the database to this program's schema.

    Args:
        settings: of the new installation; its data directory and database are empty.
        place: where the backup is.
        backup_id: of the backup, or "latest".
        secrets_key: a copy of keys/secrets.key, which is put back too.
        new_secrets_key: the operator says that the key of the backup is lost.
        heads: a folder with newer heads than the backup's.
        same_store: the operator says that the store of the settings is that of the lost database.
        progress: is called with (blobs put back, blobs in all).

    Raises:
        ConflictError: the data directory, the database or the store is in use.
        BadInputError: the backup or a file that was named is damaged.
        StorageError: the data directory or the store can't be written.
    """
    url, folder = settings.resolved_database_url, settings.data_dir
    backup = place.get(backup_id)
    begun = restoring.Begun(folder, url, settings.storage.url, backup)
    is_resumed = begun.require_empty()
    client = s3_client(settings)
    mark = None if client is None else store_mark(settings)
    if mark is not None:
        restoring.require_unused(mark.owner(), backup.manifest.uid, is_own=is_resumed or same_store)
    key = None if secrets_key is None else _checked_key(secrets_key)
    begun.note()
    if key is not None:
        with durable.storage_errors("write keys/secrets.key"):
            durable.replace_file(folder / "keys" / "secrets.key", key)
    if mark is not None:
        mark.claim(backup.manifest.uid)
    blobs: BlobTarget = LocalTarget(folder)
    if client is not None:
        blobs = ObjectTarget(S3Objects(client, "blobs"), folder / restoring.COPIED)
    target = restoring.Target(folder, url, blobs, heads_of_logs(settings, None))
    restored = restoring.restore(place, backup, target, heads_folder=heads, progress=progress)
    _migrate(settings, _Consent(folder=True, store=True, key=new_secrets_key))
    begun.end()
    return restored


def _checked_key(path: Path) -> bytes:
    """Return the bytes of a copy of keys/secrets.key.

    Raises:
        BadInputError: it holds no key.
        StorageError: it can't be read.
    """
    with durable.storage_errors(f"take over {path}"):
        key = path.read_bytes()
    for line in key.decode("ascii", "replace").split() or [""]:
        parse_key(line)
    return key


def _sqlite_file(settings: Settings) -> SqliteFile | None:
    path = sqlite_path(settings.resolved_database_url)
    return None if path is None else SqliteFile(path)
