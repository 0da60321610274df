"""Rows of webhooks and of the deliveries that are not done."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, Select, delete, func, or_, select, true, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.audit import AuditRow
from app.db.base import Base, insert_all


class WebhookRow(Base):
    """An address that gets messages.

    `secret` is sealed; `channel` NULL takes the rollouts of all channels. `audit_seq` is the last
    row of the audit log that was looked at for it.
    """

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    secret: Mapped[bytes]
    channel: Mapped[str | None]
    actor: Mapped[str]
    created_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]
    given_up: Mapped[int]
    trouble: Mapped[str]
    rollouts: Mapped[bool] = mapped_column(server_default=true())
    audit: Mapped[str] = mapped_column(server_default="")
    tenant: Mapped[str | None]
    audit_seq: Mapped[int] = mapped_column(server_default="0")


class DeliveryRow(Base):
    """One message to one webhook; the row is removed when the webhook has it."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_webhook_id", "webhook_id", "channel", "number"),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id"))
    channel: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime]
    attempts: Mapped[int]
    next_at: Mapped[datetime]


class AuditTopic(StrEnum):
    """Which rows of the audit log a webhook gets."""

    NONE = ""
    ALARMS = "alarms"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An address that gets messages.

    Attributes:
        id: 8 random hex characters.
        channel: whose rollouts; None takes those of all channels.
        rollouts: whether it gets changes of rollouts.
        audit: which rows of the audit log it gets.
        tenant: gets the rows about this tenant alone; None takes all.
        audit_seq: the last row of the audit log that was looked at for it.
        delivered_at: UTC; of the last message that it took.
        given_up: messages that it did not take within a day.
        trouble: why it did not take the last message; "" if it did.
        waiting: messages that are not delivered yet.
    """

    id: str
    url: str
    channel: str | None
    actor: str
    created_at: datetime
    delivered_at: datetime | None = None
    given_up: int = 0
    trouble: str = ""
    waiting: int = 0
    rollouts: bool = True
    audit: AuditTopic = AuditTopic.NONE
    tenant: str | None = None
    audit_seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one webhook, with what is needed to send it."""

    number: int
    webhook: str
    url: str
    secret: bytes
    channel: str
    body: str
    created_at: datetime
    attempts: int


