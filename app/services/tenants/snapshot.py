"""What tenants, rules, routes and owned prefixes say, as plain facts; and how two states differ.

The facts have the names and forms of the document that `document` applies. Ids and revisions are no
facts: what was removed and made again in the same words has not changed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.core.acl import Ownership, Rule
from app.core.routing import Route, Upstream
from app.core.tenant import Tenant
from app.db.engine import Session
from app.db.routes import RecordedRoute, RouteTable
from app.db.rules import OwnershipTable, RuleTable
from app.db.tenants import TenantTable

Facts = Mapping[str, object]
State = Mapping[str, Facts]
"""Facts by the name of what they are about: "tenant acme", "rule acme: deny example.com/x v1"."""


class Action(StrEnum):
    """What happened to an object."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Change:
    """One object that differs.

    Attributes:
        object: its name in a `State`.
        before: its facts; None where it is new.
        after: its facts; None where it is gone.
    """

    action: Action
    object: str
    before: Facts | None
    after: Facts | None


def snapshot(session: Session) -> State:
    """Return everything as the transaction sees it."""
    state: dict[str, Facts] = {}
    for tenant in TenantTable(session).all():
        state[f"tenant {tenant.name}"] = _tenant(tenant)
    for owned in OwnershipTable(session).all():
        state[f"ownership {owned.ownership.prefix}"] = _ownership(owned.ownership)
    for found in RuleTable(session).all():
        state[f"rule {found.rule.tenant or 'platform'}: {found.rule}"] = _rule(found.rule)
    for recorded in RouteTable(session).all():
        name = f"route {recorded.route.tenant}: {recorded.route.pattern}"
        state[name] = _route(recorded)
    return state


def differences(before: State, after: State) -> list[Change]:
    """Return what differs, by the order of `snapshot`; what is gone comes first."""
    gone = [Change(Action.REMOVE, n, f, None) for n, f in before.items() if n not in after]
    changed = [
        Change(Action.UPDATE if name in before else Action.CREATE, name, before.get(name), facts)
        for name, facts in after.items()
        if before.get(name) != facts
    ]
    return [*gone, *changed]


def _tenant(tenant: Tenant) -> Facts:
    limits = tenant.limits
    return {
        "title": tenant.title,
        "default": tenant.default.value,
        "anonymous_read": tenant.anonymous_read,
        "enabled": tenant.enabled,
        "hosts": sorted(tenant.hosts),
        "limits": {"streams": limits.streams, "cold": limits.cold, "rate": limits.rate},
    }


def _ownership(ownership: Ownership) -> Facts:
    return {"tenant": ownership.tenant, "granted": sorted(ownership.granted)}


def _rule(rule: Rule) -> Facts:
    return {
        "effect": rule.effect.value,
        "pattern": rule.pattern.text,
        "versions": str(rule.versions) if rule.versions else "",
        "reason": rule.reason,
        "expires_at": rule.expires_at.isoformat() if rule.expires_at else None,
    }


def _route(recorded: RecordedRoute) -> Facts:
    route: Route = recorded.route
    pairs = zip(route.upstreams, recorded.credentials, strict=True)
    return {
        "pattern": route.pattern.text,
        "upstreams": [_upstream(u, credential) for u, credential in pairs],
        "private": route.private,
        "off": route.off,
        "forks": route.forks,
        "ttl_s": route.ttl_s,
        "log": route.log.value,
    }


def _upstream(upstream: Upstream, credential: str | None) -> Facts:
    # Certificates are long; whether they changed is all that a reader wants to know.
    ca = hashlib.sha256(upstream.ca_pem.encode()).hexdigest() if upstream.ca_pem else ""
    return {
        "url": upstream.url,
        "credential": credential,
        "on_absent": upstream.on_absent.value,
        "redirect_to": sorted(upstream.redirect_to),
        "connect_s": upstream.connect_s,
        "metadata_s": upstream.metadata_s,
        "zip_s": upstream.zip_s,
        "ca_sha256": ca,
    }
