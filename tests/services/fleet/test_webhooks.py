"""Webhooks: signed, retried with back-off for a day, in order for each channel, never inside."""

import hashlib
import hmac
import json
from collections.abc import Iterator

import pytest

from app.core.channel import Choice
from app.core.errors import BadInputError, UnknownError
from app.core.principal import OPERATOR
from app.core.rolloutplan import RolloutPlan
from app.core.rolloutstate import RolloutAction
from app.db.webhooks import Webhook
from app.services.webhooks import signature
from tests.fakes.faults import Reply
from tests.fakes.server import FakeServer
from tests.fakes.wire import RecordedRequest
from tests.services.fleet.conftest import VERIFIED, Fleet
from tests.services.fleet.herd import enrol, settle


class Receiver(FakeServer):
    """Takes messages; answers with `status`, or that of the event."""

    methods = ("POST",)
    status = 204

    def answer(self, request: RecordedRequest) -> Reply:
        return Reply(self.status)

    @property
    def events(self) -> list[tuple[str, str]]:
        bodies = [json.loads(request.body) for request in self.requests]
        return [(body["channel"], body["event"]) for body in bodies]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


async def started(fleet: Fleet, channel: str = "stable") -> None:
    """Start a rollout, and pause it."""
    await fleet.channel(channel, VERIFIED[1])
    rollouts = fleet.services.fleet.rollouts
    await rollouts.start(channel, Choice(current=VERIFIED[0]), RolloutPlan(), OPERATOR)
    await rollouts.act(channel, RolloutAction.PAUSE, OPERATOR, reason="lunch")


async def hook(fleet: Fleet) -> Webhook:
    [webhook] = await fleet.services.upkeep.webhooks.all(OPERATOR)
    return webhook


async def test_a_message_is_signed_and_delivered_once(fleet: Fleet, receiver: Receiver) -> None:
    webhooks = fleet.services.upkeep.webhooks
    _, secret = await webhooks.add(f"{receiver.base_url}/hook?team=a", OPERATOR)
    await started(fleet)
    await webhooks.step()
    await webhooks.step()
    assert receiver.events == [("stable", "rollout.start"), ("stable", "rollout.pause")]
    sent = receiver.requests[1]
    assert sent.target == "/hook?team=a"
    timestamp = sent.headers["moorage-timestamp"]
    assert timestamp == str(int(fleet.clock().timestamp()))
    mac = hmac.new(secret.encode(), f"{timestamp}.".encode() + sent.body, hashlib.sha256)
    assert sent.headers["moorage-signature"] == f"sha256={mac.hexdigest()}"
    message = json.loads(sent.body)
    assert message["rollout"]["state"] == "paused"
    assert message["rollout"]["reason"] == "lunch"
    assert (await hook(fleet)).waiting == 0


def test_the_signature_is_the_documented_one() -> None:
    """The example of docs/fleet.md: printf '1764244800.{}' | openssl dgst -sha256 -hmac s3cret."""
    from datetime import UTC, datetime

    headers = signature("s3cret", b"{}", datetime(2025, 11, 27, 12, tzinfo=UTC))
    assert headers == {
        "Moorage-Timestamp": "1764244800",
        "Moorage-Signature": "sha256="
        + hmac.new(b"s3cret", b"1764244800.{}", hashlib.sha256).hexdigest(),
    }


async def test_order_is_kept_per_channel_while_one_message_fails(
    fleet: Fleet, receiver: Receiver
) -> None:
    webhooks = fleet.services.upkeep.webhooks
    await webhooks.add(receiver.base_url, OPERATOR)
    receiver.status = 500
    await started(fleet)
    await webhooks.step()
    await webhooks.step()
    assert receiver.events == [("stable", "rollout.start")]  # the next one waits behind it
    await started(fleet, "next")
    await webhooks.step()
    assert receiver.events[1:] == [("next", "rollout.start")]  # another channel does not
    receiver.status = 200
    fleet.clock.advance(seconds=10)
    await webhooks.step()
    assert [e for e in receiver.events[2:] if e[0] == "stable"] == [
        ("stable", "rollout.start"),
        ("stable", "rollout.pause"),
    ]
    webhook = await hook(fleet)
    assert (webhook.waiting, webhook.trouble) == (0, "")


async def test_it_is_tried_less_and_less_often_for_a_day(fleet: Fleet, receiver: Receiver) -> None:
    webhooks = fleet.services.upkeep.webhooks
    await webhooks.add(receiver.base_url, OPERATOR)
    await started(fleet)
    receiver.status = 503
    tries = []
    for _ in range(24 * 12 + 13):
        await webhooks.step()
        tries.append(len(receiver.requests))
        fleet.clock.advance(minutes=5)
    webhook = await hook(fleet)
    assert (webhook.given_up, webhook.waiting) == (2, 0)  # both are older than a day
    assert "answered 503" in webhook.trouble
    assert 6 <= tries[12] <= 10  # within the first hour
    assert tries[-1] < 60


async def test_a_private_address_gets_nothing(fleet: Fleet, receiver: Receiver) -> None:
    webhooks = fleet.services.upkeep.webhooks
    await webhooks.add("http://10.1.2.3/", OPERATOR)
    await started(fleet)
    await webhooks.step()
    webhook = await hook(fleet)
    assert webhook.waiting == 2
    assert "10.1.2.3" in webhook.trouble


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://user:pw@x/", "http://x/ y", "x" * 501])
async def test_a_url_that_cannot_be_is_refused(fleet: Fleet, url: str) -> None:
    with pytest.raises(BadInputError):
        await fleet.services.upkeep.webhooks.add(url, OPERATOR)


async def test_a_webhook_of_a_channel_gets_its_rollouts_alone_and_can_be_tried_and_removed(
    fleet: Fleet, receiver: Receiver
) -> None:
    webhooks = fleet.services.upkeep.webhooks
    with pytest.raises(UnknownError):
        await webhooks.add(receiver.base_url, OPERATOR, channel="next")
    await fleet.channel("next")
    webhook, _ = await webhooks.add(receiver.base_url, OPERATOR, channel="next")
    await started(fleet, "stable")
    await webhooks.test(webhook.id, OPERATOR)
    await webhooks.step()
    assert receiver.events == [("next", "webhook.test")]
    await webhooks.test(webhook.id, OPERATOR)
    await webhooks.remove(webhook.id, OPERATOR)
    await webhooks.step()
    assert len(receiver.requests) == 1
    with pytest.raises(UnknownError):
        await webhooks.test(webhook.id, OPERATOR)


async def test_a_node_that_declines_a_release_is_told_of_once(
    fleet: Fleet, receiver: Receiver
) -> None:
    webhooks = fleet.services.upkeep.webhooks
    await webhooks.add(f"{receiver.base_url}/hook", OPERATOR)
    await fleet.channel("stable", VERIFIED[0])
    [machine] = await enrol(fleet.services, ["web-1"])
    await machine.update()
    machine.current = ""
    machine.declined = {"version": VERIFIED[0], "revision": 1}
    for _ in range(2):
        await machine.check()
        await settle(fleet.services)
    await webhooks.step()
    assert receiver.events == [("stable", "node.decline")]
    node = json.loads(receiver.requests[0].body)["node"]
    assert (node["id"], node["name"], node["group"]) == (machine.id, "web-1", "web")
    assert node["held"].startswith(f"{VERIFIED[0]} was rolled back by hand on this node")