class WebhookTable:
    """The repository of webhooks and deliveries."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, webhook: Webhook, secret: bytes) -> None:
        """Record a new webhook with its sealed secret."""
        self._session.add(
            WebhookRow(
                id=webhook.id,
                url=webhook.url,
                secret=secret,
                channel=webhook.channel,
                actor=webhook.actor,
                created_at=webhook.created_at,
                delivered_at=None,
                given_up=0,
                trouble="",
                rollouts=webhook.rollouts,
                audit=webhook.audit,
                tenant=webhook.tenant,
                audit_seq=webhook.audit_seq,
            )
        )
        self._session.flush()

    def all(self) -> list[Webhook]:
        """Return every webhook."""
        waiting = dict(
            self._session.execute(
                select(DeliveryRow.webhook_id, func.count()).group_by(DeliveryRow.webhook_id)
            ).all()
        )
        rows = self._session.execute(
            select(WebhookRow).order_by(WebhookRow.created_at, WebhookRow.id)
        ).scalars()
        return [
            Webhook(
                id=row.id,
                url=row.url,
                channel=row.channel,
                actor=row.actor,
                created_at=row.created_at,
                delivered_at=row.delivered_at,
                given_up=row.given_up,
                trouble=row.trouble,
                waiting=waiting.get(row.id, 0),
                rollouts=row.rollouts,
                audit=AuditTopic(row.audit),
                tenant=row.tenant,
                audit_seq=row.audit_seq,
            )
            for row in rows
        ]

    def remove(self, webhook_id: str) -> bool:
        """Remove a webhook and what it did not get; return False if there is none."""
        self._session.execute(delete(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id))
        gone = delete(WebhookRow).where(WebhookRow.id == webhook_id).returning(WebhookRow.id)
        return bool(self._session.execute(gone).scalars().all())

    def remove_of(self, tenants: Collection[str]) -> None:
        """Remove the webhooks of tenants, and what they did not get."""
        query = select(WebhookRow.id).where(WebhookRow.tenant.in_(tenants))
        for webhook_id in self._session.execute(query).scalars().all():
            self.remove(webhook_id)

    def enqueue(
        self, channel: str, body: str, at: datetime, *, only: Collection[str] | None = None
    ) -> None:
        """Record a message for every webhook of a channel's rollouts, or only for some webhooks."""
        query = select(WebhookRow.id).where(
            WebhookRow.rollouts, or_(WebhookRow.channel.is_(None), WebhookRow.channel == channel)
        )
        if only is not None:
            query = select(WebhookRow.id).where(WebhookRow.id.in_(only))
        insert_all(
            self._session,
            DeliveryRow,
            [
                {
                    "webhook_id": webhook_id,
                    "channel": channel,
                    "body": body,
                    "created_at": at,
                    "attempts": 0,
                    "next_at": at,
                }
                for webhook_id in self._session.execute(query.order_by(WebhookRow.id)).scalars()
            ],
        )

    def behind(self) -> list[Webhook]:
        """Return the webhooks for which rows of the audit log were not looked at yet."""
        last = select(func.max(AuditRow.seq)).scalar_subquery()
        query = select(WebhookRow).where(WebhookRow.audit != "", WebhookRow.audit_seq < last)
        ids = set(self._session.execute(query.with_only_columns(WebhookRow.id)).scalars())
        return [webhook for webhook in self.all() if webhook.id in ids] if ids else []

    def followed(self, webhook_id: str, seq: int) -> None:
        """Record that the rows of the audit log up to one were looked at for a webhook."""
        self._session.execute(
            update(WebhookRow)
            .where(WebhookRow.id == webhook_id, WebhookRow.audit_seq < seq)
            .values(audit_seq=seq)
        )

    def due(self, now: datetime) -> list[Delivery]:
        """Return the deliveries that can be tried now: of each webhook and channel the oldest."""
        first = (
            select(func.min(DeliveryRow.number))
            .group_by(DeliveryRow.webhook_id, DeliveryRow.channel)
            .scalar_subquery()
        )
        query = _deliveries().where(DeliveryRow.number.in_(first), DeliveryRow.next_at <= now)
        rows = self._session.execute(query.order_by(DeliveryRow.number))
        return [_delivery(*row) for row in rows]

    def waiting(self) -> list[Delivery]:
        """Return every delivery that is not done, in order."""
        query = _deliveries().order_by(DeliveryRow.number)
        return [_delivery(*row) for row in self._session.execute(query)]

    def delivered(self, delivery: Delivery, at: datetime) -> None:
        """Remove a delivery that its webhook took."""
        self._end(delivery, delivered_at=at, trouble="")

    def give_up(self, delivery: Delivery, trouble: str) -> None:
        """Remove a delivery that its webhook did not take in time."""
        self._end(delivery, given_up=WebhookRow.given_up + 1, trouble=trouble)

    def _end(self, delivery: Delivery, **values: object) -> None:
        self._session.execute(delete(DeliveryRow).where(DeliveryRow.number == delivery.number))
        self._session.execute(
            update(WebhookRow).where(WebhookRow.id == delivery.webhook).values(**values)
        )

    def postpone(self, delivery: Delivery, next_at: datetime, trouble: str) -> None:
        """Record that a delivery failed, and when it is tried again."""
        self._session.execute(
            update(DeliveryRow)
            .where(DeliveryRow.number == delivery.number)
            .values(attempts=DeliveryRow.attempts + 1, next_at=next_at)
        )
        self._session.execute(
            update(WebhookRow).where(WebhookRow.id == delivery.webhook).values(trouble=trouble)
        )


def _deliveries() -> Select[DeliveryRow, str, bytes]:
    return select(DeliveryRow, WebhookRow.url, WebhookRow.secret).join(
        WebhookRow, WebhookRow.id == DeliveryRow.webhook_id
    )


def _delivery(row: DeliveryRow, url: str, secret: bytes) -> Delivery:
    return Delivery(
        number=row.number,
        webhook=row.webhook_id,
        url=url,
        secret=secret,
        channel=row.channel,
        body=row.body,
        created_at=row.created_at,
        attempts=row.attempts,
    )
