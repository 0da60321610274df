"""Leases: only one process holds a name. A fence shows a late holder that the lease is lost.

A lease saves work but guarantees nothing: blobs are content-addressed, so doing work twice is
harmless.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base


class LeaseRow(Base):
    """One lease. An expired row counts as free; its fence stays, so that fences only grow."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    fence: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """The holder of a lease."""

    name: str
    owner: str
    fence: int


class LeaseTable:
    """The repository of leases."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def holder(self, name: str) -> LeaseHolder | None:
        """Return the last holder, even if the lease has expired."""
        row = self._session.get(LeaseRow, name)
        return LeaseHolder(name, row.owner, row.fence) if row else None

    def acquire(
        self, name: str, owner: str, now: datetime, ttl: timedelta, *, dead_owner: str | None
    ) -> int | None:
        """Take the lease and return its new fence; None if another owner has the lease.

        A lease that ends further ahead than twice its length counts as free.

        Args:
            name: "leader", "ingest:go1.27.1.src.tar.gz".
            owner: the owner who takes the lease.
            now: UTC.
            ttl: how long the lease is valid without renewal.
            dead_owner: an owner that is certainly dead; its lease counts as free.
        """
        row = self._session.get(LeaseRow, name, with_for_update=True)
        if row is None:
            self._session.add(LeaseRow(name=name, owner=owner, fence=1, expires_at=now + ttl))
            self._session.flush()
            return 1
        if _is_held(row, now, ttl) and row.owner != dead_owner:
            return None
        row.owner, row.fence, row.expires_at = owner, row.fence + 1, now + ttl
        return row.fence

    def renew(self, holder: LeaseHolder, now: datetime, ttl: timedelta) -> bool:
        """Extend the lease; return False if the lease was lost."""
        row = self._session.get(LeaseRow, holder.name, with_for_update=True)
        if row is None or (row.owner, row.fence) != (holder.owner, holder.fence):
            return False
        row.expires_at = now + ttl
        return True

    def holds(self, holder: LeaseHolder) -> bool:
        """Report whether holder still has the lease; called inside the guarded transaction."""
        row = self._session.get(LeaseRow, holder.name, with_for_update=True)
        return row is not None and (row.owner, row.fence) == (holder.owner, holder.fence)

    def release(self, holder: LeaseHolder, now: datetime) -> None:
        """Release the lease; the expired row stays, so that the fence only grows."""
        if self.holds(holder):
            row = self._session.get(LeaseRow, holder.name)
            if row is not None:
                row.expires_at = now

    def live(self, prefix: str, now: datetime, ttl: timedelta) -> dict[str, str]:
        """Return name → owner of the held leases whose name starts with prefix."""
        rows = self._session.execute(
            select(LeaseRow).where(LeaseRow.name.startswith(prefix), LeaseRow.expires_at > now)
        ).scalars()
        return {row.name: row.owner for row in rows if _is_held(row, now, ttl)}

    def forget_expired(self, before: datetime) -> None:
        """Delete the rows that expired before a time."""
        self._session.execute(delete(LeaseRow).where(LeaseRow.expires_at < before))


def _is_held(row: LeaseRow, now: datetime, ttl: timedelta) -> bool:
    """Whether a lease is held, and not left from a time when a clock was ahead.

    A lease that was just renewed ends after exactly its length, by the clock of the host that
    renewed it. Twice the length leaves room for hosts whose clocks differ; a lease that is left
    from a clock ahead is believed for no longer than that.
    """
    return now < row.expires_at <= now + 2 * ttl
