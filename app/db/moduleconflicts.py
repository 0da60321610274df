"""Rows of evidence: refused content that contradicts a recorded file or a pinned tag.

Each row belongs to an origin. The files are in `modules`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.goproxy import RequestKind
from app.db.base import Base

MAX_SEEN = 20
"""Kept contradictions of one file: an upstream may have another content for each request."""


class ModuleConflictRow(Base):
    """Evidence: refused content that contradicts what is recorded."""

    __tablename__ = "module_conflicts"
    __table_args__ = (UniqueConstraint("origin_id", "module", "version", "kind", "seen"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    origin_id: Mapped[int] = mapped_column(ForeignKey("origins.id"))
    module: Mapped[str]
    version: Mapped[str]
    kind: Mapped[str]
    recorded: Mapped[str]
    seen: Mapped[str]
    detail: Mapped[str]
    seen_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class ModuleConflict:
    """Evidence: refused content that contradicts what is recorded.

    Attributes:
        recorded: "mod=h1:… zip=h1:…", or "commit …" of a tag.
        seen: what upstream has: "zip=h1:… sha256=…", or "commit …".
        detail: the contradiction in words.
    """

    origin_id: int
    module: str
    version: str
    kind: RequestKind
    recorded: str
    seen: str
    detail: str
    seen_at: datetime


class ModuleConflictTable:
    """The repository of evidence."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, conflict: ModuleConflict) -> bool:
        """Keep evidence of a contradiction; return False if the same content was seen before.

        Also if `MAX_SEEN` contents of the file were: whoever may read asks as often as he likes.
        """
        seen = self._session.execute(
            select(ModuleConflictRow.seen).where(
                ModuleConflictRow.origin_id == conflict.origin_id,
                ModuleConflictRow.module == conflict.module,
                ModuleConflictRow.version == conflict.version,
                ModuleConflictRow.kind == conflict.kind,
            )
        ).scalars()
        seen_before = set(seen)
        if conflict.seen in seen_before or len(seen_before) >= MAX_SEEN:
            return False
        self._session.add(
            ModuleConflictRow(
                origin_id=conflict.origin_id,
                module=conflict.module,
                version=conflict.version,
                kind=conflict.kind,
                recorded=conflict.recorded,
                seen=conflict.seen,
                detail=conflict.detail,
                seen_at=conflict.seen_at,
            )
        )
        self._session.flush()
        return True

    def of_version(self, origins: Sequence[int], module: str, version: str) -> list[ModuleConflict]:
        """Return the evidence about one version under some origins, oldest first."""
        rows = self._session.execute(
            select(ModuleConflictRow)
            .where(
                ModuleConflictRow.origin_id.in_(origins),
                ModuleConflictRow.module == module,
                ModuleConflictRow.version == version,
            )
            .order_by(ModuleConflictRow.id)
        ).scalars()
        return [
            ModuleConflict(
                row.origin_id,
                row.module,
                row.version,
                RequestKind(row.kind),
                row.recorded,
                row.seen,
                row.detail,
                row.seen_at,
            )
            for row in rows
        ]
