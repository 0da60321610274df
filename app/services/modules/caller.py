"""Who asks something of a tenant, under which policy; and the answer to a GOPROXY request."""

from dataclasses import dataclass
from datetime import datetime

from app.core.acl import Decision
from app.core.errors import DeniedError
from app.core.principal import Principal
from app.core.routing import RecordedRoute, route_for
from app.core.toolchain import MODULE_PATH
from app.db.modules import ModuleFile
from app.db.tokens import RecordedToken
from app.services.authorization import Permission, permission
from app.services.policy import Policy, TenantPolicy


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, of which tenant, under which policy.

    Attributes:
        now: UTC; rules are judged at this moment.
        fetch: whether upstream may be asked; False answers with what is stored.
        is_ahead: the work runs ahead of requests; see `Flight.do`.
        token: the token that was presented, if any; where reading is open, perhaps one of another
            tenant.
        client: the address that asks, or its network (`client_block`); "" for background work.
    """

    policy: Policy
    of_tenant: TenantPolicy
    principal: Principal
    now: datetime
    fetch: bool = True
    is_ahead: bool = False
    token: RecordedToken | None = None
    client: str = ""

    @property
    def tenant(self) -> str:
        """The tenant's name."""
        return self.of_tenant.tenant.name

    @property
    def valid_until(self) -> datetime | None:
        """When a rule or the token ends next: until then the same question has the same answer."""
        token_ends = None if self.token is None else self.token.expires_at
        ends = (self.of_tenant.next_change(self.now), token_ends)
        return min((end for end in ends if end is not None), default=None)

    @property
    def concerned(self) -> tuple[str, ...]:
        """The tenants whose changes may change the answers: the tenant, and the token's."""
        token_tenant = None if self.token is None else self.token.tenant
        return (
            (self.tenant,) if token_tenant in (None, self.tenant) else (self.tenant, token_tenant)
        )

    @property
    def is_limited_to_uses(self) -> bool:
        """Whether only what the tenant has used is answered: the client forbids the fetch.

        A platform admin gets whatever is stored.
        """
        return not self.fetch and not self.principal.is_platform_admin

    def may_enter(self) -> Decision:
        """Return the decision whether the caller may use the tenant at all.

        A denied caller learns nothing else.
        """
        return permission(self.principal, self.of_tenant, None, self.now).decide(None)

    def may(self, module: str) -> Permission:
        """Return what the caller may do with a module, version by version."""
        return permission(self.principal, self.of_tenant, module, self.now)

    def route(self, module: str) -> RecordedRoute:
        """Return the route that a module takes.

        Raises:
            DeniedError: no route leads to it.
        """
        return route_for(self.of_tenant.routes, self.policy.private_names, self.tenant, module)

    def may_fetch(self, route: RecordedRoute) -> bool:
        """Whether upstream may be asked on a route."""
        return self.fetch and not route.off

    def is_mirrored(self, module: str) -> bool:
        """Whether a module is golang.org/toolchain and comes from the mirror's own archives.

        A route of exactly that path leads to an upstream instead, unless the tenant gets its
        toolchains from a channel.
        """
        if module != MODULE_PATH:
            return False
        routes = self.of_tenant.routes
        has_channel = self.of_tenant.access.toolchains is not None
        return has_channel or all(r.pattern.text != MODULE_PATH for r in routes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The answer to a GOPROXY request: a stored file, or a body.

    Attributes:
        version: the one that the answer is about; "" for a list.
        decided_by: the rule that allowed it.
        body: the bytes; empty where `file` is a blob.
        file: the stored file, where the answer is one.
        fresh_s: seconds for which the same answer may be given again; None means for ever.
        stale_s: the age in seconds of an answer that upstream could not be asked about.
    """

    version: str
    decided_by: str
    body: bytes = b""
    file: ModuleFile | None = None
    fresh_s: float | None = None
    stale_s: int = 0


def allowed(decision: Decision) -> Decision:
    """Return a decision that allows.

    Raises:
        DeniedError: it denies; with its reason.
    """
    if not decision.allowed:
        raise DeniedError(decision.reason, decision.by)
    return decision
