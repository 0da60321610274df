"""What clients of a tenant are told, taken from the policy. The texts: `core.clientconfig`."""

from app.core.clientconfig import ClientConfig
from app.core.errors import BadInputError, UnknownError
from app.core.principal import Principal
from app.services.tenants.authorization import require_admin
from app.services.tenants.policy import PolicyReader, TenantPolicy


async def client_config(
    policies: PolicyReader, tenant: str, base_url: str, who: Principal
) -> ClientConfig:
    """Return how the clients of a tenant reach this service.

    Args:
        policies: asked for the newest policy.
        tenant: its name.
        base_url: scheme, host and port as clients see them.
        who: an admin of the tenant.

    Raises:
        DeniedError: the tenant is not who's.
        UnknownError: there is no such tenant.
        BadInputError: clients can't be told so: go sends no token over http.
    """
    require_admin(who, tenant)
    policy = (await policies.current(fresh=True)).tenants.get(tenant)
    if policy is None:
        raise UnknownError(f"there is no tenant {tenant[:80]!a}; see `moorage tenant list`")
    authenticated = not policy.tenant.anonymous_read
    if authenticated and base_url.startswith("http:"):
        raise BadInputError(
            f"tenant {tenant} asks for a token, and go never sends one to {base_url}: put an "
            "https address in front, and name it in MOORAGE_PUBLIC_URL"
        )
    return ClientConfig(
        base_url=base_url,
        tenant=tenant,
        authenticated=authenticated,
        private_patterns=_private_patterns(policy),
    )


def _private_patterns(policy: TenantPolicy) -> tuple[str, ...]:
    """Return the names that no public log may hear of: private routes', and owned prefixes."""
    patterns = {route.pattern.text for route in policy.routes if route.private}
    patterns |= {
        owned.prefix for owned in policy.access.ownerships if owned.opens_to(policy.tenant.name)
    }
    return tuple(sorted(patterns))
