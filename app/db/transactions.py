"""One transaction from its begin to its commit, and what its errors mean."""

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from app import logs
from app.core.errors import (
    ConflictError,
    DatabaseBusyError,
    DefectError,
    MoorageError,
    StorageFullError,
)
from app.db import postgresql, sqlite
from app.db.lookup import Lookup

T = TypeVar("T")
_log = logs.get("db")


class UnknownOutcomeError(DatabaseBusyError):
    """The connection was lost at a commit, which may have been done."""


def transact(
    engine: Engine, work: Callable[[Session], T], tries: int = 1, *, reads_only: bool = False
) -> T:
    """Return work(session) from a committed transaction.

    Args:
        engine: begins the transaction.
        work: reads and writes.
        tries: how often to run work while PostgreSQL undoes it, or the connection proves lost.
        reads_only: nothing can have been changed when the connection is lost at the commit.

    Raises:
        ConflictError: a constraint refused the change.
        UnknownOutcomeError: the change may have been made.
        MoorageError: as `error_of` says.
    """
    is_committing = False
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            result = work(session)
            session.flush()
            is_committing = not reads_only
            return result
    except IntegrityError as error:
        raise ConflictError(f"the database refused the change: {_brief(error)}") from error
    except StaleDataError as error:
        raise ConflictError("the row was changed or removed meanwhile; look at it again") from error
    except DBAPIError as error:
        is_lost = postgresql.is_lost(error)
        if is_lost and is_committing:
            _brief(error)
            raise UnknownOutcomeError(
                "the database was lost while a change was written: the outcome is unknown; look at"
                " the present state before you try again"
            ) from error
        if tries > 1 and (is_lost or postgresql.may_pass(error)):
            _log.info("a unit of work is tried again", error=type(error.orig).__name__)
            return transact(engine, work, tries - 1, reads_only=reads_only)
        raise error_of(error) from error


def run_within(connection: Connection, work: Callable[[Session], T]) -> T:
    """Return work(session) from a session within a transaction, which stays open."""
    with Session(connection, expire_on_commit=False) as session, session.begin():
        return work(session)


def ask(engine: Engine, lookup: Lookup[T]) -> T:
    """Return the answer to a look-up in SQLite.

    Raises:
        MoorageError: as `error_of` says.
    """
    try:
        return lookup.ask(engine)
    except DBAPIError as error:
        raise error_of(error) from error


def error_of(error: DBAPIError) -> MoorageError:
    """Return what to tell a client of an error of the database."""
    if sqlite.is_disk_full(error):
        return StorageFullError(
            "the server's disk is full, and the change can't be written; free some space"
        )
    if postgresql.is_disk_full(error):
        return StorageFullError("the database's disk is full; free some space")
    if isinstance(error, DataError | ProgrammingError | NotSupportedError):
        # Trying again can't help: a value or a statement that the database never takes.
        _log.error("the database refused a statement", exc_info=error)
        return DefectError("a defect of this server; its log has the details")
    return DatabaseBusyError(f"the database can't be used now: {_brief(error)}")


def _brief(error: DBAPIError) -> str:
    """Return the reason without SQLAlchemy's statement and parameters: clients read it.

    SQLite's words are used as they are. PostgreSQL's details may quote values, and its driver names
    host, user or socket: these words go to the log alone.
    """
    cause: Any = error.orig
    words = " ".join(str(cause).split())[:300]
    if isinstance(cause, sqlite3.Error):
        return words
    _log.warning("the database failed", error=words)
    return getattr(getattr(cause, "diag", None), "message_primary", None) or "no connection to it"
