"""Rows of published versions: who published what, and whether it is offered. Never deleted.

The files of a version are rows of `modules.py`, under the origin of published modules.
"""

from dataclasses import fields
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.published import PublishedState, PublishedVersion
from app.db.base import Base


class PublishedRow(Base):
    """A published version, by the names that it had: it outlives its tenant and its token."""

    __tablename__ = "published_versions"

    module: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(index=True)
    publisher: Mapped[str]
    published_at: Mapped[datetime]
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    h1: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str]
    changed_at: Mapped[datetime]


_NAMES = tuple(field.name for field in fields(PublishedVersion))


class PublishedTable:
    """The repository of published versions."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, module: str, version: str) -> PublishedVersion | None:
        """Return one version, in whatever state."""
        row = self._session.get(PublishedRow, (module, version))
        return None if row is None else _published(row)

    def of_module(self, module: str) -> list[PublishedVersion]:
        """Return the versions of a module, in whatever state, oldest first."""
        query = select(PublishedRow).where(PublishedRow.module == module)
        rows = self._session.execute(query.order_by(PublishedRow.published_at)).scalars()
        return [_published(row) for row in rows]

    def of_tenant(
        self, tenant: str, only: str | None, after: tuple[str, str], limit: int
    ) -> list[PublishedVersion]:
        """Return versions that a tenant published, by module and version, after a pair of them.

        only: a module path; None for all.
        """
        module, version = after
        query = select(PublishedRow).where(
            PublishedRow.tenant == tenant,
            (PublishedRow.module > module)
            | ((PublishedRow.module == module) & (PublishedRow.version > version)),
        )
        if only is not None:
            query = query.where(PublishedRow.module == only)
        ordered = query.order_by(PublishedRow.module, PublishedRow.version).limit(limit)
        return [_published(row) for row in self._session.execute(ordered).scalars()]

    def add(self, published: PublishedVersion) -> None:
        """Record a version.

        Raises:
            IntegrityError: it is recorded already.
        """
        values = {name: getattr(published, name) for name in _NAMES}
        self._session.add(PublishedRow(**{**values, "state": published.state.value}))
        self._session.flush()

    def set_state(
        self, module: str, version: str, state: PublishedState, reason: str, at: datetime
    ) -> None:
        """Change the state of a version."""
        self._session.execute(
            update(PublishedRow)
            .where(PublishedRow.module == module, PublishedRow.version == version)
            .values(state=state.value, reason=reason, changed_at=at)
        )


def _published(row: PublishedRow) -> PublishedVersion:
    values = {name: getattr(row, name) for name in _NAMES}
    return PublishedVersion(**{**values, "state": PublishedState(row.state)})
