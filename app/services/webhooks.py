"""Webhooks: who gets changes of rollouts and rows of the audit log, and sending them.

A message about a rollout is recorded in the transaction of the change (`progress.tell`). Rows of
the audit log are followed: each webhook has the number of the last row that was looked at for it,
and the number moves in the transaction that records the messages. The leader sends messages at
least once, in order for each channel and for the audit log, with back-off for a day. The receiver
checks the header `Moorage-Signature: sha256=<hex>`: HMAC-SHA-256, under the webhook's secret, over
the text of `Moorage-Timestamp` (Unix seconds), a full stop, and the body. Private addresses are
refused as those of every upstream are.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from app import logs, metrics
from app.core.audit import ALARMS, AuditRecord, tenant_of
from app.core.errors import BadInputError, MoorageError, UnknownError
from app.core.principal import Principal
from app.db.audit import AuditLog
from app.db.channels import ChannelTable
from app.db.engine import Database, Session
from app.db.room import Room
from app.db.tokens import Tokens
from app.db.webhooks import AuditTopic, Delivery, Webhook, WebhookTable
from app.services.authorization import require_admin
from app.services.changes import denial_room, locked, tenant_named
from app.services.clock import Now
from app.services.secrets import SecretBox, webhook_place
from app.upstream.http import HttpClient
from app.upstream.url import Url

_DEADLINE_S = 10.0
_FIRST_WAIT_S = 5.0
_MAX_WAIT_S = 3600.0
_GIVE_UP = timedelta(days=1)
_AT_ONCE = 8
_AUDIT_ROWS = 500  # looked at in one transaction
_AUDIT_LANE = "audit log"  # stands for the channel, and no channel has this name
_MAX_WEBHOOKS = 50
_MAX_URL_CHARS = 500
_log = logs.get("webhooks")


class Webhooks:
    """Use cases about webhooks, and the leader's loop that sends.

    Args:
        random: returns a number from 0 to 1, for the jitter of waits.
    """

    def __init__(
        self,
        db: Database,
        box: SecretBox,
        client: HttpClient,
        now: Now,
        random: Callable[[], float],
    ) -> None:
        self._db = db
        self._box = box
        self._client = client
        self._now = now
        self._random = random

    async def add(
        self,
        url: str,
        who: Principal,
        *,
        channel: str | None = None,
        tenant: str | None = None,
        rollouts: bool = True,
        audit: AuditTopic = AuditTopic.NONE,
    ) -> tuple[Webhook, str]:
        """Return a new webhook and its secret, which is shown this once.

        Args:
            url: where messages are sent, http or https.
            who: a platform admin.
            channel: whose rollouts it gets; None takes all channels.
            tenant: whose rows of the audit log it gets; None takes all.
            rollouts: whether it gets changes of rollouts.
            audit: which rows of the audit log it gets, from the one about itself on.

        Raises:
            DeniedError: who is no platform admin.
            BadInputError: the URL can't be, there are too many webhooks, or the webhook would get
                nothing, or a tenant's webhook what is no tenant's.
            UnknownError: there is no such channel or tenant.
        """
        require_admin(who, None)
        at, secret = self._now(), secrets.token_hex(32)
        webhook = Webhook(
            id=secrets.token_hex(4),
            url=url,
            channel=channel,
            actor=who.actor,
            created_at=at,
            rollouts=rollouts,
            audit=audit,
            tenant=tenant,
        )
        _check(webhook)

        def work(session: Session) -> None:
            if channel is not None and not _has_channel(session, channel):
                raise UnknownError(f"there is no channel {channel[:80]!a}; see `channel list`")
            if tenant is not None:
                tenant_named(session, tenant)
            if len(WebhookTable(session).all()) >= _MAX_WEBHOOKS:
                raise BadInputError(f"there are {_MAX_WEBHOOKS} webhooks; remove one first")
            last = AuditLog(session).last()
            begun = replace(webhook, audit_seq=0 if last is None else last.seq)
            WebhookTable(session).add(begun, self._box.seal(secret, webhook_place(webhook.id)))
            detail = f"{Url.parse(url).origin}; {_words(webhook)}"
            AuditLog(session).append(
                at, who.actor, "webhook.create", f"webhook:{webhook.id}", detail
            )

        await self._db.write(locked(work))
        return webhook, secret

    async def all(self, who: Principal) -> list[Webhook]:
        """Return every webhook, oldest first.

        Raises:
            DeniedError: who is no platform admin.
        """
        require_admin(who, None)
        return await self._db.read(lambda s: WebhookTable(s).all())

    async def remove(self, webhook_id: str, who: Principal) -> None:
        """Remove a webhook, and the messages that it did not get.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError: there is none of this id.
        """
        require_admin(who, None)
        at = self._now()

        def work(session: Session) -> None:
            if not webhook_id.isprintable() or not WebhookTable(session).remove(webhook_id):
                raise _no_webhook(webhook_id)
            AuditLog(session).append(at, who.actor, "webhook.remove", f"webhook:{webhook_id}")

        await self._db.write(locked(work), room=denial_room(who))

    async def test(self, webhook_id: str, who: Principal) -> Webhook:
        """Record a message "webhook.test" for one webhook, and return the webhook.

        The message waits behind those that the webhook did not take yet.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError: there is none of this id.
        """
        require_admin(who, None)
        at = self._now()

        def work(session: Session) -> Webhook:
            table = WebhookTable(session)
            webhook = next((w for w in table.all() if w.id == webhook_id), None)
            if webhook is None:
                raise _no_webhook(webhook_id)
            channel = webhook.channel or ""
            message = {"id": secrets.token_hex(8), "event": "webhook.test", "channel": channel}
            body = json.dumps(message | {"at": at.isoformat(timespec="seconds"), "trace": ""})
            lane = channel if webhook.rollouts else _AUDIT_LANE
            table.enqueue(lane, body, at, only=[webhook.id])
            return webhook

        return await self._db.write(work)

    async def step(self) -> None:
        """Send what can be sent now; the leader calls this every second."""
        while behind := await self._db.read(lambda s: WebhookTable(s).behind()):
            await self._db.write(partial(_follow, behind, self._now()), room=Room.BELOW_FLOOR)
        while deliveries := await self._db.read(lambda s: WebhookTable(s).due(self._now())):
            places = asyncio.Semaphore(_AT_ONCE)
            await asyncio.gather(*(self._send(delivery, places) for delivery in deliveries))

    async def _send(self, delivery: Delivery, places: asyncio.Semaphore) -> None:
        async with places:
            trouble = await self._post(delivery)
        metrics.count_webhook(delivered=not trouble)
        at = self._now()

        def work(session: Session) -> None:
            table = WebhookTable(session)
            if not trouble:
                table.delivered(delivery, at)
            elif at - delivery.created_at >= _GIVE_UP:
                table.give_up(delivery, trouble)
            else:
                table.postpone(delivery, at + self._wait(delivery.attempts), trouble)

        await self._db.write(work, room=Room.BELOW_FLOOR)
        if trouble:
            _log.warning("webhook not delivered", webhook=delivery.webhook, error=trouble)

    async def _post(self, delivery: Delivery) -> str:
        """Send one message; return why the receiver did not take it, or ""."""
        body = delivery.body.encode()
        try:
            secret = self._box.open(delivery.secret, webhook_place(delivery.webhook))
            headers = {
                "Content-Type": "application/json",
                "Moorage-Delivery": str(delivery.number),
                **signature(secret, body, self._now()),
            }
            status = await self._client.post(delivery.url, body, headers, deadline_s=_DEADLINE_S)
        except MoorageError as error:
            return str(error)[:500]
        return "" if 200 <= status < 300 else f"{Url.parse(delivery.url).origin} answered {status}"

    def _wait(self, attempts: int) -> timedelta:
        """Return the pause before the next attempt: 5 s, 10 s, 20 s … 1 h, with jitter."""
        most_s = min(_FIRST_WAIT_S * 2.0 ** min(attempts, 20), _MAX_WAIT_S)
        return timedelta(seconds=most_s * (0.5 + self._random() / 2))


def _follow(behind: list[Webhook], at: datetime, session: Session) -> None:
    """Record messages about the next rows of the audit log for webhooks that are behind."""
    table = WebhookTable(session)
    for webhook in behind:
        rows = AuditLog(session).rows(webhook.audit_seq, _AUDIT_ROWS)
        for row, _, _ in rows:
            is_alarm = row.action in ALARMS
            if webhook.audit is AuditTopic.ALARMS and not is_alarm:
                continue
            tenant = _tenant_of(session, row)
            if webhook.tenant in (None, tenant):
                body = _message(row, tenant, is_alarm=is_alarm)
                table.enqueue(_AUDIT_LANE, body, at, only=[webhook.id])
        if rows:
            table.followed(webhook.id, rows[-1][0].seq)


def _tenant_of(session: Session, row: AuditRecord) -> str:
    """Return the tenant that a row is about: by its object, or by the token that it names."""
    if tenant := tenant_of(row.object):
        return tenant
    for name in (row.object, row.actor):
        noun, _, token_id = name.partition(":")
        token = Tokens(session).get(token_id) if noun == "token" else None
        if token is not None and token.tenant is not None:
            return token.tenant
    return ""


def _message(row: AuditRecord, tenant: str, *, is_alarm: bool) -> str:
    """Return the body of a message about a row; the id is the same in each delivery of the row."""
    audit = {"seq": row.seq, "actor": row.actor, "object": row.object, "detail": row.detail}
    return json.dumps(
        {
            "id": f"audit-{row.seq}",
            "event": row.action,
            "alarm": is_alarm,
            "tenant": tenant,
            "at": row.at.isoformat(timespec="seconds"),
            "audit": audit,
        }
    )


def _has_channel(session: Session, name: str) -> bool:
    # PostgreSQL takes no NUL in a text, and the name may be anybody's.
    return name.isprintable() and ChannelTable(session).get(name) is not None


def _check(webhook: Webhook) -> None:
    """Raise BadInputError for a URL that can't be, and for topics that do not go together."""
    if not webhook.rollouts and (webhook.channel is not None or webhook.audit is AuditTopic.NONE):
        raise BadInputError("a webhook gets rollouts, of one channel or all, or audit rows")
    if webhook.tenant is not None and (webhook.rollouts or webhook.audit is AuditTopic.NONE):
        raise BadInputError("a tenant's webhook gets audit rows, and no rollouts")
    if len(webhook.url) > _MAX_URL_CHARS:
        raise BadInputError(f"the URL has more than {_MAX_URL_CHARS} characters")
    Url.parse(webhook.url)


def _words(webhook: Webhook) -> str:
    """Return what a webhook gets, for the audit log."""
    rollouts = f"rollouts of {webhook.channel or 'every channel'}" if webhook.rollouts else ""
    audit = {AuditTopic.NONE: "", AuditTopic.ALARMS: "alarms", AuditTopic.ALL: "audit rows"}
    whose = f" of tenant {webhook.tenant}" if webhook.tenant else ""
    shown = f"{audit[webhook.audit]}{whose}" if webhook.audit else ""
    return ", ".join(filter(None, (rollouts, shown)))


def signature(secret: str, body: bytes, at: datetime) -> dict[str, str]:
    """Return the headers that prove a message: time and HMAC."""
    timestamp = str(int(at.timestamp()))
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return {"Moorage-Timestamp": timestamp, "Moorage-Signature": f"sha256={mac.hexdigest()}"}


def _no_webhook(webhook_id: str) -> UnknownError:
    return UnknownError(f"no webhook has the id {webhook_id[:40]!a}; see `moorage webhook list`")
