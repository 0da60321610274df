"""A look-up: one SELECT by a key, made once and asked often.

A `Lookup` is a unit of work: called with a session, it runs there. `Database.read` runs it on
SQLite without a session: SQLAlchemy's objects for a transaction with one statement take fifty times
the CPU of the statement, and a cold module file needs several. One statement sees one moment, so
that nothing is lost.

Not here: the statements, which are beside their rows.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Dialect, Engine, Select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

T = TypeVar("T")
_Row = Sequence[Any]
_Make = Callable[[list[_Row]], T]
_Process = Callable[[Any], Any]


class LookupQuery:
    """A SELECT, with its text and the readers of its columns in SQLite's dialect.

    Args:
        select: each parameter is text or a number, by name; none is a list ("expanding").
    """

    def __init__(self, select: Select[Any]) -> None:
        self.select = select
        self._prepared: tuple[str, list[str], list[tuple[int, _Process]]] | None = None

    def rows(self, engine: Engine, values: Mapping[str, str | int]) -> list[_Row]:
        """Return the rows that SQLite has now, with a connection of an engine. In a thread.

        Raises:
            DBAPIError: the database can't be read.
        """
        text, names, readers = self._prepared or self._prepare(engine.dialect)
        with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
            try:
                cursor.execute(text, [values[name] for name in names])
                rows = list(cursor.fetchall())
            except sqlite3.Error as error:
                raise DBAPIError.instance(
                    text, None, error, sqlite3.Error, hide_parameters=True
                ) from error
        if readers:
            return [_read(row, readers) for row in rows]
        return rows

    def _prepare(self, dialect: Dialect) -> tuple[str, list[str], list[tuple[int, _Process]]]:
        compiled: Any = self.select.compile(dialect=dialect)
        readers: list[tuple[int, _Process]] = []
        for place, column in enumerate(self.select.selected_columns):
            reader = column.type.dialect_impl(dialect).result_processor(dialect, None)
            if reader is not None:
                readers.append((place, reader))
        prepared = str(compiled), list(compiled.positiontup), readers
        self._prepared = prepared
        return prepared


@dataclass(frozen=True, slots=True)
class Lookup(Generic[T]):
    """A question to the database, with what it is asked about.

    Attributes:
        query: the statement.
        values: of its parameters.
        make: makes the answer of the rows.
    """

    query: LookupQuery
    values: Mapping[str, str | int]
    make: _Make[T]

    def __call__(self, session: Session) -> T:
        """Return the answer, within a unit of work."""
        rows = session.execute(self.query.select, dict(self.values))
        return self.make([tuple(row) for row in rows])

    def ask(self, engine: Engine) -> T:
        """Return the answer of SQLite, without a session; see `LookupQuery.rows`."""
        return self.make(self.query.rows(engine, self.values))


def _read(row: _Row, readers: list[tuple[int, _Process]]) -> list[Any]:
    values = list(row)
    for place, reader in readers:
        values[place] = reader(values[place])
    return values
