"""Before services exist: the data folder, migrations, backups and restoring."""

import asyncio
from pathlib import Path

from app.core.backup import blob_key
from app.core.digest import Digest
from app.core.errors import BadInputError, StorageError
from app.db.engine import Database, sqlite_path
from app.db.schema import upgrade
from app.db.sqlitefile import SqliteFile
from app.services.backup import restoring
from app.services.backup.place import BackupPlace
from app.services.clock import utc_now
from app.services.datafolder import DataFolder
from app.services.secrets import parse_key
from app.settings import Settings
from app.settings.values import backup_url
from app.storage import durable
from app.storage.objects import LocalObjects, S3Objects
from app.storage.s3client import S3Client
from app.wiring.stores import heads_of_logs, open_database, s3_client, s3_place, store_mark


def prepare_data_dir(settings: Settings) -> bool:
    """Create the data directory (0700); return whether it is new.

    Raises:
        StorageError: it can't be created.
    """
    new = not settings.data_dir.exists()
    if (settings.data_dir / restoring.MARK).exists():
        raise StorageError(
            "MOORAGE_DATA_DIR: a restore has begun there and did not end; run `moorage restore` "
            "again with the same backup, it goes on where it stopped"
        )
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (settings.data_dir / "keys").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"MOORAGE_DATA_DIR: {settings.data_dir} can't be created: {error.strerror}"
        ) from error
    return new


def migrate(settings: Settings, *, bind: bool = False) -> tuple[str | None, str]:
    """Bring the database to this program's schema; return (before, after).

    Args:
        settings: of this installation.
        bind: the operator says that database, -wal and data folder belong together.

    Raises:
        UnfitDatabaseError: the database is malformed, or beside the -wal of another file.
        SchemaError: a newer program has migrated the database.
    """
    prepare_data_dir(settings)
    file = _sqlite_file(settings)
    if file is not None:
        file.open(is_trusted=bind)
    db = open_database(settings)
    try:
        revisions = upgrade(db.engine)
        if bind:
            asyncio.run(_bind(settings, db))
        return revisions
    finally:
        db.close()
        if file is not None:
            file.close()


async def _bind(settings: Settings, db: Database) -> None:
    """Say that the database, the data folder and the store belong together."""
    await db.write(DataFolder(settings.data_dir, utc_now).bind)
    mark = store_mark(settings)
    if mark is not None:
        await mark.bind(db)


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
        return BackupPlace(LocalObjects(Path(url)))
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return BackupPlace(
        S3Objects(S3Client(s3_place(settings, bucket, prefix.strip("/"))), "moorage-backups")
    )


def restore(
    settings: Settings,
    place: BackupPlace,
    backup_id: str,
    *,
    secrets_key: Path | None,
    heads: Path | None,
    progress: restoring.Progress,
) -> restoring.Restored:
    """Put a backup back into the empty data directory and database that the settings name.

    Args:
        settings: of the new installation.
        place: where the backup is.
        backup_id: of the backup, or "latest".
        secrets_key: a copy of keys/secrets.key, which is put back too.
        heads: a folder with newer heads than the backup's.
        progress: is called with (blobs put back, blobs in all).

    Raises:
        ConflictError: the data directory or the database is not empty.
        BadInputError: the backup or a file that was named is damaged.
    """
    url, folder = settings.resolved_database_url, settings.data_dir
    backup = place.get(backup_id)
    restoring.require_empty(folder, url, backup.id)
    if secrets_key is not None:
        prepare_data_dir(settings)
        with durable.storage_errors(f"take over {secrets_key}"):
            key = secrets_key.read_bytes()
            for line in key.decode("ascii", "replace").split() or [""]:
                parse_key(line)
            durable.replace_file(folder / "keys" / "secrets.key", key)
    client = s3_client(settings)

    def put_blob(digest: Digest, path: Path) -> None:
        if client is None:
            restoring.put_local_blob(folder, digest, path)
        else:
            client.put_file(blob_key(digest), path)

    return restoring.restore(
        place,
        backup,
        folder,
        url,
        put_blob,
        heads_of_logs(settings),
        heads_folder=heads,
        progress=progress,
    )


def _sqlite_file(settings: Settings) -> SqliteFile | None:
    path = sqlite_path(settings.resolved_database_url)
    return None if path is None else SqliteFile(path)
