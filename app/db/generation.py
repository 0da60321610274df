"""The policy generation: a number that every change increments and every process polls.

A prepared answer is valid for one generation, so a hit needs no query. Beside the number stands
what changed last at which generation: a tenant, what holds for all tenants, or what is stored. So
a process reloads and drops only what a change concerns.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Integer, bindparam, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base, chunks, insert_all
from app.db.lookup import Lookup, LookupQuery
from app.db.notices import GENERATION, notify

# A scope is a tenant's name or one of these, which no tenant can have as its name.
STORED = "*stored"
"""Content that answers were prepared from: damage and repair."""
RELEASES = "*releases"
"""The release index, and archives that came in: what the catalogue of releases holds. Answers to
tenants about toolchains that such a change concerns are fresh for a minute at most."""
CHANNELS = "*channels"
"""Channels: their settings, revisions and manifests."""
FLEET = "*fleet"
"""Nodes, rollouts and grants: what check-ins are answered from."""
NODES = "*nodes"
"""Nodes that were retired or moved to another channel: what their tokens open."""
PLATFORM = "*platform"
"""What holds for all tenants: platform rules and tokens, owned prefixes, private names."""
EVERYTHING = "*"
NO_POLICY = frozenset({STORED, RELEASES, CHANNELS, FLEET, NODES})
"""Scopes that say nothing of tenants and their rules."""


class GenerationRow(Base):
    """The only row (id 1), with the number; the first migration inserts it.

    `scoped` is the last generation whose scopes were recorded. It is behind `value` after a change
    by a program of an earlier version, which records none.
    """

    __tablename__ = "generation"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]
    scoped: Mapped[int]


class ChangeRow(Base):
    """The generation at which a scope changed last; the row stays when its tenant is removed."""

    __tablename__ = "changes"

    scope: Mapped[str] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(index=True)


@dataclass(frozen=True, slots=True)
class Changes:
    """The generation, and what changed after an earlier one.

    Attributes:
        scopes: the generation of each scope's last change.
    """

    generation: int
    scopes: Mapping[str, int]


def current_generation(session: Session) -> int:
    """Return the generation."""
    return session.execute(select(GenerationRow.value)).scalar_one()


_ASKED: tuple[Any, ...] = (
    GenerationRow.value,
    GenerationRow.scoped,
    ChangeRow.scope,
    ChangeRow.generation,
)
_CHANGES = LookupQuery(
    select(*_ASKED).outerjoin(ChangeRow, ChangeRow.generation > bindparam("known", type_=Integer))
)


def changes_since(generation: int) -> Lookup[Changes]:
    """Ask for the present generation and the scopes that changed after another one; -1 is none."""
    return Lookup(_CHANGES, {"known": generation}, partial(_changes, generation))


def _changes(known: int, rows: list[Sequence[Any]]) -> Changes:
    value, scoped = rows[0][:2]
    if value != known and (known < 0 or value != scoped):
        return Changes(value, {EVERYTHING: value})
    return Changes(value, {scope: at for _, _, scope, at in rows if scope is not None})


def bump_generation(session: Session, scopes: Collection[str] = (STORED,)) -> None:
    """Increment the generation: after the commit what was prepared of the scopes is invalid.

    Args:
        session: the transaction of the change.
        scopes: what the change concerns: tenants' names, PLATFORM, STORED, RELEASES,
            CHANNELS, FLEET, NODES.
    """
    bumped = update(GenerationRow).values(value=GenerationRow.value + 1)
    row = session.execute(bumped.returning(GenerationRow.value, GenerationRow.scoped)).one()
    changed = {*scopes} if row.scoped == row.value - 1 else {EVERYTHING}
    session.execute(update(GenerationRow).values(scoped=row.value))
    for chunk in chunks(sorted(changed)):
        session.execute(delete(ChangeRow).where(ChangeRow.scope.in_(chunk)))
    insert_all(session, ChangeRow, [{"scope": s, "generation": row.value} for s in sorted(changed)])
    notify(session, GENERATION)
