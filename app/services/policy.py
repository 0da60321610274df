"""The policy: tenants, tokens, rules and routes, held in memory for one generation.

Requests read this alone; between two changes it costs no query. After a change only the tenants
that were touched are read again, and of their rules only those that are new.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from app.core.acl import Access, Owners, PlatformAccess, RecordedRule
from app.core.channel import ToolchainOffer
from app.core.credential import RecordedCredential
from app.core.errors import UnknownError
from app.core.privatehost import PrivateHosts
from app.core.routing import PrivateNames, RecordedRoute
from app.core.tenant import RecordedTenant
from app.db.channels import ChannelTable
from app.db.credentials import CredentialTable
from app.db.engine import Database, Session
from app.db.generation import EVERYTHING, NO_POLICY, PLATFORM, changes_since
from app.db.ownership import OwnershipTable
from app.db.routes import RouteTable
from app.db.rules import RuleTable
from app.db.tenantlogs import TenantLog, TenantLogTable
from app.db.tenants import TenantTable
from app.db.tokens import RecordedToken, Tokens
from app.services.generation import GenerationWatch, PerGeneration

K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantPolicy:
    """What holds for one tenant.

    Attributes:
        tokens: the tenant's own, by the hex SHA-256 of the secret.
        credentials: the tenant's own, by id; sealed.
    """

    tenant: RecordedTenant
    access: Access
    routes: tuple[RecordedRoute, ...]
    logs: tuple[TenantLog, ...] = ()
    tokens: Mapping[str, RecordedToken] = field(default_factory=dict)
    credentials: Mapping[int, RecordedCredential] = field(default_factory=dict)

    @property
    def log(self) -> TenantLog | None:
        """The checksum database that the tenant writes to, if it has one."""
        return next((log for log in self.logs if not log.retired), None)

    def next_change(self, now: datetime) -> datetime | None:
        """Return when the next rule expires: until then the same question has the same answer."""
        return self.access.next_end(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for everybody, at one generation.

    Attributes:
        platform: what holds for all tenants alike; it is a part of each one's `access` too.
        hosts: tenants' names by host name.
        tokens: by the hex SHA-256 of the secret; revoked and expired ones too.
        credentials: for upstreams, by id; sealed.
        private_hosts: those of all tenants together.
    """

    generation: int
    platform: PlatformAccess
    tenants: Mapping[str, TenantPolicy]
    hosts: Mapping[str, str]
    tokens: Mapping[str, RecordedToken]
    private_names: PrivateNames
    credentials: Mapping[int, RecordedCredential]
    private_hosts: PrivateHosts


def tenant_in(policy: Policy, name: str) -> TenantPolicy:
    """Return what holds for one tenant.

    Raises:
        UnknownError: there is none of that name.
    """
    of_tenant = policy.tenants.get(name)
    if of_tenant is None:
        raise UnknownError(f"there is no tenant {name[:80]!a}; see `moorage tenant list`")
    return of_tenant


def load_policy(session: Session, before: Policy | None = None) -> Policy:
    """Return the policy as the database has it.

    Args:
        session: a read transaction.
        before: an earlier policy; only what has changed since is read. None reads everything.
    """
    changes = changes_since(-1 if before is None else before.generation)(session)
    touched = [scope for scope in changes.scopes if scope not in {PLATFORM, *NO_POLICY}]
    if before is None or EVERYTHING in changes.scopes or len(touched) > _MAX_TOUCHED:
        return _whole(session, changes.generation)
    is_platform = PLATFORM in changes.scopes
    platform = _platform(session) if is_platform else before.platform
    tenants = dict(before.tenants)
    hosts, tokens, credentials = dict(before.hosts), dict(before.tokens), dict(before.credentials)
    gone = [tenants.pop(name) for name in touched if name in tenants]
    if is_platform:
        tenants = {name: _under(platform, of_tenant) for name, of_tenant in tenants.items()}
        for sha256 in [s for s, token in tokens.items() if token.tenant is None]:
            del tokens[sha256]
        tokens |= Tokens(session).by_sha256([])
    for old in gone:
        _drop(hosts, old.tenant.hosts)
        _drop(tokens, old.tokens)
        _drop(credentials, old.credentials)
    changed = _tenant_policies(session, platform, touched, gone)
    tenants |= changed
    for name, new in changed.items():
        hosts |= dict.fromkeys(new.tenant.hosts, name)
        tokens |= new.tokens
        credentials |= new.credentials
    return Policy(
        generation=changes.generation,
        platform=platform,
        tenants=tenants,
        hosts=hosts,
        tokens=tokens,
        private_names=_private_names(platform, tenants) if is_platform else before.private_names,
        credentials=credentials,
        private_hosts=_private_hosts(tenants) if is_platform else before.private_hosts,
    )


_MAX_TOUCHED = 500  # beyond it, reading everything costs less than asking for each


def _whole(session: Session, generation: int) -> Policy:
    """Return the policy, of which nothing is known yet."""
    platform = _platform(session)
    tenants = _tenant_policies(session, platform, None, ())
    every = tenants.values()
    return Policy(
        generation=generation,
        platform=platform,
        tenants=tenants,
        hosts={host: one.tenant.name for one in every for host in one.tenant.hosts},
        tokens=Tokens(session).by_sha256([])
        | {sha256: token for one in every for sha256, token in one.tokens.items()},
        private_names=_private_names(platform, tenants),
        private_hosts=_private_hosts(tenants),
        credentials={i: c for one in every for i, c in one.credentials.items()},
    )


