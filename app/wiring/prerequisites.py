"""What a start needs besides valid settings: the files, folders, packages and programs they name.

`moorage serve` asks before it starts, `moorage config check` and `moorage doctor` ask alone.
Nothing is changed, and neither the database, S3 nor an upstream is asked.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from app import tracing
from app.core.errors import KeyringError, MoorageError, SettingsError
from app.db.postgresql import require_url
from app.db.sqlite import sqlite_path
from app.services.clock import utc_now
from app.settings import Settings
from app.sockets import require_addresses
from app.storage.s3client import S3Client
from app.tls import certificate_of
from app.upstream.gpg import Gpg, builtin_key
from app.upstream.wire import trusted_authorities
from app.wiring.folder import require_restored
from app.wiring.stores import key_source, s3_client, s3_place

Check = Callable[[Settings], object]


def require(settings: Settings) -> None:
    """Return if a start has what it needs.

    Raises:
        MoorageError: it has not; the message has a line for everything that is missing.
    """
    errors = unmet(settings)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise SettingsError("\n".join(map(str, errors)))


def unmet(settings: Settings) -> list[MoorageError]:
    """Return why a start would be refused; each message has the setting and what to do."""
    checks: Iterable[Check] = (
        lambda s: tracing.require(s.otel.endpoint or ""),
        lambda s: certificate_of(s.tls),
        require_addresses,
        _require_folder,
        require_restored,
        _require_database,
        key_source,
        s3_client,
        _require_backup_client,
        lambda s: trusted_authorities(s.network.ca_file),
    )
    return _errors(settings, checks)


def unusable_keyring(settings: Settings) -> list[MoorageError]:
    """Return why gpg can't use the keys that releases are judged by; a start says it, too."""
    return _errors(settings, [_require_keyring])


def warnings(settings: Settings) -> list[str]:
    """Return what does not hinder a start, and needs an operator all the same."""
    notes = [str(error) for error in _errors(settings, [_require_own_keyring])]
    try:
        certificate = certificate_of(settings.tls)
    except SettingsError:
        return notes  # `unmet` has it
    note = None if certificate is None else certificate.note()
    return notes if note is None else [note, *notes]


def _errors(settings: Settings, checks: Iterable[Check]) -> list[MoorageError]:
    errors: dict[str, MoorageError] = {}
    for check in checks:
        try:
            check(settings)
        except MoorageError as error:
            errors.setdefault(str(error), error)
    return list(errors.values())


def _require_folder(settings: Settings) -> None:
    """Return if the data directory is usable, or can be made.

    Raises:
        SettingsError: this user can't.
    """
    folder = settings.data_dir
    if not os.path.lexists(folder):
        above = next(path for path in folder.parents if os.path.lexists(path))
        if not os.access(above, os.W_OK | os.X_OK):
            raise SettingsError(
                f"MOORAGE_DATA_DIR: {folder} can't be made by user {os.geteuid()}: make it, and"
                " give it to the user that Moorage runs as (chown)"
            )
        return
    for path in (folder, folder / "keys", folder / "tmp", folder / "blobs"):
        _require_access("MOORAGE_DATA_DIR", path, os.R_OK | os.W_OK | os.X_OK)


def _require_database(settings: Settings) -> None:
    """Return if the URL of the database is one, and an SQLite file can be used.

    Raises:
        SettingsError: the URL can't be read, or this user can't use the file.
    """
    url = settings.resolved_database_url
    path = sqlite_path(url)
    if path is None:
        require_url(url)
        return
    if settings.database_url is not None and not path.parent.is_dir():
        raise SettingsError(
            f"MOORAGE_DATABASE_URL: there is no folder {path.parent}: make it, for the user that"
            " Moorage runs as, or name another"
        )
    name = "MOORAGE_DATA_DIR" if settings.database_url is None else "MOORAGE_DATABASE_URL"
    if os.path.lexists(path.parent):
        _require_access(name, path.parent, os.R_OK | os.W_OK | os.X_OK)
    for each in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        _require_access(name, each, os.R_OK | os.W_OK)


def _require_access(name: str, path: Path, mode: int) -> None:
    # Of a folder that this user can't enter, nothing is seen: the folder has its own line.
    if os.path.lexists(path) and not os.access(path, mode):
        raise SettingsError(
            f"{name}: {path} can't be read and written by user {os.geteuid()}: run this as the user"
            " of the service, or give it to that user (chown); is its file system read-only?"
        )


def _require_backup_client(settings: Settings) -> None:
    """Return if a client of the backups' bucket can be made, should they be in one.

    Raises:
        SettingsError: its package is missing, or it takes none of the settings.
    """
    bucket, _, prefix = (settings.backup.url or "").removeprefix("s3://").partition("/")
    if (settings.backup.url or "").startswith("s3://"):
        S3Client(s3_place(settings, bucket, prefix))


def _require_keyring(settings: Settings) -> None:
    releases = settings.releases
    _load("MOORAGE_RELEASES__KEYRING", releases.keyring, releases.pinned_fingerprints)


def _require_own_keyring(settings: Settings) -> None:
    releases = settings.releases
    if releases.own_keyring is not None:
        _load("MOORAGE_RELEASES__OWN_KEYRING", releases.own_keyring, releases.own_fingerprints)


def _load(name: str, export: Path | None, pinned: tuple[str, ...]) -> None:
    """Return if gpg can use an export; None is the built-in one.

    Raises:
        SettingsError: the export can't be read, or gpg can't use it.
        NotYetError: gpg can't be run.
    """
    with TemporaryDirectory(prefix="moorage-keys-") as folder:
        gpg = Gpg(home_parent=Path(folder), pinned=frozenset(pinned), now=utc_now)
        try:
            gpg.load(builtin_key() if export is None else export.read_bytes())
        except KeyringError as error:
            raise SettingsError(f"{name}: {export or 'the built-in key'}: {error}") from error
        except OSError as error:
            raise SettingsError(f"{name}: {export} can't be read: {error.strerror}") from error
        finally:
            gpg.close()
