"""Tenants, rules and routes in few words, as tests write them down."""

from datetime import UTC, datetime
from typing import Any

from app.core.acl import Ownership, RecordedRule, Rule
from app.core.credential import SecretCredential
from app.core.effect import Effect
from app.core.routing import LogPolicy, RecordedRoute, RecordedUpstream, Route, Upstream
from app.core.tenant import RecordedTenant, Tenant


def a_tenant(name: str, title: str = "", default: Effect = Effect.DENY, **more: Any) -> Tenant:
    return Tenant(name=name, title=title, default=default, **more)


def a_rule(
    effect: Effect,
    pattern: str,
    versions: str = "",
    reason: str = "",
    expires_at: datetime | None = None,
) -> Rule:
    words = {"effect": effect, "pattern": pattern, "versions": versions, "reason": reason}
    return Rule.model_validate({**words, "expires_at": expires_at})


def an_upstream(url: str, credential: str | None = None, **more: Any) -> Upstream:
    return Upstream.model_validate({"url": url, "credential": credential, **more})


def a_route(pattern: str, *upstreams: Upstream | str, **more: Any) -> Route:
    """Return a route; a URL stands for an upstream with all defaults."""
    return Route.model_validate({"pattern": pattern, "upstreams": upstreams, **more})


def an_owner(prefix: str, tenant: str, *granted: str) -> Ownership:
    return Ownership(prefix=prefix, tenant=tenant, granted=frozenset(granted))


def a_credential(kind: str, secret: str, username: str = "") -> SecretCredential:
    return SecretCredential.model_validate({"kind": kind, "secret": secret, "username": username})


AT = datetime(2026, 11, 25, tzinfo=UTC)


def recorded_rule(
    number: int, effect: Effect, pattern: str, versions: str = "", **more: Any
) -> RecordedRule:
    """Return a rule of tenant acme as it is recorded."""
    words = {"effect": effect, "pattern": pattern, "versions": versions}
    facts = {"id": number, "tenant": "acme", "revision": 1, "created_at": AT, **more}
    return RecordedRule.model_validate({**words, **facts})


def recorded_upstream(origin_id: int, url: str, **more: Any) -> RecordedUpstream:
    facts = {"origin_id": origin_id, "credential_id": None, **more}
    return RecordedUpstream.model_validate({"url": url, **facts})


def recorded_route(
    number: int, pattern: str, *upstreams: RecordedUpstream, **more: Any
) -> RecordedRoute:
    """Return a route of tenant acme as it is recorded; to some upstream where none is named."""
    named = upstreams or (recorded_upstream(1, "https://proxy.example"),)
    log = LogPolicy.OFF if more.get("private") else LogPolicy.DEFER
    facts = {"id": number, "tenant": "acme", "revision": 1, "created_at": AT, "log": log, **more}
    return RecordedRoute.model_validate({"pattern": pattern, "upstreams": named, **facts})


def recorded_tenant(name: str, *hosts: str) -> RecordedTenant:
    return RecordedTenant.first(a_tenant(name, hosts=hosts), AT)
