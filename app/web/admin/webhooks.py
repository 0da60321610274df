"""`/api/v1/webhooks…`: who gets changes of rollouts, and rows of the audit log."""

from fastapi import APIRouter

from app.db.webhooks import AuditTopic
from app.web.admin.answers import MALFORMED, REFUSED, UNKNOWN
from app.web.admin.context import PlatformAdmin, Site
from app.web.admin.models.base import Page
from app.web.admin.models.webhooks import WebhookIn, WebhookMadeOut, WebhookOut
from app.web.admin.paging import Cursor, Limit, page_of

router = APIRouter(tags=["webhooks"])


@router.get("/webhooks", responses={**REFUSED, **MALFORMED})
async def list_webhooks(
    services: Site, admin: PlatformAdmin, cursor: Cursor = None, limit: Limit = 50
) -> Page[WebhookOut]:
    """List webhooks, oldest first."""
    return page_of(
        await services.upkeep.webhooks.all(admin),
        lambda w: (w.created_at.isoformat(), w.id),
        WebhookOut.of,
        kinds=(str, str),
        cursor=cursor,
        limit=limit,
    )


@router.post("/webhooks", status_code=201, responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def create_webhook(services: Site, admin: PlatformAdmin, body: WebhookIn) -> WebhookMadeOut:
    """Send messages to an address; the secret that signs them is shown this once."""
    webhook, secret = await services.upkeep.webhooks.add(
        body.url,
        admin,
        channel=body.channel,
        tenant=body.tenant,
        rollouts=body.rollouts,
        audit=AuditTopic(body.audit),
    )
    return WebhookMadeOut.of(webhook, secret=secret)


@router.delete("/webhooks/{webhook_id}", status_code=204, responses={**REFUSED, **UNKNOWN})
async def remove_webhook(services: Site, admin: PlatformAdmin, webhook_id: str) -> None:
    """Remove a webhook, and what it did not get."""
    await services.upkeep.webhooks.remove(webhook_id, admin)


@router.post("/webhooks/{webhook_id}/test", responses={**REFUSED, **UNKNOWN})
async def test_webhook(services: Site, admin: PlatformAdmin, webhook_id: str) -> WebhookOut:
    """Send a message "webhook.test", behind those that wait."""
    return WebhookOut.of(await services.upkeep.webhooks.test(webhook_id, admin))
