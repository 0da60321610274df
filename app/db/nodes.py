"""Rows of nodes.

A node's own token is a column of its row, and no row of `tokens`: whoever looks for tokens of
people and tenants never meets one. Only SHA-256 sums of tokens are kept.

Not here: what nodes reported (`nodeevents`), the tokens by which machines enrol (`enroltokens`).
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    Index,
    Select,
    bindparam,
    case,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.fleetnode import Node, Target
from app.core.rolloutstate import Outcome
from app.db.base import Base, table_of
from app.db.grants import GrantRow


class NodeRow(Base):
    """One enrolled machine.

    `facts` is a JSON object, `installed` names of releases with spaces between them, `changed` the
    generation at which something else than a check-in changed the row last.
    """

    __tablename__ = "nodes"
    __table_args__ = (Index("ix_nodes_channel_id", "channel", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(index=True)
    channel: Mapped[str]
    group: Mapped[str]
    enrolled_at: Mapped[datetime]
    facts: Mapped[str]
    current: Mapped[str]
    installed: Mapped[str]
    seen_revision: Mapped[int]
    is_drifted: Mapped[bool]
    declined_version: Mapped[str] = mapped_column(server_default="")
    declined_revision: Mapped[int] = mapped_column(server_default="0")
    released_revision: Mapped[int] = mapped_column(server_default="0")
    seen_at: Mapped[datetime | None]
    clock_off_s: Mapped[float]
    failures: Mapped[int]
    failed_at: Mapped[datetime | None]
    failure: Mapped[str]
    held: Mapped[str]
    retired_at: Mapped[datetime | None]
    changed: Mapped[int] = mapped_column(index=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNode:
    """What a check-in says, as it is recorded; see `Node`.

    Attributes:
        declined_version, declined_revision: as the node says; recorded by `NodeTable.decline`.
    """

    id: str
    facts: dict[str, str]
    current: str
    installed: tuple[str, ...]
    seen_revision: int
    is_drifted: bool
    declined_version: str
    declined_revision: int
    seen_at: datetime
    clock_off_s: float


Standing: TypeAlias = tuple[str, str, str, bool, bool, bool]
"""What a rollout counts of a node: id, group, present release, held, live, declining.

