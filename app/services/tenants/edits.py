"""Writing what was decided: each edit of a tenant, prefix, rule or route, and its audit row.

An edit has the noun as it was and as it is from now on. All edits of a transaction are written
together, with a number of statements that does not depend on how many edits there are. Whether an
edit is allowed was decided before, by the services and by `plan`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from app.core.acl import Owner, RecordedOwnership, RecordedRule, Rule
from app.core.credential import RecordedCredential
from app.core.effect import Effect
from app.core.principal import Principal
from app.core.routing import LogPolicy, RecordedRoute, Route
from app.core.tenant import RecordedTenant, Tenant, TenantLimits
from app.db.audit import AuditLog
from app.db.channels import ChannelTable
from app.db.credentials import CredentialTable
from app.db.engine import Session
from app.db.generation import CHANNELS, PLATFORM, bump_generation
from app.db.ownership import OwnershipTable
from app.db.room import Room
from app.db.routes import RouteTable
from app.db.rules import RuleTable
from app.db.tenantlogs import TenantLogTable
from app.db.tenants import TenantTable
from app.db.tokens import Tokens
from app.db.usage import Usage
from app.db.webhooks import WebhookTable

RecordedNoun = (
    RecordedTenant | RecordedOwnership | RecordedRule | RecordedRoute | RecordedCredential
)
N = TypeVar("N", RecordedTenant, RecordedOwnership, RecordedRule, RecordedRoute, RecordedCredential)


@dataclass(frozen=True, slots=True)
class Edit:
    """One change. `before` is None where the noun is new, `after` where it is removed.

    A new noun has the id 0, also where a route names it as a credential, and every `after` has the
    revision that it will be at. With a tenant go
    its tokens, rules, routes, credentials and owned prefixes, without edits of their own.
    """

    before: RecordedNoun | None
    after: RecordedNoun | None

    @property
    def noun(self) -> RecordedNoun:
        """The noun after the edit; for a removal, the noun before it."""
        noun = self.after or self.before
        if noun is None:
            raise AssertionError("an edit has a noun")
        return noun


def room_for(edits: Sequence[Edit]) -> Room:
    """Return the room of edits: those that only deny or switch off work on a full disk."""
    return Room.RESERVE if all(map(_is_denial, edits)) else Room.ABOVE_FLOOR


def _is_denial(edit: Edit) -> bool:
    match edit.after:
        case RecordedRule(effect=effect):
            return effect is Effect.DENY
        case RecordedTenant(enabled=enabled):
            return edit.before is not None and not enabled
    return False


def write(session: Session, edits: Sequence[Edit], who: Principal, at: datetime) -> list[int]:
    """Write edits with their audit rows, in order; return the id of each edit's noun.

    What is removed goes first: a new noun may take its place.
    """
    if not edits:
        return []
    tokens = _remove(session, edits)
    ids = {id(edit): edit.noun.id for edit in edits}
    tenant_ids = _write_tenants(session, edits, ids)
    _write_rest(session, edits, ids, tenant_ids)
    audit = [_audit_line(edit, ids[id(edit)], tokens=tokens.get(edit.noun.id, 0)) for edit in edits]
    AuditLog(session).append_all(at, who.actor, audit)
    bump_generation(session, _scopes(edits))
    return [ids[id(edit)] for edit in edits]


def _remove(session: Session, edits: Sequence[Edit]) -> dict[int, int]:
    """Remove what has no `after`; return how many tokens went with each tenant, by its id."""
    RouteTable(session).remove_all([noun.id for noun in _removed(edits, RecordedRoute)])
    RuleTable(session).remove_all([noun.id for noun in _removed(edits, RecordedRule)])
    OwnershipTable(session).remove_all([noun.id for noun in _removed(edits, RecordedOwnership)])
    tenant_ids = [noun.id for noun in _removed(edits, RecordedTenant)]
    tokens = Tokens(session).remove_of(tenant_ids)
    RouteTable(session).remove_of(tenant_ids)
    CredentialTable(session).remove_of(tenant_ids)
    RuleTable(session).remove_of(tenant_ids)
    OwnershipTable(session).remove_of(tenant_ids)
    TenantLogTable(session).release_of(tenant_ids)
    Usage(session).remove_uses_of(tenant_ids)
    TenantTable(session).remove_all(tenant_ids)
    names = [noun.name for noun in _removed(edits, RecordedTenant)]
    ChannelTable(session).forget_tenants(names)
    if names:
        WebhookTable(session).remove_of(names)
    return tokens


def _write_tenants(session: Session, edits: Sequence[Edit], ids: dict[int, int]) -> dict[str, int]:
    """Write tenants; return the ids, by name, of all tenants that the edits are about."""
    table = TenantTable(session)
    table.save_all([noun for _, noun in _changed(edits, RecordedTenant)])
    new = list(_new(edits, RecordedTenant))
    for (edit, _), tenant_id in zip(new, table.add_all([noun for _, noun in new]), strict=True):
        ids[id(edit)] = tenant_id
    return table.ids_of(set(_tenants_of(edits)))


def _write_rest(
    session: Session, edits: Sequence[Edit], ids: dict[int, int], tenant_ids: dict[str, int]
) -> None:
    new_credentials = _write_credentials(session, edits, ids, tenant_ids)
    owned, rules, routes = OwnershipTable(session), RuleTable(session), RouteTable(session)
    owned.save_all([noun for _, noun in _changed(edits, RecordedOwnership)], tenant_ids)
    rules.save_all([noun for _, noun in _changed(edits, RecordedRule)])
    routes.save_all([_linked(noun, new_credentials) for _, noun in _changed(edits, RecordedRoute)])
    new_owned = list(_new(edits, RecordedOwnership))
    new_rules = list(_new(edits, RecordedRule))
    new_routes = list(_new(edits, RecordedRoute))
    made = [
        *owned.add_all([noun for _, noun in new_owned], tenant_ids),
        *rules.add_all([noun for _, noun in new_rules], tenant_ids),
        *routes.add_all([_linked(noun, new_credentials) for _, noun in new_routes], tenant_ids),
    ]
    new_edits = [edit for edit, _ in (*new_owned, *new_rules, *new_routes)]
    ids.update({id(edit): made_id for edit, made_id in zip(new_edits, made, strict=True)})


def _write_credentials(
    session: Session, edits: Sequence[Edit], ids: dict[int, int], tenant_ids: dict[str, int]
) -> dict[tuple[str, str], int]:
    """Write credentials; return the ids of the new ones, by tenant and name."""
    table = CredentialTable(session)
    table.save_all([noun for _, noun in _changed(edits, RecordedCredential)])
    new = list(_new(edits, RecordedCredential))
    made = table.add_all([noun for _, noun in new], tenant_ids)
    ids.update({id(edit): made_id for (edit, _), made_id in zip(new, made, strict=True)})
    return {(noun.tenant, noun.name): made_id for (_, noun), made_id in zip(new, made, strict=True)}


def _linked(route: RecordedRoute, new_credentials: Mapping[tuple[str, str], int]) -> RecordedRoute:
    """Return a route whose upstreams have the ids of credentials that are new themselves."""
    if all(upstream.credential_id != 0 for upstream in route.upstreams):
        return route
    upstreams = [
        upstream.model_copy(
            update={"credential_id": new_credentials[route.tenant, upstream.credential]}
        )
        if upstream.credential_id == 0 and upstream.credential is not None
        else upstream
        for upstream in route.upstreams
    ]
    return route.model_copy(update={"upstreams": tuple(upstreams)})


def _removed(edits: Iterable[Edit], kind: type[N]) -> Iterator[N]:
    for edit in edits:
        if edit.after is None and isinstance(edit.before, kind):
            yield edit.before


def _new(edits: Iterable[Edit], kind: type[N]) -> Iterator[tuple[Edit, N]]:
    for edit in edits:
        if edit.before is None and isinstance(edit.after, kind):
            yield edit, edit.after


def _changed(edits: Iterable[Edit], kind: type[N]) -> Iterator[tuple[Edit, N]]:
    for edit in edits:
        if edit.before is not None and isinstance(edit.after, kind):
            yield edit, edit.after


def _tenants_of(edits: Iterable[Edit]) -> Iterator[str]:
    for edit in edits:
        noun = edit.after
        if noun is None or isinstance(noun, RecordedTenant):
            continue
        if noun.tenant is not None:
            yield noun.tenant
        if isinstance(noun, RecordedOwnership):
            yield from noun.granted


def _scopes(edits: Iterable[Edit]) -> set[str]:
    """Return what the edits concern: tenants, by name, and what holds for all of them."""
    scopes: set[str] = set()
    for edit in edits:
        noun = edit.noun
        match noun:
            case RecordedTenant():
                scopes.add(noun.name)
                # With a tenant go its private routes and owned prefixes. Its private hosts are
                # closed to all others.
                if edit.after is None:
                    scopes.add(CHANNELS)
                if edit.after is None or _private_hosts(edit.before) != _private_hosts(edit.after):
                    scopes.add(PLATFORM)
            case RecordedOwnership():
                scopes.add(PLATFORM)
            case RecordedCredential():
                scopes.add(noun.tenant)
            case RecordedRule():
                scopes.add(noun.tenant or PLATFORM)
            case RecordedRoute():
                scopes.add(noun.tenant)
                if _is_private(edit.before) or _is_private(edit.after):
                    scopes.add(PLATFORM)
    return scopes


def _private_hosts(noun: RecordedNoun | None) -> tuple[str, ...]:
    return noun.private_hosts if isinstance(noun, RecordedTenant) else ()


def _is_private(noun: RecordedNoun | None) -> bool:
    return isinstance(noun, RecordedRoute) and noun.private


def _audit_line(edit: Edit, noun_id: int, *, tokens: int) -> tuple[str, str, str]:
    """Return action, object and detail of an edit's audit row."""
    noun, action = edit.noun, _action(edit)
    match noun:
        case RecordedTenant():
            detail = f"with {tokens} tokens" if edit.after is None else tenant_words(noun)
            return f"tenant.{action}", f"tenant:{noun.name}", detail
        case RecordedCredential():
            detail = f"{noun.kind} {noun.username}".strip()
            return "credential.put", f"credential:{noun.tenant}/{noun.name}", detail
        case RecordedOwnership():
            detail = f"was tenant {noun.tenant}'s" if edit.after is None else owner_words(noun)
            action = "remove" if edit.after is None else "put"
            return f"ownership.{action}", f"prefix:{noun.prefix}", detail
        case RecordedRule():
            detail = rule_words(noun)
            if edit.after is not None and isinstance(edit.before, RecordedRule):
                detail += f", before: {rule_words(edit.before)}"
            return f"rule.{action}", f"rule:{noun.tenant or 'platform'}/{noun_id}", detail
        case RecordedRoute():
            return f"route.{action}", f"route:{noun.tenant}/{noun_id}", route_words(noun)