def _platform(session: Session) -> PlatformAccess:
    owners = Owners(tuple(OwnershipTable(session).all()))
    return PlatformAccess(tuple(RuleTable(session).page(None, after=0, limit=None)), owners)


def _private_names(platform: PlatformAccess, tenants: Mapping[str, TenantPolicy]) -> PrivateNames:
    routes = (route for of_tenant in tenants.values() for route in of_tenant.routes)
    return PrivateNames(tuple(r.pattern for r in routes if r.private), platform.owners)


def _private_hosts(tenants: Mapping[str, TenantPolicy]) -> PrivateHosts:
    return PrivateHosts(host for one in tenants.values() for host in one.tenant.private_hosts)


def _under(platform: PlatformAccess, of_tenant: TenantPolicy) -> TenantPolicy:
    before = of_tenant.access
    access = before.under(platform, of_tenant.tenant.default, before.toolchains)
    return replace(of_tenant, access=access)


def _drop(values: dict[K, Any], keys: Iterable[K]) -> None:
    for key in keys:
        values.pop(key, None)


def _tenant_policies(
    session: Session,
    platform: PlatformAccess,
    names: Collection[str] | None,
    before: Iterable[TenantPolicy],
) -> dict[str, TenantPolicy]:
    """Return what holds for tenants, by name.

    Args:
        session: a read transaction.
        platform: what holds for all of them.
        names: of the tenants; those that are gone are left out. None takes every tenant.
        before: the earlier policies of these tenants; a rule that is unchanged is not read again.
    """
    if names is not None and not names:
        return {}
    tenants = TenantTable(session).all(names)
    ids = None if names is None else [tenant.id for tenant in tenants]
    known = {one.tenant.id: one.access for one in before}
    rules: defaultdict[str | None, list[RecordedRule]] = defaultdict(list)
    for rule in _rules(session, ids, known.values()):
        rules[rule.tenant].append(rule)
    routes: defaultdict[str, list[RecordedRoute]] = defaultdict(list)
    for route in RouteTable(session).all(ids):
        routes[route.tenant].append(route)
    logs: defaultdict[int | None, list[TenantLog]] = defaultdict(list)
    for log in TenantLogTable(session).all(ids):
        logs[log.tenant_id].append(log)
    tokens: defaultdict[str | None, dict[str, RecordedToken]] = defaultdict(dict)
    for sha256, token in Tokens(session).by_sha256(ids, platform=False).items():
        tokens[token.tenant][sha256] = token
    credentials: defaultdict[str, dict[int, RecordedCredential]] = defaultdict(dict)
    for credential in CredentialTable(session).all(ids):
        credentials[credential.tenant][credential.id] = credential
    channels = {tenant.toolchains for tenant in tenants if tenant.toolchains is not None}
    offers = ChannelTable(session).toolchain_offers(channels)
    return {
        tenant.name: TenantPolicy(
            tenant=tenant,
            access=_access(
                tenant,
                rules[tenant.name],
                platform,
                known.get(tenant.id),
                None if tenant.toolchains is None else offers[tenant.toolchains],
            ),
            routes=tuple(routes[tenant.name]),
            logs=tuple(logs[tenant.id]),
            tokens=tokens[tenant.name],
            credentials=credentials[tenant.name],
        )
        for tenant in tenants
    }


def _rules(
    session: Session, tenant_ids: Collection[int] | None, known: Iterable[Access]
) -> list[RecordedRule]:
    if tenant_ids is None:
        return RuleTable(session).all()
    by_id = {rule.id: rule for access in known for rule in access.rules}
    return RuleTable(session).of_tenants(tenant_ids, by_id)


def _access(
    tenant: RecordedTenant,
    rules: Sequence[RecordedRule],
    platform: PlatformAccess,
    before: Access | None,
    toolchains: ToolchainOffer | None,
) -> Access:
    """Return the tenant's access; the rules of before are filed already."""
    if before is not None and list(map(id, before.rules)) == list(map(id, rules)):
        return before.under(platform, tenant.default, toolchains)
    return Access(
        tenant=tenant.name,
        default=tenant.default,
        rules=tuple(rules),
        platform=platform,
        toolchains=toolchains,
    )


class PolicyReader:
    """Loads the policy once, and after each change what the change touched."""

    def __init__(self, db: Database, watch: GenerationWatch) -> None:
        self._watch = watch
        self._policy = PerGeneration(db, watch, load_policy, lambda: watch.policy)

    @property
    def changed_at(self) -> int:
        """The generation at which the policy changed last; an earlier policy is outdated."""
        return self._watch.policy

    @property
    def generation(self) -> int:
        """The generation that this process read last."""
        return self._watch.value

    def since(self, tenants: Sequence[str]) -> int:
        """Return the generation of the last change that concerns one of some tenants."""
        return max(map(self._watch.since, tenants))

    async def current(self, *, fresh: bool = False) -> Policy:
        """Return the policy of the present generation; see `PerGeneration.current`."""
        return await self._policy.current(fresh=fresh)

    async def looked_up(self) -> Policy:
        """Return the policy as the database has it now, for a name that memory does not have.

        Requests that wait share one look at the database.
        """
        await self._watch.poll_shared()
        return await self._policy.current()
