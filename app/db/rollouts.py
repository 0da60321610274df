"""Rows of rollouts: a channel has one open rollout at most."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Select, select, tuple_, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.rollout import Rollout
from app.core.rolloutplan import RolloutPlan
from app.core.rolloutstate import RolloutState
from app.db.base import Base

_OPEN = [state.value for state in RolloutState if not state.is_final]


class RolloutRow(Base):
    """One rollout; `plan` is JSON."""

    __tablename__ = "rollouts"

    id: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[str]
    from_revision: Mapped[int]
    to_revision: Mapped[int]
    plan: Mapped[str]
    state: Mapped[str]
    step: Mapped[int]
    actor: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(index=True)
    changed_at: Mapped[datetime]
    reached_at: Mapped[datetime | None]
    forgiven_at: Mapped[datetime | None]
    reason: Mapped[str]


_IS_OPEN = RolloutRow.state.in_(_OPEN)
Index(
    "uq_rollouts_open",
    RolloutRow.channel,
    unique=True,
    sqlite_where=_IS_OPEN,
    postgresql_where=_IS_OPEN,
)


class RolloutTable:
    """The repository of rollouts."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, rollout: Rollout, actor: str) -> None:
        """Record a new rollout."""
        self._session.add(RolloutRow(**_values(rollout), id=rollout.id, actor=actor))
        self._session.flush()

    def save(self, rollout: Rollout) -> None:
        """Record where a rollout stands."""
        self._session.execute(
            update(RolloutRow).where(RolloutRow.id == rollout.id).values(**_values(rollout))
        )

    def get(self, rollout_id: str) -> Rollout | None:
        """Return one rollout."""
        return self._one(select(RolloutRow).where(RolloutRow.id == rollout_id))

    def open_of(self, channel: str) -> Rollout | None:
        """Return the channel's rollout that is running, paused or halted."""
        return self._one(
            select(RolloutRow).where(RolloutRow.channel == channel, RolloutRow.state.in_(_OPEN))
        )

    def open(self) -> list[Rollout]:
        """Return every rollout that is running, paused or halted."""
        query = select(RolloutRow).where(RolloutRow.state.in_(_OPEN)).order_by(RolloutRow.channel)
        return [_rollout(row) for row in self._session.execute(query).scalars()]

    def page(
        self,
        *,
        channel: str | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int | None = None,
    ) -> list[Rollout]:
        """Return rollouts, the newest first.

        Args:
            channel: only those of one channel.
            before: start and id of the last rollout of the page before.
            limit: how many at most; None takes all.
        """
        query = select(RolloutRow).order_by(RolloutRow.started_at.desc(), RolloutRow.id.desc())
        if channel is not None:
            query = query.where(RolloutRow.channel == channel)
        if before is not None:
            query = query.where(tuple_(RolloutRow.started_at, RolloutRow.id) < before)
        rows = self._session.execute(query.limit(limit)).scalars()
        return [_rollout(row) for row in rows]

    def _one(self, query: Select[Any]) -> Rollout | None:
        row = self._session.execute(query).scalar_one_or_none()
        return None if row is None else _rollout(row)


def _values(rollout: Rollout) -> dict[str, Any]:
    return {
        "channel": rollout.channel,
        "from_revision": rollout.from_revision,
        "to_revision": rollout.to_revision,
        "plan": rollout.plan.model_dump_json(),
        "state": rollout.state,
        "step": rollout.step,
        "started_at": rollout.started_at,
        "changed_at": rollout.changed_at,
        "reached_at": rollout.reached_at,
        "forgiven_at": rollout.forgiven_at,
        "reason": rollout.reason,
    }


def _rollout(row: RolloutRow) -> Rollout:
    return Rollout(
        id=row.id,
        channel=row.channel,
        from_revision=row.from_revision,
        to_revision=row.to_revision,
        plan=RolloutPlan.model_validate_json(row.plan),
        state=RolloutState(row.state),
        step=row.step,
        started_at=row.started_at,
        changed_at=row.changed_at,
        reached_at=row.reached_at,
        forgiven_at=row.forgiven_at,
        reason=row.reason,
    )
