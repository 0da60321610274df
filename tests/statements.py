"""Statements that work sends to the database: how many, and how the rows are found."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, event

from app.core.errors import ConflictError
from app.db.engine import Database, Session

BEGINNINGS = ("BEGIN", "SET LOCAL", "SELECT pg_advisory_xact_lock")
"""What begins a transaction, as the statements of `app/db/sqlite.py` and `postgresql.py` do."""

_SCAN = re.compile(r"(?:SCAN|[ >-]*(?:Parallel )?Seq Scan on) (.*)")
"""A step of a plan, as SQLite and as PostgreSQL write it."""


@dataclass
class Seen:
    """What was sent, with its parameters; begins and commits are left out."""

    sent: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.sent)

    def scans(self, database: Database) -> list[str]:
        """Return the steps by which a whole table is read, each as "SCAN table: statement".

        SQLite names a pass over a whole index too. PostgreSQL prefers a scan wherever a table is
        small, so it is asked for the plan that it has without: a scan that stays has no index.
        """
        selects = [(sent, values) for sent, values in self.sent if sent.startswith("SELECT")]
        with database.engine.connect() as connection:
            explain = "EXPLAIN QUERY PLAN"
            if connection.dialect.name != "sqlite":
                explain = "EXPLAIN (COSTS OFF)"
                connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            return [
                f"SCAN {scan[1]}: {statement}"
                for statement, parameters in selects
                for row in connection.exec_driver_sql(f"{explain} {statement}", parameters)
                if (scan := _SCAN.match(row[-1]))
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
        if not statement.startswith(BEGINNINGS):
            seen.sent.append((statement, parameters))

    engines = (database.engine, database._reader)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


@contextmanager
def refused(database: Database, start: str, reason: str) -> Iterator[None]:
    """Let the database refuse every statement that begins with some words: "INSERT INTO audit"."""

    def refuse(_connection: Connection, _cursor: Any, statement: str, *_more: object) -> None:
        if " ".join(statement.split()).startswith(start):
            raise ConflictError(reason)

    event.listen(database.engine, "before_cursor_execute", refuse)
    try:
        yield
    finally:
        event.remove(database.engine, "before_cursor_execute", refuse)


def portable(session: Session, statement: str) -> str:
    """Return SQL with PostgreSQL's words for blobs, for a session that needs them."""
    if session.get_bind().dialect.name == "sqlite":
        return statement
    for words, others in (
        (
            "cast(replace(cast(text as text), 'h1:0', 'h1:1') as blob)",
            "convert_to(replace(convert_from(text, 'UTF8'), 'h1:0', 'h1:1'), 'UTF8')",
        ),
        ("cast('x' as blob)", "'x'::bytea"),
        ("x'00'", "'\\x00'::bytea"),
        ("x'01'", "'\\x01'::bytea"),
        ("x'7b7d'", "'\\x7b7d'::bytea"),
        ("zeroblob(32)", "decode(repeat('00', 32), 'hex')"),
        ("zeroblob(length(data))", "decode(repeat('00', length(data)), 'hex')"),
    ):
        statement = statement.replace(words, others)
    return statement
