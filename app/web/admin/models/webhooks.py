"""Webhooks as the admin API shows them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from app.web.admin.models.base import In, Out


class WebhookIn(In):
    """A new webhook; channel null takes the rollouts of every channel.

    audit: which rows of the audit log it gets: "alarms" are those that somebody has to look at.
    tenant: whose rows; null takes all.
    """

    url: Annotated[str, Field(max_length=500)]
    channel: Annotated[str | None, Field(max_length=63)] = None
    rollouts: bool = True
    audit: Literal["", "alarms", "all"] = ""
    tenant: Annotated[str | None, Field(max_length=63)] = None


class WebhookOut(Out):
    """A webhook.

    waiting: messages that it did not take yet.
    given_up: messages that it did not take within a day.
    trouble: why it did not take the last message; "" if it did.
    """

    id: str
    url: str
    channel: str | None
    rollouts: bool
    audit: Literal["", "alarms", "all"]
    tenant: str | None
    created_at: datetime
    delivered_at: datetime | None
    waiting: int
    given_up: int
    trouble: str


class WebhookMadeOut(WebhookOut):
    """A new webhook with its secret, which is shown this once."""

    secret: str
