"""Rows of messages of git hosts that were taken, so that none is taken twice."""

from datetime import datetime

from sqlalchemy import ForeignKey, delete
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base


class GitHookDeliveryRow(Base):
    """A message, by the hash of its body: nothing else of it is signed."""

    __tablename__ = "git_hook_deliveries"

    tenant_id: Mapped[int] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True
    )
    body_sha256: Mapped[str] = mapped_column(primary_key=True)
    received_at: Mapped[datetime] = mapped_column(index=True)


class GitHookTable:
    """The repository of messages."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, tenant_id: int, body_sha256: str, at: datetime, forget_before: datetime) -> bool:
        """Record a message; return False if it is recorded. Older ones are forgotten."""
        self._session.execute(
            delete(GitHookDeliveryRow).where(GitHookDeliveryRow.received_at < forget_before)
        )
        if self._session.get(GitHookDeliveryRow, (tenant_id, body_sha256)) is not None:
            return False
        self._session.add(
            GitHookDeliveryRow(tenant_id=tenant_id, body_sha256=body_sha256, received_at=at)
        )
        self._session.flush()
        return True
