"""Audit rows about what nodes say of themselves: they fail a grant, they decline a release.

A broken or hostile node can say one thing and then the opposite at every check-in. So three rows of
one kind about one node are written within an hour, each in the transaction of its change; an
honest node never says more, since three failures hold it. What comes after them is counted, and
leaves one row an hour (`auditwindows`); the state itself is always recorded.

Not here: what operators and the server decide about nodes (`nodes`, `progress`): that is bounded by
the people who decide.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from app.core.fleetnode import Node
from app.db.audit import AuditLog
from app.db.engine import Session
from app.services.auditwindows import AuditWindows, Source

WINDOW = timedelta(hours=1)
AT_ONCE = 3
"""Rows of one kind about one node that are written at once within a window."""
MAX_SOURCES = 20_000


class NodeRow(NamedTuple):
    """What a node said of itself.

    Attributes:
        is_written: there is a row about it; else it is counted.
    """

    source: Source
    node: str
    detail: str
    is_written: bool


@dataclass(slots=True)
class NodeRows:
    """The rows of one transaction.

    Attributes:
        noted: what the transaction wrote and left out, for `keep` after its commit.
    """

    session: Session
    windows: AuditWindows
    at: datetime
    actor: str
    noted: list[NodeRow] = field(default_factory=list)
    _written: Counter[Source] = field(default_factory=Counter)

    def append(self, action: str, node: Node, detail: str) -> bool:
        """Write a row, if the node has one left; return whether it is written."""
        source = Source(self.actor, action, f"node:{node.id}")
        is_written = self.windows.rows_left(source) > self._written[source]
        if is_written:
            self._written[source] += 1
            text = f"{node.name}: {detail}"
            AuditLog(self.session).append(self.at, *source, text)
        self.noted.append(NodeRow(source, node.name, detail, is_written))
        return is_written


async def keep(windows: AuditWindows, noted: list[NodeRow]) -> None:
    """Note the rows of a transaction that is committed, and count what it left out."""
    for row in noted:
        if row.is_written:
            windows.note_row(row.source)
        else:
            await windows.count(row.source, row.detail, row.node)
