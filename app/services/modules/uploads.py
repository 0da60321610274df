"""An upload of a module version, and what must be so before its bytes are taken.

The token publishes for the tenant, the tenant owns the prefix, and a private route leads to what
is published. Who owns which prefix is `app/core/acl.py`'s; taking the bytes is `publishing.py`'s.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.core import module as modules
from app.core import pseudo
from app.core.errors import BadInputError, DeniedError
from app.core.principal import Principal, Scope
from app.core.published import PUBLISHED, is_published
from app.core.routing import RecordedRoute, matching
from app.services.policy import Policy, TenantPolicy, tenant_in


@dataclass(frozen=True, slots=True)
class Upload:
    """A version that somebody wants to publish.

    Attributes:
        who: who publishes.
        tenant: of the token.
        pieces: the zip.
        declared_bytes: the size that the client announced; None for none.
    """

    who: Principal
    tenant: str
    module: str
    version: str
    pieces: AsyncIterator[bytes]
    declared_bytes: int | None = None

    @property
    def name(self) -> str:
        """The name for messages: "corp.example/x@v1.0.0"."""
        return f"{self.module}@{self.version}"


def check_caller(policy: Policy, upload: Upload) -> TenantPolicy:
    """Return the policy of the tenant for which a caller publishes.

    Raises:
        DeniedError: the token may not publish for the tenant, or the tenant is off.
    """
    who, of_tenant = upload.who, tenant_in(policy, upload.tenant)
    if not who.has(Scope.PUBLISH):
        raise DeniedError(
            "publishing needs a token with the scope `publish`: moorage token create --tenant"
            f" {upload.tenant} --scope publish",
            "token",
        )
    if who.tenant not in (None, upload.tenant):
        raise DeniedError(f"this token is not one for tenant {upload.tenant}", "token")
    if not of_tenant.tenant.enabled:
        raise DeniedError(f"tenant {upload.tenant} is switched off; ask an admin", "tenant")
    return of_tenant


def check_version(module: str, version: str) -> None:
    """Return if a version of a module can be published.

    Raises:
        BadInputError: the path or the version is malformed, or the version is a pseudo-version.
    """
    modules.check(module, version)
    if not modules.is_canonical_for(module, version):
        raise BadInputError(f"{version[:80]!a} is not a canonical version of {module[:200]}")
    if pseudo.is_pseudo(version):
        raise BadInputError(
            f"{version} names a commit, and what is published has none; a pre-release such as"
            " v1.2.3-dev.1 does it"
        )


def route_of(policy: Policy, of_tenant: TenantPolicy, upload: Upload) -> RecordedRoute:
    """Return the private route by which the module will be read.

    Raises:
        DeniedError: the tenant does not own the prefix, or no such route leads to the module.
    """
    tenant = of_tenant.tenant.name
    ownership = policy.platform.owners.of(upload.module)
    if ownership is None or ownership.tenant != tenant:
        raise DeniedError(
            f"tenant {tenant} does not own a prefix of {upload.module}, and publishes only below"
            " its own; a platform admin can give it one: moorage owner set",
            "ownership",
        )
    route = next(iter(matching(of_tenant.routes, upload.module)), None)
    is_there = route is not None and route.private
    if route is None or not is_there or not any(is_published(u.url) for u in route.upstreams):
        raise DeniedError(
            f"tenant {tenant} has no private route that leads {upload.module} to published modules:"
            f" moorage route add --tenant {tenant} {ownership.prefix} {PUBLISHED} --private",
            "route",
        )
    return route
