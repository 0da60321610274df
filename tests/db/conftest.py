"""One write transaction on a migrated database, for the tests of repositories."""

from collections.abc import Iterator

import pytest

from app.db.engine import Database, Session


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """Return a session in a write transaction that is rolled back at the end."""
    with Session(database.engine, expire_on_commit=False) as opened:
        yield opened
        opened.rollback()
