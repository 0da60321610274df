"""Messages to webhooks about rollouts and nodes, recorded beside the change that they tell of.

Not here: how they are signed, sent and repeated (`services/webhooks`).
"""

import json
import secrets
from collections.abc import Mapping
from datetime import datetime

from app.core.fleetnode import Node
from app.core.rollout import Rollout
from app.db.engine import Session
from app.db.webhooks import WebhookTable


def tell(
    session: Session,
    channel: str,
    event: str,
    at: datetime,
    about: Mapping[str, object],
    *,
    trace: str = "",
) -> None:
    """Record a message to the webhooks of a channel, in the transaction of what it is about."""
    message = {"id": secrets.token_hex(8), "event": event, "channel": channel, "trace": trace}
    body = json.dumps(message | {"at": at.isoformat(timespec="seconds"), **about})
    WebhookTable(session).enqueue(channel, body, at)


def describe(rollout: Rollout) -> dict[str, object]:
    """Return a rollout as messages show it."""
    return {
        "id": rollout.id,
        "state": rollout.state,
        "step": rollout.step + 1,
        "steps": len(rollout.plan.steps),
        "from_revision": rollout.from_revision,
        "to_revision": rollout.to_revision,
        "reason": rollout.reason,
    }


def about_node(node: Node, held: str) -> dict[str, object]:
    """Return a node as messages show it, with the reason why it gets no grants."""
    return {"node": {"id": node.id, "name": node.name, "group": node.group, "held": held}}
