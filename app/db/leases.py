"""Leases: who may do a thing alone, across processes; a fence tells a late holder that it lost.

A lease is economy, not safety: blobs are content-addressed, so doing a thing twice is harmless.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base


class LeaseRow(Base):
    """One lease; a row that has expired counts as free, and its fence lives on."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    fence: Mapped[int]
    expires_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who holds a lease."""

    name: str
    owner: str
    fence: int


class LeaseTable:
    """The repository of leases."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def holder(self, name: str) -> LeaseHolder | None:
        """Return the last holder, whether or not the lease has expired."""
        row = self._session.get(LeaseRow, name)
        return LeaseHolder(name, row.owner, row.fence) if row else None

    def acquire(
        self, name: str, owner: str, now: datetime, ttl: timedelta, *, dead_owner: str | None
    ) -> int | None:
        """Take the lease and return its new fence, or None while another owner holds it.

        Args:
            name: what is leased: "leader", "ingest:go1.27.1.src.tar.gz".
            owner: who asks.
            now: UTC.
            ttl: for how long, unless renewed.
            dead_owner: an owner known to be gone, whose lease counts as free.
        """
        row = self._session.get(LeaseRow, name, with_for_update=True)
        if row is None:
            self._session.add(LeaseRow(name=name, owner=owner, fence=1, expires_at=now + ttl))
            self._session.flush()
            return 1
        if row.expires_at > now and row.owner != dead_owner:
            return None
        row.owner, row.fence, row.expires_at = owner, row.fence + 1, now + ttl
        return row.fence

    def renew(self, holder: LeaseHolder, now: datetime, ttl: timedelta) -> bool:
        """Prolong the lease; False if it was lost."""
        row = self._session.get(LeaseRow, holder.name, with_for_update=True)
        if row is None or (row.owner, row.fence) != (holder.owner, holder.fence):
            return False
        row.expires_at = now + ttl
        return True

    def holds(self, holder: LeaseHolder) -> bool:
        """Report whether nobody took the lease since; for use inside the guarded transaction."""
        row = self._session.get(LeaseRow, holder.name, with_for_update=True)
        return row is not None and (row.owner, row.fence) == (holder.owner, holder.fence)

    def release(self, holder: LeaseHolder, now: datetime) -> None:
        """Let go; the row stays, expired, so that the fence keeps growing."""
        if self.holds(holder):
            row = self._session.get(LeaseRow, holder.name)
            if row is not None:
                row.expires_at = now

    def live(self, prefix: str, now: datetime) -> dict[str, str]:
        """Return name → owner of the unexpired leases whose name starts with prefix."""
        rows = self._session.execute(
            select(LeaseRow).where(LeaseRow.name.startswith(prefix), LeaseRow.expires_at > now)
        ).scalars()
        return {row.name: row.owner for row in rows}

    def forget_expired(self, before: datetime) -> None:
        """Drop rows that expired before a time long past."""
        self._session.execute(delete(LeaseRow).where(LeaseRow.expires_at < before))
