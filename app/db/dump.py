"""A copy of the whole database, of one moment, while others write; and putting one back.

SQLite: a file made by SQLite's backup API, page by page like the original. PostgreSQL: the plain
dump of `pg_dump`, of the snapshot in which the facts were read; put back by `psql`. A password goes
to these programs in their environment, never as an argument.
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from sqlalchemy import Engine, create_engine, inspect, make_url, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from app.core.backup import PIECE_BYTES, cut_lines
from app.core.errors import ConflictError, DatabaseBusyError, DefectError, MoorageError
from app.db.audit import AuditLog
from app.db.blobs import Blobs, RecordedBlob
from app.db.engine import make_engine
from app.db.installation import InstallationRow, database_uid
from app.db.sqlite import is_sqlite, only_value, sqlite_path
from app.db.tenantlogs import TenantLogRow
from app.storage.durable import storage_errors

_COPY_NAME = "database.copy"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a backup must know of a copy.

    Attributes:
        blobs: all that are recorded.
        log_sizes: number of records of each tenant's log, by name.
        audit_seq: number of the newest audit row; 0 without rows.
    """

    uid: str
    schema: str
    blobs: tuple[RecordedBlob, ...]
    log_sizes: dict[str, int]
    audit_seq: int


class DatabaseCopy:
    """A copy of one moment; `close` ends it. Blocks: used from a thread.

    Args:
        url: of the database.
        folder: an existing, empty folder for the copy of an SQLite file.

    Raises:
        DatabaseBusyError: the database can't be read.
        StorageError: the copy can't be written.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self.kind = "sqlite" if is_sqlite(url) else "postgresql"
        self._snapshot_id = ""
        self._path = folder / _COPY_NAME
        if self.kind == "sqlite":
            _copy_sqlite(_file_of(url), self._path)
            self._engine = _still_engine(self._path)
        else:
            self._engine = make_engine(url)
        self._connection = self._engine.connect()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        if self.kind == "sqlite":
            return
        try:
            self._connection = self._connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            exported = self._connection.execute(text("SELECT pg_export_snapshot()"))
            self._snapshot_id = str(exported.scalar_one())
        except DBAPIError as error:
            raise DatabaseBusyError("the database can't export a snapshot") from error

    def facts(self) -> Facts:
        """Return what the copy holds."""
        with Session(self._connection) as session:
            sizes = session.execute(select(TenantLogRow.name, TenantLogRow.size))
            last = AuditLog(session).last()
            revision = session.execute(text("SELECT version_num FROM alembic_version"))
            return Facts(
                uid=database_uid(session),
                schema=str(revision.scalar_one()),
                blobs=tuple(Blobs(session).all()),
                log_sizes={row.name: row.size for row in sizes},
                audit_seq=0 if last is None else last.seq,
            )

    def pieces(self) -> Iterator[bytes]:
        """Yield the copy's bytes, cut so that what did not change gives equal pieces.

        Raises:
            MoorageError: pg_dump fails.
        """
        if self.kind == "postgresql":
            yield from cut_lines(_pg_dump(self._url, self._snapshot_id))
            return
        with storage_errors("read the copy of the database"), self._path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def close(self) -> None:
        """Remove the copy; may be called twice."""
        self._connection.close()
        self._engine.dispose()
        self._path.unlink(missing_ok=True)


def require_empty_database(url: str) -> None:
    """Return if a database can be put there.

    Raises:
        ConflictError: a database is there.
        DatabaseBusyError: it can't be reached.
    """
    path = sqlite_path(url)
    if path is not None:
        if any(path.with_name(f"{path.name}{end}").exists() for end in ("", "-wal", "-shm")):
            raise ConflictError(f"there is a database already: {path.name}")
        return
    engine = make_engine(url)
    try:
        if inspect(engine).get_table_names():
            raise ConflictError("the database has tables already; name an empty one")
    except DBAPIError as error:
        raise DatabaseBusyError("the database can't be opened") from error
    finally:
        engine.dispose()


def without_password(url: str) -> str:
    """Return a database's URL without its password."""
    return make_url(url).set(password=None).render_as_string(hide_password=False)


