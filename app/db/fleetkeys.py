"""Rows of the keys that sign channels' manifests; seeds are sealed."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base

SIGNERS = 2
"""The newest key, and the one before it: nodes change over while both sign. No older one is used
again."""


class FleetKeyRow(Base):
    """One key; `seed` is sealed. The newest one signs, and the one before it signs along."""

    __tablename__ = "fleet_keys"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    vkey: Mapped[str] = mapped_column(unique=True)
    seed: Mapped[bytes]
    created_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class FleetKey:
    """A key that signs manifests.

    Attributes:
        name: the name in signature lines.
        vkey: the public half, which nodes pin.
        seed: the private half, sealed.
    """

    id: int
    name: str
    vkey: str
    seed: bytes = field(repr=False)
    created_at: datetime


class FleetKeys:
    """The repository of keys."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def newest(self, count: int) -> list[FleetKey]:
        """Return the newest keys, at most count of them, the newest first."""
        query = select(FleetKeyRow).order_by(FleetKeyRow.id.desc()).limit(count)
        return [
            FleetKey(row.id, row.name, row.vkey, row.seed, row.created_at)
            for row in self._session.execute(query).scalars()
        ]

    def add(self, *, name: str, vkey: str, seed: bytes, at: datetime) -> None:
        """Record a new key."""
        self._session.add(FleetKeyRow(name=name, vkey=vkey, seed=seed, created_at=at))
        self._session.flush()
