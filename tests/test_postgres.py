"""The tests' own PostgreSQL: copies are apart, and tests in both shapes get what they ask for."""

import pytest
from sqlalchemy import text

from app.db.engine import Database
from app.db.generation import bump_generation, current_generation
from app.db.sqlite import is_sqlite
from tests.shapes import Shape

pytestmark = pytest.mark.both_shapes


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_has_a_migrated_database_of_its_own(
    database: Database, shape: Shape, turn: int
) -> None:
    assert is_sqlite(database.url) is (shape is Shape.SQLITE)
    assert await database.read(current_generation) == 1
    await database.write(bump_generation)


async def test_a_database_without_tables(url: str, shape: Shape) -> None:
    tables = "sqlite_master" if shape is Shape.SQLITE else "pg_tables WHERE schemaname = 'public'"
    database = Database(url)
    count = text(f"SELECT count(*) FROM {tables}")
    assert await database.read(lambda s: s.execute(count).scalar_one()) == 0
    database.close()
