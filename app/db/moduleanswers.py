"""Rows of answers that change: lists, @latest, versions of queries, and absences.

Each row belongs to an origin. Stored files are in `modules`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, delete, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base


class ModuleAnswerRow(Base):
    """An answer that changes: a list, @latest, the version of a query, or an absence."""

    __tablename__ = "module_answers"

    origin_id: Mapped[int] = mapped_column(ForeignKey("origins.id"), primary_key=True)
    module: Mapped[str] = mapped_column(primary_key=True)
    query: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[int]
    body: Mapped[bytes]
    fetched_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class ModuleAnswer:
    """An answer of an origin that may change.

    Attributes:
        status: 200, or 404 or 410 with an empty body.
    """

    origin_id: int
    module: str
    query: str
    status: int
    body: bytes
    fetched_at: datetime


class ModuleAnswerTable:
    """The repository of answers."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, origin: int, module: str, query: str) -> ModuleAnswer | None:
        """Return the last answer of an origin to one query."""
        row = self._session.get(ModuleAnswerRow, (origin, module, query))
        return None if row is None else _answer(row)

    def save(self, answer: ModuleAnswer) -> None:
        """Record an answer; it replaces the last one."""
        self._session.merge(
            ModuleAnswerRow(
                origin_id=answer.origin_id,
                module=answer.module,
                query=answer.query,
                status=answer.status,
                body=answer.body,
                fetched_at=answer.fetched_at,
            )
        )
        self._session.flush()

    def forget(self, origin: int, module: str, query: str) -> None:
        """Delete an answer that is not valid any more."""
        self._session.execute(
            delete(ModuleAnswerRow).where(
                ModuleAnswerRow.origin_id == origin,
                ModuleAnswerRow.module == module,
                ModuleAnswerRow.query == query,
            )
        )

    def expire_all(self, origins: Sequence[int], at: datetime) -> None:
        """Set the time of all younger answers of some origins back to `at`; as `expire`."""
        self._session.execute(
            update(ModuleAnswerRow)
            .where(
                ModuleAnswerRow.origin_id.in_(origins),
                ModuleAnswerRow.status == 200,
                ModuleAnswerRow.fetched_at > at,
            )
            .values(fetched_at=at)
        )

    def expire(self, origins: Sequence[int], module: str, at: datetime) -> None:
        """Set the time of a module's younger answers back to `at`.

        So the next request asks upstream, and can use the old answer if upstream fails. Recorded
        absences do not change: because of them a stored version is still served.
        """
        self._session.execute(
            update(ModuleAnswerRow)
            .where(
                ModuleAnswerRow.origin_id.in_(origins),
                ModuleAnswerRow.module == module,
                ModuleAnswerRow.status == 200,
                ModuleAnswerRow.fetched_at > at,
            )
            .values(fetched_at=at)
        )


def _answer(row: ModuleAnswerRow) -> ModuleAnswer:
    return ModuleAnswer(row.origin_id, row.module, row.query, row.status, row.body, row.fetched_at)
