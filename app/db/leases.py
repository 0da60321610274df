"""Leases: only one process holds a name. A fence shows a late holder that the lease is lost.

A lease saves work but guarantees nothing: blobs are content-addressed, so doing work twice is
harmless. Leases end by the database's clock, which all replicas share; an SQLite database has the
clock of its host. A released lease has no row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base, UtcDateTime
from app.db.notices import notify


class LeaseRow(Base):
    """One lease. An expired row counts as free; its fence stays, so that fences only grow.

    The first fence of a row is the time in microseconds: no earlier row of that name had it.
    """

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
        """Return the last holder, even if the lease has expired; None after it was released."""
        row = self._session.get(LeaseRow, name)
        return LeaseHolder(name, row.owner, row.fence) if row else None

    def acquire(
        self, name: str, owner: str, now: datetime, ttl: timedelta, *, dead_owner: str | None
    ) -> int | None:
        """Take the lease and return its new fence; None if another owner has the lease.

        A lease that ends further ahead than its length counts as free: a clock was ahead.

        Args:
            name: "leader", "ingest:go1.27.1.src.tar.gz".
            owner: the owner who takes the lease.
            now: UTC.
            ttl: how long the lease is valid without renewal.
            dead_owner: an owner that is certainly dead; its lease counts as free.
        """
        row = self._session.get(LeaseRow, name, with_for_update=True)
        if row is None:
            fence = int(now.timestamp() * 1_000_000)
            self._session.add(LeaseRow(name=name, owner=owner, fence=fence, expires_at=now + ttl))
            self._session.flush()
            return fence
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
        row = self._session.get(LeaseRow, holder.name, populate_existing=True)
        return row is not None and (row.owner, row.fence) == (holder.owner, holder.fence)

    def release(self, holder: LeaseHolder) -> None:
        """Release the lease, and wake those who wait for it."""
        self._session.flush()
        mine = (LeaseRow.owner == holder.owner, LeaseRow.fence == holder.fence)
        released = delete(LeaseRow).where(LeaseRow.name == holder.name, *mine)
        if self._session.execute(released.returning(LeaseRow.name)).first() is not None:
            notify(self._session, topic_of(holder.name))

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
    """Whether a lease is held, and not left from a time when the clock was ahead."""
    return now < row.expires_at <= now + ttl


def topic_of(name: str) -> str:
    """Return the topic of notices that a lease was released."""
    return f"lease {name}"


def lease_time(session: Session, now: Callable[[], datetime]) -> datetime:
    """Return the time by which leases end: PostgreSQL's own, else that of this host's clock."""
    if session.get_bind().dialect.name != "postgresql":
        return now()
    # Not `now()`: the transaction may have waited for its turn.
    return session.execute(select(func.clock_timestamp(type_=UtcDateTime()))).scalar_one()
