"""The policy generation."""

import asyncio

import pytest

from app.db.engine import Database, Session
from app.db.generation import bump_generation, current_generation

pytestmark = pytest.mark.both_shapes


async def test_each_change_is_one_more_and_a_failed_one_is_none(database: Database) -> None:
    before = await database.read(current_generation)

    def failing(session: Session) -> None:
        bump_generation(session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(failing)
    assert await database.read(current_generation) == before
    for number in (1, 2):
        await database.write(bump_generation)
        assert await database.read(current_generation) == before + number


async def test_changes_of_many_at_once_are_all_counted(database: Database) -> None:
    before = await database.read(current_generation)
    await asyncio.gather(*(database.write(bump_generation) for _ in range(20)))
    assert await database.read(current_generation) == before + 20
