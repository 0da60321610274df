"""A real SQLite file at the schema of this program."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db.engine import Database, sqlite_url
from app.db.schema import upgrade


@pytest.fixture
def url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "moorage.db")


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    made = Database(url)
    upgrade(made.engine)
    yield made
    made.close()
