"""What tenants, rules, routes and owned prefixes say, as plain facts; and how two states differ.

The facts have the names and forms of the document that `document` applies. Ids and revisions are no
facts: what was removed and made again in the same words has not changed.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from app.core.acl import Ownership, RecordedOwnership, RecordedRule, Rule
from app.core.channel import RecordedChannel
from app.core.credential import RecordedCredential
from app.core.noun import Noun, Recorded
from app.core.routing import RecordedRoute, Route
from app.core.tenant import RecordedTenant, Tenant
from app.db.base import Revisions
from app.db.channels import ChannelTable
from app.db.credentials import CredentialTable
from app.db.engine import Session
from app.db.ownership import OwnershipTable
from app.db.routes import RouteTable
from app.db.rules import RuleTable
from app.db.tenants import TenantTable
from app.services.tenants.edits import RecordedNoun

Facts = Mapping[str, object]
RuleKey = tuple[str | None, str]
"""A rule's tenant, and its effect, pattern and versions: "deny example.com/x v1"."""


@dataclass(frozen=True, slots=True)
class State:
    """All that a document can change, as one transaction sees it.

    Attributes:
        tenants: by name.
        owned: by prefix.
        rules: oldest first; those without a tenant are the platform's.
        routes: by tenant and pattern, oldest first.
        credentials: by tenant and name.
        channels: those that tenants may name, by name; a document does not change them.
        revisions: what tells whether any of it was changed since.
    """

    tenants: Mapping[str, RecordedTenant]
    owned: Mapping[str, RecordedOwnership]
    rules: Mapping[RuleKey, RecordedRule]
    routes: Mapping[tuple[str, str], RecordedRoute]
    credentials: Mapping[tuple[str, str], RecordedCredential] = field(default_factory=dict)
    channels: Mapping[str, RecordedChannel] = field(default_factory=dict)
    revisions: tuple[Revisions, ...] = ()

    def named(self) -> Iterator[tuple[str, RecordedNoun]]:
        """Yield each noun with its name: "tenant acme", "rule acme: deny example.com/x v1"."""
        for tenant_name, tenant in sorted(self.tenants.items()):
            yield f"tenant {tenant_name}", tenant
        for (of_tenant, name), credential in sorted(
            self.credentials.items(), key=lambda item: item[0]
        ):
            yield f"credential {of_tenant}: {name}", credential
        for prefix, owned in sorted(self.owned.items()):
            yield f"ownership {prefix}", owned
        for (rule_of, words), rule in self.rules.items():
            yield f"rule {rule_of or 'platform'}: {words}", rule
        for (route_of, pattern), route in self.routes.items():
            yield f"route {route_of}: {pattern}", route


class Action(StrEnum):
    """What happened to an object."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Change:
    """One object that differs.

    object: its name in a `State`: "rule acme: deny example.com/x v1".
    before: its facts; null where it is new.
    after: its facts; null where it is gone.
    """

    action: Action
    object: str
    before: Facts | None
    after: Facts | None


def read_state(session: Session) -> State:
    """Return the state; each table is read once."""
    return State(
        tenants={tenant.name: tenant for tenant in TenantTable(session).all()},
        owned={owned.prefix: owned for owned in OwnershipTable(session).all()},
        rules={(rule.tenant, str(rule)): rule for rule in RuleTable(session).all()},
        routes={(r.tenant, r.pattern.text): r for r in RouteTable(session).all()},
        credentials={(c.tenant, c.name): c for c in CredentialTable(session).all()},
        channels={channel.name: channel for channel in ChannelTable(session).all()},
        revisions=read_revisions(session),
    )


def read_revisions(session: Session) -> tuple[Revisions, ...]:
    """Return what differs as soon as anything of the state was changed."""
    return (
        TenantTable(session).revisions(),
        OwnershipTable(session).revisions(),
        RuleTable(session).revisions(),
        RouteTable(session).revisions(),
        CredentialTable(session).revisions(),
        ChannelTable(session).stamps(),
    )


def differences(before: State, after: State) -> list[Change]:
    """Return what differs, by the order of `State.named`; what is gone comes first."""
    was, is_now = dict(before.named()), dict(after.named())
    gone = [
        Change(action=Action.REMOVE, object=name, before=facts_of(noun), after=None)
        for name, noun in was.items()
        if name not in is_now
    ]
    changed = []
    for name, noun in is_now.items():
        old = was.get(name)
        if old is None:
            changed.append(
                Change(action=Action.CREATE, object=name, before=None, after=facts_of(noun))
            )
        elif old is not noun and facts_of(old) != (facts := facts_of(noun, old)):
            changed.append(
                Change(action=Action.UPDATE, object=name, before=facts_of(old), after=facts)
            )
    return [*gone, *changed]


def facts_of(noun: RecordedNoun, before: RecordedNoun | None = None) -> Facts:
    """Return what a noun says, without its name and what recording adds.

    Of a secret, only whether it is still the one from before.
    """
    match noun:
        case RecordedCredential():
            is_other = isinstance(before, RecordedCredential) and before.sealed != noun.sealed
            secret = "changed" if is_other else "recorded"
            return {"kind": noun.kind, "username": noun.username, "secret": secret}
        case RecordedTenant():
            return _facts(noun, Tenant, without={"name"})
        case RecordedOwnership():
            return _facts(noun, Ownership, without={"prefix"})
        case RecordedRule():
            at = noun.expires_at
            facts = _facts(noun, Rule)
            return facts | {"expires_at": None if at is None else at.isoformat()}
        case RecordedRoute():
            facts = _facts(noun, Route)
            return facts | {"upstreams": [_shortened(u) for u in facts["upstreams"]]}


def _facts(noun: Recorded, kind: type[Noun], without: Collection[str] = ()) -> dict[str, Any]:
    return noun.model_dump(mode="json", include=set(kind.model_fields) - set(without))


def _shortened(upstream: dict[str, Any]) -> dict[str, Any]:
    """Return an upstream with the digest of its certificates in their place.

    Certificates are long; whether they changed is all that a reader wants to know.
    """
    ca_pem = upstream.pop("ca_pem")
    digest = hashlib.sha256(ca_pem.encode()).hexdigest() if ca_pem else ""
    return upstream | {"ca_sha256": digest}
