"""Going back in a channel, and the key of manifests."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.core.channel import MAX_REASON_CHARS
from app.core.noun import line
from app.db.fleetkeys import FleetKey
from app.web.admin.models.base import In, Out


class RollbackIn(In):
    """What to go back to.

    to: the number of a revision; null is the one that was offered before the current one.
    """

    to: Annotated[int, Field(ge=1, le=(1 << 31) - 1, strict=True)] | None = None
    reason: Annotated[str, *line("reason", MAX_REASON_CHARS)] = ""


class KeyOut(Out):
    """The public key of manifests, in the form that logs' keys have."""

    name: str
    vkey: str
    created_at: datetime


def key_out(key: FleetKey) -> KeyOut:
    """Return the public half of a key."""
    return KeyOut(name=key.name, vkey=key.vkey, created_at=key.created_at)
