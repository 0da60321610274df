"""Rows of grants: a node has one grant without a result at most.

A grant outside a rollout (`rollout_id` NULL) brings a node to its channel's current revision.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, Index, delete, func, literal_column, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.rolloutstate import Outcome
from app.db.base import Base, table_of


class GrantRow(Base):
    """One grant; `number` is its order, `trace` the trace id of the report of its result."""

    __tablename__ = "node_grants"
    __table_args__ = ({"sqlite_autoincrement": True},)

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"), index=True)
    rollout_id: Mapped[str | None] = mapped_column(ForeignKey("rollouts.id"), index=True)
    channel: Mapped[str]
    revision: Mapped[int]
    version: Mapped[str]
    given_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    outcome: Mapped[str]
    outcome_at: Mapped[datetime]
    stage: Mapped[str]
    reason: Mapped[str]
    trace: Mapped[str]


# A constant of the statement: SQLite uses no index of some rows for a parameter.
_IS_OUT = GrantRow.outcome == literal_column(f"'{Outcome.OUT}'")
Index(
    "uq_node_grants_out",
    GrantRow.node_id,
    unique=True,
    sqlite_where=_IS_OUT,
    postgresql_where=_IS_OUT,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The permission for one node to change.

    Attributes:
        id: 16 random hex characters.
        rollout: id; None outside a rollout.
        version: the release that the node is to run.
        outcome_at: UTC; of the result, or when the grant was given.
        stage: where the node failed.
        trace: trace id of the report with the result; "" without one.
    """

    id: str
    node: str
    rollout: str | None
    channel: str
    revision: int
    version: str
    given_at: datetime
    expires_at: datetime
    outcome: Outcome
    outcome_at: datetime
    stage: str = ""
    reason: str = ""
    trace: str = ""


class GrantTable:
    """The repository of grants."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, grant: Grant) -> None:
        """Record a new grant."""
        self._session.add(
            GrantRow(
                id=grant.id,
                node_id=grant.node,
                rollout_id=grant.rollout,
                channel=grant.channel,
                revision=grant.revision,
                version=grant.version,
                given_at=grant.given_at,
                expires_at=grant.expires_at,
                outcome=grant.outcome,
                outcome_at=grant.outcome_at,
                stage=grant.stage,
                reason=grant.reason,
                trace=grant.trace,
            )
        )

    def get(self, grant_ids: Collection[str]) -> dict[str, Grant]:
        """Return grants by their ids."""
        query = select(GrantRow).where(GrantRow.id.in_(grant_ids))
        return {row.id: _grant(row) for row in self._session.execute(query).scalars()}

    def out_of(self, node_ids: Collection[str]) -> dict[str, Grant]:
        """Return for each of some nodes its grant that has no result, if there is one."""
        query = select(GrantRow).where(GrantRow.node_id.in_(node_ids), _IS_OUT)
        return {row.node_id: _grant(row) for row in self._session.execute(query).scalars()}

    def latest_of(self, node_ids: Collection[str]) -> dict[str, str]:
        """Return for each of some nodes the id of its latest grant."""
        newest = (
            select(func.max(GrantRow.number))
            .where(GrantRow.node_id.in_(node_ids))
            .group_by(GrantRow.node_id)
        )
        query = select(GrantRow.node_id, GrantRow.id).where(GrantRow.number.in_(newest))
        return {node: grant for node, grant in self._session.execute(query).all()}  # noqa: C416

    def count_out(self) -> dict[str, int]:
        """Return the number of grants without a result, by channel."""
        query = select(GrantRow.channel, func.count()).where(_IS_OUT).group_by(GrantRow.channel)
        return {row[0]: row[1] for row in self._session.execute(query)}

    def expired(self, now: datetime) -> list[Grant]:
        """Return the grants without a result whose time is over, in their order."""
        query = select(GrantRow).where(_IS_OUT, GrantRow.expires_at <= now)
        # Sorted here: for an order SQLite would read every grant that ever was.
        rows = sorted(self._session.execute(query).scalars(), key=lambda row: row.number)
        return [_grant(row) for row in rows]

    def end(self, grant: Grant) -> None:
        """Record a grant's result."""
        self._session.execute(
            update(GrantRow)
            .where(GrantRow.id == grant.id)
            .values(
                outcome=grant.outcome,
                outcome_at=grant.outcome_at,
                stage=grant.stage,
                reason=grant.reason,
                trace=grant.trace,
            )
        )

    def outcomes(self, rollout_id: str) -> dict[str, tuple[Outcome, datetime]]:
        """Return for each node the outcome of its latest grant of a rollout, and its time."""
        grants = table_of(GrantRow)
        query = (
            select(grants.c.node_id, grants.c.outcome, grants.c.outcome_at)
            .where(grants.c.rollout_id == rollout_id)
            .order_by(grants.c.number)
        )
        rows = self._session.execute(query).all()
        return {node: (Outcome(outcome), at) for node, outcome, at in rows}

    def failures(self, rollout_id: str, limit: int) -> list[Grant]:
        """Return the grants of a rollout that failed last, the newest first."""
        query = (
            select(GrantRow)
            .where(GrantRow.rollout_id == rollout_id, GrantRow.outcome == Outcome.FAILED)
            .order_by(GrantRow.outcome_at.desc(), GrantRow.number.desc())
            .limit(limit)
        )
        return [_grant(row) for row in self._session.execute(query).scalars()]

    def nodes_above(self, most: int) -> list[str]:
        """Return the nodes that have more grants outside rollouts than a number."""
        grants = table_of(GrantRow)
        query = (
            select(grants.c.node_id)
            .where(grants.c.rollout_id.is_(None))
            .group_by(grants.c.node_id)
            .having(func.count() > most)
        )
        return list(self._session.execute(query).scalars())

    def thin(self, node_id: str, most: int) -> None:
        """Remove a node's oldest grants outside rollouts, so that a number of them stays.

        Rollouts count theirs for ever.
        """
        is_own = (GrantRow.node_id == node_id) & GrantRow.rollout_id.is_(None)
        own = select(GrantRow.number).where(is_own)
        newest = own.order_by(GrantRow.number.desc()).offset(most).limit(1).scalar_subquery()
        self._session.execute(delete(GrantRow).where(is_own, GrantRow.number <= newest, ~_IS_OUT))

    def of_node(self, node_id: str, limit: int) -> list[Grant]:
        """Return a node's grants, the newest first."""
        query = select(GrantRow).where(GrantRow.node_id == node_id)
        rows = self._session.execute(query.order_by(GrantRow.number.desc()).limit(limit))
        return [_grant(row) for row in rows.scalars()]


def _grant(row: GrantRow) -> Grant:
    return Grant(
        id=row.id,
        node=row.node_id,
        rollout=row.rollout_id,
        channel=row.channel,
        revision=row.revision,
        version=row.version,
        given_at=row.given_at,
        expires_at=row.expires_at,
        outcome=Outcome(row.outcome),
        outcome_at=row.outcome_at,
        stage=row.stage,
        reason=row.reason,
        trace=row.trace,
    )
