"""Who asks what of a tenant's modules, and what it is answered with."""

from dataclasses import dataclass
from datetime import datetime

from app.core.acl import Decision
from app.core.errors import DeniedError
from app.core.principal import Principal
from app.core.routing import Route, route_for
from app.db.modules import ModuleFile
from app.services.authorization import Operation, Permission, permission
from app.services.policy import Policy, TenantPolicy


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, of which tenant, under which policy.

    Attributes:
        fetch: whether upstream may be asked; False answers with what is stored.
        is_unasked: nobody waits for the answer yet.
    """

    policy: Policy
    of_tenant: TenantPolicy
    principal: Principal
    now: datetime
    fetch: bool = True
    is_unasked: bool = False

    @property
    def tenant(self) -> str:
        """The tenant's name."""
        return self.of_tenant.tenant.name

    def may(self, operation: Operation, module: str) -> Permission:
        """Return what may be done with a module, version by version."""
        return permission(self.principal, self.of_tenant, operation, module, self.now)

    def route(self, module: str) -> Route:
        """Return the route that a module takes.

        Raises:
            DeniedError: no route leads to it.
        """
        return route_for(self.of_tenant.routes, self.policy.private_names, self.tenant, module)

    def may_fetch(self, route: Route) -> bool:
        """Whether upstream may be asked on a route."""
        return self.fetch and not route.off


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a request is answered with: a file, or a body.

    Attributes:
        version: that the answer is about; "" for a list.
        fresh_s: seconds for which the same answer may be given again; None means for ever.
        stale_s: the age in seconds of an answer that upstream could not be asked about.
        decided_by: the rule that allowed it.
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