Live is a node that checked in after the moment that was asked for, or enrolled after it.
"""

_OWN = tuple(name for name in Node.__slots__ if name != "grant")


class NodeTable:
    """The repository of nodes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, node: Node, sha256_hex: str, changed: int) -> None:
        """Record a new node under the SHA-256 of its token."""
        self._session.add(
            NodeRow(
                **{name: getattr(node, name) for name in _OWN}
                | {"facts": json.dumps(node.facts), "installed": " ".join(node.installed)},
                sha256=sha256_hex,
                changed=changed,
            )
        )
        self._session.flush()

    def get(self, node_id: str) -> Node | None:
        """Return one node."""
        return next(iter(self._nodes(_nodes().where(NodeRow.id == node_id))), None)

    def get_all(self, node_ids: Collection[str]) -> dict[str, Node]:
        """Return nodes by their ids."""
        return {node.id: node for node in self._nodes(_nodes().where(NodeRow.id.in_(node_ids)))}

    def by_secret(self, sha256_hex: str) -> Node | None:
        """Return the node whose token has this SHA-256."""
        return next(iter(self._nodes(_nodes().where(NodeRow.sha256 == sha256_hex))), None)

    def named(self, name: str) -> list[Node]:
        """Return the nodes of a name that are not retired."""
        return self._nodes(_nodes().where(NodeRow.name == name, NodeRow.retired_at.is_(None)))

    def page(
        self,
        *,
        channel: str | None = None,
        group: str | None = None,
        after: tuple[str, str] | None = None,
        limit: int | None = None,
    ) -> list[Node]:
        """Return nodes in the order of name and id.

        Args:
            channel: only those of one channel.
            group: only those of one group.
            after: name and id of the last node of the page before.
            limit: how many at most; None takes all.
        """
        query = _nodes().order_by(NodeRow.name, NodeRow.id).limit(limit)
        if channel is not None:
            query = query.where(NodeRow.channel == channel)
        if group is not None:
            query = query.where(NodeRow.group == group)
        if after is not None:
            query = query.where(tuple_(NodeRow.name, NodeRow.id) > after)
        return self._nodes(query)

    def standings(self, channel: str, live_after: datetime, target: Target) -> list[Standing]:
        """Return the nodes of a channel that are not retired, as a rollout counts them.

        Args:
            channel: the channel's name.
            live_after: a node that was not heard of since is not live.
            target: what the rollout brings; a node may decline it (`fleetnode.declines`).
        """
        # Each transaction that gives a grant reads all of them: no times, no objects of the ORM.
        nodes = table_of(NodeRow)
        is_live = func.coalesce(nodes.c.seen_at, nodes.c.enrolled_at) >= live_after
        declines = (
            (nodes.c.declined_version == target.version)
            & (nodes.c.declined_revision == target.revision)
            & (nodes.c.released_revision != target.revision)
            & (nodes.c.current != target.version)
        )
        is_held = nodes.c.held != ""
        columns = (nodes.c.id, nodes.c.group, nodes.c.current, is_held, is_live, declines)
        query = select(*columns).where(nodes.c.channel == channel, nodes.c.retired_at.is_(None))
        return [tuple(row) for row in self._session.execute(query).all()]

    def changed_since(self, changed: int) -> list[tuple[str, Node, int]]:
        """Return nodes that something else than a check-in changed after a generation.

        Each with the SHA-256 of its token, and the generation of its change.
        """
        query = _nodes(NodeRow.sha256, NodeRow.changed).where(NodeRow.changed > changed)
        rows = self._session.execute(query).all()
        return [(row.sha256, _node(row), row.changed) for row in rows]

    def brief_page(self, *, after: str, limit: int) -> list[Node]:
        """Return nodes in the order of their ids, without facts and installed releases.

        Args:
            after: the last id of the page before; "" begins.
            limit: how many at most.
        """
        query = _nodes(is_brief=True).where(NodeRow.id > after).order_by(NodeRow.id)
        return [Node(**row) for row in self._session.execute(query.limit(limit)).mappings()]

    def _nodes(self, query: Select[Any]) -> list[Node]:
        return [_node(row) for row in self._session.execute(query)]

    def newest_seen(self, channel: str, *, most: int) -> int:
        """Return the highest revision that a node of a channel has seen, up to most; 0 for none."""
        query = select(func.max(NodeRow.seen_revision)).where(
            NodeRow.channel == channel, NodeRow.seen_revision <= most
        )
        return self._session.execute(query).scalar() or 0

    def see(self, seen: Collection[SeenNode]) -> None:
        """Record check-ins; a node that is not recorded or retired is passed over.

        A node that says that it declines nothing does so no more. What it says that it declines is
        not recorded here.
        """
        if not seen:
            return
        nodes = table_of(NodeRow)
        declines = bindparam("new_declined_version") != ""
        statement = (
            update(nodes)
            .where(nodes.c.id == bindparam("node"))
            .values(
                {name: bindparam(f"new_{name}") for name in _SEEN}
                | {
                    "declined_version": case((declines, nodes.c.declined_version), else_=""),
                    "declined_revision": case((declines, nodes.c.declined_revision), else_=0),
                }
            )
        )
        # In a fixed order, so that two processes never wait for each other's rows.
        self._session.connection().execute(
            statement,
            [
                {
                    "node": one.id,
                    "new_facts": json.dumps(one.facts),
                    "new_current": one.current,
                    "new_installed": " ".join(one.installed),
                    "new_seen_revision": one.seen_revision,
                    "new_is_drifted": one.is_drifted,
                    "new_declined_version": one.declined_version,
                    "new_seen_at": one.seen_at,
                    "new_clock_off_s": one.clock_off_s,
                }
                for one in sorted(seen, key=lambda one: one.id)
            ],
        )

    def save(self, node: Node, changed: int) -> None:
        """Record what an operator or a result decides about a node."""
        values = {name: getattr(node, name) for name in _DECIDED}
        self._session.execute(
            update(NodeRow).where(NodeRow.id == node.id).values(**values, changed=changed)
        )

    def decline(self, node_id: str, target: Target) -> None:
        """Record what a node declines."""
        version, revision = target
        self._session.execute(
            update(NodeRow)
            .where(NodeRow.id == node_id)
            .values(declined_version=version, declined_revision=revision)
        )

    def touch(self, node_ids: Collection[str], changed: int) -> None:
        """Record that something about nodes changed that is in other tables: their grants."""
        self._session.execute(
            update(NodeRow).where(NodeRow.id.in_(node_ids)).values(changed=changed)
        )


_SEEN = (
    "facts",
    "current",
    "installed",
    "seen_revision",
    "is_drifted",
    "seen_at",
    "clock_off_s",
)
_DECIDED = (
    "name",
    "channel",
    "group",
    "failures",
    "failed_at",
    "failure",
    "held",
    "released_revision",
    "retired_at",
)


def _nodes(*more: Any, is_brief: bool = False) -> Select[Any]:
    """Return the query of all nodes, each with its grant that is out."""
    left_out = ("facts", "installed") if is_brief else ()
    columns = [getattr(NodeRow, name) for name in _OWN if name not in left_out]
    grant = func.coalesce(GrantRow.id, "").label("grant")
    is_out = (GrantRow.node_id == NodeRow.id) & (GrantRow.outcome == Outcome.OUT)
    return select(*columns, grant, *more).outerjoin(GrantRow, is_out)


def _node(row: Any) -> Node:
    values = {name: getattr(row, name) for name in (*_OWN, "grant")}
    values["facts"] = json.loads(values["facts"])
    values["installed"] = tuple(values["installed"].split())
    return Node(**values)
