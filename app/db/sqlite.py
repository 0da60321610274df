"""SQLite: the URL of a file, connections with their settings, how a transaction begins.

A transaction that writes begins with `BEGIN IMMEDIATE`. A deferred transaction that reads and then
writes fails at once with "database is locked", in spite of busy_timeout.

Not here: the look at the file before SQLite gets it (`sqlitefile.py`).
"""

import sqlite3
import time
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

from app.core.errors import DatabaseBusyError
from app.db.sqlitefile import problem_of

# Durability first: FULL survives power loss, which WAL's NORMAL does not for the last commits.
_PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=5000",
)
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
_WAL_TRIES = 50
_WAL_PAUSE_S = 0.1


def sqlite_url(path: Path) -> str:
    """Return the SQLAlchemy URL of an SQLite file."""
    return f"sqlite:///{path}"


def is_sqlite(url: str) -> bool:
    """Report whether url is that of an SQLite database."""
    return make_url(url).get_backend_name() == "sqlite"


def sqlite_path(url: str) -> Path | None:
    """Return the file of an SQLite database; None for another database."""
    database = make_url(url).database
    return Path(database) if is_sqlite(url) and database else None


def make_engine(url: str, *, connections: int, read_only: bool) -> Engine:
    """Return an engine with as many connections as threads will use it."""
    engine = create_engine(url, pool_size=connections, max_overflow=0, hide_parameters=True)
    event.listen(engine, "connect", partial(_prepare, read_only))
    event.listen(engine, "begin", _begin_read if read_only else _begin_write)
    return engine


def only_value(path: Path, table: str, column: str) -> str | None:
    """Return the value in the only row of a table; None without the table, or with other rows.

    A start asks before it makes an engine, which costs more than the answer.

    Args:
        path: of a file that was checked (`sqlitefile.py`).
        table: its name in the schema, never an input.
        column: of text; its name in the schema, never an input.

    Raises:
        DatabaseBusyError: the file can't be read.
    """
    is_table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    try:
        with closing(sqlite3.connect(path)) as connection:
            _prepare(False, connection, None)
            if connection.execute(is_table, (table,)).fetchone() is None:
                return None
            rows = connection.execute(f"SELECT {column} FROM {table}").fetchmany(2)  # noqa: S608
    except sqlite3.Error as error:
        raise DatabaseBusyError("the database can't be opened") from error
    return cast(str, rows[0][0]) if len(rows) == 1 else None


def checkpoint(engine: Engine) -> None:
    """Copy SQLite's log into the file, as far as readers and the disk allow."""
    with suppress(DBAPIError, sqlite3.Error), closing(engine.raw_connection()) as raw:
        raw.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")


def problem(engine: Engine, *, deep: bool) -> str | None:
    """Return the first thing that SQLite's own check finds wrong; None if all is well.

    Args:
        engine: reads the database.
        deep: also compare every index with its table.

    Raises:
        DatabaseBusyError: the database can't be read now.
    """
    try:
        with engine.connect() as connection:
            raw = cast(sqlite3.Connection, connection.connection.driver_connection)
            return problem_of(raw, deep=deep)
    except sqlite3.OperationalError as error:
        raise DatabaseBusyError(f"the database can't be read now: {error}") from error


def is_disk_full(error: DBAPIError) -> bool:
    """Report whether the disk of the file is full."""
    return getattr(error.orig, "sqlite_errorcode", 0) in _FULL


def _prepare(read_only: bool, connection: sqlite3.Connection, _record: object) -> None:
    # None leaves BEGIN to us: sqlite3's own implicit BEGIN is deferred.
    connection.isolation_level = None
    _enter_wal(connection)
    for pragma in (*_PRAGMAS, *(["PRAGMA query_only=ON"] if read_only else [])):
        connection.execute(pragma)


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Change the file to WAL, which it stays in.

    Where several processes open a new file together, SQLite tells all but one "database is locked"
    at once: busy_timeout does not hold for this change.
    """
    for tries_left in reversed(range(_WAL_TRIES)):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if not tries_left:
                raise
            time.sleep(_WAL_PAUSE_S)
        else:
            return


def _begin_write(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_read(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
