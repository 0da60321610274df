"""The policy generation: a number that every change increments and every process polls.

A prepared answer is valid for one generation, so a hit needs no query.
"""

from sqlalchemy import select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base


class GenerationRow(Base):
    """The only row (id 1), with the number; the first migration inserts it."""

    __tablename__ = "generation"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


def current_generation(session: Session) -> int:
    """Return the generation."""
    return session.execute(select(GenerationRow.value)).scalar_one()


def bump_generation(session: Session) -> None:
    """Increment the generation: after the commit every prepared answer is invalid everywhere."""
    session.execute(update(GenerationRow).values(value=GenerationRow.value + 1))
