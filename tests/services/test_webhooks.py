"""Webhooks of the audit log: every row at least once, in order, of one tenant or of all.

Signing, retrying and order within a lane are those of rollouts' messages: fleet/test_webhooks.py.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.core.audit import ALARMS, tenant_of
from app.core.effect import Effect
from app.core.errors import BadInputError, UnknownError
from app.core.principal import OPERATOR, Scope
from app.db.audit import AuditLog
from app.db.webhooks import AuditTopic, WebhookTable
from app.services import webhooks as module
from app.services.assembly import Services
from tests.fakes.faults import Reply
from tests.fakes.server import FakeServer
from tests.fakes.wire import RecordedRequest
from tests.nouns import a_rule, a_tenant


class Receiver(FakeServer):
    """Takes messages; answers with `status`."""

    methods = ("POST",)
    status = 204

    def answer(self, request: RecordedRequest) -> Reply:
        return Reply(self.status)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.requests]

    @property
    def events(self) -> list[str]:
        return [message["event"] for message in self.messages]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


async def alarm(services: Services, name: str = "example.com/x@v1.0.0") -> None:
    at = services.shared.now()
    work = lambda s: AuditLog(s).append(at, "system", "module.refuse", name, "other h1")  # noqa: E731
    await services.shared.db.write(work)


async def test_every_row_is_sent_from_the_webhooks_own_on_and_only_once(
    quick: Services, receiver: Receiver
) -> None:
    webhooks = quick.upkeep.webhooks
    await alarm(quick, "before")
    made, secret = await webhooks.add(
        receiver.base_url, OPERATOR, rollouts=False, audit=AuditTopic.ALL
    )
    await alarm(quick)
    for _ in range(2):
        await webhooks.step()
    assert receiver.events == ["webhook.create", "module.refuse"]
    created, refused = receiver.messages
    assert created["audit"]["object"] == f"webhook:{made.id}"
    assert (created["alarm"], refused["alarm"]) == (False, True)
    assert refused["audit"]["seq"] == created["audit"]["seq"] + 1
    assert refused["id"] == f"audit-{refused['audit']['seq']}"
    assert refused["audit"]["detail"] == "other h1"
    sent = receiver.requests[1]
    at = quick.shared.now()
    proof = module.signature(secret, sent.body, at)
    assert len(sent.headers["moorage-signature"]) == len(proof["Moorage-Signature"])


async def test_alarms_alone_are_sent_to_whom_wants_alarms(
    quick: Services, receiver: Receiver
) -> None:
    webhooks = quick.upkeep.webhooks
    await webhooks.add(receiver.base_url, OPERATOR, rollouts=False, audit=AuditTopic.ALARMS)
    await quick.tenants.tokens.create("ci")
    await alarm(quick)
    await webhooks.step()
    assert receiver.events == ["module.refuse"]


async def test_a_tenants_webhook_gets_the_tenants_rows_alone(
    quick: Services, receiver: Receiver
) -> None:
    for name in ("acme", "other"):
        await quick.tenants.tenants.create(a_tenant(name), OPERATOR)
    webhooks = quick.upkeep.webhooks
    await webhooks.add(
        receiver.base_url, OPERATOR, rollouts=False, audit=AuditTopic.ALL, tenant="acme"
    )
    for name in ("acme", "other"):
        await quick.tenants.rules.create(name, a_rule(Effect.DENY, "x.example"), OPERATOR)
        scopes = frozenset({Scope.READ})
        await quick.tenants.tokens.create("ci", tenant=name, scopes=scopes)
    await alarm(quick)
    await webhooks.step()
    assert receiver.events == ["rule.create", "token.create"]
    assert {message["tenant"] for message in receiver.messages} == {"acme"}
    acme = await quick.tenants.tenants.get("acme", OPERATOR)
    await quick.tenants.tenants.remove("acme", OPERATOR, revision=acme.revision)
    assert await webhooks.all(OPERATOR) == []


@pytest.mark.both_shapes
async def test_rows_wait_in_order_while_the_receiver_is_down_and_batches_lose_none(
    quick: Services, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AUDIT_ROWS", 2)
    webhooks = quick.upkeep.webhooks
    await webhooks.add(receiver.base_url, OPERATOR, rollouts=False, audit=AuditTopic.ALARMS)
    for number in range(5):
        await alarm(quick, f"m{number}")
        await quick.tenants.tokens.create(f"ci {number}")
    receiver.status = 500
    await webhooks.step()
    assert receiver.events == ["module.refuse"]
    [webhook] = await webhooks.all(OPERATOR)
    assert (webhook.waiting, "answered 500" in webhook.trouble) == (5, True)
    [first, *_] = await quick.shared.db.read(lambda s: WebhookTable(s).waiting())
    receiver.status = 204
    await quick.shared.db.write(
        lambda s: WebhookTable(s).postpone(first, quick.shared.now(), "now")
    )
    await webhooks.step()
    objects = [message["audit"]["object"] for message in receiver.messages[1:]]
    assert objects == [f"m{number}" for number in range(5)]


@pytest.mark.parametrize(
    "more",
    [
        {"rollouts": False},
        {"rollouts": False, "channel": "stable", "audit": AuditTopic.ALL},
        {"tenant": "acme"},
        {"tenant": "acme", "audit": AuditTopic.ALL},
        {"tenant": "acme", "rollouts": False},
    ],
)
async def test_a_webhook_that_would_get_nothing_or_too_much_is_refused(
    quick: Services, more: dict[str, Any]
) -> None:
    with pytest.raises(BadInputError):
        await quick.upkeep.webhooks.add("https://hooks.example/", OPERATOR, **more)


async def test_a_webhook_of_nobody_is_refused(quick: Services) -> None:
    add = quick.upkeep.webhooks.add
    for more in ({"channel": "no\0such"}, {"channel": "none"}):
        with pytest.raises(UnknownError):
            await add("https://hooks.example/", OPERATOR, **more)
    with pytest.raises(UnknownError):
        await add(
            "https://hooks.example/", OPERATOR, tenant="none", rollouts=False, audit=AuditTopic.ALL
        )


@pytest.mark.parametrize(
    ("obj", "tenant"),
    [
        ("tenant:acme", "acme"),
        ("rule:acme/7", "acme"),
        ("rule:platform/7", ""),
        ("credential:acme/git", "acme"),
        ("module:acme/example.com/x", "acme"),
        ("example.com/x@v1.0.0", ""),
        ("token:1234", ""),
        ("channel:stable", ""),
        ("", ""),
    ],
)
def test_the_tenant_of_a_row_is_that_of_its_object(obj: str, tenant: str) -> None:
    assert tenant_of(obj) == tenant


def test_every_alarm_is_an_action_that_something_writes() -> None:
    from tests.test_rules import ROOT

    texts = "".join(
        path.read_text() for path in (ROOT / "app").rglob("*.py") if path.name != "audit.py"
    )
    composed = {"release.quarantined", "node.hold", "audit.recover", "sumdb.recover"}
    assert [action for action in ALARMS - composed if f'"{action}"' not in texts] == []
