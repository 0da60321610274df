"""The policy generation: one number that every change bumps and every process polls.

A prepared answer is valid for one generation, so that a hit needs no query at all.
"""

from sqlalchemy import select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base


class GenerationRow(Base):
    """The single row (id 1) that holds the number; the first migration inserts it."""

    __tablename__ = "generation"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


def current_generation(session: Session) -> int:
    """Return the generation."""
    return session.execute(select(GenerationRow.value)).scalar_one()


def bump_generation(session: Session) -> None:
    """Invalidate every prepared answer in every process, once this transaction is committed."""
    session.execute(update(GenerationRow).values(value=GenerationRow.value + 1))
