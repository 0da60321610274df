"""Where things are kept: the database, blobs, heads of logs, the key of secrets."""

from contextlib import suppress

from app.core.errors import BadInputError, SettingsError
from app.db.engine import Database
from app.db.postgresql import WaitLimits
from app.db.sqlite import is_sqlite, sqlite_path
from app.services.secrets import GivenKeys, KeyFile, KeySource, parse_key
from app.services.storemark import StoreMark
from app.settings import Settings
from app.settings.urls import parse_storage_url
from app.storage.blobstore import BlobStore, Reclaim
from app.storage.cache import BlobCache
from app.storage.freespace import FreeSpace
from app.storage.local import LocalBlobStore
from app.storage.objects import LocalObjects, ObjectStore, S3Objects
from app.storage.private import make_private_file, tighten
from app.storage.reserve import Reserve
from app.storage.s3 import S3BlobStore
from app.storage.s3client import S3Client, S3Place


def blob_store(settings: Settings, reclaim: Reclaim, mark: StoreMark | None) -> BlobStore:
    """Return the store of blobs: on the local disk, or in S3 behind a cache on the local disk.

    Args:
        settings: of this installation.
        reclaim: takes a blob from the garbage before its bytes are stored again.
        mark: without its proof nothing is asked of S3.
    """
    free = min_free_fraction(settings)
    client = s3_client(settings, mark)
    if client is None:
        return LocalBlobStore(settings.data_dir, min_free_fraction=free, reclaim=reclaim)
    # A folder of its own: blobs of an earlier local store are no cache, and are never evicted.
    cache = BlobCache(settings.data_dir / "cache", min_free_fraction=free)
    return S3BlobStore(client, cache, settings.storage.cache_bytes, reclaim=reclaim)


def s3_client(settings: Settings, mark: StoreMark | None = None) -> S3Client | None:
    """Return a client of the bucket; None if blobs are in the data directory.

    Args:
        settings: of this installation.
        mark: the client asks for nothing without its proof; None: the client needs none.
    """
    bucket = parse_storage_url(settings.storage.url)
    if bucket is None:
        return None
    place = s3_place(settings, *bucket)
    return S3Client(place) if mark is None else S3Client(place, mark.obstacle)


def heads_of_logs(settings: Settings, mark: StoreMark | None) -> ObjectStore:
    """Return where the heads of logs are: beside the database, and where all replicas see them."""
    client = s3_client(settings, mark)
    if client is None:
        return LocalObjects(settings.data_dir / "keys" / "logs")
    return S3Objects(client, "heads")


def store_mark(settings: Settings) -> StoreMark | None:
    """Return the mark of the store; None where nobody but this data directory can have blobs."""
    client = s3_client(settings)
    if client is not None:
        place = f"{settings.storage.s3.endpoint or ''} {settings.storage.url}"
        return StoreMark(S3Objects(client, "marks"), settings.data_dir, place)
    if is_sqlite(settings.resolved_database_url):
        return None
    objects = LocalObjects(settings.data_dir / "keys" / "store")
    return StoreMark(objects, settings.data_dir, "")


def s3_place(settings: Settings, bucket: str, prefix: str) -> S3Place:
    """Return a place in a bucket, with the access that the settings give."""
    s3 = settings.storage.s3
    return S3Place(bucket, prefix, s3.endpoint, s3.region, s3.access_key, s3.secret_key)


def open_database(settings: Settings) -> Database:
    """Return the database; an SQLite file has a floor of free space and a reserve beside it."""
    url = settings.resolved_database_url
    path = sqlite_path(url)
    if path is None:
        waits = settings.database
        limits = WaitLimits(waits.connect_s, waits.lock_s, waits.statement_s, waits.idle_s)
        return Database(url, limits=limits)
    # SQLite gives its other files the mode of the first. Earlier versions left that to the umask.
    for name in ("", "-wal", "-shm", ".reserve"):
        with suppress(OSError):
            tighten(path.with_name(path.name + name))
    make_private_file(path)
    space = FreeSpace(path.parent, min_free_fraction(settings))
    reserve = Reserve(path.with_name(f"{path.name}.reserve"), space)
    reserve.open()
    return Database(url, reserve)


def min_free_fraction(settings: Settings) -> float:
    """Return the share of a file system, 0 to 1, that stays free."""
    return settings.storage.min_free_percent / 100


def key_source(settings: Settings) -> KeySource:
    """Return what has the keys that seal secrets.

    Raises:
        StorageError: the file can't be read.
        SettingsError: the file does not hold a key; the database is one that several hosts can use
            and the key is no setting.
    """
    if settings.secrets_key is not None:
        keys = [settings.secrets_key, settings.secrets_key_before]
        return GivenKeys(*(parse_key(key) for key in keys if key is not None))
    if not is_sqlite(settings.resolved_database_url):
        raise SettingsError(
            "MOORAGE_SECRETS_KEY: replicas that share a database need one key from outside; make"
            " it with `openssl rand -base64 32`, or give that of keys/secrets.key in the data dir"
        )
    try:
        return KeyFile(settings.data_dir / "keys" / "secrets.key")
    except BadInputError as error:
        raise SettingsError(f"keys/secrets.key in the data directory: {error}") from error
