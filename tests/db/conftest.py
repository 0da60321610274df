"""One write transaction on a migrated database, for the tests of repositories."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db.engine import Database, Session


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """Return a session in a write transaction that is rolled back at the end."""
    with Session(database.engine, expire_on_commit=False) as opened:
        yield opened
        opened.rollback()


@pytest.fixture
def tmp_path(memory_path: Path) -> Path:
    """Return a folder in memory: a disk would only be waited for."""
    return memory_path