def uid_of(url: str) -> str | None:
    """Return the identity of the database that a URL names; None if there is none yet.

    An SQLite file must have been checked before: `db/sqlitefile.py`.

    Raises:
        DatabaseBusyError: it can't be reached.
    """
    path = sqlite_path(url)
    table = InstallationRow.__tablename__
    if path is not None:
        is_empty = not path.exists() or not path.stat().st_size
        return None if is_empty else only_value(path, table, InstallationRow.uid.key)
    engine = make_engine(url)
    try:
        if not inspect(engine).has_table(table):
            return None
        with Session(engine) as session:
            return session.execute(select(InstallationRow.uid)).scalar_one()
    except DBAPIError as error:
        raise DatabaseBusyError("the database can't be opened") from error
    finally:
        engine.dispose()


def put_back(kind: str, url: str, pieces: Iterable[bytes]) -> None:
    """Make a database of a copy's bytes; it appears as a whole or not at all.

    Raises:
        ConflictError: the copy is of another kind of database than the URL's.
        MoorageError: psql refuses it.
        StorageError: the file can't be written.
    """
    path = sqlite_path(url)
    if (path is not None) != (kind == "sqlite"):
        raise ConflictError(
            f"the backup is of a {kind} database, and MOORAGE_DATABASE_URL names another kind"
        )
    if path is None:
        _psql(url, pieces)
        return
    temp = path.with_name(f".{path.name}.restored")
    with storage_errors("write the database"):
        with temp.open("wb") as file:
            temp.chmod(0o600)
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
        _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_of(url: str) -> Path:
    path = sqlite_path(url)
    if path is None:
        raise DefectError("not the URL of an SQLite file")
    return path


def _copy_sqlite(path: Path, target: Path) -> None:
    """Copy all pages of one moment: within one read transaction, in one step."""
    target.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            target.chmod(0o600)
            source.backup(copy, pages=-1)
    except sqlite3.Error as error:
        raise DatabaseBusyError(f"the database can't be copied: {error}") from error


def _still_engine(path: Path) -> Engine:
    """Return an engine on a file that nobody changes: SQLite makes no -wal beside it."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    # One connection, which several threads use one after the other.
    return create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False),
        poolclass=NullPool,
    )


def _environment(url: str) -> tuple[dict[str, str], str]:
    """Return the environment of a program of PostgreSQL, and the database as it takes it."""
    parsed = make_url(url)
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    if parsed.password:
        environ["PGPASSWORD"] = str(parsed.password)
    bare = parsed.set(drivername="postgresql", password=None)
    return environ | {"PGCONNECT_TIMEOUT": "10"}, bare.render_as_string(hide_password=False)


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise MoorageError(f"{name} is not installed; Debian has it in postgresql-client")
    return path


def _pg_dump(url: str, snapshot_id: str) -> Iterator[bytes]:
    environ, name = _environment(url)
    arguments = [_program("pg_dump"), "--no-owner", "--no-privileges", "--no-password"]
    with subprocess.Popen(
        [*arguments, f"--snapshot={snapshot_id}", f"--dbname={name}"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as dump:
        yield from cast(IO[bytes], dump.stdout)
        _, complaint = dump.communicate()
    _require_success("pg_dump", dump.returncode, complaint)


def _psql(url: str, pieces: Iterable[bytes]) -> None:
    environ, name = _environment(url)
    arguments = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]
    with subprocess.Popen(
        [_program("psql"), *arguments, "--no-password", f"--dbname={name}"],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as psql:
        try:
            with suppress(BrokenPipeError):  # psql says why
                for piece in pieces:
                    cast(IO[bytes], psql.stdin).write(piece)
        except BaseException:
            psql.kill()  # else it would commit the first part
            raise
        _, complaint = psql.communicate()
    _require_success("psql", psql.returncode, complaint)


def _require_success(program: str, code: int, complaint: bytes) -> None:
    if code:
        last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise MoorageError(f"{program} ended with {code}: {' '.join(last)[:300]}")
