"""The policy: tenants, tokens, rules and routes, held in memory for one generation.

Requests read this alone; between two changes it costs no query.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.core.acl import Access
from app.core.errors import UnknownError
from app.core.routing import PrivateNames, Route
from app.core.tenant import Tenant
from app.db.engine import Database, Session
from app.db.generation import current_generation
from app.db.routes import CredentialTable, RecordedCredential, RouteTable
from app.db.rules import OwnershipTable, RuleTable
from app.db.tenantlogs import TenantLog, TenantLogTable
from app.db.tenants import TenantTable
from app.db.tokens import RecordedToken, Tokens
from app.services.generation import GenerationWatch, PerGeneration


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """What holds for one tenant."""

    tenant: Tenant
    access: Access
    routes: tuple[Route, ...]
    logs: tuple[TenantLog, ...] = ()

    @property
    def log(self) -> TenantLog | None:
        """The checksum database that the tenant writes to, if it has one."""
        return next((log for log in self.logs if not log.retired), None)

    def next_change(self, now: datetime) -> datetime | None:
        """Return when the next rule expires: until then the same question has the same answer."""
        rules = (*self.access.rules, *self.access.platform_rules)
        ends = [r.expires_at for r in rules if r.expires_at is not None and r.expires_at > now]
        return min(ends, default=None)


@dataclass(frozen=True, slots=True)
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
    found = policy.tenants.get(name)
    if found is None:
        raise UnknownError(f"there is no tenant {name[:80]!a}; see `moorage tenant list`")
    return found


def load_policy(session: Session) -> Policy:
    """Return the policy as the database has it."""
    tenants = TenantTable(session).all()
    rules = [r.rule for r in RuleTable(session).all()]
    routes = [r.route for r in RouteTable(session).all()]
    logs = TenantLogTable(session).all()
    ownerships = tuple(o.ownership for o in OwnershipTable(session).all())
    platform = tuple(r for r in rules if r.tenant is None)
    policies = {
        t.name: TenantPolicy(
            t,
            Access(
                t.name,
                t.default,
                tuple(r for r in rules if r.tenant == t.name),
                platform,
                ownerships,
            ),
            tuple(r for r in routes if r.tenant == t.name),
            tuple(log for log in logs if log.tenant_id == t.id),
        )
        for t in tenants
    }
    return Policy(
        current_generation(session),
        policies,
        {host: t.name for t in tenants for host in t.hosts},
        Tokens(session).by_sha256(),
        PrivateNames(tuple(r.pattern for r in routes if r.private), ownerships),
        {c.id: c for c in CredentialTable(session).all()},
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