def _action(edit: Edit) -> str:
    if edit.after is None:
        return "remove"
    return "create" if edit.before is None else "update"


def tenant_words(tenant: Tenant) -> str:
    """Return a tenant in one line."""
    facts = [f"default {tenant.default}"]
    facts.append("anonymous read" if tenant.anonymous_read else "tokens only")
    if tenant.hosts:
        facts.append(f"hosts {' '.join(tenant.hosts)}")
    if tenant.private_hosts:
        facts.append(f"private hosts {' '.join(tenant.private_hosts)}")
    if tenant.toolchains is not None:
        facts.append(f"toolchains of channel {tenant.toolchains}")
    limits = {name: getattr(tenant.limits, name) for name in TenantLimits.model_fields}
    facts += [f"{name} {limit}" for name, limit in limits.items() if limit is not None]
    if not tenant.enabled:
        facts.append("switched off")
    if tenant.title:
        facts.append(f'"{tenant.title}"')
    return ", ".join(facts)


def owner_words(owner: Owner) -> str:
    """Return whose a prefix is, in one line."""
    granted = f", granted to {' '.join(sorted(owner.granted))}" if owner.granted else ""
    return f"tenant {owner.tenant}{granted}"


def rule_words(rule: Rule) -> str:
    """Return a rule in one line."""
    until = f" until {rule.expires_at:%Y-%m-%d %H:%M}" if rule.expires_at else ""
    return f"{rule}{until}" + (f" ({rule.reason})" if rule.reason else "")


def route_words(route: Route) -> str:
    """Return a route in one line: pattern, URLs, and what is not the default."""
    words = [route.pattern.text, "->", " ".join(upstream.url for upstream in route.upstreams)]
    words += [flag for flag in ("private", "off", "forks") if getattr(route, flag)]
    if route.ttl_s != Route.model_fields["ttl_s"].default:
        words.append(f"ttl {route.ttl_s} s")
    if route.log != (LogPolicy.OFF if route.private else LogPolicy.DEFER):
        words.append(f"log {route.log}")
    if route.note:
        words.append(f"({route.note})")
    return " ".join(words)
