"""Rows of image indexes that were handed out: a digest that a client pinned stays resolvable.

The index of a release changes when an archive for another platform comes in.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.digest import Digest
from app.db.base import Base


class ImageIndexRow(Base):
    """One index."""

    __tablename__ = "image_indexes"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str]
    body: Mapped[bytes]
    made_at: Mapped[datetime]


class ImageIndexes:
    """The repository of image indexes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, digest: Digest, version: str, body: bytes, at: datetime) -> None:
        """Keep an index; one that is kept stays as it is."""
        is_postgresql = self._session.get_bind().dialect.name == "postgresql"
        insert: Any = postgresql_insert if is_postgresql else sqlite_insert
        values = {"sha256": digest.hex, "version": version, "body": body, "made_at": at}
        self._session.execute(insert(ImageIndexRow).values(values).on_conflict_do_nothing())

    def versions(self) -> set[str]:
        """Return the releases of which an index was handed out."""
        return set(self._session.execute(select(ImageIndexRow.version).distinct()).scalars())

    def of_versions(self, versions: Collection[str]) -> list[tuple[str, bytes]]:
        """Return (version, index) of every index of some releases, by digest."""
        query = select(ImageIndexRow).order_by(ImageIndexRow.sha256)
        rows = self._session.execute(query).scalars()
        return [(row.version, row.body) for row in rows if row.version in versions]
