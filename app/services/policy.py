"""The policy: tenants, tokens, rules and routes, held in memory for one generation.

Requests read this alone; between two changes it costs no query.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.core.acl import Access, Owners, PlatformAccess, RecordedRule
from app.core.credential import RecordedCredential
from app.core.errors import UnknownError
from app.core.routing import PrivateNames, RecordedRoute
from app.core.tenant import RecordedTenant
from app.db.credentials import CredentialTable
from app.db.engine import Database, Session
from app.db.generation import current_generation
from app.db.ownership import OwnershipTable
from app.db.routes import RouteTable
from app.db.rules import RuleTable
from app.db.tenantlogs import TenantLog, TenantLogTable
from app.db.tenants import TenantTable
from app.db.tokens import RecordedToken, Tokens
from app.services.generation import GenerationWatch, PerGeneration


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantPolicy:
    """What holds for one tenant."""

    tenant: RecordedTenant
    access: Access
    routes: tuple[RecordedRoute, ...]
    logs: tuple[TenantLog, ...] = ()

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
        hosts: tenants' names by host name.
        tokens: by the hex SHA-256 of the secret; revoked and expired ones too.
        credentials: for upstreams, by id; sealed.
    """

    generation: int
    tenants: Mapping[str, TenantPolicy]
    hosts: Mapping[str, str]
    tokens: Mapping[str, RecordedToken]
    private_names: PrivateNames
    credentials: Mapping[int, RecordedCredential]


def tenant_in(policy: Policy, name: str) -> TenantPolicy:
    """Return what holds for one tenant.

    Raises:
        UnknownError: there is none of that name.
    """
    of_tenant = policy.tenants.get(name)
    if of_tenant is None:
        raise UnknownError(f"there is no tenant {name[:80]!a}; see `moorage tenant list`")
    return of_tenant


def load_policy(session: Session) -> Policy:
    """Return the policy as the database has it."""
    tenants = TenantTable(session).all()
    rules: defaultdict[str | None, list[RecordedRule]] = defaultdict(list)
    for rule in RuleTable(session).all():
        rules[rule.tenant].append(rule)
    routes: defaultdict[str, list[RecordedRoute]] = defaultdict(list)
    for route in RouteTable(session).all():
        routes[route.tenant].append(route)
    logs: defaultdict[int | None, list[TenantLog]] = defaultdict(list)
    for log in TenantLogTable(session).all():
        logs[log.tenant_id].append(log)
    owners = Owners(tuple(OwnershipTable(session).all()))
    platform = PlatformAccess(tuple(rules[None]), owners)
    policies = {
        tenant.name: TenantPolicy(
            tenant=tenant,
            access=Access(
                tenant=tenant.name,
                default=tenant.default,
                rules=tuple(rules[tenant.name]),
                platform=platform,
            ),
            routes=tuple(routes[tenant.name]),
            logs=tuple(logs[tenant.id]),
        )
        for tenant in tenants
    }
    private = tuple(r.pattern for of_tenant in routes.values() for r in of_tenant if r.private)
    return Policy(
        generation=current_generation(session),
        tenants=policies,
        hosts={host: tenant.name for tenant in tenants for host in tenant.hosts},
        tokens=Tokens(session).by_sha256(),
        private_names=PrivateNames(private, owners),
        credentials={c.id: c for c in CredentialTable(session).all()},
    )


class PolicyReader:
    """Loads the policy once per generation."""

    def __init__(self, db: Database, watch: GenerationWatch) -> None:
        self._watch = watch
        self._policy = PerGeneration(db, watch, load_policy)

    @property
    def generation(self) -> int:
        """The generation that prepared answers must be of."""
        return self._watch.value

    async def current(self, *, fresh: bool = False) -> Policy:
        """Return the policy of the present generation; see `PerGeneration.current`."""
        return await self._policy.current(fresh=fresh)
