"""Webhooks: who gets changes of rollouts, and sending them.

A message is recorded in the transaction of the change (`progress.tell`) and sent by the leader: at
least once, in order for each channel, with back-off for a day. The receiver checks the header
`Moorage-Signature: sha256=<hex>`: HMAC-SHA-256, under the webhook's secret, over the text of
`Moorage-Timestamp` (Unix seconds), a full stop, and the body. Private addresses are refused as
those of every upstream are.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from app import logs, metrics
from app.core.errors import BadInputError, MoorageError, UnknownError
from app.core.principal import Principal
from app.db.audit import AuditLog
from app.db.engine import Database, Room, Session
from app.db.webhooks import Delivery, Webhook, WebhookTable
from app.services.authorization import require_admin
from app.services.changes import denial_room, locked
from app.services.clock import Now
from app.services.fleet.channels import channel_named
from app.services.secrets import SecretBox, webhook_place
from app.upstream.address import Url
from app.upstream.http import HttpClient

_DEADLINE_S = 10.0
_FIRST_WAIT_S = 5.0
_MAX_WAIT_S = 3600.0
_GIVE_UP = timedelta(days=1)
_AT_ONCE = 8
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
        self, url: str, who: Principal, *, channel: str | None = None
    ) -> tuple[Webhook, str]:
        """Return a new webhook and its secret, which is shown this once.

        Args:
            url: where messages are sent, http or https.
            who: a platform admin.
            channel: whose rollouts it gets; None takes all channels.

        Raises:
            DeniedError: who is no platform admin.
            BadInputError: the URL can't be, or there are too many webhooks.
            UnknownError: there is no such channel.
        """
        require_admin(who, None)
        if len(url) > _MAX_URL_CHARS:
            raise BadInputError(f"the URL has more than {_MAX_URL_CHARS} characters")
        Url.parse(url)
        at, secret = self._now(), secrets.token_hex(32)
        webhook = Webhook(
            id=secrets.token_hex(4), url=url, channel=channel, actor=who.actor, created_at=at
        )

        def work(session: Session) -> None:
            if channel is not None:
                channel_named(session, channel)
            if len(WebhookTable(session).all()) >= _MAX_WEBHOOKS:
                raise BadInputError(f"there are {_MAX_WEBHOOKS} webhooks; remove one first")
            WebhookTable(session).add(webhook, self._box.seal(secret, webhook_place(webhook.id)))
            detail = f"{Url.parse(url).origin}; {channel or 'every channel'}"
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
            table.enqueue(channel, body, at, only=[webhook.id])
            return webhook

        return await self._db.write(work)

    async def step(self) -> None:
        """Send what can be sent now; the leader calls this every second."""
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


def signature(secret: str, body: bytes, at: datetime) -> dict[str, str]:
    """Return the headers that prove a message: time and HMAC."""
    timestamp = str(int(at.timestamp()))
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return {"Moorage-Timestamp": timestamp, "Moorage-Signature": f"sha256={mac.hexdigest()}"}


def _no_webhook(webhook_id: str) -> UnknownError:
    return UnknownError(f"no webhook has the id {webhook_id[:40]!a}; see `moorage webhook list`")
