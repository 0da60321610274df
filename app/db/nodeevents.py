"""Rows of the events that nodes report."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, Index, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base, insert_all, table_of


class NodeEventRow(Base):
    """One event that a node reported; `seconds` is a JSON object."""

    __tablename__ = "node_events"
    __table_args__ = (
        Index("ix_node_events_node_id_number", "node_id", "number"),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"))
    grant: Mapped[str]
    at: Mapped[datetime] = mapped_column(index=True)
    event: Mapped[str]
    stage: Mapped[str]
    reason: Mapped[str]
    version: Mapped[str]
    seconds: Mapped[str]
    traceparent: Mapped[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvent:
    """One event that a node reported.

    Attributes:
        number: grows; 0 before it is recorded.
        grant: id of the grant; "" for an event of none.
        seconds: by stage.
        traceparent: the header of the report; "" without one.
    """

    number: int = 0
    node: str
    grant: str
    at: datetime
    event: str
    stage: str
    reason: str
    version: str
    seconds: Mapping[str, float]
    traceparent: str


class NodeEventTable:
    """The repository of events."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, events: Collection[NodeEvent]) -> None:
        """Record events."""
        insert_all(
            self._session,
            NodeEventRow,
            [
                {
                    "node_id": one.node,
                    "grant": one.grant,
                    "at": one.at,
                    "event": one.event,
                    "stage": one.stage,
                    "reason": one.reason,
                    "version": one.version,
                    "seconds": json.dumps(dict(one.seconds)),
                    "traceparent": one.traceparent,
                }
                for one in events
            ],
        )

    def of(self, node_id: str, limit: int) -> list[NodeEvent]:
        """Return a node's events, the newest first."""
        query = (
            select(NodeEventRow)
            .where(NodeEventRow.node_id == node_id)
            .order_by(NodeEventRow.number.desc())
            .limit(limit)
        )
        return [
            NodeEvent(
                number=row.number,
                node=row.node_id,
                grant=row.grant,
                at=row.at,
                event=row.event,
                stage=row.stage,
                reason=row.reason,
                version=row.version,
                seconds=json.loads(row.seconds),
                traceparent=row.traceparent,
            )
            for row in self._session.execute(query).scalars()
        ]

    def nodes_above(self, most: int) -> list[str]:
        """Return the nodes that have more events than a number."""
        events = table_of(NodeEventRow)
        query = select(events.c.node_id).group_by(events.c.node_id).having(func.count() > most)
        return list(self._session.execute(query).scalars())

    def thin(self, node_id: str, most: int) -> None:
        """Remove the oldest events of a node, so that a number of them stays."""
        own = select(NodeEventRow.number).where(NodeEventRow.node_id == node_id)
        newest = own.order_by(NodeEventRow.number.desc()).offset(most).limit(1).scalar_subquery()
        self._session.execute(
            delete(NodeEventRow).where(
                NodeEventRow.node_id == node_id, NodeEventRow.number <= newest
            )
        )

    def forget_before(self, at: datetime) -> None:
        """Remove the events that are older than a moment."""
        self._session.execute(delete(NodeEventRow).where(NodeEventRow.at < at))
