"""Statements that work sends to the database: how many, and how SQLite finds the rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, event

from app.db.engine import Database


@dataclass
class Seen:
    """What was sent, with its parameters; begins and commits are left out."""

    sent: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.sent)

    def scans(self, database: Database) -> list[str]:
        """Return the steps by which SQLite reads a whole table, as EXPLAIN QUERY PLAN has them."""
        with database.engine.connect() as connection:
            return [
                f"{row[3]}: {statement}"
                for statement, parameters in self.sent
                if statement.startswith("SELECT")
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                if row[3].startswith("SCAN ")
            ]


@contextmanager
def watched(database: Database) -> Iterator[Seen]:
    """Note every statement that any session of the database sends meanwhile."""
    seen = Seen()

    def note(
        _connection: Connection,
        _cursor: object,
        statement: str,
        parameters: Any,
        _context: object,
        _many: bool,
    ) -> None:
        if not statement.startswith("BEGIN"):
            seen.sent.append((statement, parameters))

    engines = (database.engine, database._reader)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
